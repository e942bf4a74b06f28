"""The points that an adaptive search tried, from its trials: what came of each, and the best."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.design_points import SEEDS, design_points
from analysis.search_goals import Constraint, Goal, checked_constraints, checked_goals

__all__ = ["best_so_far", "pareto_front", "search_points", "seed_spread"]

OUTCOMES: Final = ("completed", "pruned", "failed", "unfinished")


def search_points(
    trials: pd.DataFrame,
    goals: Sequence[Goal | tuple[Any, ...]],
    constraints: Sequence[Constraint | tuple[Any, ...]] = (),
    *,
    seeds: int | None = None,
) -> pd.DataFrame:
    """Return the points of a search, each with what its trials came to.

    A point is a group of trials that differ in seed and data_seed only. Its values are means over
    its seeds. It is completed when all its trials are; it counts as pruned when one of them was,
    and as failed when one diverged or failed, since a mean over what is left would be another
    quantity: just as Optuna was told. A point of which a goal is no number counts as failed too.

    Example:
        >>> points = search_points(
        ...     study.trials, [("test_elbo", "maximise")], [("active_units", "<=", 8)]
        ... )
        >>> points[points["feasible"]].nlargest(3, "test_elbo")

    Args:
        trials: The `trials` table of one study, in the order of `load_study(...).trials`.
        goals: What is sought: columns of `trials`, each with maximise, minimise, or target and a
            number.
        constraints: What a good point fulfils: columns, each with <=, >= or == and a number.
        seeds: Trials of a point: one that has fewer is unfinished. By default the most there are.

    Returns:
        One row per point, in the order in which their training began, those of one pack in the
        order of the table, which is that of the proposals: point (its number, from 1); a column
        for each hyperparameter, as `design_points` gives them; trials; outcome (completed, pruned,
        failed or unfinished); reached (epochs that all its trials trained for); epochs_trained and
        epochs_so_far (epochs of all its trials, and of all points up to this one); seconds
        (likewise of its trials); one column for each goal and constraint, the mean of its column
        over the seeds, for pruned points as it was when they were given up, NaN for failed and
        unfinished ones; distance_of_COLUMN for a target; violation (by how much it misses the
        constraints, all together; 0 where it does not); feasible (completed, and violates none);
        trial_ids (a tuple).

    Raises:
        ValueError: A goal or constraint is none.
    """
    goals, constraints = checked_goals(list(goals)), checked_constraints(list(constraints))  # type: ignore[arg-type]
    ordered = trials.sort_values("started_at", kind="stable", na_position="last")
    hyperparameters = design_points(ordered).drop(columns=list(SEEDS))
    number = hyperparameters.groupby(list(hyperparameters), dropna=False, sort=False).ngroup()
    first = hyperparameters.groupby(number).head(1).reset_index(drop=True)
    points = first.assign(**_what_came_of_it(ordered, number, seeds))
    points.insert(0, "point", np.arange(1, len(points) + 1))
    columns = dict.fromkeys([*(g.column for g in goals), *(c.column for c in constraints)])
    known = points["outcome"].isin(["completed", "pruned"])
    for column in columns:
        points[column] = ordered[column].astype("float64").groupby(number).mean().where(known)
    worthless = points[[goal.column for goal in goals]].isna().any(axis=1)
    points["outcome"] = points["outcome"].mask(
        (points["outcome"] == "completed") & worthless, "failed"
    )
    for goal in goals:
        if goal.target is not None:
            points[goal.name] = (points[goal.column] - goal.target).abs()
    points["violation"] = sum(
        (_violation(points, constraint) for constraint in constraints),
        start=pd.Series(0.0, index=points.index),
    )
    points["feasible"] = (points["outcome"] == "completed") & (points["violation"] == 0)
    points["trial_ids"] = ordered.groupby(number)["trial_id"].agg(tuple).astype(object)
    return points


def _what_came_of_it(
    trials: pd.DataFrame, number: "pd.Series[int]", seeds: int | None
) -> dict[str, "pd.Series[Any]"]:
    """Columns of the points that need no goal, by name."""
    of_point = trials["trial_id"].groupby(number).size()
    lost = (~trials["status"].isin(["completed", "pruned"])).groupby(number).any()
    pruned = (trials["status"] == "pruned").groupby(number).any()
    whole = of_point >= (of_point.max() if seeds is None else seeds)
    outcome = np.select([lost, ~whole, pruned], ["failed", "unfinished", "pruned"], "completed")
    trained = trials["epochs_trained"].astype("float64").fillna(0).astype("int64").groupby(number)
    return {
        "trials": of_point,
        "outcome": pd.Series(outcome, index=of_point.index, dtype="str"),
        "reached": trained.min(),
        "epochs_trained": trained.sum(),
        "epochs_so_far": trained.sum().cumsum(),
        "seconds": trials["seconds"].astype("float64").groupby(number).sum(),
    }


def _violation(points: pd.DataFrame, constraint: Constraint) -> "pd.Series[float]":
    over = points[constraint.column] - constraint.value
    if constraint.sign == "==":
        return over.abs()
    return (over if constraint.sign == "<=" else -over).clip(lower=0)


def best_so_far(points: pd.DataFrame, goal: Goal | tuple[Any, ...]) -> "pd.Series[float]":
    """Return the best value of a goal among each point and those before it that are feasible.

    Args:
        points: As `search_points` returns them, of one dataset.
        goal: The goal.

    Returns:
        A value per point; NaN as long as none is feasible.
    """
    (goal,) = checked_goals([goal])  # type: ignore[list-item]
    losses = goal.sign * points[goal.name].where(points["feasible"])
    return goal.sign * losses.cummin().ffill()


def pareto_front(
    points: pd.DataFrame, goals: Sequence[Goal | tuple[Any, ...]]
) -> "pd.Series[bool]":
    """Tell which points no feasible point beats: none is as good in all goals and better in one.

    With one goal it holds the best point, or those that are equally good. The same points as
    Optuna's `study.best_trials`.

    Args:
        points: As `search_points` returns them, of one dataset.
        goals: The goals.
    """
    goals = checked_goals(list(goals))  # type: ignore[arg-type]
    losses = np.column_stack([goal.sign * points[goal.name].to_numpy(float) for goal in goals])
    candidates = points["feasible"].to_numpy(bool) & ~np.isnan(losses).any(axis=1)
    front = pd.Series(False, index=points.index)
    front[candidates] = _undominated(losses[candidates])
    return front


def _undominated(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows no other row is at most as large as, and smaller somewhere."""
    distinct, place = np.unique(losses, axis=0, return_inverse=True)  # in lexicographic order
    left = np.arange(len(distinct))
    front = np.zeros(len(distinct), bool)
    while left.size:
        best = left[0]  # nothing that comes later beats it, and what beat it is gone
        front[best] = True
        left = left[(distinct[left] < distinct[best]).any(axis=1)]
    return front[place.reshape(-1)]


def seed_spread(
    trials: pd.DataFrame, points: pd.DataFrame, column: str
) -> tuple[float, float, int]:
    """Return how far the seeds of a point lie apart.

    Args:
        trials: The `trials` table.
        points: As `search_points` returns them; completed ones of two seeds or more count.
        column: A column of numbers.

    Returns:
        The standard deviation over the seeds of a point, pooled over the points; that of a point's
        mean, for the fewest seeds of these points; and of how many points it was taken. NaN where
        there is none.
    """
    several = points[(points["outcome"] == "completed") & (points["trials"] > 1)]
    if several.empty:
        return np.nan, np.nan, 0
    members = several["trial_ids"].explode()
    values = trials.drop_duplicates("trial_id").set_index("trial_id")[column].astype("float64")
    of_point = values.loc[members.to_list()].groupby(members.index.to_numpy())
    freedom = of_point.count() - 1
    deviation = float(np.sqrt((of_point.var() * freedom).sum() / freedom.sum()))
    return deviation, deviation / float(np.sqrt(several["trials"].min())), len(several)
