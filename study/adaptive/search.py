"""The conversation with Optuna: it proposes configurations, and hears what became of them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
import pandas as pd
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Trial
from search_spaces.optuna_strategy import OptunaStrategy
from study.adaptive.outcome import MEASURED_STATES, TRIAL_IDS, Outcomes, state_of
from study.adaptive.pruning import VIOLATIONS, should_prune
from study.adaptive.space import SearchSpace
from study.adaptive.tools import build_sampler
from study.planned_trial import PlannedTrial
from study.storage import StorageError

__all__ = ["AdaptiveSearch", "Configuration"]

UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


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


@contextmanager
def _reaching_storage() -> Iterator[None]:
    """Let a full disk or a lost database under Optuna end a run as any storage that fails."""
    try:
        yield
    except Exception as error:
        of_database = type(error).__module__.startswith("sqlalchemy.")
        if not (of_database or isinstance(error, OSError | StorageInternalError)):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StorageError(f"Optuna's storage failed ({reason})") from error


class AdaptiveSearch:
    """Asks Optuna for configurations and tells it what came of them.

    A configuration's values are means over its seeds; `state_of` says when it counts as complete.
    All that talks to Optuna raises StorageError where Optuna's storage fails.
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
        self._outcomes = Outcomes.of(strategy)
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
        return self._outcomes.followed

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

    @_reaching_storage()
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

    @_reaching_storage()
    def report(
        self, number: int, epoch: int, values: Sequence[float], violation: float | None = None
    ) -> bool:
        """Report what the trials of a configuration measured after an epoch.

        Args:
            number: Of the configuration.
            epoch: From 1.
            values: The objective's column, of each of its trials.
            violation: What `violation` returns, for the pruner to regard.

        Returns:
            Whether the pruner gives it up.
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
        return should_prune(self._study, number, self._strategy.prune_on)

    def violation(self, rows: pd.DataFrame) -> float | None:
        """Return by how much a configuration violates the constraints, their sum, along the way.

        Args:
            rows: Of `epochs`, of each of its trials.

        Returns:
            None where no pruner is to know.
        """
        return self._outcomes.violation(rows)

    @_reaching_storage()
    def tell(self, number: int, rows: pd.DataFrame) -> FrozenTrial:
        """Tell what became of a configuration.

        Args:
            number: Of the configuration.
            rows: The rows of all its trials in `trials`.

        Returns:
            Optuna's trial as it is now.
        """
        known = self._study.get_trials(deepcopy=False)[number]
        if known.state.is_finished():  # and was trained again, since its rows were lost
            return known
        state = state_of(rows["status"])
        values = self._outcomes.values(rows) if state == TrialState.COMPLETE else None
        if state in MEASURED_STATES:
            proposal = self._proposal(number)
            for constraint, violation in self._outcomes.known_violations(rows).items():
                proposal.set_constraint(constraint, violation)
            for column, mean in self._outcomes.constrained(rows).items():
                proposal.set_user_attr(column, mean)
        self._asked.pop(number, None)
        return self._study.tell(number, values, state)

    @_reaching_storage()
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
            be trained on; also where Optuna was told of them and their rows were lost since, but
            in a database, which may hold points of others.
        """
        committed = set(trials["trial_id"])
        known = set(points) & committed
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
            elif self._strategy.storage is None and not committed.issuperset(ids):
                waiting.append(self._configuration(frozen.number, frozen.params))
        new = [points[trial_id] for trial_id in trials["trial_id"] if trial_id in known - told]
        self._add(new, trials, epochs)
        self._draw_anew()
        return waiting

    @_reaching_storage()
    def adopt(self, trial: Trial) -> Configuration | None:
        """Let Optuna propose the configuration of a trial that is in training already.

        Returns:
            The configuration; None if Optuna knows of it.
        """
        name = self._plan(trial).trial_id
        if any(name in ids for ids in self._known):
            return None
        adopted = self.ask(self._space.parameters_of(trial))
        self._draw_anew()
        return adopted

    @_reaching_storage()
    def add(self, points: Sequence[FrozenTrial]) -> None:
        """Let Optuna know of points that others have tried; they are none of those to propose."""
        self._study.add_trials(points)

    def attributes(self, name: str) -> set[str]:
        """Return the values that a user attribute has in Optuna's trials."""
        trials = self._study.get_trials(deepcopy=False)
        return {str(t.user_attrs[name]) for t in trials if name in t.user_attrs}

    def _draw_anew(self) -> None:
        """Let the sampler draw from here on: it would else draw what an earlier process drew."""
        self._study.sampler = build_sampler(self._strategy, len(self._known))

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
            own = epochs[epochs["trial_id"].isin(ids)]
            ranges = self._space.distributions(parameters)
            self.add([self._outcomes.frozen(rows, own, parameters, ranges, {TRIAL_IDS: ids})])

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
