"""Opening a location: a local path or a URI, as a filesystem that fails in bounded time."""

import os
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pyarrow as pa
from pyarrow import fs

from search_spaces import BadInput

__all__ = ["open_location", "without_secrets"]

CONNECT_SECONDS, STALL_SECONDS = 5.0, 5.0
"""How long S3 is waited for per attempt, of which pyarrow makes three."""

GCS_SECONDS = 30.0
"""How long Google's client tries by itself."""

_NO_SECRETS = ("endpoint_override", "region", "scheme")
"""Parts of a query that may be shown, and without which the place is not found again."""


def open_location(location: str | Path) -> tuple[fs.FileSystem, str, str, str]:
    """Open a local path (`~` is the home folder) or a URI; create nothing.

    Returns:
        The filesystem; the path there; the URI's scheme (s3, gs, …), empty for local folders; the
        URI's query, less what may be secret.

    Raises:
        BadInput: The URI cannot be read, or its filesystem cannot be reached.
    """
    uri = str(location)
    if "://" not in uri:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri)), "", ""
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
        if not path:
            raise pa.ArrowInvalid("it names no bucket or folder")
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"storage: {without_secrets(uri)!r} cannot be opened ({without_secrets(reason)}); "
            "give a local folder or a URI such as s3://bucket/folder"
        ) from None  # the cause quotes the URI
    if isinstance(filesystem, fs.LocalFileSystem):
        return filesystem, path, "", ""
    parts = urlsplit(uri)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name in _NO_SECRETS]
    return _impatient(filesystem), path, parts.scheme, urlencode(query, safe=":/")


def without_secrets(text: str) -> str:
    """Cut what may be a key, password or token out of a URI, or of a line that quotes one."""
    text = re.sub(r"(?<=://)\S*@", "***@", text)
    return re.sub(
        r"([?&])(\w+)=[^&\s'\"]*",
        lambda part: part[0] if part[2] in _NO_SECRETS else f"{part[1]}{part[2]}=***",
        text,
    )


def _impatient(filesystem: fs.FileSystem) -> fs.FileSystem:
    """Return it with limits: a server that says nothing would be waited for for minutes.

    A URI has no words for that; but a filesystem pickles as its constructor and its options.
    """
    if not isinstance(filesystem, (fs.S3FileSystem, fs.GcsFileSystem)):
        return filesystem
    construct, (options,) = filesystem.__reduce__()
    if isinstance(filesystem, fs.GcsFileSystem):
        if options["retry_time_limit"] is None:
            options["retry_time_limit"] = timedelta(seconds=GCS_SECONDS)
    else:
        options["connect_timeout"] = CONNECT_SECONDS
        options["request_timeout"] = STALL_SECONDS
        options["allow_delayed_open"] = True  # one request per small file and no longer three
    return construct(options)
