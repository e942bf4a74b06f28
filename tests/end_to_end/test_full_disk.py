"""A disk that is full for a while, or for good: a real one, under the real command."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.end_to_end.command import (
    CPUS,
    assert_same_numbers,
    left_over,
    started,
    succeed,
    vae_study,
    wait_until,
    write_spec,
)
from tests.small_disk import fill, small_disk

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_ray")]

SPEC: dict[str, Any] = {
    "study": "tight",
    "dataset": {"name": "tiles", "train_images": 600, "test_images": 200},
    "axes": {
        "architecture": {"family": "dense", "widths": [[32, 16], [24]]},
        "latent_dim": [2, 5],
        "beta": [0.5, 2],
    },
    "training": {"epochs": 30, "precision": "float64", "batch_size": 50},
    "resources": {"pack_size": 2, "checkpoint_seconds": 0},
    "record": {"every": 10, "reconstruction_gain_images": 100},
}
TRIALS, PACKS = 8, 4


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of 4 MB."""
    with small_disk("4m") as place:
        yield place


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    succeed(folder, "run", write_spec(folder, SPEC))
    return folder


def committed(disk: Path) -> int:
    return len(list((disk / "studies" / "tight" / "trials").glob("pack-*")))


def test_room_again_after_a_while(tmp_path: Path, disk: Path, undisturbed: Path) -> None:
    storage, log = ("--storage", disk / "studies"), tmp_path / "output.txt"
    spec = write_spec(tmp_path, SPEC)
    with started(tmp_path, "run", spec, *CPUS, *storage) as driver:
        wait_until(lambda: committed(disk), what="a commit")
        # Packs that end delete their checkpoints, which would make room for the others.
        wait_until(lambda: fill(disk) and "trying again" in log.read_text(), what="a warning")
        there = committed(disk)
        fill(disk).unlink()
        assert driver.wait(240) == 0, log.read_text()
    assert there < PACKS
    output = log.read_text()
    assert "Traceback" not in output
    assert "starts again" not in output  # no worker minded
    begins = [line for line in output.splitlines() if "; trying again for 5 min 0 s" in line]
    assert begins
    assert all("No space left on device" in line for line in begins)
    assert output.count("storage works again after") == len(begins)
    assert_same_numbers(disk, undisturbed, "tight")
    assert left_over(disk / "studies" / "tight") == []


def test_no_room_for_good(tmp_path: Path, disk: Path, undisturbed: Path) -> None:
    storage = ("--storage", disk / "studies")
    patience = ("--set", "resources.storage_patience_seconds=3")
    spec = write_spec(tmp_path, SPEC)
    with started(tmp_path, "run", spec, *patience, *CPUS, *storage) as driver:
        wait_until(lambda: committed(disk), what="a commit")
        wait_until(lambda: fill(disk) and driver.poll() is not None, 120, "the end")
        assert driver.returncode == 3, (tmp_path / "output.txt").read_text()
    output = (tmp_path / "output.txt").read_text()
    assert "Traceback" not in output
    (message,) = [line for line in output.splitlines() if line.startswith("vae-study: ")]
    assert "No space left on device" in message
    assert "`vae-study resume` goes on" in message
    trials = pd.read_parquet(disk / "studies" / "tight" / "trials")
    assert 0 < len(trials) < TRIALS
    assert trials["trial_id"].is_unique

    full = vae_study(tmp_path, "resume", "tight", *storage)  # nothing is started
    assert full.returncode == 2
    assert "No space left on device" in full.stderr
    fill(disk).unlink()
    succeed(tmp_path, "resume", "tight", *storage)
    assert_same_numbers(disk, undisturbed, "tight")
    assert left_over(disk / "studies" / "tight") == []
