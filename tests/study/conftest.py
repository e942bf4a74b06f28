from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pandas as pd
import pytest
from pyarrow import fs

from study.storage import Folder
from study.tables import SCHEMAS, TRIALS
from tests.s3_server import S3Server, s3_server

Pack = dict[str, Any]


def pack_rows(
    pack_id: str,
    done: Sequence[str],
    failed: Sequence[str] = (),
    attempt: int = 1,
    status: str = "completed",
    latent_dim: int = 2,
) -> Pack:
    """The arguments of `commit`, but for the folder, for a pack of these trials."""
    trials = []
    for trial_id in (*done, *failed):
        row: dict[str, Any] = dict.fromkeys(TRIALS.names)
        row |= {
            "study": "test",
            "trial_id": trial_id,
            "pack_id": pack_id,
            "status": status,
            "dataset": "tiles",
            "dataset_fingerprint": "f" * 16,
            "architecture": "dense-256-32-24",
            "family": "dense",
            "depth": 3,
            "widths": "256-32-24",
            "latent_dim": latent_dim,
            "beta": 0.5,
            "objective": "elbo",
            "decoder": "bernoulli",
            "learning_rate": 1e-3,
            "learning_rate_schedule": "cosine",
            "batch_size": 128,
            "epochs": 2,
            "initialisation": "glorot",
            "data_seed": 0,
            "seed": 2**63 - 1,
            "precision": "float32",
            "attempt": attempt,
            "node": "host",
            "started_at": pd.Timestamp("2026-01-02T03:04:05.678901Z"),
            "version": "0.1.0",
            "numerics_version": 1,
        }
        if trial_id in failed:
            row |= {"status": "failed", "error": "out of memory"}
        else:
            row |= {"epochs_trained": 2, "active_units": 1, "active_units_kl": 2}
            row |= {"parameters": 1234}
            for split in ("train", "test"):
                row |= {f"{split}_{part}": 0.25 for part in ("elbo", "reconstruction", "kl", "mse")}
            row |= {"train_objective": 99.5, "variance_law_mean": 1.0, "variance_law_variance": 0.0}
        trials.append(row)
    units = [
        {
            "study": "test",
            "trial_id": trial_id,
            "epoch": 2,
            "step": 100,
            "split": split,
            "unit": unit,
            "mean": 0.0,
            "mean_variance": 0.75,
            "posterior_variance": 0.25,
            "second_moment": 0.75,
            "kl": 1.5,
            "reconstruction_gain": None,
            "active": True,
        }
        for trial_id in done
        for split in ("train", "test")
        for unit in range(latent_dim)
    ]
    epochs = [
        {
            "study": "test",
            "trial_id": trial_id,
            "epoch": epoch,
            "train_elbo": -90.0 if epoch else None,
            "train_reconstruction": 80.0 if epoch else None,
            "train_kl": 10.0 if epoch else None,
            "test_elbo": -95.0,
            "active_units": 1,
            "variance_law_mean": 1.1,
            "seconds": 0.5,
        }
        for trial_id in done
        for epoch in range(3)
    ]
    tables = {"trials": trials, "units": units, "epochs": epochs}
    return {"pack_id": pack_id} | {
        name: pd.DataFrame(rows, columns=SCHEMAS[name].names) for name, rows in tables.items()
    }


@pytest.fixture(scope="session")
def make_pack() -> Callable[..., Pack]:
    return pack_rows


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One server for all tests; whoever makes it fail sees to it that it works again."""
    with s3_server() as server:
        yield server


@pytest.fixture(params=["local", "subtree", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty place for a study: a local folder, and filesystems without rename."""
    place = tmp_path / "with space" / "studies" / "test"
    if request.param == "local":
        return Folder.at(place)
    if request.param == "subtree":
        return Folder(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "studies/test")
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return Folder.at(server.uri(f"with%20space/{uuid4().hex}/test", credentials=True))
    memory = fsspec.filesystem("memory", skip_instance_cache=True)
    memory.store, memory.pseudo_dirs = {}, [""]  # by default every instance shares them
    return Folder(fs.PyFileSystem(fs.FSSpecHandler(memory)), "/bucket/studies/test", "memory")
