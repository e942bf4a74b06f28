"""A folder on any pyarrow filesystem in which files appear whole or not at all."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

from search_spaces import BadInput

__all__ = ["Folder", "StorageError"]

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


class StorageError(RuntimeError):
    """Storage failed while a study ran: the study can be resumed (exit code 3)."""


@dataclass(frozen=True)
class Folder:
    """A folder, there or not yet, on a local disk, a network disk or an object store.

    Attributes:
        filesystem: Where it lies.
        path: Its path there, without a slash at the end.
        scheme: The scheme of its URI (s3, gs, …); empty for local folders.
    """

    filesystem: fs.FileSystem
    path: str
    scheme: str = ""

    @classmethod
    def at(cls, location: "str | Path | Folder") -> "Folder":
        """Return the folder at a local path (`~` is the home folder) or a URI; create nothing.

        Raises:
            BadInput: The URI cannot be read, or its filesystem cannot be reached.
        """
        if isinstance(location, Folder):
            return location
        if "://" not in str(location):
            path = os.path.abspath(os.path.expanduser(location))
            return cls(fs.LocalFileSystem(), path)
        try:
            filesystem, path = fs.FileSystem.from_uri(str(location))
            if not path:
                raise pa.ArrowInvalid("it names no bucket or folder")
        except (OSError, pa.ArrowException) as error:
            raise BadInput(
                f"storage: {str(location)!r} cannot be opened ({_reason(error)}); "
                "give a local folder or a URI such as s3://bucket/folder"
            ) from error
        local = isinstance(filesystem, fs.LocalFileSystem)
        scheme = "" if local else str(location).partition("://")[0]
        return cls(filesystem, path.rstrip("/"), scheme)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}" if self.scheme else self.path

    @property
    def local(self) -> bool:
        """Whether it lies on a mounted disk, where a rename puts a file in place."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "Folder":
        """The folder it lies in."""
        return Folder(self.filesystem, self.path.rpartition("/")[0] or "/", self.scheme)

    def child(self, name: str) -> "Folder":
        """Return the folder of this name, or relative path, within this one."""
        return Folder(self.filesystem, self.full(name), self.scheme)

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
            raise BadInput(f"storage: {self} cannot be used: {error}") from error

    def write_whole(self, relative: str, data: bytes) -> None:
        """Write a file, or replace it, so that readers see all of it or what was there before.

        Raises:
            StorageError: The file is as it was, and no temporary file is left.
        """
        with self.errors("write", relative):
            if self.local:
                _write_and_rename(Path(self.full(relative)), data)
            else:
                self._put(self.full(relative), data)

    def read_bytes(self, relative: str) -> bytes:
        """Return the content of a file.

        Raises:
            StorageError: It is missing or cannot be read.
        """
        with (
            self.errors("read", relative),
            self.filesystem.open_input_file(self.full(relative)) as stream,
        ):
            return bytes(stream.read())

    def exists(self, relative: str) -> bool:
        """Return whether there is a file or folder of that path."""
        with self.errors("look for", relative):
            (info,) = self.filesystem.get_file_info([self.full(relative)])
            return bool(info.type != fs.FileType.NotFound)

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
        with self.errors("delete", relative):
            try:
                self.filesystem.delete_file(self.full(relative))
            except FileNotFoundError:
                return

    def remove_temporaries(self) -> None:
        """Delete what killed writers left, at any depth. Other hidden files stay.

        A writer that is at work loses its file and fails: call it before writers start.
        """
        if not self.local:
            return  # a put leaves nothing
        for info in self._entries("", recursive=True):
            if info.is_file and _TEMPORARY.fullmatch(info.base_name):
                self.delete(os.path.relpath(info.path, self.path))

    @contextmanager
    def errors(self, action: str, relative: str) -> Iterator[None]:
        """Turn what goes wrong inside into a `StorageError` that says what was tried, where."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            where = f"{self}/{relative}" if relative else str(self)
            raise StorageError(f"cannot {action} {where}: {_reason(error)}") from error

    def _entries(self, relative: str, recursive: bool = False) -> list[fs.FileInfo]:
        path = self.full(relative).rstrip("/")
        with self.errors("list", relative):
            selector = fs.FileSelector(path, allow_not_found=True, recursive=recursive)
            return list(self.filesystem.get_file_info(selector))

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


def _reason(error: BaseException) -> str:
    """What the system says, without the path that the message names anyway."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or repr(error)).splitlines()[0]
