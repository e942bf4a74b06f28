"""A study that records everything, through the command line: its tables, and kill and resume."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from study import load_study
from study.tables import KEYS, SCHEMAS
from tests.end_to_end.command import (
    CPUS,
    assert_same_numbers,
    left_over,
    started,
    succeed,
    table,
    vae_study,
    wait_until,
    write_spec,
)
from trainables.datasets import load_dataset
from trainables.models import load_model

pytestmark = pytest.mark.usefixtures("shared_ray")

SPEC: dict[str, Any] = {
    "study": "recorded",
    "dataset": {"name": "tiles", "train_images": 500, "test_images": 100},
    "axes": {
        "architecture": {"family": "dense", "widths": [32, 16]},
        "latent_dim": [2, 5],
        "beta": [0.1, 0.5],
    },
    "training": {"epochs": 8, "precision": "float64", "batch_size": 50, "learning_rate": 0.01},
    "resources": {"pack_size": 2, "checkpoint_seconds": 0},
    "record": {
        "models": True,
        "reconstruction_gain_images": 100,
        "samples": 50,
        "reconstructions": 5,
        "encodings": 60,
        "trajectory": {"images": 2, "every_steps": 5},
        "probe": {"name": "deterioration", "increment": 0.1, "recovery_epochs": 15},
    },
}
FURTHER = ("samples", "encodings", "probes")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ran")
    succeed(folder, "run", write_spec(folder, SPEC))
    return folder


def test_every_table_reads_and_is_what_the_models_say(ran: Path) -> None:
    study = load_study(ran / "studies" / "recorded")
    assert len(study.trials) == 4
    assert left_over(ran / "studies" / "recorded") == []
    data = load_dataset(study.spec.dataset[0])
    for name in FURTHER:
        frame = table(ran, "recorded", name)
        assert list(frame.columns) == SCHEMAS[name].names
        assert not frame.duplicated(KEYS[name]).any()
        assert len(frame) == len(getattr(study, name)) > 0
    assert (study.samples.groupby("trial_id").size() == 55).all()
    for trial in study.trials.itertuples():
        model = load_model(
            ran / "studies" / "recorded" / "models" / f"{trial.trial_id}.safetensors"
        )
        mean, variance = model.encode(data.test[:60])
        codes = study.encodings_of([trial.trial_id]).query("split == 'test'")
        for column, expected in (("mean", mean), ("variance", variance)):
            ours = codes[column].to_numpy().reshape(60, trial.latent_dim)
            np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-7)
        shown = study.samples_of([trial.trial_id]).query("kind == 'reconstruction'")
        pixels = np.stack([np.frombuffer(row, np.uint8) for row in shown["pixels"]])
        expected = 255 * model.decode(mean[:5]).flatten(1).numpy()
        assert np.abs(pixels - expected).max() <= 0.5 + 1e-6
    active = study.trials.set_index("trial_id")["active_units"]
    phases = study.probes.groupby("trial_id")["phase"].agg(set)
    assert set(phases.index) == set(active[active > 0].index)
    assert len(phases) > 2
    assert all({"start", "deterioration", "recovery"} <= found for found in phases)


def test_columns_and_results_know_the_tables(ran: Path, tmp_path: Path) -> None:
    columns = succeed(ran, "columns")
    for name in FURTHER:
        assert name in columns
        output = tmp_path / f"{name}.parquet"
        succeed(ran, "results", "recorded", "--table", name, "--format", "parquet", "-o", output)
        assert len(pd.read_parquet(output)) == len(table(ran, "recorded", name))
    refused = vae_study(ran, "results", "recorded", "--table", "samples", "--format", "csv")
    assert refused.returncode == 2
    assert "--format: csv cannot hold the bytes of images; give parquet" in refused.stderr


def test_another_study_takes_them_along(ran: Path) -> None:
    spec = SPEC | {"study": "again", "axes": SPEC["axes"] | {"beta": 0.1}}
    succeed(ran, "run", write_spec(ran, spec, "again.yaml"))
    ids = set(table(ran, "again", "trials")["trial_id"])
    for name in FURTHER:
        ours, theirs = table(ran, "again", name), table(ran, "recorded", name)
        theirs = theirs[theirs["trial_id"].isin(ids)]
        assert set(ours["study"]) == {"again"}
        pd.testing.assert_frame_equal(
            *(
                f.drop(columns="study").sort_values(KEYS[name], ignore_index=True)
                for f in (ours, theirs)
            )
        )


def test_a_study_that_asks_for_none_has_none(tmp_path: Path) -> None:
    spec = SPEC | {"record": {}, "training": {"epochs": 1}}
    succeed(tmp_path, "run", write_spec(tmp_path, spec))
    folders = {path.name for path in (tmp_path / "studies" / "recorded").iterdir() if path.is_dir()}
    assert not folders & {*FURTHER, "models"}


def in_its_probe(checkpoint: Path) -> bool:
    """Whether a pack's last checkpoint was taken in the midst of its probe."""
    try:
        data = checkpoint.read_bytes()
        size = int.from_bytes(data[:8], "little")
        return b'\\"phase\\"' in data[8 : 8 + size]
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_killed_in_its_probe_it_goes_on(tmp_path: Path, ran: Path) -> None:
    """Nothing is lost or doubled, whenever the driver dies; the last kill is within a probe."""
    command = ["run", str(write_spec(tmp_path, SPEC)), *CPUS]
    checkpoints = tmp_path / "studies" / "recorded" / "checkpoints"
    with started(tmp_path, *command) as driver:
        wait_until(
            lambda: any(map(in_its_probe, checkpoints.glob("*.safetensors"))), what="a probe"
        )
        time.sleep(0.2)
        driver.kill()
        driver.wait(30)
    assert list(checkpoints.glob("*.safetensors")), "the probe has become too short for this test"
    succeed(tmp_path, "resume", "recorded")
    assert_same_numbers(tmp_path, ran, "recorded")
    assert left_over(tmp_path / "studies" / "recorded") == []
    for name in FURTHER:
        ours, theirs = (
            table(folder, "recorded", name)
            .drop(columns="seconds", errors="ignore")
            .sort_values(KEYS[name], ignore_index=True)
            for folder in (tmp_path, ran)
        )
        exact = [column for column in ours if ours[column].dtype != object]
        pd.testing.assert_frame_equal(ours[exact], theirs[exact], rtol=1e-6, atol=1e-7)
