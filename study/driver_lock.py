"""The lock that keeps a second driver off a study on the same disk."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from search_spaces import BadInput
from study.driver_folder import read_driver
from study.storage import Folder

__all__ = ["driver_lock"]

LOCK_FILE = ".driver.lock"

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def driver_lock(folder: Folder) -> Iterator[None]:
    """Hold a study while its driver runs; the system frees it when the process dies.

    Object stores have no locks, and some network disks have none either, or only among the
    processes of one host. There is nothing to hold there: `study.driver_folder` keeps drivers
    apart.

    Raises:
        BadInput: Another driver holds it.
    """
    if not folder.local:
        yield
        return
    with ExitStack() as held:
        with folder.errors("lock", LOCK_FILE):
            file = held.enter_context(Path(folder.full(LOCK_FILE)).open("w"))
            free = _lock(file)
        if not free:
            driver = read_driver(folder)
            raise BadInput(
                f"study: {folder.name!r} is being run by another process"
                f"{f' ({driver})' if driver else ''}; wait for it or stop it"
            )
        yield


def _lock(file: TextIO) -> bool:
    """Lock a file, where there are locks; return whether nobody else holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
