"""One bad trial harms no other, and storage that fails leaves a study that can be resumed."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.end_to_end.command import (
    CPUS,
    assert_same_numbers,
    environment,
    left_over,
    started,
    succeed,
    table,
    vae_study,
    wait_until,
    write_spec,
)
from tests.end_to_end.failing import checkpoints_that_cannot_be_read, failing_seeds

pytestmark = pytest.mark.usefixtures("shared_ray")

SPEC: dict[str, Any] = {
    "study": "faulty",
    "dataset": {"name": "tiles", "train_images": 300, "test_images": 100},
    "axes": {
        "architecture": {"family": "dense", "widths": [16]},
        "latent_dim": 2,
        "seed": {"range": [0, 5]},
    },
    "training": {"epochs": 2, "precision": "float64"},
    "resources": {"pack_size": 3, "max_failures": 1},
}
BAD = {1: "seed 1 was told to fail", 4: "died"}


class Failed:
    """A study of two packs in each of which one trial fails, and then `--retry-failed`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = write_spec(folder, SPEC)
        path, log = failing_seeds(folder, raising={1}, dying={4})
        self.run = vae_study(folder, "run", spec, *CPUS, env=environment(PYTHONPATH=path))
        self.trials = table(folder, "faulty", "trials")
        self.faults = log.read_text().splitlines()
        self.status = succeed(folder, "status", "faulty")
        self.again = vae_study(folder, "run", spec)
        self.results = succeed(folder, "results", "faulty")
        self.left_over = left_over(folder / "studies" / "faulty")
        self.retry = vae_study(folder, "resume", "faulty", "--retry-failed")
        self.retried = table(folder, "faulty", "trials")


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Failed:
    return Failed(tmp_path_factory.mktemp("failed"))


def test_failed_trials_are_recorded_with_their_error(failed: Failed) -> None:
    assert failed.run.returncode == 1, failed.run.stderr
    assert "Traceback" not in failed.run.stderr
    trials = failed.trials.set_index("seed")
    assert len(trials) == 6
    assert dict(trials["status"]) == {
        seed: "failed" if seed in BAD else "completed" for seed in range(6)
    }
    for seed, text in BAD.items():
        assert text in trials["error"][seed]
        assert trials["latent_dim"][seed] == 2
        assert pd.isna(trials["active_units"][seed])
    others = trials.drop(index=list(BAD))
    assert others["error"].isna().all()
    assert set(trials["attempt"]) == {1}
    assert failed.left_over == []


def test_a_pack_is_tried_again_and_then_split(failed: Failed) -> None:
    for seed in BAD:
        lanes = [fault.split()[0] for fault in failed.faults if fault.endswith(f" {seed}")]
        assert lanes == ["3", "3", "1", "1"]  # twice in its pack, as max_failures says; then alone


def test_failures_are_told_as_they_happen(failed: Failed) -> None:
    lines = failed.run.stderr.splitlines()
    ids = failed.trials.set_index("seed")["trial_id"]
    for seed, text in BAD.items():
        assert [line for line in lines if ids[seed] in line and text in line]
    assert sum("starts again" in line for line in lines) == 4
    assert sum("one by one" in line for line in lines) == 2
    assert "2 failed" in lines[-1]
    assert "2 trials failed" in failed.run.stdout
    assert "failed: 2" in failed.status
    assert "2 trials failed" in failed.results


def test_a_failed_trial_is_left_alone_until_asked_for(failed: Failed) -> None:
    assert failed.again.returncode == 1
    assert "--retry-failed" in failed.again.stderr


def test_retry_failed_replaces_the_rows(failed: Failed) -> None:
    assert failed.retry.returncode == 0, failed.retry.stderr
    trials = failed.retried.set_index("seed")
    assert len(trials) == 6
    assert set(trials["status"]) == {"completed"}
    assert dict(trials["attempt"]) == {seed: 2 if seed in BAD else 1 for seed in range(6)}
    assert trials["error"].isna().all()
    assert sorted(failed.retried["trial_id"]) == sorted(failed.trials["trial_id"])


def test_a_retried_study_has_the_numbers_of_a_sound_one(failed: Failed, tmp_path: Path) -> None:
    succeed(tmp_path, "run", write_spec(tmp_path, SPEC))
    assert_same_numbers(failed.folder, tmp_path, "faulty")


def test_a_diverging_trial_harms_no_other(tmp_path: Path) -> None:
    """A learning rate this high and a beta this large end in numbers that are not finite."""
    axes = SPEC["axes"] | {"seed": [0, 1], "beta": [1, 1.0e300], "learning_rate": [1e-3, 1]}
    spec = SPEC | {"axes": axes, "training": {"epochs": 3}}
    done = vae_study(tmp_path, "run", write_spec(tmp_path, spec))
    assert done.returncode == 0, done.stderr
    trials = table(tmp_path, "faulty", "trials").set_index(["beta", "learning_rate"]).sort_index()
    assert len(trials) == 8
    assert set(trials.loc[(1, 1e-3), "status"]) == {"completed"}
    assert set(trials.loc[(1e300, 1), "status"]) == {"diverged"}
    diverged = trials[trials["status"] == "diverged"]
    assert diverged["error"].str.contains("not finite in epoch").all()
    assert (diverged["epochs_trained"] < diverged["epochs"]).all()
    assert f"{len(diverged)} trials diverged" in done.stdout
    units = table(tmp_path, "faulty", "units")
    assert set(units["trial_id"]) == set(trials["trial_id"])

    alone = SPEC | {"axes": SPEC["axes"] | {"seed": [0, 1]}, "training": {"epochs": 3}}
    (tmp_path / "alone").mkdir()
    succeed(tmp_path / "alone", "run", write_spec(tmp_path / "alone", alone))
    sound = table(tmp_path / "alone", "faulty", "trials").set_index("trial_id")
    beside = trials.set_index("trial_id").loc[sound.index]
    for column in ("train_elbo", "test_kl", "variance_law_mean"):
        assert list(beside[column]) == pytest.approx(list(sound[column]), rel=1e-4)


def test_storage_that_fails_for_good(tmp_path: Path) -> None:
    """`units` turns into a file while the study runs, so that no pack can be committed."""
    spec = write_spec(tmp_path, SPEC | {"training": {"epochs": 30}})
    units = tmp_path / "studies" / "faulty" / "units"
    with started(tmp_path, "run", spec, *CPUS) as driver:
        wait_until((units.parent / "trials" / "empty.parquet").exists, what="the tables")
        units.rename(tmp_path / "units")
        units.write_text("no folder")
        assert driver.wait(120) == 3, (tmp_path / "output.txt").read_text()
    output = (tmp_path / "output.txt").read_text()
    assert "Traceback" not in output
    (message,) = [line for line in output.splitlines() if line.startswith("vae-study: ")]
    assert str(units) in message
    assert "resume" in message
    assert table(tmp_path, "faulty", "trials").empty
    units.unlink()
    (tmp_path / "units").rename(units)
    succeed(tmp_path, "resume", "faulty")
    assert table(tmp_path, "faulty", "trials")["trial_id"].nunique() == 6
    assert left_over(units.parent) == []


def test_storage_that_a_worker_cannot_read(tmp_path: Path) -> None:
    """No trial is to blame, so none is recorded as failed: the study ends and can be resumed."""
    spec = write_spec(tmp_path, SPEC)
    env = environment(PYTHONPATH=checkpoints_that_cannot_be_read(tmp_path))
    done = vae_study(tmp_path, "run", spec, *CPUS, env=env)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("vae-study: ")]
    assert "Permission denied" in message
    assert "resume" in message
    assert table(tmp_path, "faulty", "trials").empty
    succeed(tmp_path, "resume", "faulty")
