"""IDX files: what is whole is read exactly, what is not is refused with the reason."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from search_spaces import BadInput
from trainables.datasets.idx import decompress, parse_idx, read_idx

IMAGES = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
DTYPES = ["uint8", "int8", "int16", "int32", "float32", "float64"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    array=st.sampled_from(DTYPES).flatmap(
        lambda name: hnp.arrays(
            np.dtype(name), hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
        )
    ),
    suffix=st.sampled_from(["", ".gz", ".idx"]),
)
def test_what_is_written_is_read(array: Any, suffix: str, tmp_path: Path, write_idx: Any) -> None:
    read = read_idx(write_idx(tmp_path / f"images{suffix}", array))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_arrays_are_writable_and_in_native_order(tmp_path: Path, write_idx: Any) -> None:
    for array in (IMAGES, IMAGES.astype(np.int32)):
        read = read_idx(write_idx(tmp_path / "images", array))
        assert read.flags.writeable
        assert read.dtype.isnative


def test_gzip_is_recognised_without_its_suffix(tmp_path: Path, write_idx: Any) -> None:
    zipped = write_idx(tmp_path / "images.gz", IMAGES).rename(tmp_path / "images")
    np.testing.assert_array_equal(read_idx(zipped), IMAGES)


@pytest.mark.parametrize("tenths", range(10))
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_truncated_files_say_so(name: str, tenths: int, tmp_path: Path, write_idx: Any) -> None:
    path = write_idx(tmp_path / name, IMAGES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenths // 10])
    expected = "empty file" if (name, tenths) == ("images", 0) else "truncated"
    with pytest.raises(BadInput, match=expected) as refusal:
        read_idx(path)
    assert str(path) in str(refusal.value)


def test_every_shorter_or_longer_content_is_refused() -> None:
    content = bytes([0, 0, 8, 1]) + struct.pack(">I", 6) + b"pixels"
    assert bytes(parse_idx(content, Path("x"))) == b"pixels"
    for length in range(len(content)):
        with pytest.raises(BadInput):
            parse_idx(content[:length], Path("x"))
    with pytest.raises(BadInput, match="trailing bytes"):
        parse_idx(content + b"!", Path("x"))


@pytest.mark.parametrize(
    "magic",
    [b"\x00\x00\x07\x03", b"\x00\x01\x08\x03", b"\x00\x00\x08\x00", b"PNG\x03", b"\x03\x08\0\0"],
)
def test_wrong_magic_numbers(magic: bytes, tmp_path: Path, write_idx: Any) -> None:
    path = write_idx(tmp_path / "images", IMAGES)
    path.write_bytes(magic + path.read_bytes()[4:])
    with pytest.raises(BadInput, match=f"magic number {magic.hex()}"):
        read_idx(path)


@pytest.mark.parametrize("dimension", [0, 1, 2**32 - 1])
def test_wrong_dimensions(dimension: int, tmp_path: Path, write_idx: Any) -> None:
    path = write_idx(tmp_path / "images", IMAGES)
    content = path.read_bytes()
    path.write_bytes(content[:4] + struct.pack(">I", dimension) + content[8:])
    with pytest.raises(BadInput, match=r"truncated|trailing bytes"):
        read_idx(path)


def test_damaged_gzip(tmp_path: Path, write_idx: Any) -> None:
    path = write_idx(tmp_path / "images.gz", IMAGES)
    whole = path.read_bytes()
    for damaged in (
        b"<html>not found</html>",
        whole[:-8] + bytes(4) + whole[-4:],  # checksum
        whole[:12] + bytes(8) + whole[20:],  # stream
        whole + b"surplus",
    ):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="gzip"):
            read_idx(path)


def test_no_flipped_byte_of_a_gzip_goes_unnoticed(tmp_path: Path, write_idx: Any) -> None:
    path = write_idx(tmp_path / "images.gz", IMAGES)
    whole = path.read_bytes()
    for position in range(10, len(whole)):  # the header's name, time and system do not matter
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        with pytest.raises(BadInput):
            parse_idx(decompress(bytes(damaged), path), path)


def test_gzip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(b"hello, world"))
    with pytest.raises(BadInput, match="magic number 68656c6c"):
        read_idx(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BadInput, match="cannot be read"):
            read_idx(path)
