"""The IDX file format of MNIST, read strictly: whatever is not exactly a whole IDX file is refused.

Format (https://yann.lecun.com/exdb/mnist/): two zero bytes, a type code, the number of dimensions,
each dimension as a big-endian 32-bit integer, then the values, big-endian, row-major.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import BadInput

GZIP_MAGIC = b"\x1f\x8b"

_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        BadInput: The path is missing, no regular file, or not readable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); give a file") from error


def decompress(stored: bytes, path: Path) -> bytes:
    """Undo gzip, where the content is gzipped or the name says that it should be.

    Args:
        stored: The file's bytes.
        path: Its name, for the decision and for messages.

    Raises:
        BadInput: A `.gz` file that is no gzip file, or is truncated or damaged.
    """
    if not stored.startswith(GZIP_MAGIC) and path.suffix != ".gz":
        return stored
    try:
        if len(stored) < len(GZIP_MAGIC):
            raise EOFError
        return gzip.decompress(stored)
    except EOFError as error:
        raise BadInput(
            f"{path}: truncated: the gzip stream breaks off after {len(stored)} bytes; "
            "give the complete file"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(
            f"{path}: not a sound gzip file ({error}); give an undamaged copy"
        ) from error


def parse_idx(content: bytes, path: Path) -> NDArray[Any]:
    """Read the content of an IDX file.

    Args:
        content: The uncompressed content.
        path: Where it came from, for messages.

    Returns:
        A writable array in the machine's own byte order.

    Raises:
        BadInput: Wrong magic number, or a length other than the header's dimensions give.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or content[3] == 0:
        raise BadInput(
            f"{path}: magic number {content[:4].hex() or '(empty file)'} is not IDX's (0000, "
            "a type code such as 08, the number of dimensions); give an IDX file"
        )
    dtype, dimensions = _TYPES[content[2]], content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise BadInput(f"{path}: truncated within the IDX header; give the complete file")
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], dtype=">u4"))
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        fault = "truncated" if len(content) < expected else "trailing bytes"
        raise BadInput(
            f"{path}: {fault}: {len(content)} bytes where an IDX file of shape {shape} "
            f"has {expected}; give the file as it was published"
        )
    values: NDArray[Any] = np.frombuffer(content, dtype=dtype, offset=start)
    return values.astype(dtype.newbyteorder("=")).reshape(shape)


def read_idx(path: Path) -> NDArray[Any]:
    """Read an IDX file, gzipped or not.

    Args:
        path: The file.

    Returns:
        Its array, in the machine's own byte order.

    Raises:
        BadInput: The file is unreadable, truncated, damaged or not IDX.
    """
    return parse_idx(decompress(read_bytes(path), path), path)
