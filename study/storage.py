"""A folder on any pyarrow filesystem in which files appear whole or not at all."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pyarrow import fs

from search_spaces import BadInput
from study.filesystems import open_location
from study.storage_faults import FAULTS, StorageError, advice, as_storage_error

__all__ = ["Folder", "StorageError"]

T = TypeVar("T")

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


@dataclass(frozen=True)
class Folder:
    """A folder, there or not yet, on a local disk, a network disk or an object store.

    Its operations fail at once, or after the seconds that an object store is given to answer; a
    `DriverFolder` waits for storage.

    Attributes:
        filesystem: Where it lies.
        path: Its path there, without a slash at the end.
        scheme: The scheme of its URI (s3, gs, …); empty for local folders.
        query: What follows the question mark of its URI, less what may be secret.
    """

    filesystem: fs.FileSystem
    path: str
    scheme: str = ""
    query: str = ""

    @classmethod
    def at(cls, location: "str | Path | Folder") -> "Folder":
        """Return the folder at a local path (`~` is the home folder) or a URI; create nothing.

        Raises:
            BadInput: The URI cannot be read, or its filesystem cannot be reached.
        """
        if isinstance(location, Folder):
            return location
        filesystem, path, scheme, query = open_location(location)
        return cls(filesystem, path.rstrip("/"), scheme, query)

    def __str__(self) -> str:
        """Its path, or its URI as `at` and `pandas.read_parquet` take it, without credentials."""
        if not self.scheme:
            return self.path
        return f"{self.scheme}://{quote(self.path)}" + (f"?{self.query}" if self.query else "")

    @property
    def local(self) -> bool:
        """Whether it lies on a mounted disk, where a rename puts a file in place."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def plain(self) -> "Folder":
        """The same folder for those who do not want to wait for storage."""
        return Folder(self.filesystem, self.path, self.scheme, self.query)

    @property
    def parent(self) -> "Folder":
        """The folder it lies in."""
        return replace(self.plain, path=self.path.rpartition("/")[0] or "/")

    def child(self, name: str) -> Self:
        """Return the folder of this name, or relative path, within this one."""
        return replace(self, path=self.full(name))

    def full(self, relative: str) -> str:
        """Return a path on `filesystem` for a path relative to this folder."""
        return f"{self.path.rstrip('/')}/{relative}"

    def create(self) -> None:
        """Make the folder, if need be, and try that it can be written to and listed.

        Raises:
            BadInput: It cannot: something else is there, no permission, disk full.
        """
        probe = f".{uuid4().hex}.{uuid4().hex}.tmp"
        try:
            self.write_whole(probe, b"can this folder be written to?")
            self.delete(probe)
            self.files()
        except StorageError as error:
            text = f"storage: {self} cannot be used: {error.reason}{advice(error)}"
            raise BadInput(text) from error

    def write_whole(self, relative: str, data: bytes) -> None:
        """Write a file, or replace it, so that readers see all of it or what was there before.

        Raises:
            StorageError: The file is as it was, and no temporary file is left.
        """
        self.attempt("write", relative, lambda: self._write(relative, data))

    def read_bytes(self, relative: str) -> bytes:
        """Return the content of a file.

        Raises:
            StorageError: It is missing or cannot be read.
        """

        def read() -> bytes:
            with self.filesystem.open_input_file(self.full(relative)) as stream:
                return bytes(stream.read())

        return self.attempt("read", relative, read)

    def exists(self, relative: str) -> bool:
        """Return whether there is a file or folder of that path."""

        def look() -> bool:
            (info,) = self.filesystem.get_file_info([self.full(relative)])
            return bool(info.type != fs.FileType.NotFound)

        return self.attempt("look for", relative, look)

    def files(self, relative: str = "", suffix: str = "") -> list[str]:
        """Return the sorted names of the visible files in a folder; none if it is missing."""
        return sorted(self.modified(relative, suffix))

    def modified(self, relative: str = "", suffix: str = "") -> dict[str, datetime | None]:
        """Return the times of last change, where the filesystem knows them, by file name."""
        return {
            info.base_name: info.mtime
            for info in self._entries(relative)
            if info.is_file and info.base_name.endswith(suffix) and info.base_name[0] not in "._"
        }

    def folders(self) -> list[str]:
        """Return the sorted names of the visible folders within this one."""
        return sorted(
            info.base_name
            for info in self._entries("")
            if info.type == fs.FileType.Directory and info.base_name[0] not in "._"
        )

    def delete(self, relative: str) -> None:
        """Delete a file; one that is missing is fine."""
        self.attempt("delete", relative, lambda: self._delete(relative))

    def remove_temporaries(self) -> None:
        """Delete what killed writers left, at any depth. Other hidden files stay.

        A writer that is at work loses its file and fails: call it before writers start.
        """
        if not self.local:
            return  # a put leaves nothing
        for info in self._entries("", recursive=True):
            if info.is_file and _TEMPORARY.fullmatch(info.base_name):
                self.delete(os.path.relpath(info.path, self.path))

    def attempt(self, action: str, relative: str, operation: Callable[[], T]) -> T:
        """Do something with a file of this folder.

        Args:
            action: What it is, for the message: read, write, …
            relative: The file.
            operation: What to do. It may be done again if it fails.

        Raises:
            StorageError: It failed; the message says what was tried, where, and why it failed.
        """
        with self.errors(action, relative):
            return operation()

    @contextmanager
    def errors(self, action: str, relative: str) -> Iterator[None]:
        """Turn what goes wrong inside into a `StorageError` that says what was tried, where."""
        try:
            yield
        except FAULTS as error:
            where = self.child(relative) if relative else self
            raise as_storage_error(f"cannot {action} {where}", error) from error

    def _entries(self, relative: str, recursive: bool = False) -> list[fs.FileInfo]:
        path = self.full(relative).rstrip("/")
        selector = fs.FileSelector(path, allow_not_found=True, recursive=recursive)
        return self.attempt("list", relative, lambda: self.filesystem.get_file_info(selector))

    def _write(self, relative: str, data: bytes) -> None:
        if self.local:
            _write_and_rename(Path(self.full(relative)), data)
        else:
            self._put(self.full(relative), data)

    def _delete(self, relative: str) -> None:
        try:
            self.filesystem.delete_file(self.full(relative))
        except FileNotFoundError:
            return

    def _put(self, path: str, data: bytes) -> None:
        try:
            stream = self.filesystem.open_output_stream(path)
        except FileNotFoundError:
            self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            stream = self.filesystem.open_output_stream(path)
        stream.write(data)
        stream.close()  # not `with`: closing publishes, also after a write that failed


def _write_and_rename(path: Path, data: bytes) -> None:
    _make_directory(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _make_directory(path: Path) -> None:
    """Make a folder and its parents so that they survive a power cut."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network disks cannot sync a folder
            raise
    finally:
        os.close(descriptor)
