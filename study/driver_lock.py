"""The lock that keeps a second driver off a study on the same disk."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search_spaces import BadInput
from study.storage import Folder

__all__ = ["driver_lock"]

LOCK_FILE = ".driver.lock"


@contextmanager
def driver_lock(folder: Folder) -> Iterator[None]:
    """Hold a study while its driver runs; the system frees it when the process dies.

    Object stores have no locks, and there is nothing to hold.

    Raises:
        BadInput: Another driver holds it.
    """
    if not folder.local:
        yield
        return
    with Path(folder.full(LOCK_FILE)).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(
                f"study: {folder.name!r} is being run by another process; wait for it or stop it"
            ) from None
        yield
