"""From a spec and a study on storage to what the report's section on the search takes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.report import compose_report
from analysis.search_goals import Constraint, Goal
from search_spaces import load_spec
from study import ledger
from study.commands.reporting import study_tables
from study.frozen_spec import freeze
from study.loading import Study, load_study
from study.storage import Folder
from study.tables import EPOCHS, MEASURED, UNITS
from tests.analysis.report.reported import assert_recomputed
from tests.analysis.searched_tables import epochs_of_search, searched

STRATEGY = {
    "name": "optuna",
    "points": 30,
    "objectives": {"maximise": "test_elbo"},
    "constraints": ["active_units <= 8", "test_kl >= 0.5"],
    "pruner": "median",
}


def written(folder: Path, strategy: Any) -> Study:
    """A study on disk in which a search has tried 20 points with two seeds."""
    spec: dict[str, Any] = {
        "study": "sought",
        "dataset": "mnist",
        "axes": {
            "architecture": {"family": "dense", "depth": [1, 2], "width": 16},
            "latent_dim": 16,
            "beta": {"log_range": [0.1, 10.0]},
            "seed": [0, 1],
        },
        "strategy": strategy,
    }
    if strategy == "grid":
        spec["axes"] |= {"beta": [0.1, 10.0]}
    place = Folder.at(folder / "sought")
    place.create()
    freeze(place, load_spec(spec), {"vae-study": "made up", "numerics_version": 1})
    ledger.create_tables(place)
    trials = searched(20).assign(
        study="sought", depth=1, widths="16", attempt=1, version="made up", numerics_version=1
    )
    ran = trials["status"] != "failed"
    for column in (field.name for field in MEASURED):  # what no test is about
        trials[column] = trials[column].mask(ran & trials[column].isna(), 0)
    trials["seconds"] = trials["seconds"].fillna(0.0)
    epochs = epochs_of_search(trials).reindex(columns=EPOCHS.names).assign(study="sought")
    for pack_id, rows in trials.groupby("pack_id"):
        own = epochs[epochs["trial_id"].isin(rows.loc[rows["status"] != "failed", "trial_id"])]
        ledger.commit(place, str(pack_id), rows, UNITS.empty_table().to_pandas(), own)
    return load_study(place)


def test_a_spec_says_what_is_sought(tmp_path: Path) -> None:
    study = written(tmp_path, STRATEGY)
    tables = study_tables(study)
    search = tables.search
    assert search is not None
    assert search.goals == (Goal("test_elbo", "maximise"),)
    assert search.constraints == (
        Constraint("active_units", "<=", 8.0),
        Constraint("test_kl", ">=", 0.5),
    )
    assert (search.points, search.seeds, search.sampler, search.pruner) == (30, 2, "tpe", "median")
    trained = study.trials[study.trials["epochs_trained"] > 0]
    assert set(tables.search_epochs["trial_id"]) == set(trained["trial_id"])
    assert {"epoch", "test_elbo"} < set(tables.search_epochs)
    report = compose_report(tables)
    assert report.sections[0].anchor == "search"
    alone = replace(report, sections=report.sections[:1])
    assert assert_recomputed(alone, tables, study) > 4
    assert {"search-history", "search-pruning", "search-importance"} <= set(report.figures())


@pytest.mark.parametrize(
    ("objectives", "goals"),
    [
        ({"target": "active_units == 8"}, (Goal("active_units", "target", 8.0),)),
        (
            [{"minimise": "test_kl"}, {"target": "test_mse == 0.5"}],
            (Goal("test_kl", "minimise"), Goal("test_mse", "target", 0.5)),
        ),
    ],
)
def test_every_kind_of_objective(tmp_path: Path, objectives: Any, goals: tuple[Goal, ...]) -> None:
    study = written(tmp_path, {"name": "optuna", "points": 30, "objectives": objectives})
    tables = study_tables(study)
    assert tables.search is not None
    assert tables.search.goals == goals
    assert tables.search.pruner is None
    followed = len(goals) == 1
    assert bool(len(tables.search_epochs)) == followed


def test_a_grid_seeks_nothing(tmp_path: Path) -> None:
    tables = study_tables(written(tmp_path, "grid"))
    assert tables.search is None
    pd.testing.assert_frame_equal(tables.search_epochs, pd.DataFrame())
