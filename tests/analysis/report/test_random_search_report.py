"""The report of a random search: few groups, what they are, and numbers that recipes give again."""

import numpy as np
import pandas as pd
import pytest

from analysis.report import Report, compose_report, to_html, to_markdown
from analysis.report.content import TrialBrowser
from analysis.study_tables import StudyTables
from study.commands.reporting import study_tables
from study.loading import load_study
from tests.analysis.report.reported import (
    assert_recomputed,
    evaluate,
    only,
    statements,
    table_blocks,
)
from tests.analysis.simulated_study import random_spec, true_dimension, write_simulated_study

RANGES = [(0.2, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 5.0)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> StudyTables:
    folder = tmp_path_factory.mktemp("studies") / "random"
    spec = random_spec(130, "random", seeds=2)
    return study_tables(load_study(write_simulated_study(folder, spec=spec)))


@pytest.fixture(scope="module")
def report(tables: StudyTables) -> Report:
    return compose_report(tables)


def completed(tables: StudyTables) -> pd.DataFrame:
    return tables.trials[tables.trials["status"] == "completed"]


def test_it_says_what_the_groups_are(report: Report, tables: StudyTables) -> None:
    trials = completed(tables)
    values, number = trials["beta"].nunique(), len(trials)
    assert 120 < values <= 130 < number
    _, beta, rate, *groups, paper, law = [statement.text for statement in report.answer]
    assert beta == (
        f"beta has {values} different values in {number} completed trials, as in a random search: "
        "groups take it in ranges, lower ends included."
    )
    assert rate.startswith(f"learning_rate has {values} different values")
    assert "groups leave it out" in rate
    names = [text.partition(":")[0] for text in groups]
    assert names == [
        f"{architecture} on mnist, β {low:g} to {high:g}"
        for architecture in ("conv-16-32", "dense-256-32-24")
        for low, high in RANGES
    ]
    assert paper.startswith("dense-256-32-24 on mnist (table I): the paper has 8 of 16 units")
    assert law.startswith("The variance law")


def test_the_answer_is_the_mean_over_the_range(report: Report, tables: StudyTables) -> None:
    trials = completed(tables)
    truth = true_dimension(trials)
    found = [s for s in report.answer if ", saturated from latent_dim" in s.text]
    assert len(found) >= 7
    for statement in found:
        architecture, _, rest = statement.text.partition(" on mnist, β ")
        low, high = map(float, rest.partition(":")[0].split(" to "))
        inside = (trials["architecture"] == architecture) & trials["beta"].between(low, high)
        assert abs(statement.numbers[0] - truth[inside].mean()) < 1.2
        assert statement.numbers[1] <= truth[inside].mean() <= statement.numbers[2]


def shortened(tables: StudyTables, what: str) -> StudyTables:
    trials = tables.trials
    if what == "short sweep":
        trials = trials[trials["latent_dim"] <= 5]
    elif what == "few trials":
        trials = trials.sample(14, random_state=0)
    elif what == "wild":
        wild = np.random.default_rng(0).integers(0, 25, len(trials))
        trials = trials.assign(active_units=wild)
    return only(tables, trials)


@pytest.mark.parametrize("what", ["as it is", "short sweep", "few trials", "wild"])
def test_every_number_can_be_recomputed(tables: StudyTables, what: str) -> None:
    changed = shortened(tables, what)
    report = compose_report(changed)
    assert assert_recomputed(report, changed) > 8
    words = {"short sweep": "not saturated", "few trials": "too few", "wild": "trials differ by"}
    assert any(words.get(what, "saturated from") in s.text for s in statements(report))
    for block in table_blocks(report):
        if block.recipe:
            assert len(evaluate(block.recipe, changed)) > 0


def test_tables_of_groups_show_the_ranges_and_not_their_middles(
    report: Report, tables: StudyTables
) -> None:
    trials = completed(tables)
    blocks = {block.caption.split(" ")[0]: block for block in table_blocks(report)}
    by_rule, law = blocks["Intrinsic"].frame, blocks["Mean"].frame
    for frame in (by_rule, law):
        assert "beta" not in frame
        assert list(zip(frame["beta_from"], frame["beta_to"], strict=True)) == RANGES * 2
    inside = trials["beta"].between(0.5, 1) & (trials["architecture"] == "conv-16-32")
    assert law.loc[1, "trials"] == inside.sum()
    units = tables.units[tables.units["trial_id"].isin(trials.loc[inside, "trial_id"])]
    sums = units["posterior_variance"] + units["mean_variance"]
    assert law.loc[1, "law_mean"] == pytest.approx(sums.mean())
    assert "β from" in to_html(report)
    assert "| β from | β to |" in to_markdown(report, "x")


def test_single_trials_keep_their_own_values(report: Report, tables: StudyTables) -> None:
    blocks = [block for section in report.sections for block in section.blocks]
    (browser,) = (block for block in blocks if isinstance(block, TrialBrowser))
    for name in ("beta", "learning_rate"):
        assert browser.trials[name].tolist() == tables.trials[name].tolist()
    points = report.figures()["rate-distortion"].chart.to_dict()["datasets"]
    (rows,) = points.values()
    assert {row["beta"] for row in rows} == set(completed(tables)["beta"])
    assert {row["setting"] for row in rows} == {"conv-16-32", "dense-256-32-24"}


def test_failures_are_counted_by_ranges(tables: StudyTables) -> None:
    hot = tables.trials["learning_rate"] >= 5e-3
    trials = tables.trials.assign(status=np.where(hot, "diverged", "completed"))
    report = compose_report(only(tables, trials))
    (where,) = [block.frame for block in table_blocks(report) if "lost" in block.frame]
    assert set(zip(where["learning_rate_from"], where["learning_rate_to"], strict=True)) == {
        (0.005, 0.01)
    }
    assert where["lost"].sum() == where["trials"].sum() == hot.sum()


def test_groups_with_too_few_trials_are_counted_where_there_are_others(
    tables: StudyTables,
) -> None:
    trials = tables.trials[tables.trials["family"] == "conv"]
    lone = [
        trials.iloc[[place]].assign(dataset=f"file-{place}", trial_id=f"l{place}")
        for place in range(12)
    ]
    mixed = only(tables, pd.concat([trials, *lone]))
    report = compose_report(mixed)
    texts = [statement.text for statement in report.answer]
    assert not any("on file-" in text for text in texts)
    (further,) = [text for text in texts if "further groups" in text]
    groups = len(table_blocks(report)[0].frame)
    assert groups == 4 + 12
    assert further == "12 further groups are in the table below; 12 of all 16 have too few trials."
    assert_recomputed(report, mixed)


def test_a_search_at_one_latent_dim_has_few_groups_too(tables: StudyTables) -> None:
    trials = tables.trials.assign(latent_dim=20)
    report = compose_report(only(tables, trials))
    texts = [statement.text for statement in report.answer]
    assert [text.split(" ")[0] for text in texts[1:3]] == ["beta", "learning_rate"]
    assert any(text.startswith("None of the 8 groups has more than one") for text in texts)
    by_rule = table_blocks(report)[0].frame
    assert list(zip(by_rule["beta_from"], by_rule["beta_to"], strict=True)) == RANGES * 2
    assert not any("too few trials" in text for text in texts)


@pytest.mark.parametrize("kept", [0, 1, 2, 4, 9])
def test_a_search_that_pruned_all_but_a_few(tables: StudyTables, kept: int) -> None:
    """What varies among all trials may be the same in those that are complete."""
    trials = completed(tables).sort_values("beta", ignore_index=True)
    pruned = trials.assign(status=trials["status"].where(trials.index < kept, "pruned"))
    few = only(tables, pruned)
    report = compose_report(few)
    assert_recomputed(report, few)
    assert to_html(report)
