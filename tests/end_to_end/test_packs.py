"""A trial's result does not depend on its pack, nor on the study that it is taken from."""

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import (
    CPUS,
    assert_same_numbers,
    contents,
    succeed,
    table,
    vae_study,
    write_spec,
)

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
    succeed(folder, "run", write_spec(folder, spec), *CPUS)
    assert table(folder, "packed", "trials")["pack_id"].nunique() == 2
    return folder


def test_pack_size_does_not_matter(packed: Path, tmp_path: Path) -> None:
    spec = SPEC | {"resources": {"pack_size": 1}}
    succeed(tmp_path, "run", write_spec(tmp_path, spec), *CPUS)
    assert table(tmp_path, "packed", "trials")["pack_id"].nunique() == 8
    assert_same_numbers(tmp_path, packed, "packed")


def test_finished_trials_are_taken_from_other_studies(packed: Path) -> None:
    """All but the trials of a new value come from the study beside it, and that stays as it is."""
    before = contents(packed / "studies" / "packed")
    spec = SPEC | {"study": "further", "axes": SPEC["axes"] | {"latent_dim": [2, 3]}}
    done = vae_study(packed, "run", write_spec(packed, spec, "further.yaml"), *CPUS)
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
    done = vae_study(packed, "run", write_spec(packed, spec, "other.yaml"), *CPUS)
    assert done.returncode == 0, done.stderr
    assert "taken" not in done.stderr
    assert sorted(table(packed, "other", "units")["epoch"].unique()) == [0, 2]
