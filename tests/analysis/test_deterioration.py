"""What became of a unit under noise, against courses made by hand and a plain loop over them."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import (
    deterioration_by_group,
    deterioration_by_schedule,
    deterioration_by_trial,
    deterioration_course,
)
from analysis.deterioration import VERDICTS
from search_spaces import DeteriorationProbe
from tests.analysis.probe_tables import (
    BACK,
    COURSES,
    FALLS,
    GOES,
    GONE,
    LOST,
    PARTLY,
    PAYS,
    START,
    Epoch,
    probe_of,
)
from tests.analysis.tables import trials_of
from trainables.deterioration import ProbedLane, UnitState, go_on, next_epoch


def study_of(courses: dict[str, list[Epoch]], **columns: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`probes` and `trials` of a trial per course, named after it."""
    probes = [probe_of(name, START, epochs) for name, epochs in courses.items()]
    trials = trials_of([{"trial_id": name, "latent_dim": 8} | columns for name in courses])
    return pd.concat(probes, ignore_index=True), trials


def one(epochs: list[Epoch], **columns: Any) -> pd.Series:
    return deterioration_by_trial(*study_of({"t": epochs}, **columns)).iloc[0]


def test_the_course_of_figure_14_in_numbers() -> None:
    found = one(COURSES["recovered"])
    expected = {
        "trial_id": "t",
        "unit": 5,
        "probe_epochs": 8,
        "schedule": "noise until the collapse",
        "increment": 0.25,
        "initial_gain": 4.0,
        "initial_cost": pytest.approx(1.8),
        "fell_epoch": 3,
        "fell_noise": 0.5,
        "held_epochs": 2,
        "collapse_epoch": 5,
        "collapse": "under the noise",
        "recovery_epochs": 3,
        "used_after": 2,
        "recovered_after": 3,
        "best_share": 0.75,
        "best_after": 3,
        "last_share": 0.75,
        "verdict": "recovered",
    }
    assert found.to_dict() == expected


@pytest.mark.parametrize("verdict", COURSES)
def test_each_verdict(verdict: str) -> None:
    found = one(COURSES[verdict])
    assert found["verdict"] == verdict
    assert pd.isna(found["schedule"]) == (verdict == "interrupted")


def test_all_of_them_in_one_study_in_its_order() -> None:
    probes, trials = study_of(COURSES)
    shuffled = probes.sample(frac=1, random_state=0)
    backwards = trials.iloc[::-1]
    found = deterioration_by_trial(shuffled, backwards)
    assert found["trial_id"].tolist() == found["verdict"].tolist() == list(COURSES)[::-1]
    assert set(VERDICTS) - set(found["verdict"]) == {"not predicted"}


def test_noise_that_went_before_the_collapse() -> None:
    late = one([PAYS, FALLS, LOST, BACK])
    assert (late["schedule"], late["held_epochs"]) == ("noise until before the collapse", 0)
    assert (late["collapse"], late["collapse_epoch"]) == ("after it", 3)
    assert (late["used_after"], late["verdict"]) == (2, "recovered")
    never = one([PAYS, FALLS, GOES, GOES, BACK])
    assert (never["schedule"], never["held_epochs"]) == ("noise until before the collapse", 2)
    assert never["collapse"] == "never"
    assert pd.isna(never["collapse_epoch"])


def test_a_unit_that_never_failed_has_no_collapse() -> None:
    """Not even where σ² is large: that is collapsed which no longer pays."""
    found = one([PAYS, ("d", 3.0, 0.95), ("r", 3.0, 0.95)])
    assert found["verdict"] == "never fell below"
    assert found["schedule"] == "noise to its end"
    assert found[["fell_epoch", "held_epochs", "collapse_epoch", "collapse"]].isna().all()
    assert found["last_share"] == 0.75


def test_what_counts_as_before_the_noise() -> None:
    """The last epoch that settles, and the start where none does."""
    assert one([("s", 8.0, 0.1), ("s", 2.0, 0.1), *COURSES["relapsed"]])["initial_gain"] == 2.0
    assert one(COURSES["relapsed"])["initial_gain"] == 4.0
    worthless = one([("s", -1.0, 0.1), *COURSES["relapsed"]])
    assert worthless["verdict"] == "did not pay before"
    assert worthless[["best_share", "last_share", "best_after"]].isna().all()


def test_beta_weighs_the_kl() -> None:
    """At β = 0.5 a gain of 1 pays for 1.4 nats; the first to fall is that of 0.3 for 0.6."""
    epochs: list[Epoch] = [PAYS, FALLS, ("d", 0.2, 0.3), ("r", 0.5, 0.3)]
    assert one(epochs, beta=1.0)["fell_noise"] == 0.5
    found = one(epochs, beta=0.5)
    assert (found["fell_noise"], found["initial_cost"]) == (0.75, pytest.approx(0.9))
    assert found["verdict"] == "did not recover"  # 0.5 < 0.7, though an eighth of the gain is back
    assert one(epochs, beta=0.25)["verdict"] == "recovered in part"


def test_a_gain_of_next_to_nothing_is_no_use_even_where_the_kl_is_less() -> None:
    free: list[Epoch] = [PAYS, FALLS, GONE, ("r", 0.1, 0.999)]
    assert one(free)["verdict"] == "did not recover"
    probes, trials = study_of({"t": free})
    found = deterioration_by_trial(probes, trials, used_share=0.02).iloc[0]
    assert found["verdict"] == "recovered in part"


def test_thresholds() -> None:
    probes, trials = study_of({"t": [PAYS, FALLS, GOES, GONE, LOST, PARTLY]})
    found = deterioration_by_trial(probes, trials, collapsed_variance=0.6).iloc[0]
    assert found["collapse_epoch"] == 3
    for share, verdict in ((0.25, "recovered"), (0.26, "recovered in part")):
        found = deterioration_by_trial(probes, trials, recovered_share=share).iloc[0]
        assert found["verdict"] == verdict
    found = deterioration_by_trial(probes, trials, used_share=0.26, recovered_share=0.3).iloc[0]
    assert found["verdict"] == "did not recover"


@pytest.mark.parametrize("control", [{"objective": "quadratic_penalty"}, {"beta": 0.0}])
def test_controls_have_no_verdict(control: dict[str, Any]) -> None:
    assert one(COURSES["recovered"], **control)["verdict"] == "not predicted"


@pytest.mark.parametrize("place", range(len(COURSES["recovered"]) + 1))
def test_a_probe_that_diverges_anywhere(place: int) -> None:
    start, epochs = START, COURSES["recovered"][:place]
    if place == 0:
        start = ("s", None, None)
    else:
        epochs = [*epochs[:-1], (epochs[-1][0], None, None)]
    probes = pd.concat([probe_of("t", start, epochs), probe_of("u", START, COURSES["relapsed"])])
    found = deterioration_by_trial(probes, trials_of([{"trial_id": "t"}, {"trial_id": "u"}]))
    assert found["verdict"].tolist() == ["interrupted", "relapsed"]
    assert found["probe_epochs"].tolist() == [place, 5]
    assert pd.isna(found["schedule"].iloc[0])
    assert found["schedule"].iloc[1] == "noise until before the collapse"


def test_schedules_name_what_differs() -> None:
    probes, trials = study_of({"a": COURSES["recovered"], "b": COURSES["recovered"]})
    other = probe_of("b", START, COURSES["recovered"], increment=0.1)
    probes = pd.concat([probes[probes["trial_id"] == "a"], other])
    found = deterioration_by_trial(probes, trials)
    assert found["schedule"].tolist() == [
        "noise until the collapse, +0.25 per epoch",
        "noise until the collapse, +0.1 per epoch",
    ]
    longer = {"a": COURSES["recovered"], "b": [*COURSES["recovered"], BACK]}
    found = deterioration_by_trial(*study_of(longer))
    assert found["schedule"].tolist() == [
        "noise until the collapse, 3 epochs",
        "noise until the collapse, 4 epochs",
    ]


def test_only_these_trials_and_this_probe() -> None:
    probes, trials = study_of({"a": COURSES["recovered"], "b": COURSES["relapsed"]})
    another = probes.assign(probe="another")
    both = pd.concat([another, probes])
    assert deterioration_by_trial(both, trials[1:])["trial_id"].tolist() == ["b"]
    none = deterioration_by_trial(another, trials)
    assert none.empty
    some = deterioration_by_trial(both, trials)
    assert list(none.columns) == list(some.columns)
    assert none.dtypes.equals(some.dtypes)
    assert deterioration_by_schedule(none).empty
    assert deterioration_by_group(none, trials).empty


def test_the_course_around_the_end_of_the_noise() -> None:
    probes, trials = study_of({"t": COURSES["recovered"]}, beta=2.0)
    course = deterioration_course(probes, trials)
    assert course["since_noise"].tolist() == [-5, -4, -3, -2, -1, 0, 1, 2, 3]
    assert course["share"].tolist() == [1, 1, 0.75, 0.25, 0.075, 0, 0.00025, 0.25, 0.75]
    np.testing.assert_allclose(course["cost"], 2 * course["kl"])
    assert set(probes.columns) < set(course.columns)


# Against the course that the trainer takes, and a loop over its epochs.


def taken(states: list[UnitState], settings: DeteriorationProbe) -> list[ProbedLane]:
    lane = go_on(ProbedLane(5, [5]), states[0], settings)
    lanes = []
    while lane is not None:
        lane = next_epoch(lane, settings)
        lanes.append(lane)
        lane = go_on(lane, states[min(len(lanes), len(states) - 1)], settings)
    return lanes


def looped(lanes: list[ProbedLane], states: list[UnitState]) -> dict[str, Any]:
    """What `deterioration_by_trial` should say, epoch by epoch."""
    found: dict[str, Any] = dict.fromkeys(
        ["fell_epoch", "collapse_epoch", "used_after", "recovered_after"]
    )
    initial, after, last, gains = states[0], 0, "", []
    for lane, state in zip(lanes, states[1:], strict=True):
        pays = state.reconstruction_gain >= state.cost
        if lane.phase == "settling":
            initial = state
        if lane.phase == "deterioration" and not pays and found["fell_epoch"] is None:
            found["fell_epoch"] = lane.epoch
        fell = found["fell_epoch"] is not None
        if fell and state.posterior_variance > 0.9 and found["collapse_epoch"] is None:
            found["collapse_epoch"] = lane.epoch
        if lane.phase == "recovery":
            after += 1
            share = state.reconstruction_gain / initial.reconstruction_gain
            gains.append(share)
            last = "recovered" if pays and share >= 0.5 else "used" if pays and share >= 0.1 else ""
            if last and found["used_after"] is None:
                found["used_after"] = after
            if last == "recovered" and found["recovered_after"] is None:
                found["recovered_after"] = after
    found["best_share"] = max(gains, default=None)
    if initial.reconstruction_gain < initial.cost:
        found["verdict"] = "did not pay before"
    elif found["fell_epoch"] is None:
        found["verdict"] = "never fell below"
    elif not after:
        found["verdict"] = "not followed"
    elif last:
        found["verdict"] = {"recovered": "recovered", "used": "recovered in part"}[last]
    else:
        found["verdict"] = "relapsed" if found["used_after"] else "did not recover"
    return found


STATES = st.lists(
    st.builds(UnitState, st.floats(0.01, 2), st.floats(0.01, 2), st.floats(0, 1.2)),
    min_size=1,
    max_size=25,
)
SETTINGS = st.builds(
    DeteriorationProbe,
    increment=st.floats(0.05, 1),
    most=st.floats(1, 2),
    settling_epochs=st.integers(0, 2),
    collapse_epochs=st.integers(0, 4),
    recovery_epochs=st.integers(0, 6),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(STATES, SETTINGS), min_size=1, max_size=4))
def test_as_a_loop_over_the_trainer_s_course(
    probed: list[tuple[list[UnitState], DeteriorationProbe]],
) -> None:
    tables, expected = [], []
    for number, (states, asked) in enumerate(probed):
        lanes = taken(states, asked)
        states = [states[min(i, len(states) - 1)] for i in range(len(lanes) + 1)]
        table = probe_of(f"t{number}", START, [("s", 0.0, 0.0)] * len(lanes)).assign(
            phase=["start", *(lane.phase for lane in lanes)],
            noise=[0.0, *(lane.noise for lane in lanes)],
            reconstruction_gain=[state.reconstruction_gain for state in states],
            kl=[state.cost / 0.5 for state in states],
            posterior_variance=[state.posterior_variance for state in states],
        )
        tables.append(table)
        expected.append(looped(lanes, states) | {"increment": asked.increment})
    trials = trials_of([{"trial_id": f"t{n}", "beta": 0.5} for n in range(len(probed))])
    found = deterioration_by_trial(pd.concat(tables), trials)
    assert len(found) == len(probed)
    for row, truth in zip(found.to_dict("records"), expected, strict=True):
        for name, value in truth.items():
            if value is None:
                assert pd.isna(row[name]), name
            elif isinstance(value, str):
                assert row[name] == value
            else:
                assert math.isclose(row[name], value, rel_tol=1e-9), name
    by = deterioration_by_schedule(found)
    assert by["trials"].sum() == len(found)
    assert (by["paid"] <= by["trials"]).all()
    assert (by["fell"] <= by["paid"]).all()
    verdicts = by[["recovered", "recovered_in_part", "relapsed", "did_not_recover"]]
    assert (verdicts.sum(axis=1) <= by["fell"]).all()
    assert verdicts.sum().sum() == found["verdict"].isin(VERDICTS[:4]).sum()


# Over trials.


def many() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials followed for three epochs, but for the interrupted one; one has another β."""
    courses = {
        "a": COURSES["recovered"],
        "b": COURSES["did not recover"],
        "c": COURSES["relapsed"],
        "d": COURSES["recovered in part"],
        "e": COURSES["interrupted"],
        "f": [*COURSES["did not pay before"], BACK, BACK],
    }
    probes, trials = study_of(courses)
    return probes, trials.assign(beta=[1, 1, 1, 0.9, 1, 1], seed=range(6))


def test_counts_by_schedule() -> None:
    by = deterioration_by_schedule(deterioration_by_trial(*many()))
    # None of the second is counted further whose unit did not pay before.
    assert by.to_dict("records") == [
        {
            "schedule": "noise until the collapse",
            "increment": 0.25,
            **dict.fromkeys(["trials", "paid", "fell", "collapsed"], 3),
            **dict.fromkeys(["recovered", "recovered_in_part", "did_not_recover"], 1),
            **dict.fromkeys(["collapsed_later", "relapsed"], 0),
            **dict.fromkeys(["least_noise", "most_noise"], 0.5),
            "recovery_epochs": 3,
            "used_after": 2,  # the one that did not is not in it
            "last_share": 0.25,
            "least_share": 0.075,
            "most_share": 0.75,
            "best_share": 0.75,
        },
        {
            "schedule": "noise until before the collapse",
            "increment": 0.25,
            "trials": 2,
            **dict.fromkeys(["paid", "fell", "relapsed", "collapsed_later"], 1),
            **dict.fromkeys(["collapsed", "recovered", "recovered_in_part", "did_not_recover"], 0),
            **dict.fromkeys(["least_noise", "most_noise"], 0.5),
            "recovery_epochs": 3,
            "used_after": 1,
            **dict.fromkeys(["last_share", "least_share", "most_share"], 0.00025),
            "best_share": 0.75,
        },
    ]


def test_counts_by_group() -> None:
    probes, trials = many()
    found = deterioration_by_trial(probes, trials)
    by = deterioration_by_group(found, trials)
    keys = ["beta", "schedule", "trials", "paid", "recovered_in_part"]
    assert by[keys].to_numpy().tolist() == [
        [0.9, "noise until the collapse", 1, 1, 1],
        [1.0, "noise until before the collapse", 2, 1, 0],
        [1.0, "noise until the collapse", 2, 2, 0],
    ]
    assert set(deterioration_by_schedule(found)) | {"dataset", "architecture", "beta"} == set(by)
