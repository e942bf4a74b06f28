"""What the tables say of a configuration, in Optuna's words: its state, values and history."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.optuna_strategy import Comparison, Goal, OptunaStrategy
from study.adaptive.pruning import VIOLATIONS
from study.tables import EPOCHS

__all__ = ["MEASURED_STATES", "TRIAL_IDS", "Outcomes", "state_of"]

TRIAL_IDS = "trial_ids"
"""The user attribute of Optuna's trials that names the trials of ours."""


MEASURED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials whose constraints are known, if only as they were when one was pruned: samplers
would else take it for better than one that was trained to its end and violates them less."""


class Outcomes:
    """Reads what was sought off the tables: means over the seeds of a configuration.

    Attributes:
        objectives: What is sought.
        followed: The column of `epochs` that is reported along the way, if the objective is there.
    """

    def __init__(
        self, objectives: Sequence[Goal], constraints: Sequence[str], along: bool = False
    ) -> None:
        """Look for objectives, subject to constraints such as `active_units <= 8`.

        Args:
            objectives: What is sought.
            constraints: Comparisons that good points fulfil.
            along: Whether a pruner is to regard the constraints.
        """
        self._along = along and bool(constraints)
        self.objectives = tuple(objectives)
        self._constraints = {text: Comparison.parse(text) for text in constraints}
        column = self.objectives[0].column
        alone = len(self.objectives) == 1  # Optuna follows one objective only
        self.followed = column if alone and column in EPOCHS.names else None

    @classmethod
    def of(cls, strategy: OptunaStrategy) -> "Outcomes":
        """Look for what a strategy seeks."""
        along = strategy.pruner is not None and strategy.prune_on != "objective"
        return cls(strategy.objectives, strategy.constraints, along)

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

    def known_violations(self, rows: pd.DataFrame) -> dict[str, float]:
        """Return those violations that are known: packs that Tune stopped have no statistics."""
        return {text: v for text, v in self.violations(rows).items() if not math.isnan(v)}

    def constrained(self, rows: pd.DataFrame) -> dict[str, float]:
        """Return the constrained columns, for people who look at Optuna's study."""
        columns = [constraint.column for constraint in self._constraints.values()]
        means = {column: _mean(rows, column) for column in columns}
        return {column: mean for column, mean in means.items() if not math.isnan(mean)}

    def violation(self, rows: pd.DataFrame) -> float | None:
        """Return by how much a configuration violates all constraints together, along the way.

        Args:
            rows: Of `epochs`, of each of its trials.

        Returns:
            None where no pruner is to know; NaN where it is not known.
        """
        if not self._along:
            return None
        missed = self.violations(rows).values()
        return sum(part for part in missed if not part <= 0)  # a NaN makes it one

    def intermediate(
        self, epochs: pd.DataFrame, seeds: int
    ) -> tuple[dict[int, float], dict[str, float]]:
        """Return the objective, and the violation, by epoch, as far as all of so many seeds went.

        Args:
            epochs: Rows of `epochs` of a configuration's trials.
            seeds: How many trials it has.
        """
        if self.followed is None:
            return {}, {}
        known = epochs[(epochs["epoch"] > 0) & epochs[self.followed].notna()]
        by_epoch = {int(rows["epoch"].iloc[0]): rows for _, rows in known.groupby("epoch")}
        whole = {epoch: rows for epoch, rows in by_epoch.items() if len(rows) == seeds}
        goal = self.objectives[0]
        values = {e: goal.value(_mean(rows, self.followed)) for e, rows in whole.items()}
        violations = {str(e): self.violation(rows) for e, rows in whole.items()}
        return values, {e: v for e, v in violations.items() if v is not None}

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
        intermediate, violations = self.intermediate(epochs, len(rows))
        own: dict[str, Any] = {VIOLATIONS: violations} if violations else {}
        if state in MEASURED_STATES:
            own |= self.constrained(rows)
        values = self.values(rows) if complete else None
        if state == TrialState.PRUNED and intermediate:
            values = [intermediate[max(intermediate)]]  # as Optuna has it of its own
        trial = create_trial(
            state=state,
            values=values,
            params=dict(parameters),
            distributions=dict(distributions),
            user_attrs={**attributes, **own},
            intermediate_values=intermediate,
            constraints=self.known_violations(rows) if state in MEASURED_STATES else None,
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
