"""What a report reads of codes and grids: a few trials in full, numbers of all of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.latent_codes import code_statistics
from search_spaces import load_spec, plan_trials
from study import ledger
from study.commands import latent_tables as module
from study.commands.latent_tables import latent_tables
from study.frozen_spec import freeze
from study.loading import Study, load_study
from study.plan_table import write_plan
from study.planned_trial import PlannedTrial
from study.storage import Folder
from study.tables import ENCODINGS, SAMPLES
from tests.analysis.latent_tables import codes_of, gaussian_codes, grid_of, star_codes

MakePack = Callable[..., dict[str, Any]]

IDS = ["a", "b", "c", "d", "e", "f"]


def committed(folder: Folder, packs: dict[str, dict[str, Any]]) -> Study:
    """A study of these packs, in the planned order a to f; seeds count from 0."""
    axes = {"architecture": "linear", "latent_dim": 2, "seed": list(range(6))}
    spec = load_spec({"study": folder.name, "dataset": "mnist", "axes": axes})
    freeze(folder, spec, {"vae-study": "0.1.0", "numerics_version": 1})
    trials = zip(plan_trials(spec), IDS, strict=True)
    write_plan(folder, [PlannedTrial(trial, i, "f" * 16, spec.record) for trial, i in trials])
    ledger.create_tables(folder, ("encodings", "samples"))
    for pack in packs.values():
        ids = pack["trials"]["trial_id"]
        pack["trials"] = pack["trials"].assign(seed=[IDS.index(trial_id) for trial_id in ids])
        ledger.commit(folder, **pack)
    return load_study(folder)


@pytest.fixture
def study(tmp_path: Path, make_pack: MakePack) -> Study:
    """Codes of a, c, d and e, grids of b, d and e, other samples of a; f has failed."""
    codes = {name: codes_of(name, gaussian_codes(2, 30, seed)) for seed, name in enumerate("acd")}
    codes["e"] = codes_of("e", star_codes(2, 40))
    grids = {name: grid_of(name, 3, 2, 2) for name in "bde"}
    others = grid_of("a", 2, 2, 2).assign(kind="generated")
    grids["b"] = pd.concat([grids["b"], others.assign(trial_id="b")])

    def rows(tables: dict[str, pd.DataFrame], names: str) -> pd.DataFrame:
        return pd.concat([tables[name] for name in names], ignore_index=True)

    first = {"encodings": rows(codes, "ae"), "samples": rows(grids | {"a": others}, "ae")}
    second = {"encodings": rows(codes, "cd"), "samples": rows(grids, "bd")}
    return committed(
        Folder.at(tmp_path / "test"),
        {
            "p": make_pack("p", ["a", "e"]) | {"further": first},
            "q": make_pack("q", ["b", "c", "d"], failed=["f"]) | {"further": second},
        },
    )


def test_ids_of_trials_with_rows(study: Study) -> None:
    assert study.trials_with("encodings") == ["a", "c", "d", "e"]
    assert study.trials_with("samples") == ["a", "b", "d", "e"]
    assert study.trials_with("samples", kind="grid") == ["b", "d", "e"]


@pytest.mark.parametrize("at_once", [1, 3, 20])
def test_numbers_of_all_and_rows_of_the_trial_that_is_drawn(
    study: Study, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIALS_AT_ONCE", at_once)
    tables = latent_tables(study)
    whole = code_statistics(study.trials, study.encodings)
    assert whole["trial_id"].tolist() == ["a", "c", "d", "e"]
    pd.testing.assert_frame_equal(tables["code_statistics"], whole)
    # One net and one objective: the smallest seed of those that have such rows.
    assert set(tables["encodings"]["trial_id"]) == {"a"}
    assert set(tables["grids"]["trial_id"]) == {"b"}
    assert set(tables["grids"]["kind"]) == {"grid"}


def test_a_study_that_recorded_nothing(tmp_path: Path, make_pack: MakePack) -> None:
    study = committed(Folder.at(tmp_path / "test"), {"p": make_pack("p", IDS)})
    tables = latent_tables(study)
    assert all(frame.empty for frame in tables.values())
    assert list(tables["encodings"].columns) == ENCODINGS.names
    assert list(tables["grids"].columns) == SAMPLES.names
