"""The page of the deteriorations, of a simulated study whose trials were given probes."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from analysis.report.compose import compose_report
from analysis.report.content import Figure, Section, Statement, TableBlock
from analysis.report.deterioration_section import (
    MOST_IN_FULL,
    MOST_LINES,
    _titles,
    deterioration_section,
)
from analysis.report.html import to_html
from analysis.report.vega import chart_spec
from analysis.study_tables import StudyTables
from study.commands.reporting import study_tables
from tests.analysis.probe_tables import COURSES, START, probe_of
from tests.analysis.report.reported import assert_recomputed, evaluate, only, simulated
from tests.analysis.tables import trials_of


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> StudyTables:
    """Without probes."""
    return study_tables(simulated(tmp_path_factory.mktemp("studies"), trials=200))


def probed(tables: StudyTables, courses: list[str]) -> StudyTables:
    """The study with a probe of each of its first trials, by verdict."""
    predicted = tables.trials.query("status == 'completed' and objective == 'elbo' and beta > 0")
    ids = predicted["trial_id"].head(len(courses))
    assert len(ids) == len(courses)
    probes = [probe_of(i, START, COURSES[c]) for i, c in zip(ids, courses, strict=True)]
    # kl_of is for β = 1.
    trials = tables.trials.assign(
        beta=tables.trials["beta"].where(~tables.trials["trial_id"].isin(ids), 1.0)
    )
    return replace(tables, trials=trials, probes=pd.concat(probes, ignore_index=True))


def section_of(tables: StudyTables) -> Section:
    section = deterioration_section(tables)
    assert section is not None
    return section


def words(tables: StudyTables) -> list[str]:
    return [block.text for block in section_of(tables).blocks if isinstance(block, Statement)]


def test_no_probes_no_section(tables: StudyTables) -> None:
    assert len(tables.probes) == 0
    assert "trial_id" in tables.probes
    assert deterioration_section(tables) is None
    assert deterioration_section(replace(tables, probes=pd.DataFrame())) is None
    assert "deterioration" not in [section.anchor for section in compose_report(tables).sections]
    another = probed(tables, ["recovered"])
    another = replace(another, probes=another.probes.assign(probe="another"))
    assert deterioration_section(another) is None


def test_every_number_can_be_recomputed(tables: StudyTables) -> None:
    report = compose_report(probed(tables, [*COURSES, "recovered", "relapsed"]))
    assert "deterioration" in [section.anchor for section in report.sections]
    assert assert_recomputed(report, probed(tables, [*COURSES, "recovered", "relapsed"])) > 8
    page = to_html(report)
    assert "Deterioration of a unit" in page
    assert 'data-figure="recovery"' in page


@pytest.mark.parametrize(
    ("courses", "says"),
    [
        (["recovered", "recovered in part"], "Here that holds: of 2 units"),
        (["recovered", "did not recover"], "Here that holds in part: of 2 units"),
        (["relapsed", "did not recover"], "Here that does not hold: of 2 units"),
        (["never fell below", "interrupted"], "Nothing here can tell"),
    ],
)
def test_the_claim_of_the_paper(tables: StudyTables, courses: list[str], says: str) -> None:
    claim = section_of(probed(tables, courses)).blocks[0]
    assert isinstance(claim, Statement)
    assert says in claim.text
    assert claim.warns == ("holds:" not in says)


def test_what_followed_by_schedule(tables: StudyTables) -> None:
    held = ["recovered", "did not recover", "did not recover"]
    said = words(probed(tables, [*held, "relapsed", "relapsed"]))
    assert "Of the 3 that had collapsed under it (mean σ² above 0.9) these are 1" in said[0]
    assert said[0].endswith("of the 2 others 0.")
    assert said[1].startswith(
        "Noise until the collapse (3 trials, +0.25 per epoch): the gain fell below β·KL in 3 of "
    )
    assert "at a noise of 0.5;" in said[1]
    assert said[2].startswith(
        "Noise until the collapse, 3 epochs later: 1 had recovered, 0 in part, 0 relapsed and 2 "
        "did not recover. At the end the gain was 8% of the initial one (median; 8% to 75%), "
    )
    assert said[2].endswith("after 2 epochs (median).")
    assert said[3].startswith("Noise until before the collapse (2 trials")
    assert "0 of them under the noise and in 2 after it" in said[3]
    assert len(said) == 5


def test_trials_without_a_verdict_are_told_and_why(tables: StudyTables) -> None:
    courses = ["recovered", "interrupted", "not followed", "did not pay before", "interrupted"]
    changed = probed(tables, courses)
    (told,) = [line for line in words(changed) if line.startswith("Without a verdict")]
    assert told.startswith("Without a verdict on recovery are 4 of 5 trials: 2 interrupted by")
    assert "1 that did not go on without the noise" in told
    first = changed.probes["trial_id"].iloc[0]
    control = changed.trials["objective"].where(changed.trials["trial_id"] != first, "no_sampling")
    changed = replace(changed, trials=changed.trials.assign(objective=control))
    assert "1 with an objective under which nothing pushes" in words(changed)[-1]


def test_figures_and_tables(tables: StudyTables) -> None:
    changed = probed(tables, list(COURSES))
    blocks = section_of(changed).blocks
    assert [b.name for b in blocks if isinstance(b, Figure)] == ["deterioration", "recovery"]
    shown = [block for block in blocks if isinstance(block, TableBlock)]
    assert len(shown) == 2
    for block in shown:
        pd.testing.assert_frame_equal(evaluate(block.recipe, changed), block.frame)
        block.cells()
    assert shown[1].frame["verdict"].tolist() == list(COURSES)


def test_a_probe_that_was_interrupted_alone(tables: StudyTables) -> None:
    blocks = section_of(probed(tables, ["interrupted"])).blocks
    assert [block.kind for block in blocks] == ["statement", "statement", "table"]


def test_the_table_of_trials_tells_them_apart(tables: StudyTables) -> None:
    both = probed(tables, ["relapsed"] * 4)
    trials = both.trials.assign(precision=["float32", "mixed"] * (len(both.trials) // 2))
    listed = [b for b in section_of(only(both, trials)).blocks if isinstance(b, TableBlock)][-1]
    assert {"beta", "seed", "precision"} <= set(listed.frame.columns)
    assert listed.recipe is not None
    pd.testing.assert_frame_equal(evaluate(listed.recipe, only(both, trials)), listed.frame)


def test_few_of_many_are_drawn_and_listed(tables: StudyTables) -> None:
    many = probed(tables, ["did not recover"] * 45 + ["relapsed"] * 2)
    blocks = section_of(many).blocks
    full, lines = (chart_spec(block.chart) for block in blocks if isinstance(block, Figure))
    drawn = set(re.findall(r"seed \d+, unit \d+: (?:did not recover|relapsed)", str(full)))
    titles = [column["title"]["text"] for row in full["vconcat"] for column in row["hconcat"]]
    assert len(titles) == MOST_IN_FULL + 2
    assert drawn == set(titles)
    ids = {row["trial_id"] for data in lines["datasets"].values() for row in data if "share" in row}
    first = many.probes["trial_id"].unique()
    assert ids == {*first[:MOST_LINES], *first[45:]}
    listed = [block for block in blocks if isinstance(block, TableBlock)][-1]
    assert len(listed.frame) == 40
    assert "the first 40 of 47" in listed.caption


def test_titles_name_the_setting_where_there_are_several(tables: StudyTables) -> None:
    one_setting = probed(tables, ["relapsed", "relapsed"])
    probes = one_setting.probes["trial_id"].unique()
    trials = one_setting.trials[one_setting.trials["trial_id"].isin(probes)]
    same = trials.assign(
        **{n: trials[n].iloc[0] for n in ("architecture", "initialisation", "dataset", "objective")}
    )
    spec = _spec(only(one_setting, same))
    assert "β = 1" not in spec
    spec = _spec(only(one_setting, same.assign(beta=[1.0, 0.99])))
    assert "β = 0.99" in spec


def _spec(tables: StudyTables) -> str:
    figure = next(b for b in section_of(tables).blocks if isinstance(b, Figure))
    return str(chart_spec(figure.chart))


def test_titles_where_every_trial_has_its_own_beta() -> None:
    """As many schedules as it takes: β is then grouped by ranges."""
    random = [{"beta": 0.1 * (i + 1), "latent_dim": 4 + i, "seed": 0} for i in range(12)]
    trials = trials_of(
        [row | {"architecture": f"dense-{8 + i % 2}"} for i, row in enumerate(random)]
    )
    shown = pd.DataFrame({"trial_id": trials["trial_id"], "unit": 3, "verdict": "relapsed"})
    titles = _titles(shown.assign(schedule="a schedule"), trials)
    assert titles.index.tolist() == trials["trial_id"].tolist()
    assert (titles.str.startswith("seed 0, unit 3: relapsed\na schedule\n")).all()
    assert titles.str.endswith("β 0.1 to 1").any()
