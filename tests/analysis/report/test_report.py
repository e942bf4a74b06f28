import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.intrinsic_dimension import estimate_by_rule, estimate_intrinsic_dimension
from analysis.report import Report, compose_report, picture, to_html, to_markdown
from analysis.report.content import Figure, TableBlock
from analysis.study_tables import StudyTables
from study.commands.reporting import study_tables
from study.loading import Study
from study.tables import DATASETS, EPOCHS, TRIALS, UNITS
from tests.analysis.report.reported import (
    assert_recomputed,
    evaluate,
    only,
    simulated,
    statements,
    table_blocks,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return simulated(tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="module")
def tables(study: Study) -> StudyTables:
    return study_tables(study)


@pytest.fixture(scope="module")
def report(tables: StudyTables) -> Report:
    return compose_report(tables)


def shortened(tables: StudyTables, what: str) -> StudyTables:
    """The study as it is, or with a part of it from which less follows."""
    trials = tables.trials
    if what == "short sweep":
        trials = trials[trials["latent_dim"] <= 8]
    elif what == "one seed":
        trials = trials[trials["seed"] == 0]
    elif what == "seeds disagree":
        far = trials["active_units"] + 9 * (trials["seed"] % 2)
        trials = trials.assign(active_units=far)
    return only(tables, trials)


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        ("as it is", ", saturated from"),
        ("short sweep", "not saturated"),
        ("one seed", "too few trials"),
        ("seeds disagree", "unstable: seeds differ"),
    ],
)
def test_every_number_of_a_statement_can_be_recomputed(
    tables: StudyTables, what: str, verdict: str
) -> None:
    changed = shortened(tables, what)
    report = compose_report(changed)
    assert any(verdict in statement.text for statement in report.answer)
    assert assert_recomputed(report, changed) > 10


def test_the_numbers_of_the_answer_against_plain_pandas(study: Study, report: Report) -> None:
    trials, units = study.trials, study.final_units
    done = trials[trials["status"] == "completed"]
    texts = [statement.text for statement in report.answer]
    assert f"{len(done)} of {len(trials)} trials completed" in texts[0]
    for (architecture, initialisation, beta), group in done.groupby(
        ["architecture", "initialisation", "beta"]
    ):
        name = f"{architecture}, {initialisation} init on mnist, β = {beta:g}: "
        (line,) = [text for text in texts if text.startswith(name)]
        start = int(re.search(r"latent_dim (\d+)", line)[1])  # type: ignore[index]
        plateau = group[group["latent_dim"] >= start]["active_units"]
        assert f" {plateau.mean():.1f}".removesuffix(".0") + " units" in line
    law = units[units["trial_id"].isin(done["trial_id"])]
    law_sum = law["posterior_variance"] + law["mean_variance"]
    assert f"mean {law_sum.mean():.4f} and variance {law_sum.var(ddof=0):.5f}" in texts[-1]
    assert f"over {len(law_sum):,} units of {law['trial_id'].nunique()} trials" in texts[-1]


def test_the_answer_says_when_most_trials_should_train_longer(tables: StudyTables) -> None:
    units = tables.units
    moving = replace(tables, units=units.assign(second_moment=units["second_moment"] + 0.2))
    assert not any("train longer" in line.text for line in compose_report(tables).answer)
    report = compose_report(moving)
    (line,) = [line for line in report.answer if "train longer" in line.text]
    completed = (tables.trials["status"] == "completed").sum()
    assert f"by the second moment: 0; that should train longer: {completed}." in line.text
    assert line.warns
    assert assert_recomputed(report, moving) > 10


def block_with(report: Report, column: str) -> TableBlock:
    (block,) = [block for block in table_blocks(report) if column in block.frame]
    return block


GROUP = ["dataset", "architecture", "beta", "initialisation"]


def test_the_table_of_rules_against_plain_pandas(tables: StudyTables, report: Report) -> None:
    trials = tables.trials[tables.trials["status"] == "completed"]
    units = tables.units.merge(trials[["trial_id", "beta"]])
    worth = (units["beta"] * units["kl"]).clip(0.1)
    active = {
        "Var μ > 0.01": units["mean_variance"] > 0.01,
        "KL > 0.1 nats": units["kl"] > 0.1,
        "gain > β·KL": units["reconstruction_gain"] > worth,
    }
    plateaus = estimate_by_rule(trials, tables.units).set_index([*GROUP, "rule"])["plateau_from"]
    shown = block_with(report, "gain > β·KL").frame.set_index(GROUP)
    assert len(shown) == trials.groupby(GROUP).ngroups == 8
    for rule, (heading, is_active) in zip(("variance", "kl", "gain"), active.items(), strict=True):
        counts = trials["trial_id"].map(is_active.groupby(units["trial_id"]).sum())
        for names, group in trials.groupby(GROUP):
            plateau = counts[group.index[group["latent_dim"] >= plateaus[*names, rule]]]
            printed, low, high = map(float, re.findall(r"[\d.]+", shown.loc[names, heading]))
            assert printed == pytest.approx(plateau.mean(), abs=0.0501)
            assert low <= printed <= high


def test_the_law_by_group_against_plain_pandas(tables: StudyTables, report: Report) -> None:
    trials = tables.trials[tables.trials["status"] == "completed"]
    units = tables.units.merge(trials[["trial_id", *GROUP]])
    units["law"] = units["posterior_variance"] + units["mean_variance"]
    units["second"] = units["posterior_variance"] + units["second_moment"]
    shown = block_with(report, "law_mean").frame.set_index(GROUP).sort_index()
    groups = units.groupby(GROUP)
    for sum_ in ("law", "second"):
        np.testing.assert_allclose(shown[f"{sum_}_mean"], groups[sum_].mean())
        np.testing.assert_allclose(shown[f"{sum_}_variance"], groups[sum_].var(ddof=0))
    assert (shown["units"] == groups.size()).all()
    assert (shown["trials"] == groups["trial_id"].nunique()).all()


def test_the_failures_against_plain_pandas(tables: StudyTables, report: Report) -> None:
    lost = tables.trials[tables.trials["status"].isin(["failed", "diverged"])]
    why = block_with(report, "error").frame
    assert why["trials"].sum() == len(lost) > 0
    for row in why.itertuples():
        same = lost[(lost["status"] == row.status) & (lost["error"] == row.error)]
        assert row.trials == len(same)
        assert row.example in set(same["trial_id"])
    where = block_with(report, "lost").frame
    assert where["lost"].sum() == len(lost)


def test_the_paired_differences_against_plain_pandas(tables: StudyTables, report: Report) -> None:
    trials = tables.trials[tables.trials["status"] == "completed"]
    others = ["latent_dim", "seed", "beta", "architecture", "initialisation"]
    effects = block_with(report, "pairs").frame.set_index(["hyperparameter", "reference", "value"])
    for name, reference, value in (
        ("architecture", "conv-16-32", "dense-256-32-24"),
        ("initialisation", "glorot", "torch"),
    ):
        keys = [other for other in others if other != name]
        left, right = (trials[trials[name] == x].set_index(keys) for x in (reference, value))
        differences = (right["active_units"] - left["active_units"]).dropna().astype(float)
        shown = effects.loc[(name, reference, value)]
        assert shown["pairs"] == len(differences)
        assert shown["difference"] == pytest.approx(differences.mean())
        margin = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
        assert shown["high"] - shown["difference"] == pytest.approx(margin)


def test_table_recipes_evaluate(report: Report, tables: StudyTables) -> None:
    for block in table_blocks(report):
        if block.recipe:
            assert len(evaluate(block.recipe, tables)) > 0


def test_a_described_dataset_stands_beside_the_vaes_answer(tables: StudyTables) -> None:
    eigenvalues = [3.0, 1.0, 0.5]
    row = dict.fromkeys(DATASETS.names) | {
        "dataset": "mnist",
        "dataset_fingerprint": tables.trials["dataset_fingerprint"].iloc[0],
        "train_images": 100,
        "total_variance": sum(eigenvalues),
    }
    found = [row | {"quantity": "dimension", "method": "TwoNN", "variant": "linear fit"}]
    found[0] |= {"value": 12.375, "sample_size": 90}
    for component, value in enumerate(eigenvalues, start=1):
        found.append(row | {"quantity": "eigenvalue", "component": component, "value": value})
    described = replace(tables, datasets=pd.DataFrame(found, columns=DATASETS.names))
    report = compose_report(described)
    assert "eigenvalues" in report.figures()
    block = next(block for block in table_blocks(report) if "several methods" in block.caption)
    printed = dict(zip(block.frame["method"], block.cells(), strict=False))
    assert "12.4" in printed["TwoNN"]
    of_vae = block.frame[block.frame["method"] == "VAE"]
    for beta in (0.5, 2.0):
        (shown,) = of_vae.loc[of_vae["variant"].str.startswith(f"β = {beta:g},"), "value"]
        trials = tables.trials.query(f"beta == {beta} and status == 'completed'")
        estimates = estimate_intrinsic_dimension(trials)["estimate"]
        assert shown == pytest.approx(estimates.median())
    again = evaluate(block.recipe, described)
    assert sorted(again["value"].dropna()) == sorted(block.frame["value"].dropna())
    (meaning,) = [block for block in table_blocks(report) if "measures" in block.frame]
    assert (meaning.frame["measures"] != "").all()
    to_html(report)


class Elements(HTMLParser):
    """Collects what a page loads, and its text outside of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.loads.append(value or "")


def embedded(page: str, element: str) -> Any:
    found = re.search(rf'<script id="{element}" type="application/json">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_the_page_loads_nothing(report: Report) -> None:
    page = to_html(report)
    for target in Elements(page).loads:
        assert target.startswith(("#", "data:,")), target
    assert "@import" not in page.split("</style>")[0]
    assert set(embedded(page, "figures")) == set(report.figures())


def test_the_page_holds_every_trial_and_its_units(report: Report, study: Study) -> None:
    data = embedded(to_html(report), "trials-data")
    columns = {column["name"]: column["values"] for column in data["columns"]}
    assert columns["trial_id"] == list(study.trials["trial_id"])
    assert columns["status"] == list(study.trials["status"])
    some = study.final_units["trial_id"].iloc[0]
    units = study.final_units[study.final_units["trial_id"] == some].sort_values("unit")
    rows = data["units"]["rows"][some]
    place = data["units"]["names"].index("mean_variance")
    np.testing.assert_allclose([row[place] for row in rows], units["mean_variance"], rtol=1e-4)


HOSTILE = "</script><img src=x onerror=alert(1)> <b>bold</b> {0} | \u2028"


def test_hostile_text_stays_text(tables: StudyTables) -> None:
    trials = tables.trials.copy()
    trials["architecture"] = HOSTILE
    failed = trials["status"] == "failed"
    trials.loc[failed, "error"] = HOSTILE
    assert failed.any()
    hostile = only(tables, trials, description=HOSTILE, spec=f"study: {HOSTILE}")
    page = to_html(compose_report(hostile))
    assert "img" not in Elements(page).tags
    columns = embedded(page, "trials-data")["columns"]
    assert HOSTILE in next(c["values"] for c in columns if c["name"] == "architecture")
    text = to_markdown(compose_report(hostile), "figures").split("```")[0]
    assert "img src" in text
    assert not re.search(r"(?<!\\)<", text)


EMPTY = {"trials": TRIALS, "units": UNITS, "shown_units": UNITS, "shown_epochs": EPOCHS}


def test_an_empty_study_says_what_is_missing(tables: StudyTables) -> None:
    empty = {name: schema.empty_table().to_pandas() for name, schema in EMPTY.items()}
    report = compose_report(replace(tables, **empty))  # type: ignore[arg-type]
    assert report.answer[0].text.startswith("0 of 200 trials completed; the rest has not run yet")
    assert report.answer[0].warns
    assert not report.figures()
    assert "No trial has been committed yet" in to_html(report)
    assert "No trial has completed yet" in to_markdown(report, "figures")


def test_one_trial_gives_no_dimension(tables: StudyTables) -> None:
    completed = tables.trials[tables.trials["status"] == "completed"]
    report = compose_report(only(tables, completed.head(1)))
    assert "too few trials: 1 at 1 latent_dims" in report.answer[1].text
    assert report.answer[1].warns
    to_html(report)


@pytest.mark.parametrize("swept", [False, True])
def test_counts_are_against_beta_where_no_latent_dim_is_swept(
    tables: StudyTables, swept: bool
) -> None:
    trials = tables.trials.assign(beta=tables.trials["seed"] % 2 + 1.0)
    if not swept:
        trials = trials.query("latent_dim == latent_dim.max()")
    report = compose_report(only(tables, trials))
    (section,) = (section for section in report.sections if section.anchor == "dimension")
    figures = {block.name: block for block in section.blocks if isinstance(block, Figure)}
    what = "latent_dim" if swept else "β"
    assert figures["active-units"].caption.startswith(f"Active units against {what}. ")
    assert ("dimension-by-beta" in figures) == swept


def test_all_failed_shows_why(tables: StudyTables) -> None:
    trials = tables.trials.assign(status="failed", error="out of memory: 3 GB")
    measured = [name for name in TRIALS.names if TRIALS.field(name).nullable and name != "error"]
    trials[measured] = None
    report = compose_report(only(tables, trials, units=tables.units.head(0)))
    assert "0 of 200 trials completed, 200 failed" in report.answer[0].text
    page = to_html(report)
    assert "out of memory: 3 GB" in page.split("application/json")[0]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_a_study_that_runs(tables: StudyTables, share: float) -> None:
    some = tables.trials.sample(frac=share, random_state=1)
    report = compose_report(only(tables, some))
    assert "the rest has not run yet" in report.answer[0].text
    to_html(report)


def test_controls_alone_have_no_law(tables: StudyTables) -> None:
    trials = tables.trials.assign(objective="no_sampling")
    report = compose_report(only(tables, trials))
    assert any("nothing to check it on" in statement.text for statement in report.answer)
    assert any("Controls" in block.caption for block in table_blocks(report))
    sentence = '<td class="text long">σ² has no part in the objective'
    assert sentence in to_html(report)  # with room enough not to become a column of words


def test_controls_beside_others_are_told_and_their_tables_can_be_made_again(
    tables: StudyTables,
) -> None:
    trials = tables.trials.assign(objective="elbo", beta=1.0)
    trials.loc[trials["seed"] == 0, "objective"] = "no_sampling"
    with_controls = replace(tables, trials=trials)
    report = compose_report(with_controls)
    assert_recomputed(report, with_controls)
    words = " ".join(statement.text for statement in statements(report))
    done = trials.query("status == 'completed'")
    controls = int((done["objective"] == "no_sampling").sum())
    assert f"{controls} of {len(done)} completed trials are controls" in words
    assert "trials means anything" in words
    assert "none of" not in words
    (table,) = (block for block in table_blocks(report) if block.caption.startswith("Controls"))
    assert table.recipe is not None
    again = evaluate(table.recipe, with_controls)
    for name in ("posterior_variance", "mean_variance"):
        np.testing.assert_allclose(again[name], table.frame[name])


def test_statistics_that_were_not_computed(tables: StudyTables) -> None:
    units = tables.units.assign(reconstruction_gain=np.nan)
    to_html(compose_report(replace(tables, units=units)))
    to_html(compose_report(replace(tables, units=units.head(0))))


def test_large_studies_say_what_is_left_out(tables: StudyTables) -> None:
    copies = [
        tables.trials.assign(trial_id=tables.trials["trial_id"] + f"{copy:02d}", seed=100 + copy)
        for copy in range(12)
    ]
    trials = pd.concat([tables.trials, *copies], ignore_index=True)
    report = compose_report(replace(tables, trials=trials, planned=len(trials)))
    page = to_html(report)
    assert "2,000 of 2,600 trials are here" in page
    columns = {c["name"]: c["values"] for c in embedded(page, "trials-data")["columns"]}
    assert len(columns["trial_id"]) == len(set(columns["trial_id"])) == 2000
    failed = int((trials["status"] == "failed").sum())
    assert columns["status"].count("failed") == failed
    assert set(columns["shown_because"]) >= {"failed", "diverged", "law", "sample"}


def test_markdown_has_the_answer_and_every_figure(report: Report) -> None:
    text = to_markdown(report, "pictures")
    assert text.startswith("# simulated\n")
    for name in report.figures():
        assert f"![{name}](pictures/{name}.png)" in text


def test_pictures(report: Report) -> None:
    figure = report.figures()["active-units"]
    assert picture(figure, "png").startswith(b"\x89PNG")
    assert b"<svg" in picture(figure, "svg")[:300]
    with pytest.raises(ValueError, match="neither png nor svg"):
        picture(figure, "gif")
