import errno
import os
import pickle
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from search_spaces import BadInput
from study.storage import Folder, StorageError


def files_below(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_write_read_replace_delete(folder: Folder) -> None:
    folder.create()
    assert folder.files() == []
    folder.write_whole("a/b.bin", b"first")
    folder.write_whole("a/b.bin", b"second" * 100_000)
    assert folder.read_bytes("a/b.bin") == b"second" * 100_000
    assert folder.child("a").read_bytes("b.bin")[:6] == b"second"
    assert folder.child("a").parent == folder
    assert folder.exists("a/b.bin")
    assert not folder.exists("a/c.bin")
    folder.delete("a/b.bin")
    folder.delete("a/b.bin")
    assert not folder.exists("a/b.bin")


def test_listing_shows_visible_files_in_order(folder: Folder) -> None:
    assert folder.files("trials", ".parquet") == []
    assert folder.folders() == []
    for name in ("b.parquet", "a.parquet", "c.txt", ".hidden.parquet", "_hidden.parquet"):
        folder.write_whole(f"trials/{name}", b"x")
    folder.write_whole("trials/deeper/d.parquet", b"x")
    folder.write_whole(".cache/e.parquet", b"x")
    assert folder.files("trials", ".parquet") == ["a.parquet", "b.parquet"]
    assert folder.files("trials") == ["a.parquet", "b.parquet", "c.txt"]
    assert folder.folders() == ["trials"]


def test_reading_a_missing_file_names_it(folder: Folder) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*test/a\.bin"):
        folder.read_bytes("a.bin")


@pytest.mark.parametrize("location", ["relative dir/x", "~/x", "{tmp}/a b", "file://{tmp}/a%20b"])
def test_local_locations(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = Folder.at(location.replace("{tmp}", str(tmp_path)))
    assert folder.local
    folder.write_whole("f", b"data")
    assert files_below(tmp_path) in (["relative dir/x/f"], ["x/f"], ["a b/f"])
    monkeypatch.chdir("/")
    assert folder.read_bytes("f") == b"data"
    assert Path(str(folder)).is_absolute()


def test_uris() -> None:
    folder = Folder.at("s3://bucket/some/studies/?region=eu-west-1")
    assert not folder.local
    assert str(folder.child("mnist")) == "s3://bucket/some/studies/mnist?region=eu-west-1"
    assert str(folder.parent) == "s3://bucket/some?region=eu-west-1"
    assert folder.name == "studies"
    assert Folder.at(folder) is folder


@pytest.mark.parametrize("location", ["nope://bucket/x", "s3://", "file://a b", "file://relative"])
def test_unusable_uri_is_bad_input(location: str) -> None:
    with pytest.raises(BadInput, match=r"storage: .* cannot be opened"):
        Folder.at(location)


def test_place_below_a_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for place in (tmp_path / "file", tmp_path / "file" / "studies"):
        with pytest.raises(
            BadInput, match=rf"storage: {place} cannot be used: .*ot a directory|ex"
        ):
            Folder.at(place).create()
    assert files_below(tmp_path) == ["file"]


@pytest.mark.parametrize("function", ["fsync", "replace", "mkdir"])
def test_full_disk_at_opening_is_bad_input(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, function, full_disk)
    with pytest.raises(BadInput, match=r"studies cannot be used.*No space left on device"):
        Folder.at(tmp_path / "studies").create()
    assert files_below(tmp_path) == []


def test_place_that_cannot_be_listed_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise StorageError("denied")

    monkeypatch.setattr(Folder, "_entries", denied)
    with pytest.raises(BadInput, match="cannot be used: denied"):
        Folder.at(tmp_path).create()


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file_and_nothing_else(
    function: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.at(tmp_path)
    folder.write_whole("trials/a.parquet", b"old")

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        expected = StorageError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(expected):
            folder.write_whole("trials/a.parquet", b"new")
        with pytest.raises(expected):
            folder.write_whole("trials/b.parquet", b"new")
    assert files_below(tmp_path) == ["trials/a.parquet"]
    assert folder.read_bytes("trials/a.parquet") == b"old"


@pytest.mark.parametrize("full", [False, True])
def test_an_object_is_published_by_close_only_after_a_whole_write(full: bool) -> None:
    class Stream:
        closed = False

        def write(self, _: bytes) -> None:
            if full:
                full_disk()

        def close(self) -> None:
            self.closed = True

        def __enter__(self) -> "Stream":
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    class Store:
        stream = Stream()

        def open_output_stream(self, _: str) -> Stream:
            return self.stream

    store: Any = Store()
    folder = Folder(store, "bucket/x", "s3")
    if full:
        with pytest.raises(StorageError, match="No space left"):
            folder.write_whole("a", b"new")
    else:
        folder.write_whole("a", b"new")
    assert store.stream.closed != full


def test_temporary_names_are_hidden_and_removed_at_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.at(tmp_path)
    left: list[str] = []

    def killed(source: str | Path, _: str | Path) -> None:
        content = Path(source).read_bytes()
        name = Path(source).with_name(re.sub("[0-9a-f]{32}", 32 * "0", Path(source).name))
        left.append(str(name.relative_to(tmp_path)))
        name.write_bytes(content[: len(content) // 2])
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        for name in ("study.yaml", "trials/a.parquet", "checkpoints/p/q/lane.pt"):
            with pytest.raises(StorageError):
                folder.write_whole(name, b"half of this is lost")
    for name in (".hidden", ".nfs0000001", "trials/.DS_Store", ".a.tmp", "plain.tmp"):
        (tmp_path / name).write_text("somebody else's")
    assert all(Path(name).name.startswith(".") for name in left)
    assert set(left) < set(files_below(tmp_path))
    folder.remove_temporaries()
    assert files_below(tmp_path) == sorted(
        [".hidden", ".nfs0000001", "trials/.DS_Store", ".a.tmp", "plain.tmp"]
    )


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "by_hand").write_text("x")
    Folder.at(tmp_path).write_whole("by_folder", b"x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("by_hand", "by_folder")]
    assert modes[0] == modes[1]


def test_data_is_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, os.replace

    def record_sync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def record_replace(source: str, target: str) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_replace)
    Folder.at(tmp_path).write_whole("new/folders/file", b"x")
    assert calls == ["folder", "folder", "file", "rename", "folder"]


def test_network_disk_that_cannot_sync_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    Folder.at(tmp_path).write_whole("file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_folder_survives_pickling(tmp_path: Path) -> None:
    folder = pickle.loads(pickle.dumps(Folder.at(tmp_path)))
    folder.write_whole("file", b"x")
    assert isinstance(folder.filesystem, fs.LocalFileSystem)
    assert files_below(tmp_path) == ["file"]
