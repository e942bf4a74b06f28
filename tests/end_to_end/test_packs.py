"""A trial's result does not depend on its pack, nor on the study that it is taken from.

Nor on whether its pack fits in memory.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import (
    CPUS,
    assert_same_numbers,
    contents,
    environment,
    left_over,
    started,
    succeed,
    table,
    vae_study,
    wait_until,
    write_spec,
)
from tests.end_to_end.failing import limited_memory
from trainables.checkpoints import Part, read_members, unpack

pytestmark = pytest.mark.usefixtures("shared_ray")

SPEC: dict[str, Any] = {
    "study": "packed",
    "dataset": {"name": "tiles", "train_images": 300, "test_images": 100},
    "axes": {
        "architecture": [{"family": "dense", "widths": [16]}, {"family": "conv", "channels": [4]}],
        "latent_dim": [2, 5],
        "beta": [0.5, 2],
    },
    "training": {"epochs": 2, "precision": "float64"},
    "record": {"every": 1},
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the study in packs of eight."""
    folder = tmp_path_factory.mktemp("packed")
    spec = SPEC | {"resources": {"pack_size": 8}}
    succeed(folder, "run", write_spec(folder, spec))
    assert table(folder, "packed", "trials")["pack_id"].nunique() == 2
    return folder


def test_pack_size_does_not_matter(packed: Path, tmp_path: Path) -> None:
    spec = SPEC | {"resources": {"pack_size": 1}}
    succeed(tmp_path, "run", write_spec(tmp_path, spec))
    assert table(tmp_path, "packed", "trials")["pack_id"].nunique() == 8
    assert_same_numbers(tmp_path, packed, "packed")


def test_a_pack_that_runs_out_of_memory_goes_on_in_parts(packed: Path, tmp_path: Path) -> None:
    """Within its trainable: it stays one pack, nothing is tried again, and nobody is told."""
    spec = write_spec(tmp_path, SPEC | {"resources": {"pack_size": 8, "max_failures": 0}})
    path = limited_memory(tmp_path, lanes=1)
    done = vae_study(tmp_path, "run", spec, *CPUS, env=environment(PYTHONPATH=path))
    assert done.returncode == 0, done.stderr
    assert "again" not in done.stderr
    assert_same_numbers(tmp_path, packed, "packed")
    ours, theirs = (table(place, "packed", "trials") for place in (tmp_path, packed))
    by_id = [trials.set_index("trial_id")["pack_id"].sort_index() for trials in (ours, theirs)]
    assert by_id[0].equals(by_id[1])


@pytest.mark.slow
def test_a_trial_that_does_not_fit_by_itself(packed: Path, tmp_path: Path) -> None:
    axes = SPEC["axes"] | {"seed": [0, 5]}
    spec = write_spec(tmp_path, SPEC | {"axes": axes, "resources": {"pack_size": 8}})
    path = limited_memory(tmp_path, lanes=8, never={5})
    done = vae_study(tmp_path, "run", spec, *CPUS, env=environment(PYTHONPATH=path))
    assert done.returncode == 1, done.stderr
    trials = table(tmp_path, "packed", "trials").set_index("seed")
    assert len(trials) == 16
    assert set(trials.loc[0, "status"]) == {"completed"}
    assert trials.loc[0, "error"].isna().all()
    assert set(trials.loc[5, "status"]) == {"failed"}
    assert trials.loc[5, "error"].str.contains("out of memory").all()
    for trial_id in trials.loc[5, "trial_id"]:
        assert f"trial {trial_id} failed: out of memory" in done.stderr
    assert "8 trials failed" in done.stdout
    succeed(tmp_path, "resume", "packed", "--retry-failed")
    trials = table(tmp_path, "packed", "trials").set_index("seed")
    assert set(trials["status"]) == {"completed"}
    assert set(trials.loc[5, "attempt"]) == {2}
    sound = table(packed, "packed", "trials").set_index("trial_id")["train_elbo"]
    alike = trials.loc[0].set_index("trial_id")["train_elbo"][sound.index]
    assert list(alike) == pytest.approx(list(sound), rel=1e-9)


@pytest.mark.slow
def test_a_parted_pack_is_killed_and_goes_on(tmp_path: Path) -> None:
    spec = SPEC | {
        "axes": SPEC["axes"] | {"architecture": {"family": "dense", "widths": [16]}},
        "training": {"epochs": 150, "precision": "float64"},
        "record": {"every": 50, "reconstruction_gain_images": 100},
        "resources": {"pack_size": 4, "checkpoint_seconds": 0},
    }
    whole = tmp_path / "whole"
    whole.mkdir()
    succeed(whole, "run", write_spec(whole, spec))
    path = limited_memory(tmp_path, lanes=2)
    place = tmp_path / "studies" / "packed"

    def parts() -> list[Part]:
        files = list((place / "checkpoints").glob("*.safetensors"))
        data = files[0].read_bytes() if files else b""
        return unpack(data, read_members(data)).parts if data else []

    arguments = ("run", write_spec(tmp_path, spec), *CPUS)
    with started(tmp_path, *arguments, env=environment(PYTHONPATH=path)) as driver:
        wait_until(lambda: [p.epoch for p in parts()][:1] > [20], what="half of a pack, on its way")
        driver.kill()
        driver.wait(30)
    first, second = parts()
    assert first.epoch > 20
    assert (len(first.lanes), len(second.lanes), second.epoch) == (2, 2, 0)
    assert table(tmp_path, "packed", "trials").empty
    succeed(tmp_path, "resume", "packed")
    assert_same_numbers(tmp_path, whole, "packed")
    assert table(tmp_path, "packed", "trials")["pack_id"].nunique() == 1
    assert left_over(place) == []


def test_finished_trials_are_taken_from_other_studies(packed: Path) -> None:
    """All but the trials of a new value come from the study beside it, and that stays as it is."""
    before = contents(packed / "studies" / "packed")
    spec = SPEC | {"study": "further", "axes": SPEC["axes"] | {"latent_dim": [2, 3]}}
    done = vae_study(packed, "run", write_spec(packed, spec, "further.yaml"))
    assert done.returncode == 0, done.stderr
    assert "4 trials taken from study packed" in done.stderr
    ours, theirs = (table(packed, name, "trials") for name in ("further", "packed"))
    assert len(ours) == 8
    assert set(ours["study"]) == {"further"}
    taken = set(ours["trial_id"]) & set(theirs["trial_id"])
    assert set(ours.loc[ours["trial_id"].isin(taken), "latent_dim"]) == {2}
    assert len(taken) == 4
    for name in ("trials", "units", "epochs"):
        left, right = (
            rows[rows["trial_id"].isin(taken)]
            .drop(columns=["study", *({"pack_id"} & set(rows))])
            .sort_values(["trial_id", *[c for c in ("epoch", "split", "unit") if c in rows]])
            .reset_index(drop=True)
            for rows in (table(packed, "further", name), table(packed, "packed", name))
        )
        assert left.equals(right)
    assert contents(packed / "studies" / "packed") == before
    assert "8 of 8" in succeed(packed, "status", "further")


def test_no_trial_is_taken_that_records_otherwise(packed: Path) -> None:
    spec = SPEC | {"study": "other", "record": {"every": 2}}
    spec["axes"] = SPEC["axes"] | {"architecture": {"family": "dense", "widths": [16]}}
    done = vae_study(packed, "run", write_spec(packed, spec, "other.yaml"))
    assert done.returncode == 0, done.stderr
    assert "taken" not in done.stderr
    assert sorted(table(packed, "other", "units")["epoch"].unique()) == [0, 2]
