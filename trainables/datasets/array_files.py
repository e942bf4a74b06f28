"""Reading a user's `.npy`, `.npz` or IDX file, told apart by content rather than by name."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import BadInput, nearest_name
from trainables.datasets.idx import GZIP_MAGIC, read_idx

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")

# What numpy and zipfile raise for truncated, damaged, encrypted and pickled files; the last two
# come from numpy's parsing of a damaged header.
_DAMAGE = (
    ValueError,
    EOFError,
    OSError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,
    TokenError,
)


@dataclass(frozen=True)
class StoredArrays:
    """What a file holds, as it lies there; `test` is None where the file makes no split."""

    train: NDArray[Any]
    test: NDArray[Any] | None = None
    train_labels: NDArray[Any] | None = None
    test_labels: NDArray[Any] | None = None


def read_array_file(path: Path, key: str | None) -> StoredArrays:
    """Read a file's arrays, without yet judging their types and shapes.

    Args:
        path: The file.
        key: Which array of an `.npz` file. Without it: the only one, or x_train and, if present,
            x_test, y_train and y_test, as Keras names them.

    Raises:
        BadInput: The file is missing, damaged, of another kind, or holds Python objects; or the
            key is missing, unknown, or given for a file that is no `.npz`.
    """
    start = _first_bytes(path)
    if start.startswith(_ZIP_MAGICS):
        return _read_npz(path, key)
    if key is not None:
        raise BadInput(f"dataset.key: {key!r} names an array of an .npz file, which {path} is not")
    if start.startswith(_NPY_MAGIC):
        return StoredArrays(_read_npy(path))
    if start.startswith((GZIP_MAGIC, b"\0\0")):
        try:
            return StoredArrays(read_idx(path))
        except BadInput as error:
            raise BadInput(f"dataset.path: {error}") from error
    raise BadInput(
        f"dataset.path: {path} starts with {start!r}, so it is no .npy, .npz or IDX file; "
        "save the array with numpy.save"
    )


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_NPY_MAGIC))
    except OSError as error:
        raise BadInput(
            f"dataset.path: {path} cannot be read ({error.strerror}); give a .npy, .npz or IDX file"
        ) from error


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            array: NDArray[Any] = np.load(file, allow_pickle=False)
            surplus = file.read(1)
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    if surplus:
        raise BadInput(
            f"dataset.path: {path} goes on after its array; save one array per .npy file"
        )
    return array


def _read_npz(path: Path, key: str | None) -> StoredArrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = _choose(archive.files, key, path)
            arrays = {field: archive[name] for field, name in wanted.items()}
    except BadInput:
        raise
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    for field, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy gives the bytes of members that are no .npy
            raise BadInput(f"dataset.path: {path}: {wanted[field]!r} in it is not an array")
    return StoredArrays(**arrays)


def _choose(names: list[str], key: str | None, path: Path) -> dict[str, str]:
    """Which array of an .npz file is which field of StoredArrays."""
    if key is not None and key not in names:
        raise BadInput(f"dataset.key: {path} has no array {key!r}{nearest_name(key, names)}")
    if key is not None:
        return {"train": key}
    if "x_train" in names:
        chosen = {"train": "x_train", "train_labels": "y_train"}
        if "x_test" in names:
            chosen |= {"test": "x_test", "test_labels": "y_test"}
        return {field: name for field, name in chosen.items() if name in names}
    if len(names) != 1:
        raise BadInput(
            f"dataset.key: {path} holds {len(names)} arrays ({', '.join(names) or 'none'}); "
            "name the one with the images"
        )
    return {"train": names[0]}


def _unreadable(path: Path, error: Exception) -> BadInput:
    if "allow_pickle" in str(error):
        return BadInput(
            f"dataset.path: {path} holds Python objects, which are not loaded since that can run "
            "any code; save a plain uint8 or float32 array"
        )
    return BadInput(
        f"dataset.path: {path}: truncated or damaged ({error}); save it again, or give a sound copy"
    )
