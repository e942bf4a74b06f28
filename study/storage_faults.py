"""What goes wrong with storage, and whether waiting may help: decided here and nowhere else."""

import errno
import re

import pyarrow as pa

__all__ = ["FAULTS", "StorageError", "advice", "as_storage_error"]

FAULTS = (OSError, pa.ArrowException)
"""What filesystems raise."""

_PASSING = frozenset(
    {
        errno.EIO,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ESTALE,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.ENOBUFS,
        errno.ENOLCK,
        errno.ENOTCONN,  # FUSE says so while its server starts again
        errno.EREMOTEIO,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
    }
)
"""Numbers of errors that pass by themselves, or once somebody has made room."""

# What pyarrow makes of an object store's answers has no number, only words.
_PASSING_WORDS = re.compile(
    r"AWS Error (NETWORK_CONNECTION|SLOW_DOWN|THROTTLING|INTERNAL_FAILURE|SERVICE_UNAVAILABLE"
    r"|REQUEST_TIMEOUT|UNKNOWN \(HTTP status (408|409|429|5\d\d)\)) "
    r"|google::cloud::Status\((UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL|ABORTED):"
)

_ADVICE = {
    r"AWS Error (ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_SIGNATURE)": (
        "give credentials that may read and write there: AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of an instance"
    ),
    "AWS Error NO_SUCH_BUCKET": "create the bucket first, or name another",
    "AWS Error NETWORK_CONNECTION": (
        "check the network, and the address if it is a server of your own "
        "(s3://bucket/folder?endpoint_override=http://host:port)"
    ),
}


class StorageError(RuntimeError):
    """Storage failed while a study ran: the study can be resumed (exit code 3).

    Attributes:
        passing: Whether the same may work in a while: the network, the disk's space, a server
            that is too busy. A missing file, missing rights or damaged content do not pass.
        reason: What the system said.
    """

    def __init__(self, message: str, *, passing: bool = False, reason: str = "") -> None:
        super().__init__(message)
        self.passing = passing
        self.reason = reason or message


def as_storage_error(tried: str, error: BaseException) -> StorageError:
    """Say what was tried and what the system said to that.

    Args:
        tried: What was tried, and where; as in "cannot write studies/mnist/study.yaml".
        error: One of `FAULTS`.
    """
    reason = _reason(error)
    return StorageError(f"{tried}: {reason}", passing=_passes(error), reason=reason)


def advice(error: StorageError) -> str:
    """Say what a user could change, as the end of a sentence; empty where nobody knows."""
    told = [text for words, text in _ADVICE.items() if re.search(words, error.reason)]
    return f"; {told[0]}" if told else ""


def _passes(error: BaseException) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError)):  # they need not have a number
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _PASSING
    return isinstance(error, OSError) and bool(_PASSING_WORDS.search(str(error)))


def _reason(error: BaseException) -> str:
    """What the system says, without the path that the message names anyway."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = (str(error) or repr(error)).splitlines()[0]
    return re.sub(r"^When .*?: (?=AWS Error)", "", text).rstrip(" :")
