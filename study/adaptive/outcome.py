"""What the tables say of a configuration, in Optuna's words: its state, values and history."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.optuna_strategy import Comparison, Goal
from study.tables import EPOCHS

__all__ = ["TRIAL_IDS", "Outcomes", "state_of"]

TRIAL_IDS = "trial_ids"
"""The user attribute of Optuna's trials that names the trials of ours."""


class Outcomes:
    """Reads what was sought off the tables: means over the seeds of a configuration.

    Attributes:
        objectives: What is sought.
        followed: The column of `epochs` that is reported along the way, if the objective is there.
    """

    def __init__(self, objectives: Sequence[Goal], constraints: Sequence[str]) -> None:
        """Look for objectives, subject to constraints such as `active_units <= 8`."""
        self.objectives = tuple(objectives)
        self._constraints = {text: Comparison.parse(text) for text in constraints}
        column = self.objectives[0].column
        alone = len(self.objectives) == 1  # Optuna follows one objective only
        self.followed = column if alone and column in EPOCHS.names else None

    def values(self, rows: pd.DataFrame) -> list[float]:
        """Return the value of each objective.

        Args:
            rows: The rows of a configuration's trials in `trials`.
        """
        return [goal.value(_mean(rows, goal.column)) for goal in self.objectives]

    def violations(self, rows: pd.DataFrame) -> dict[str, float]:
        """Return by how much each constraint is missed, by its text; 0 or less where it is not."""
        return {
            text: constraint.violation(_mean(rows, constraint.column))
            for text, constraint in self._constraints.items()
        }

    def constrained(self, rows: pd.DataFrame) -> dict[str, float]:
        """Return the constrained columns, for people who look at Optuna's study."""
        columns = [constraint.column for constraint in self._constraints.values()]
        return {column: _mean(rows, column) for column in columns}

    def intermediate(self, epochs: pd.DataFrame, seeds: int) -> dict[int, float]:
        """Return the objective by epoch, as far as all of so many seeds went."""
        if self.followed is None:
            return {}
        grouped = epochs[epochs["epoch"] > 0].groupby("epoch")[self.followed].agg(["mean", "count"])
        goal = self.objectives[0]
        whole = grouped.loc[grouped["count"] == seeds, "mean"]
        return {int(epoch): goal.value(float(mean)) for epoch, mean in whole.items()}  # type: ignore[call-overload]

    def frozen(
        self,
        rows: pd.DataFrame,
        epochs: pd.DataFrame,
        parameters: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
    ) -> FrozenTrial:
        """Return a configuration that is done as a trial of Optuna's, to be added to a study.

        Args:
            rows: The rows of its trials in `trials`.
            epochs: Their rows of `epochs`, where the objective is followed there.
            parameters: Its values by name.
            distributions: Where they are from, by name.
            attributes: User attributes.
        """
        state = state_of(rows["status"])
        complete = state == TrialState.COMPLETE
        intermediate = self.intermediate(epochs, len(rows))
        values = self.values(rows) if complete else None
        if state == TrialState.PRUNED and intermediate:
            values = [intermediate[max(intermediate)]]  # as Optuna has it of its own
        trial = create_trial(
            state=state,
            values=values,
            params=dict(parameters),
            distributions=dict(distributions),
            user_attrs={**attributes, **(self.constrained(rows) if complete else {})},
            intermediate_values=intermediate,
            constraints=self.violations(rows) if complete else None,
        )
        ended = rows["started_at"] + pd.to_timedelta(rows["seconds"], unit="s")
        if ended.notna().any():  # not where all failed before they began
            trial.datetime_start = _local(rows["started_at"].min())
            trial.datetime_complete = _local(ended.max())
        return trial


def state_of(statuses: "pd.Series[str]") -> TrialState:
    """Return the state of a configuration: complete when all its trials are.

    It counts as pruned when one of them was, and as failed when one of them diverged or failed,
    since a mean over what is left would be another quantity.
    """
    found = set(statuses)
    if found == {"completed"}:
        return TrialState.COMPLETE
    return TrialState.PRUNED if found <= {"completed", "pruned"} else TrialState.FAIL


def _local(time: pd.Timestamp) -> datetime:
    """Return a time as Optuna keeps it: without its zone, which is here."""
    return time.floor("us").to_pydatetime().astimezone().replace(tzinfo=None)


def _mean(rows: pd.DataFrame, column: str) -> float:
    return float(rows[column].astype(float).mean())
