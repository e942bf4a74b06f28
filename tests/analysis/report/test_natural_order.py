"""Numbers in names in order, wherever a report lists or draws groups."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.group_words import in_natural_order
from analysis.report import Report, compose_report
from analysis.study_tables import StudyTables
from study.commands.reporting import study_tables
from tests.analysis.report.reported import simulated, table_blocks

ARCHITECTURES = ["dense-64", "dense-256", "dense-1024"]
DATASETS = ["manifold-2", "manifold-10"]
NATURAL = [(dataset, name) for dataset in DATASETS for name in ARCHITECTURES]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> StudyTables:
    """A study whose names sort otherwise as text; its rows are shuffled."""
    grid = study_tables(simulated(Path(tmp_path_factory.mktemp("studies"))))
    of = {"dense-256-32-24": "dense-64", "conv-16-32": "dense-256"}
    trials = grid.trials.assign(
        architecture=grid.trials["architecture"].map(of),
        dataset=grid.trials["initialisation"].map({"glorot": "manifold-10", "torch": "manifold-2"}),
        initialisation="glorot",
        family="dense",
    )
    wide = trials[trials["architecture"] == "dense-64"]
    wide = wide.assign(architecture="dense-1024", trial_id="w" + wide["trial_id"])
    units = grid.units.assign(trial_id="w" + grid.units["trial_id"])
    both = pd.concat([trials, wide]).sample(frac=1, random_state=0)
    every = pd.concat([grid.units, units[units["trial_id"].isin(wide["trial_id"])]])
    return StudyTables(**{**vars(grid), "trials": both, "units": every})


@pytest.fixture(scope="module")
def report(tables: StudyTables) -> Report:
    return compose_report(tables)


def test_tables_list_groups_in_order(report: Report) -> None:
    listed = 0
    for block in table_blocks(report):
        if {"dataset", "architecture", "beta"} <= set(block.frame) and "lost" not in block.frame:
            names = block.frame[["dataset", "architecture"]].drop_duplicates()
            assert list(names.itertuples(index=False, name=None)) == NATURAL, block.caption
            listed += 1
    assert listed == 3  # three rules, drops of the dimension, the law


def test_the_answer_lists_groups_in_order(report: Report) -> None:
    named = [s.text.partition(", β")[0] for s in report.answer if " on manifold" in s.text]
    order = [f"{name} on {dataset}" for dataset, name in NATURAL]
    assert list(dict.fromkeys(named)) == [name for name in order if name in named]
    assert len(set(named)) >= 4


def orders(spec: Any) -> list[list[str]]:
    """Every sort or domain in a specification that lists names."""
    if isinstance(spec, list):
        return [order for part in spec for order in orders(part)]
    if not isinstance(spec, dict):
        return []
    found = [spec[key] for key in ("sort", "domain") if isinstance(spec.get(key), list)]
    inside = [part for key, part in spec.items() if key != "datasets"]
    return [names for names in found if isinstance(names[0], str)] + orders(inside)


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        ("active-units", [*ARCHITECTURES]),
        ("dimension-by-beta", [DATASETS, ARCHITECTURES]),
        ("rate-distortion", [DATASETS, ARCHITECTURES]),
        ("thresholds", [["β = 0.5", "β = 2"], ARCHITECTURES]),
    ],
)
def test_charts_draw_groups_in_order(report: Report, figure: str, expected: list[Any]) -> None:
    found = orders(report.figures()[figure].chart.to_dict())
    for names in expected if isinstance(expected[0], list) else [expected]:
        assert names in found
    for names in found:
        assert names == in_natural_order(names) or any("β" in name for name in names)


def test_panels_of_beta_rise(report: Report) -> None:
    facet = report.figures()["active-units"].chart.to_dict()["facet"]
    assert facet["sort"] == [f"{name}, β = {beta}" for name in DATASETS for beta in ("0.5", "2")]


def test_curves_are_listed_in_order(report: Report) -> None:
    (domain,) = {tuple(x) for x in orders(report.figures()["learning"].chart.to_dict()["spec"])}
    names = [tuple(reversed(label.partition(", β")[0].split(" on "))) for label in domain]
    assert list(dict.fromkeys(names)) == [name for name in NATURAL if name in names]
    assert len(names) >= 5
