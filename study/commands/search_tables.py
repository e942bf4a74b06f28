"""What a report needs of a study in which Optuna chooses: what is sought, curves of some points."""

import pandas as pd

from analysis.points_to_follow import points_to_follow
from analysis.search_goals import Constraint, Goal, Search
from analysis.search_points import search_points
from search_spaces import OptunaStrategy
from search_spaces.optuna_strategy import Comparison
from search_spaces.optuna_strategy import Goal as SpecGoal
from study.loading import Study
from study.tables import EPOCHS

__all__ = ["search_settings", "search_tables"]


def search_settings(study: Study) -> Search | None:
    """Return what a study seeks; None where it is not Optuna that chooses."""
    strategy, axes = study.spec.strategy, study.spec.axes
    if not isinstance(strategy, OptunaStrategy) or axes is None:
        return None
    compared = [Comparison.parse(text) for text in strategy.constraints]
    return Search(
        goals=tuple(_goal(goal) for goal in strategy.objectives),
        constraints=tuple(Constraint(c.column, c.sign, c.value) for c in compared),
        points=strategy.points,
        seeds=len(axes.data_seed.values()) * len(axes.seed.values()),
        sampler=strategy.sampler.name,
        pruner=None if strategy.pruner is None else strategy.pruner.name,
    )


def search_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Read the fields of `StudyTables` that are about a search, of a bounded number of points."""
    search = search_settings(study)
    if search is None:
        return {}
    (goal, *others) = search.goals
    if others or goal.column not in EPOCHS.names:
        return {}  # nothing of it is known before the end
    points = search_points(study.trials, search.goals, search.constraints, seeds=search.seeds)
    shown = points_to_follow(points, goal)["trial_ids"].explode()
    rows = study.epochs_of(list(shown.dropna()))
    return {"search_epochs": rows[["trial_id", "epoch", goal.column]]}


def _goal(goal: SpecGoal) -> Goal:
    if goal.target is not None:
        aim = Comparison.parse(goal.target)
        return Goal(aim.column, "target", aim.value)
    return Goal(goal.column, "maximise" if goal.maximise else "minimise")
