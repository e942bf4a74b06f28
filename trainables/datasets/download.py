"""Getting a file from public mirrors into a folder: the whole, verified file or nothing."""

import errno
import hashlib
import logging
import os
import time
import urllib.request
import uuid
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from search_spaces import BadInput

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 20.0  # without a byte from the mirror

_LARGEST = 64 << 20  # bytes; a mirror that sends more is sending something else
_ABANDONED_SECONDS = 3600.0


class DownloadError(Exception):
    """No mirror gave the file; says why, mirror by mirror."""


def download(mirrors: Sequence[str], name: str, sha256: str, folder: Path) -> Path:
    """Fetch `name` from the first mirror that has it, verified, into `folder`.

    The transfer is held in memory (these files have some 10 MB), verified, written under a hidden
    name, synced and renamed. So the folder never shows a partial or wrong file, whenever this
    process is killed and however many processes fetch at once.

    Args:
        mirrors: Base URLs, each ending in a slash, tried in this order.
        name: The file's name there and in the folder.
        sha256: The digest that the file must have.
        folder: Made if missing.

    Returns:
        The file's path.

    Raises:
        DownloadError: No mirror gave the file with this digest.
        BadInput: The folder cannot be written to.
    """
    _make_folder(folder)  # before the transfer: a folder that cannot be written to is known at once
    failures = []
    for mirror in mirrors:
        # A warning, to be visible also where nobody configured logging.
        logger.warning("downloading %s%s to %s", mirror, name, folder)
        try:
            with urllib.request.urlopen(mirror + name, timeout=TIMEOUT_SECONDS) as response:
                content = response.read(_LARGEST)
        except (OSError, HTTPException) as error:
            failures.append(f"{mirror}: {error}")
            continue
        found = hashlib.sha256(content).hexdigest()
        if found == sha256:
            return _write_whole(folder / name, content)
        failures.append(f"{mirror}: {len(content)} bytes with SHA-256 {found}, expected {sha256}")
    raise DownloadError("; ".join(failures))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _not_writable(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _write_whole(path: Path, content: bytes) -> Path:
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _not_writable(path.parent, error) from error
    finally:
        with suppress(OSError):  # gone, once it is renamed
            temporary.unlink()
    return path


def _remove_abandoned(path: Path) -> None:
    """Remove what a process that was killed between writing and renaming left behind."""
    for leftover in path.parent.glob(f".{path.name}.*.part"):
        with suppress(OSError):  # another process may have finished with it meanwhile
            if time.time() - leftover.stat().st_mtime > _ABANDONED_SECONDS:
                leftover.unlink()


def _not_writable(folder: Path, error: OSError) -> BadInput:
    return BadInput(
        f"cache folder {folder}: cannot be written to: {error.strerror or error}; "
        "set VAE_STUDY_CACHE to a folder that can"
    )
