"""Users' files that are damaged, of another kind, or could run code."""

import gzip
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces import BadInput
from trainables.datasets.array_files import read_array_file

IMAGES = np.arange(600, dtype=np.uint8).reshape(10, 60)


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def content_of(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, IMAGES)
    elif kind == "npz":
        np.savez(file, images=IMAGES)
    elif kind == "npz-compressed":
        np.savez_compressed(file, images=IMAGES)
    return file.getvalue()


KINDS = ["npy", "npz", "npz-compressed"]


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_told_apart_by_content(kind: str, tmp_path: Path) -> None:
    (tmp_path / "anything.dat").write_bytes(content_of(kind))
    stored = read_array_file(tmp_path / "anything.dat", None)
    np.testing.assert_array_equal(stored.train, IMAGES)
    assert stored.test is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_refused(kind: str, tmp_path: Path) -> None:
    whole, path = content_of(kind), tmp_path / "images"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInput, match=r"dataset\.path"):
            read_array_file(path, None)


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_byte_ends_in_another_exception(kind: str, tmp_path: Path) -> None:
    whole, path = content_of(kind), tmp_path / "images"
    for position in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            path.write_bytes(damaged)
            try:
                stored = read_array_file(path, None)
            except BadInput:
                continue
            if kind != "npy" and stored.train.dtype == np.uint8:  # npy files have no checksum
                assert stored.train.tobytes() == IMAGES.tobytes()


def test_surplus_after_an_array(tmp_path: Path) -> None:
    (tmp_path / "two.npy").write_bytes(content_of("npy") * 2)
    with pytest.raises(BadInput, match="goes on after its array"):
        read_array_file(tmp_path / "two.npy", None)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_objects_are_refused_and_never_unpickled(kind: str, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = np.array([Trap(sprung), None], dtype=object)
    path = tmp_path / f"trap.{kind}"
    if kind == "npy":
        np.save(path, trap, allow_pickle=True)
    else:
        np.savez(path, images=trap)
    with pytest.raises(BadInput, match="Python objects"):
        read_array_file(path, None)
    assert not sprung.exists()


def test_a_bare_pickle_is_no_array_file(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    (tmp_path / "trap.npy").write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(BadInput, match=r"no \.npy, \.npz or IDX file"):
        read_array_file(tmp_path / "trap.npy", None)
    assert not sprung.exists()


@pytest.mark.parametrize("content", [b"", b"1,2,3\n4,5,6\n", b"\x89PNG\r\n", b"\x80\x04\x95"])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.npy").write_bytes(content)
    with pytest.raises(BadInput, match=r"no \.npy, \.npz or IDX file"):
        read_array_file(tmp_path / "other.npy", None)


def test_a_gzipped_npy_is_not_taken_for_idx(tmp_path: Path) -> None:
    (tmp_path / "images.npy.gz").write_bytes(gzip.compress(content_of("npy")))
    with pytest.raises(BadInput, match=r"dataset\.path: .*magic number"):
        read_array_file(tmp_path / "images.npy.gz", None)


def test_zip_files_that_are_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "files.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(BadInput, match=r"'readme\.txt' in it is not an array"):
        read_array_file(path, None)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(BadInput, match=r"holds 0 arrays \(none\)"):
        read_array_file(path, None)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.npy"):
        with pytest.raises(BadInput, match=rf"dataset\.path: {path} cannot be read"):
            read_array_file(path, None)


def test_truncated_idx(tmp_path: Path, write_idx: Any) -> None:
    path = write_idx(tmp_path / "images.gz", IMAGES)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=rf"dataset\.path: {path}: truncated"):
        read_array_file(path, None)
