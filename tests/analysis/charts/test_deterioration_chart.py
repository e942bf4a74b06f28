"""The charts of figure 14: what is drawn where."""

import pandas as pd

from analysis import deterioration_by_trial, deterioration_course
from analysis.charts.deterioration import deterioration_chart, recovery_chart
from analysis.report.pictures import picture
from tests.analysis.probe_tables import COURSES, START, probe_of
from tests.analysis.tables import trials_of


def tables(verdicts: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    probes = pd.concat([probe_of(verdict, START, COURSES[verdict]) for verdict in verdicts])
    trials = trials_of([{"trial_id": verdict} for verdict in verdicts])
    return deterioration_course(probes, trials), deterioration_by_trial(probes, trials)


def test_each_trial_has_a_column_of_three_panels_over_its_phases() -> None:
    names = ["recovered", "relapsed", "never fell below", "interrupted"]
    course, _ = tables(names)
    titles = pd.Series([f"{name}\nbelow" for name in names], pd.Index(names))
    chart = deterioration_chart(course, titles).to_dict()
    columns = [column for row in chart["vconcat"] for column in row["hconcat"]]
    assert [len(row["hconcat"]) for row in chart["vconcat"]] == [3, 1]
    assert [column["title"]["text"] for column in columns] == names
    assert columns[0]["title"]["subtitle"] == ["below"]
    spans = []
    for column in columns:
        assert len(column["vconcat"]) == 3
        for panel in column["vconcat"]:
            tints, lines = panel["layer"]
            assert lines["encoding"]["x"]["scale"]["domain"] == [0, 8]
        phases = chart["datasets"][tints["data"]["name"]]
        spans.append([(row["phase"], row["start"], row["end"]) for row in phases])
    assert spans == [
        [("noise grows", 1, 3), ("noise stays", 3, 5)],
        [("noise grows", 0, 2)],
        [("noise grows", 0, 3)],
        [("noise grows", 0, 2), ("noise stays", 2, 4)],
    ]
    domains = {
        str(column["vconcat"][0]["layer"][1]["encoding"]["y"]["scale"]) for column in columns
    }
    assert len(domains) == 1
    gain = columns[0]["vconcat"][0]["layer"][1]
    drawn = pd.DataFrame(chart["datasets"][gain["data"]["name"]])
    costs = drawn[drawn["quantity"] == "β · KL"].set_index("epoch")["nats"]
    own = course[course["trial_id"] == "recovered"].set_index("epoch")["cost"]
    pd.testing.assert_series_equal(costs, own, check_names=False)


def test_recovery_draws_a_line_per_trial_with_a_schedule() -> None:
    course, outcomes = tables(["recovered", "relapsed", "interrupted"])
    chart = recovery_chart(course, outcomes).to_dict()
    (rows,) = (pd.DataFrame(rows) for rows in chart["datasets"].values())
    for panel in chart["vconcat"]:
        assert set(rows["trial_id"]) == {"recovered", "relapsed"}
        assert rows["schedule"].nunique() == 2
        level = panel["spec"]["layer"][1]["encoding"]["y"]["datum"]
        assert level in (1.0, 0.9)
        colour = panel["spec"]["layer"][2]["encoding"]["color"]["scale"]
        assert colour["domain"] == ["recovered", "relapsed"]
        assert len(set(colour["range"])) == 2


def test_they_can_be_drawn() -> None:
    course, outcomes = tables(list(COURSES))
    titles = pd.Series(list(COURSES), pd.Index(list(COURSES)))
    for chart in (deterioration_chart(course, titles), recovery_chart(course, outcomes)):
        assert picture_of(chart).startswith(b"\x89PNG")


def picture_of(chart: object) -> bytes:
    from analysis.report.content import Figure

    return picture(Figure("name", "caption", chart), "png")  # type: ignore[arg-type]
