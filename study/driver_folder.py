"""A study's folder in the hands of its driver, who waits for storage and stops when replaced.

Of several drivers on one study the last to start goes on: each writes who it is into
`driver.json` at its start, and looks there right before it changes anything. Where storage lies
on one machine, or all drivers use one Ray cluster, a second one does not get that far
(`study.driver_lock`, `study.driver_actor`); elsewhere this is what keeps them apart.

pyarrow offers no write that depends on what is there, so between a look and the change after it
another driver may start. That one late change cannot do lasting harm. A file is the same whoever
writes it, since it is named after its pack's members. A commit mark may double a trial that the
other driver runs as well, or may have lost the rows it stands for to the other's cleaning: of two
rows of a trial one counts, a mark without its rows counts as not committed, and `ledger.clean`,
with which every run begins and ends, removes what does not count. A late deletion does the same
to a pack of the other driver, whose trials the next run then trains again.
"""

import json
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from study.progress import readable_seconds
from study.storage import Folder
from study.storage_faults import StorageError

__all__ = ["DRIVER_FILE", "Driver", "DriverFolder", "ReplacedError", "read_driver", "take_over"]

DRIVER_FILE = "driver.json"

PATIENCE_SECONDS = 300.0
"""How long a driver waits for storage that fails."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds

T = TypeVar("T")

_log = logging.getLogger(__name__).warning


class ReplacedError(StorageError):
    """Another driver has started on the study, and this one must not change it any more."""


@dataclass(frozen=True)
class Driver:
    """Who runs a study.

    Attributes:
        number: How many drivers the study has had, this one included.
        token: Random, to tell it from a driver that took the same number at the same time.
        host: Its host.
        pid: Its process there.
        started_at: When it started, ISO 8601 in UTC.
    """

    number: int
    token: str
    host: str
    pid: int
    started_at: str

    @classmethod
    def here(cls, number: int = 1) -> "Driver":
        """Return this process as a driver that starts now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(number, uuid4().hex, socket.gethostname(), os.getpid(), now)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started_at}"


def read_driver(folder: Folder) -> Driver | None:
    """Return who was the last to start on a study, if anybody was.

    Raises:
        StorageError: Storage failed, or the file is not what a driver wrote.
    """
    if not folder.exists(DRIVER_FILE):
        return None
    return _parse(folder, folder.read_bytes(DRIVER_FILE))


def take_over(
    folder: Folder,
    *,
    patience: float = PATIENCE_SECONDS,
    warn: Callable[[str], None] = _log,
) -> "DriverFolder":
    """Become the driver of a study; one that still runs stops before its next change.

    Args:
        folder: The study's folder.
        patience: How long to wait for storage whenever it fails, in seconds.
        warn: Told when storage begins to fail, and when it works again.
    """
    before = read_driver(folder)
    driver = Driver.here(before.number + 1 if before else 1)
    place = folder.plain
    own = DriverFolder(
        place.filesystem, place.path, place.scheme, place.query, driver, patience, warn
    )
    content = (json.dumps(asdict(driver), indent=2) + "\n").encode()
    own.attempt("write", DRIVER_FILE, lambda: place.write_whole(DRIVER_FILE, content))
    return own


@dataclass(frozen=True)
class DriverFolder(Folder):
    """A folder whose operations wait for storage, and which only its driver changes.

    Sent to a worker it still waits, and warns in the worker's log.

    Attributes:
        driver: Who may change it; once another has started, changes raise `ReplacedError`.
        patience: How long to wait for storage whenever it fails, in seconds.
        warn: Told when storage begins to fail, and when it works again.
    """

    driver: Driver = field(default_factory=Driver.here)
    patience: float = PATIENCE_SECONDS
    warn: Callable[[str], None] = field(default=_log, compare=False, repr=False)

    def attempt(self, action: str, relative: str, operation: Callable[[], T]) -> T:
        """Do something with a file of this folder, again and again while storage fails."""
        start, pause = time.monotonic(), FIRST_PAUSE
        waited = False
        while True:
            try:
                result = super().attempt(action, relative, operation)
            except StorageError as error:
                left = start + self.patience - time.monotonic()
                if not error.passing or left <= 0:
                    raise
                if not waited:
                    self.warn(f"{error}; trying again for {readable_seconds(self.patience)}")
                    waited = True
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if waited:
                    gone = readable_seconds(time.monotonic() - start)
                    self.warn(f"storage works again after {gone}")
                return result

    def _write(self, relative: str, data: bytes) -> None:
        self._check_driver()  # again after each pause, in which much may have happened
        super()._write(relative, data)

    def _delete(self, relative: str) -> None:
        self._check_driver()
        super()._delete(relative)

    def _check_driver(self) -> None:
        with (
            self.errors("read", DRIVER_FILE),
            self.filesystem.open_input_file(self.full(DRIVER_FILE)) as stream,
        ):
            newest = _parse(self, stream.read())
        if newest.token != self.driver.token:
            raise ReplacedError(
                f"study: another driver has started on {self.name!r} ({newest}); this one stops "
                "and leaves the study to it"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out a console, which does not travel."""
        return vars(self) | {"warn": _log}


def _parse(folder: Folder, content: bytes) -> Driver:
    try:
        return Driver(**json.loads(content))
    except (ValueError, TypeError):
        raise StorageError(
            f"{folder.child(DRIVER_FILE)} is not what a driver wrote; delete it"
        ) from None
