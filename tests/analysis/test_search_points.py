"""Points of a search against what Optuna is told of them, its fronts, and plain loops."""

import itertools
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from analysis import Constraint, Goal, best_so_far, pareto_front, search_points, seed_spread
from search_spaces.optuna_strategy import Comparison
from search_spaces.optuna_strategy import Goal as SpecGoal
from study.adaptive.outcome import state_of
from tests.analysis.searched_tables import ELBO, FEW_UNITS, UNITS, searched
from tests.analysis.tables import trials_of

STATUSES = ("completed", "pruned", "diverged", "failed")
STATES = {"completed": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def with_values(values: list[list[float]], feasible: list[bool]) -> pd.DataFrame:
    """Points with the values of goals a, b, …."""
    names = [chr(ord("a") + place) for place in range(len(values[0]))]
    return pd.DataFrame(values, columns=names, dtype=float).assign(feasible=feasible)


@pytest.mark.parametrize("statuses", list(itertools.product(STATUSES, repeat=3)))
def test_a_point_comes_to_what_optuna_is_told(statuses: tuple[str, ...]) -> None:
    rows = [
        {"seed": seed, "status": status, "test_elbo": -100.0 - seed, "latent_dim": 4}
        for seed, status in enumerate(statuses)
    ]
    points = search_points(trials_of(rows), [ELBO])
    assert len(points) == 1
    assert STATES[points["outcome"][0]] == state_of(pd.Series(statuses))
    lost = points["outcome"][0] == "failed"
    assert np.isnan(points["test_elbo"][0]) if lost else points["test_elbo"][0] == -101
    assert points["feasible"][0] == (set(statuses) == {"completed"})


def test_seeds_of_either_kind_are_one_point_and_all_else_tells_points_apart() -> None:
    rows: list[dict[str, Any]] = [
        {"seed": seed, "data_seed": data_seed, "beta": beta, "learning_rate": rate, "test_elbo": 1}
        for beta, rate, seed, data_seed in itertools.product(
            [0.5, 1.0], [1e-3, 1e-2], [0, 1], [3, 4]
        )
    ]
    points = search_points(trials_of(rows), [ELBO])
    assert list(points["trials"]) == [4] * 4
    assert sorted(sum(points["trial_ids"], ())) == sorted(trials_of(rows)["trial_id"])
    assert len(points.drop_duplicates(["beta", "learning_rate"])) == 4


def test_a_point_without_all_its_seeds_is_unfinished() -> None:
    trials = searched(6, seeds=3, outcomes={"completed": 1.0})
    fewer = trials.drop(index=[4])  # a seed of the second point
    for seeds in (None, 3):
        points = search_points(fewer, [ELBO], seeds=seeds)
        assert list(points["outcome"]) == ["completed", "unfinished"] + ["completed"] * 4
        assert np.isnan(points["test_elbo"][1])
    alone = search_points(trials.head(1), [ELBO], seeds=3)
    assert list(alone["outcome"]) == ["unfinished"]
    assert not alone["feasible"].any()


@pytest.mark.parametrize("sign", ["<=", ">=", "=="])
@given(value=st.floats(-5, 5), units=st.lists(st.integers(0, 9), min_size=2, max_size=2))
@settings(max_examples=30, deadline=None)
def test_violations_are_those_of_the_spec(sign: Any, value: float, units: list[int]) -> None:
    trials = trials_of(
        [{"seed": s, "active_units": n, "test_elbo": 0.0} for s, n in enumerate(units)]
    )
    points = search_points(trials, [ELBO], [Constraint("active_units", sign, value)])
    told = Comparison("active_units", sign, value).violation(sum(units) / 2)
    assert points["violation"][0] == pytest.approx(max(told, 0))
    assert points["feasible"][0] == (told <= 0)


@pytest.mark.parametrize(
    "goal", [Goal("test_elbo", "maximise"), UNITS, Goal("active_units", "target", 8.0)]
)
def test_values_are_those_of_the_spec(goal: Goal) -> None:
    if goal.target is None:
        told = SpecGoal(**{goal.direction: goal.column})
    else:
        told = SpecGoal(target=f"{goal.column} == {goal.target:g}")
    assert told.words == goal.words
    trials = searched(20, outcomes={"completed": 1.0})
    points = search_points(trials, [goal])
    for _, point in points.iterrows():
        own = trials[trials["trial_id"].isin(point["trial_ids"])]
        assert point[goal.name] == pytest.approx(told.value(own[goal.column].astype(float).mean()))
    best = {"maximize": max, "minimize": min}[told.direction](points[goal.name])
    assert best_so_far(points, goal).iloc[-1] == best


def test_a_value_that_is_no_number_is_a_failure() -> None:
    trials = searched(3, outcomes={"completed": 1.0})
    trials.loc[trials.index[:2], "test_elbo"] = np.nan
    points = search_points(trials, [ELBO], [FEW_UNITS])
    assert list(points["outcome"]) == ["failed", "completed", "completed"]
    assert list(search_points(trials, [UNITS])["outcome"]) == ["completed"] * 3


def test_points_stand_in_the_order_of_their_training() -> None:
    trials = searched(12)
    late = trials["pack_id"] == trials["pack_id"].iloc[0]
    trials.loc[late, "started_at"] += pd.Timedelta(1, "h")
    trials.loc[trials["pack_id"] == trials["pack_id"].iloc[-1], "started_at"] = pd.NaT
    points = search_points(trials, [ELBO])
    assert list(points["point"]) == list(range(1, 13))
    first = [int(ids[0][:8], 16) for ids in points["trial_ids"]]
    assert first == [4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10, 11]
    trained = trials["epochs_trained"].fillna(0)
    of_point = [trained[trials["trial_id"].isin(ids)].sum() for ids in points["trial_ids"]]
    assert list(points["epochs_trained"]) == of_point
    assert list(points["epochs_so_far"]) == list(np.cumsum(of_point))
    pd.testing.assert_frame_equal(search_points(trials[::1], [ELBO]), points)


def test_no_trials_give_no_points() -> None:
    points = search_points(searched(2).head(0), [ELBO, UNITS], [FEW_UNITS])
    assert points.empty
    assert {"test_elbo", "active_units", "feasible", "outcome"} <= set(points)
    assert best_so_far(points, ELBO).empty
    assert pareto_front(points, [ELBO, UNITS]).empty


@pytest.mark.parametrize(
    ("goals", "constraints", "message"),
    [
        ([], [], "there is none"),
        ([("test_elbo", "maximize")], [], "'maximize' is no direction"),
        ([("test_elbo", "target")], [], "needs its number"),
        ([("test_elbo", "minimise", 3.0)], [], "nothing else has one"),
        ([("test_elbo", "minimise")], [("active_units", "<", 3)], "'<' is no sign"),
    ],
)
def test_what_is_no_goal_is_refused(
    goals: list[tuple[Any, ...]], constraints: list[tuple[Any, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        search_points(searched(2), goals, constraints)


rows_of_values = st.integers(1, 3).flatmap(
    lambda goals: st.lists(
        st.tuples(
            st.lists(
                st.one_of(st.integers(-3, 3).map(float), st.just(np.nan)),
                min_size=goals,
                max_size=goals,
            ),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    )
)


@given(rows_of_values, st.lists(st.sampled_from(["maximise", "minimise"]), min_size=3, max_size=3))
@settings(deadline=None)
def test_the_front_is_what_nothing_beats(rows: list[Any], directions: list[Any]) -> None:
    values, feasible = [list(v) for v, _ in rows], [ok for _, ok in rows]
    points = with_values(values, feasible)
    goals = [Goal(n, d) for n, d in zip(points.columns[:-1], directions, strict=False)]

    def beats(one: list[float], other: list[float]) -> bool:
        signed = [
            (a, b) if goal.direction == "maximise" else (-a, -b)
            for goal, a, b in zip(goals, one, other, strict=True)
        ]
        return all(a >= b for a, b in signed) and any(a > b for a, b in signed)

    good = [ok and not np.isnan(v).any() for v, ok in zip(values, feasible, strict=True)]
    expected = [
        good[i] and not any(good[j] and beats(values[j], values[i]) for j in range(len(values)))
        for i in range(len(values))
    ]
    assert pareto_front(points, goals).tolist() == expected


@pytest.mark.parametrize("goals", [1, 2, 3])
def test_the_front_is_that_of_optuna(goals: int) -> None:
    sought = [ELBO, UNITS, Goal("test_kl", "target", 15.0)][:goals]
    trials = searched(150, outcomes={"completed": 0.8, "pruned": 0.1, "diverged": 0.1})
    points = search_points(trials, sought, [FEW_UNITS])
    directions = ["maximize" if goal.direction == "maximise" else "minimize" for goal in sought]
    study = optuna.create_study(directions=directions)
    for _, point in points.iterrows():
        done = point["outcome"] == "completed"
        state = STATES[point["outcome"]]
        violation = {"few": point["active_units"] - 8.0} if done else None
        values = [point[goal.name] for goal in sought] if done else None
        study.add_trial(create_trial(state=state, values=values, constraints=violation))
    found = {trial.number + 1 for trial in study.best_trials}
    front = points.loc[pareto_front(points, sought), "point"]
    if goals > 1:
        assert set(front) == found
        assert len(found) > 2
    else:
        assert set(front) >= {study.best_trial.number + 1}
        assert points.loc[front.index, ELBO.name].eq(study.best_value).all()


@given(
    st.lists(
        st.tuples(st.one_of(st.integers(-9, 9).map(float), st.just(np.nan)), st.booleans()),
        max_size=12,
    ),
    st.sampled_from(["maximise", "minimise"]),
)
@settings(deadline=None)
def test_the_best_so_far_is_the_best_feasible_one_before(rows: list[Any], direction: Any) -> None:
    points = with_values([[v] for v, _ in rows] or [[0.0]], [ok for _, ok in rows] or [True])
    found = best_so_far(points, Goal("a", direction)).tolist()
    for place, value in enumerate(found):
        before = points.head(place + 1)
        known = before.loc[before["feasible"], "a"].dropna()
        best = (max if direction == "maximise" else min)(known, default=np.nan)
        assert value == best or (np.isnan(value) and known.empty)


def test_the_spread_of_seeds_is_pooled_over_points() -> None:
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, 100, 400)
    rows = [
        {"beta": 1.0 + point, "seed": seed, "test_elbo": offsets[point] + rng.normal(0, 3.0)}
        for point in range(400)
        for seed in range(4)
    ]
    rows += [{"beta": 0.1, "seed": s, "test_elbo": 1e6 * s, "status": "pruned"} for s in range(4)]
    trials = trials_of(rows)
    deviation, of_mean, counted = seed_spread(trials, search_points(trials, [ELBO]), "test_elbo")
    assert deviation == pytest.approx(3.0, rel=0.06)
    assert of_mean == pytest.approx(deviation / 2)
    assert counted == 400
    single = trials[trials["seed"] == 0]
    assert seed_spread(single, search_points(single, [ELBO]), "test_elbo")[2] == 0


def test_points_with_more_seeds_weigh_more_in_the_spread() -> None:
    few, many = [0.0, 2.0], [0.0, 3.0, 6.0, 9.0, 12.0]
    rows = [
        {"beta": beta, "seed": seed, "test_elbo": value}
        for beta, values in ((1.0, few), (2.0, many))
        for seed, value in enumerate(values)
    ]
    trials = trials_of(rows)
    points = search_points(trials, [ELBO], seeds=2)
    pooled = np.sqrt((np.var(few) * 2 + np.var(many) * 5) / (1 + 4))
    deviation, of_mean, counted = seed_spread(trials, points, "test_elbo")
    assert (deviation, of_mean) == pytest.approx((pooled, pooled / np.sqrt(2)))
    assert counted == 2
