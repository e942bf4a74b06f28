"""Fixtures for data on disk: the real MNIST where it is at hand, and small IDX files."""

import gc
import gzip
import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

# Machines may be busy: no test fails for being slow.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A shell without job control lets what it starts in the background ignore Ctrl-C, which the
# commands that tests start and interrupt would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nor does any test run on a cluster of whoever runs it.
os.environ.pop("RAY_ADDRESS", None)

# One thread for each process, also without make: tests run side by side, and PyTorch's threads wait
# for one another in loops. With two workers on two cores some tests took twelve times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's workers are nice by default: on a machine of few cores they starve beside the other tests.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - it is spelt so
# A Ray in this process asks for no token. One that did would leave the process wanting tokens of
# every later one, whose actors then end before they start.
os.environ["RAY_AUTH_MODE"] = "disabled"

_REPOSITORY = Path(__file__).resolve().parents[1]
_IDX_CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D}
_IDX_CODES["float64"] = 0x0E

IdxWriter = Callable[[Path, NDArray[Any]], Path]


def pytest_collection_finish() -> None:
    """What is imported stays: a collection of garbage need not go through it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _no_settings_of_earlier_modules() -> Iterator[None]:
    """Modules, and a Ray started in this process, leave variables behind."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """A folder to give as `data_dir` which holds the real MNIST; skips where there is none."""
    own = os.environ.get("VAE_STUDY_DATA")
    folders = [Path(own)] if own else []
    folders += [_REPOSITORY / "data", _REPOSITORY.parent / "shared" / "data"]
    name = "train-images-idx3-ubyte"
    for folder in folders:
        for place in (folder / "mnist", folder):
            if (place / name).is_file() or (place / f"{name}.gz").is_file():
                return folder
    pytest.skip(f"no MNIST in {', '.join(map(str, folders))}; VAE_STUDY_DATA can name its folder")


@pytest.fixture(scope="session")
def write_idx() -> IdxWriter:
    """Writes an array as an IDX file, gzipped if the name ends in .gz, and returns its path."""

    def write(path: Path, array: NDArray[Any]) -> Path:
        header = struct.pack(">HBB", 0, _IDX_CODES[array.dtype.name], array.ndim)
        header += struct.pack(f">{array.ndim}I", *array.shape)
        content = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
        return path

    return write
