"""The conversation with Optuna: it proposes configurations, and hears what became of them."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces import Trial
from search_spaces.optuna_strategy import Comparison, OptunaStrategy
from study.adaptive.pruning import VIOLATIONS, should_prune
from study.adaptive.space import SearchSpace
from study.adaptive.tools import build_sampler
from study.planned_trial import PlannedTrial
from study.tables import EPOCHS

__all__ = ["AdaptiveSearch", "Configuration"]

TRIAL_IDS = "trial_ids"
"""The user attribute of Optuna's trials that names the trials of ours."""

UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)

MEASURED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials that Optuna is told the constraints of. A pruned one without them would pass for
feasible, and for better than one that was trained to its end and violates them less."""


@dataclass(frozen=True)
class Configuration:
    """A point that Optuna proposed: one trial of Optuna's, and one of ours for each of its seeds.

    Attributes:
        number: Of Optuna's trial.
        parameters: Values by name.
        members: Our trials.
    """

    number: int
    parameters: Mapping[str, Any]
    members: tuple[PlannedTrial, ...]


class AdaptiveSearch:
    """Asks Optuna for configurations and tells it what came of them.

    A configuration's values are means over its seeds. It is complete when all its trials are; it
    counts as pruned when one of them was, and as failed when one of them diverged or failed, since
    a mean over what is left would be another quantity.
    """

    def __init__(
        self,
        strategy: OptunaStrategy,
        space: SearchSpace,
        study: optuna.Study,
        plan: Callable[[Trial], PlannedTrial],
    ) -> None:
        """Continue a study of Optuna's.

        Args:
            strategy: What is sought, and how.
            space: The points.
            study: Optuna's study; one that holds trials already goes on from them.
            plan: Makes a planned trial of a point and seed.
        """
        self._strategy = strategy
        self._space = space
        self._study = study
        self._plan = plan
        self._asked: dict[int, optuna.Trial] = {}
        named = (trial.user_attrs.get(TRIAL_IDS) for trial in study.get_trials(deepcopy=False))
        self._known = {tuple(ids) for ids in named if ids}

    @property
    def seeds(self) -> int:
        """Trials of a configuration."""
        return self._space.seeds

    @property
    def prunes(self) -> bool:
        """Whether configurations may be given up before their last epoch."""
        return self._strategy.pruner is not None

    @property
    def followed(self) -> str | None:
        """The column of `epochs` that is reported along the way, if the objective is there."""
        column = self._strategy.objectives[0].column
        alone = len(self._strategy.objectives) == 1  # Optuna follows one objective only
        return column if alone and column in EPOCHS.names else None

    @property
    def points(self) -> int:
        """Configurations to propose, all in all."""
        return self._strategy.points

    @property
    def proposed(self) -> int:
        """Configurations proposed so far, whatever became of them; equal ones count once."""
        return len(self._known)

    @property
    def left(self) -> int:
        """Configurations that may still be proposed."""
        return max(0, self.points - self.proposed)

    def ask(self, shape: Mapping[str, Any] | None = None) -> Configuration:
        """Return the next configuration.

        Args:
            shape: Values that it shall have, of those parameters that say with which others it can
                be stacked; Optuna chooses all others.
        """
        if shape:
            self._study.enqueue_trial(dict(shape))
        proposal = self._study.ask()
        parameters = self._space.suggest(proposal)
        self._asked[proposal.number] = proposal
        configuration = self._configuration(proposal.number, parameters)
        ids = [member.trial_id for member in configuration.members]
        proposal.set_user_attr(TRIAL_IDS, ids)
        self._known.add(tuple(ids))
        return configuration

    def shape(self, configuration: Configuration) -> dict[str, Any]:
        """Return those of its parameters that trials of a pack have in common."""
        names = set(self._space.shape_names)
        return {name: v for name, v in configuration.parameters.items() if name in names}

    def report(
        self, number: int, epoch: int, values: Sequence[float], violation: float | None = None
    ) -> bool:
        """Report what the trials of a configuration measured; return whether to give it up.

        Args:
            number: Of the configuration.
            epoch: After which, from 1.
            values: The objective's column, of each of its trials.
            violation: What `violation` returns, for the pruner to regard.
        """
        (goal,) = self._strategy.objectives
        proposal = self._proposal(number)
        mean = goal.value(sum(values) / len(values))
        if math.isnan(mean) or (violation is not None and math.isnan(violation)):
            return False
        frozen = self._study.get_trials(deepcopy=False)[number]
        if epoch not in frozen.intermediate_values:  # else it goes on from a checkpoint
            if violation is not None:
                known = frozen.user_attrs.get(VIOLATIONS, {})
                proposal.set_user_attr(VIOLATIONS, known | {str(epoch): violation})
            proposal.report(mean, epoch)
        return should_prune(self._study, number)

    def violation(self, rows: pd.DataFrame) -> float | None:
        """Return by how much a configuration violates the constraints, their sum, along the way.

        Args:
            rows: Of `epochs`, of each of its trials.

        Returns:
            None where no pruner is to know.
        """
        strategy = self._strategy
        if not (self.prunes and strategy.constraints) or strategy.prune_on == "objective":
            return None
        missed = self._violations(rows).values()
        return sum(part for part in missed if not part <= 0)  # a NaN makes it one

    def tell(self, number: int, rows: pd.DataFrame) -> FrozenTrial:
        """Tell what became of a configuration.

        Args:
            number: Of the configuration.
            rows: The rows of all its trials in `trials`.

        Returns:
            Optuna's trial as it is now.
        """
        state = _state(rows["status"])
        values = self._values(rows) if state == TrialState.COMPLETE else None
        if state in MEASURED_STATES:
            proposal = self._proposal(number)
            for constraint, violation in self._violations(rows).items():
                proposal.set_constraint(constraint, violation)
        self._asked.pop(number, None)
        return self._study.tell(number, values, state, skip_if_finished=True)

    def restore(
        self, trials: pd.DataFrame, epochs: pd.DataFrame, points: Mapping[str, Trial]
    ) -> list[Configuration]:
        """Bring Optuna's study in line with the tables, which are the truth.

        What is committed is told to Optuna, whether it proposed it in this storage or another.

        Args:
            trials: Committed rows of `trials`.
            epochs: Their rows of `epochs`.
            points: Our trials by trial_id.

        Returns:
            Configurations that Optuna has proposed and of which not all trials are committed, to
            be trained on.
        """
        known = set(points) & set(trials["trial_id"])
        told: set[str] = set()
        waiting = []
        for frozen in self._study.get_trials(deepcopy=False):
            ids = frozen.user_attrs.get(TRIAL_IDS)
            if ids is None:
                if frozen.state == TrialState.RUNNING:  # the driver died while it was proposed
                    self._study.tell(frozen.number, state=TrialState.FAIL)
                continue
            told |= set(ids)
            if frozen.state in UNFINISHED:
                if known.issuperset(ids):
                    self.tell(frozen.number, trials[trials["trial_id"].isin(ids)])
                else:
                    waiting.append(self._configuration(frozen.number, frozen.params))
        new = [points[trial_id] for trial_id in trials["trial_id"] if trial_id in known - told]
        self._add(new, trials, epochs)
        # This process would else draw what the first one drew.
        self._study.sampler = build_sampler(self._strategy, len(self._known))
        return waiting

    def _add(self, ours: list[Trial], trials: pd.DataFrame, epochs: pd.DataFrame) -> None:
        """Add finished configurations that Optuna does not know."""
        added: set[str] = set()
        for trial in ours:
            parameters = self._space.parameters_of(trial)
            if parameters is None:
                continue
            ids = [self._plan(member).trial_id for member in self._space.trials(parameters)]
            rows = trials[trials["trial_id"].isin(ids)]
            if added.issuperset(ids) or len(rows) < len(ids):
                continue
            added |= set(ids)
            self._known.add(tuple(ids))
            state = _state(rows["status"])
            values, violations = self._intermediate(ids, epochs)
            attributes = {TRIAL_IDS: ids} | ({VIOLATIONS: violations} if violations else {})
            self._study.add_trial(
                create_trial(
                    state=state,
                    values=self._values(rows) if state == TrialState.COMPLETE else None,
                    params=parameters,
                    distributions=self._space.distributions(parameters),
                    user_attrs=attributes,
                    intermediate_values=values,
                    constraints=self._violations(rows) if state in MEASURED_STATES else None,
                )
            )

    def _intermediate(
        self, ids: Collection[str], epochs: pd.DataFrame
    ) -> tuple[dict[int, float], dict[str, float]]:
        """Return means of the objective, and violations, by epoch, as far as all seeds went."""
        goal, column = self._strategy.objectives[0], self.followed
        if column is None:
            return {}, {}
        own = epochs[epochs["trial_id"].isin(ids) & (epochs["epoch"] > 0)].dropna(subset=column)
        groups = {int(rows["epoch"].iloc[0]): rows for _, rows in own.groupby("epoch")}
        whole = {epoch: rows for epoch, rows in groups.items() if len(rows) == len(ids)}
        values = {epoch: goal.value(float(rows[column].mean())) for epoch, rows in whole.items()}
        violations = {str(epoch): self.violation(rows) for epoch, rows in whole.items()}
        return values, {epoch: v for epoch, v in violations.items() if v is not None}

    def _values(self, rows: pd.DataFrame) -> list[float]:
        return [
            goal.value(float(rows[goal.column].astype(float).mean()))
            for goal in self._strategy.objectives
        ]

    def _violations(self, rows: pd.DataFrame) -> dict[str, float]:
        compared = {text: Comparison.parse(text) for text in self._strategy.constraints}
        return {
            text: constraint.violation(float(rows[constraint.column].astype(float).mean()))
            for text, constraint in compared.items()
        }

    def _proposal(self, number: int) -> optuna.Trial:
        """Return Optuna's trial to talk to, also one of an earlier process."""
        if number not in self._asked:
            frozen = self._study.get_trials(deepcopy=False)[number]
            self._asked[number] = optuna.Trial(self._study, frozen._trial_id)
        return self._asked[number]

    def _configuration(self, number: int, parameters: Mapping[str, Any]) -> Configuration:
        readable = self._space.readable(parameters)
        members = tuple(self._plan(trial) for trial in self._space.trials(readable))
        return Configuration(number, readable, members)


def _state(statuses: "pd.Series[str]") -> TrialState:
    found = set(statuses)
    if found == {"completed"}:
        return TrialState.COMPLETE
    return TrialState.PRUNED if found <= {"completed", "pruned"} else TrialState.FAIL
