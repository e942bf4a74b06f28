"""The report's section on adaptive studies: numbers, sentences and charts, also where little is."""

import json
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

from analysis.report import Report, compose_report, picture, to_html, to_markdown
from analysis.report.content import Figure, Section, TableBlock
from analysis.report.search_section import search_section
from analysis.report.vega import chart_spec
from analysis.search_goals import Constraint, Goal
from analysis.study_tables import StudyTables
from tests.analysis.report.reported import assert_recomputed, evaluate, statements, table_blocks
from tests.analysis.searched_tables import (
    ELBO,
    EPOCHS,
    FEW_UNITS,
    OUTCOMES,
    UNITS,
    search_tables_of,
    searched,
)

ALL_PRUNED = {"pruned": 1.0}
ALL_DONE = {"completed": 1.0}
KL = Goal("test_kl", "target", 15.0)
IMPOSSIBLE = Constraint("active_units", "<=", -1.0)


@cache
def report_of(tables: StudyTables) -> Report:
    section = search_section(tables)
    assert section is not None
    return Report(tables.study, "", (), (section,), "", tables.spec, {})


def figures(section: Section) -> dict[str, Figure]:
    return {block.name: block for block in section.blocks if isinstance(block, Figure)}


def rows_of(figure: Figure, having: str) -> pd.DataFrame:
    """The rows of a chart's datasets that have a column, each once."""
    datasets = chart_spec(figure.chart)["datasets"].values()
    return pd.concat([pd.DataFrame(d) for d in datasets if d and having in d[0]]).drop_duplicates()


STUDIES: dict[str, StudyTables] = {
    "pruner and constraint": search_tables_of(searched(), constraints=(FEW_UNITS,)),
    "one seed": search_tables_of(searched(seeds=1), seeds=1),
    "two goals": search_tables_of(searched(outcomes=ALL_DONE), (ELBO, UNITS), (), pruner=None),
    "three goals": search_tables_of(searched(), (ELBO, UNITS, KL), (FEW_UNITS,), pruner=None),
    "target": search_tables_of(searched(), (Goal("active_units", "target", 8.0),)),
    "one point": search_tables_of(searched(1, outcomes=ALL_DONE)),
    "one pruned point": search_tables_of(searched(1, outcomes=ALL_PRUNED)),
    "a point of two": search_tables_of(searched(1, outcomes=ALL_DONE).head(1)),
    "nothing feasible": search_tables_of(searched(), constraints=(IMPOSSIBLE, FEW_UNITS)),
    "nothing feasible of two": search_tables_of(
        searched(outcomes=ALL_DONE), (ELBO, UNITS), (IMPOSSIBLE,)
    ),
    "all pruned": search_tables_of(searched(outcomes=ALL_PRUNED)),
    "all failed": search_tables_of(searched(outcomes={"failed": 1.0})),
    "nothing pruned": search_tables_of(searched(outcomes=ALL_DONE)),
    "several datasets": search_tables_of(
        searched(120, datasets=("mnist", "kmnist", "tiles", "a {b}", "fashion_mnist")),
        constraints=(FEW_UNITS,),
    ),
    "several datasets, two goals": search_tables_of(
        searched(80, datasets=("mnist", "kmnist")), (ELBO, UNITS)
    ),
}
named = pytest.mark.parametrize("tables", STUDIES.values(), ids=STUDIES)


@named
def test_every_number_and_table_can_be_recomputed(tables: StudyTables) -> None:
    report = report_of(tables)
    assert assert_recomputed(report, tables) >= 1
    for block in table_blocks(report):
        again = evaluate(block.recipe, tables)
        assert len(again) >= len(block.frame)
        point = again.set_index("point").loc[block.frame["point"]]
        for name in block.frame.columns.drop("point"):
            assert list(point[name]) == list(block.frame[name])


@named
def test_it_can_be_drawn_and_printed(tables: StudyTables) -> None:
    report = report_of(tables)
    for figure in report.figures().values():
        assert picture(figure, "svg").startswith(b"<svg")
    page = to_html(report)
    assert all(str(escape(s.text)) in page for s in statements(report))
    assert "Search" in to_markdown(report, "x")


def test_the_best_point_comes_first_also_in_the_answer() -> None:
    tables = STUDIES["pruner and constraint"]
    trials = tables.trials
    means = trials.groupby("beta").agg(
        elbo=("test_elbo", "mean"),
        units=("active_units", "mean"),
        done=("status", lambda status: (status == "completed").all()),
        rate=("learning_rate", "first"),
        net=("architecture", "first"),
    )
    good = means[means["done"] & (means["units"] <= 8)]
    best = good.loc[good["elbo"].astype(float).idxmax()]
    text = (
        f"Best of {len(good)} completed points that satisfy active_units <= 8 "
        f"(maximise test_elbo): test ELBO = {best['elbo']:.2f}, the mean over 2 seeds, at "
        f"{best['net']}, β {best.name:.3g}, learning rate {best['rate']:.3g}."
    )
    section = search_section(tables)
    assert section is not None
    assert section.blocks[0].text == text  # type: ignore[union-attr]
    report = compose_report(tables)
    assert report.answer[1].text == text
    assert report.sections[0].anchor == "search"
    outcomes = section.blocks[1].text  # type: ignore[union-attr]
    ends = {name: trials.loc[trials["status"] == name, "beta"].nunique() for name in OUTCOMES}
    assert outcomes == (
        f"40 of 50 points tried: {ends['completed']} completed, {ends['pruned']} pruned, "
        f"{ends['failed'] + ends['diverged']} failed or diverged; "
        f"{ends['completed'] - len(good)} of the completed ones violate active_units <= 8."
    )


@pytest.mark.parametrize("goal", [ELBO, UNITS, KL])
def test_the_table_begins_with_the_best_point(goal: Goal) -> None:
    tables = search_tables_of(searched(outcomes=ALL_DONE), (goal,))
    (block,) = table_blocks(report_of(tables))
    means = tables.trials.groupby("beta")[goal.column].mean().astype(float)
    losses = {"maximise": -means, "minimise": means, "target": (means - 15).abs()}
    expected = losses[goal.direction].nsmallest(10)
    found = block.frame[goal.name] * (-1 if goal.direction == "maximise" else 1)
    assert list(found) == pytest.approx(list(expected))


def test_a_study_that_optuna_does_not_steer_has_no_such_section() -> None:
    tables = STUDIES["one point"]
    grid = StudyTables(**{**vars(tables), "search": None})
    assert search_section(grid) is None
    assert "search" not in [section.anchor for section in compose_report(grid).sections]
    begun = StudyTables(**{**vars(tables), "trials": tables.trials.head(0)})
    assert search_section(begun) is None
    assert len(compose_report(begun).answer) == 1


@pytest.mark.parametrize(
    ("study", "said", "drawn"),
    [
        ("one point", "Best of 1 completed points", []),
        ("one pruned point", "No point of the search (maximise test_elbo) has completed.", None),
        ("a point of two", "1 still without all their seeds", []),
        ("nothing feasible", "None of", ["search-history", "search-pruning", "search-importance"]),
        ("all pruned", "40 pruned", ["search-pruning"]),
        ("all failed", "40 failed or diverged", []),
        ("nothing pruned", "The pruner median has given up no trial so far.", None),
        ("one seed", "One seed per point", None),
        ("two goals", "No point beats", None),
    ],
)
def test_what_is_missing_is_said(study: str, said: str, drawn: list[str] | None) -> None:
    section = search_section(STUDIES[study])
    assert section is not None
    assert any(said in s.text for s in statements(report_of(STUDIES[study])))
    if drawn is not None:
        assert list(figures(section)) == drawn


def test_the_history_shows_completed_points_and_marks_the_others() -> None:
    tables = STUDIES["pruner and constraint"]
    section = search_section(tables)
    assert section is not None
    figure = figures(section)["search-history"]
    dots, marks = rows_of(figure, "kind"), rows_of(figure, "outcome")
    done = tables.trials.groupby("beta")["status"].agg(lambda s: set(s) == {"completed"})
    assert len(dots) == done.sum()
    assert len(marks) == (~done).sum()
    limit = dots.loc[dots["kind"] != "worse than is shown", "test_elbo"].min()
    beyond = dots["kind"] == "worse than is shown"
    assert (dots.loc[beyond, "test_elbo"] < limit).all()
    assert (dots["value"] == dots["test_elbo"])[~beyond].all()
    assert (dots.loc[beyond, "value"] < limit).all()
    assert dots["epochs_so_far"].max() <= tables.trials["epochs_trained"].sum()
    assert "epochs that all points up to them had trained" in figure.caption


def test_what_satisfies_the_constraints_is_on_the_axis_however_poor() -> None:
    trials = searched(60, outcomes=ALL_DONE)
    poor = trials["beta"].isin(trials["beta"].unique()[:4])
    trials.loc[poor, "test_elbo"] = -1000 + trials["beta"]
    trials["active_units"] = np.where(poor, 3, 9)
    section = search_section(search_tables_of(trials, constraints=(FEW_UNITS,)))
    assert section is not None
    dots = rows_of(figures(section)["search-history"], "kind")
    assert (dots["kind"] == "satisfies the constraints").sum() == 4
    two = search_section(search_tables_of(trials, (ELBO, UNITS)))
    assert two is not None
    chart = chart_spec(figures(two)["search-pareto"].chart)
    front = rows_of(figures(two)["search-pareto"], "kind").query("kind == 'on the front'")
    low, high = chart["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert front["test_elbo"].min() < -900
    assert front["test_elbo"].between(low, high).all()


def test_points_that_cost_the_same_are_counted_instead() -> None:
    section = search_section(STUDIES["two goals"])
    assert section is not None
    figure = figures(section)["search-history"]
    assert "points tried" in json.dumps(chart_spec(figure.chart))
    assert "do not cost the same" not in figure.caption


def test_curves_end_where_points_were_given_up() -> None:
    tables = STUDIES["pruner and constraint"]
    section = search_section(tables)
    assert section is not None
    curves = rows_of(figures(section)["search-pruning"], "value")
    ends = curves.groupby(["point", "kind"])["epoch"].max().reset_index()
    assert (ends.loc[ends["kind"] == "given up", "epoch"] < EPOCHS).all()
    trained = tables.trials.groupby("beta")["epochs_trained"].first().value_counts()
    assert ends["epoch"].value_counts().to_dict() == trained.to_dict()


def test_each_pair_of_goals_has_a_panel() -> None:
    section = search_section(STUDIES["three goals"])
    assert section is not None
    chart = chart_spec(figures(section)["search-pareto"].chart)
    assert len(chart["concat"]) == 3
    assert [name for name in figures(section) if "importance" in name] == [
        "search-importance-test-elbo",
        "search-importance-active-units",
        "search-importance-test-kl",
    ]


def test_datasets_are_not_compared() -> None:
    tables = STUDIES["several datasets"]
    section = search_section(tables)
    assert section is not None
    said = [s.text for s in statements(report_of(tables))]
    assert sum("completed points" in text for text in said) == 4
    assert any("Optuna compared points on different datasets" in text for text in said)
    drawn = [name for name in figures(section) if name.startswith("search-history")]
    first = list(tables.trials["dataset"].unique())[:3]
    assert drawn == [f"search-history-{dataset}" for dataset in first]
    for block in section.blocks:
        if isinstance(block, TableBlock):
            shown = evaluate(block.recipe, tables)
            assert shown["dataset"].nunique() == 1


@pytest.mark.slow
@pytest.mark.parametrize("goals", [(ELBO,), (ELBO, UNITS)], ids=["one", "two"])
def test_a_hundred_thousand_trials_do_not_break_the_page(goals: tuple[Goal, ...]) -> None:
    some = searched(500, seeds=1)
    parts = []
    for copy in range(200):
        part = some.assign(
            beta=some["beta"] * (1 + copy * 1e-4), test_elbo=some["test_elbo"] + copy
        )
        parts.append(part.assign(trial_id=f"{copy:03d}" + some["trial_id"]))
    trials = pd.concat(parts, ignore_index=True)
    small = search_tables_of(some, goals, (FEW_UNITS,), seeds=1)
    tables = StudyTables(**{**vars(small), "trials": trials})
    section = search_section(tables)
    assert section is not None
    drawn: dict[str, Any] = {name: chart_spec(f.chart) for name, f in figures(section).items()}
    assert len(json.dumps(drawn)) < 2_500_000
    dots = rows_of(figures(section)["search-history"], "kind")
    assert dots["point"].nunique() <= 2_000
    caption = figures(section)["search-history"].caption
    assert "Of 100,000 points 2,000 are drawn" in caption
    best = trials.loc[
        (trials["status"] == "completed") & (trials["active_units"] <= 8), "test_elbo"
    ]
    assert np.isclose(
        dots.loc[dots["kind"] == "satisfies the constraints", "test_elbo"].max(), best.max()
    )
