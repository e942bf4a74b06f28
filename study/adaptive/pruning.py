"""What a pruner is shown where there are constraints.

Optuna's pruners compare objectives and know of no constraint. Often the objective is best where a
constraint is violated: many active units bring a high ELBO, and `active_units <= 8` is sought. Such
a pruner keeps what breaks the constraint and gives up what fulfils it. So it can be shown values in
the order that Optuna's samplers have for whole trials (Deb 2000, "An efficient constraint handling
method for genetic algorithms"): what violates less is better, and of two that violate as much, the
better objective. But constraints are not yet fulfilled early on, by good points least of all: units
fall asleep one by one, and who has few after three epochs is dead. By default a point is given up
only where it looks hopeless in both ways. What Optuna's storage and dashboard show stays as it was
measured.
"""

import copy
from typing import Any, cast

import optuna
from optuna.pruners import HyperbandPruner, PercentilePruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from search_spaces.optuna_strategy import PruneOn

__all__ = ["VIOLATIONS", "should_prune"]

VIOLATIONS = "violations"
"""The user attribute of Optuna's trials that holds by how much constraints are violated after each
epoch: {"1": 3.0}, their sum."""

FAR = 1e9
"""What a violation of 1 weighs: more than objectives differ, and few enough digits that of equal
violations the objective still decides."""

COMPARE = (PercentilePruner, SuccessiveHalvingPruner, HyperbandPruner)
"""Pruners that only ask which of two values is better; MedianPruner is a PercentilePruner. Others
(a threshold, a test of differences) take values for what they are."""


MARKS = "constraints_first:"
"""Stands before the names of what a pruner notes in trials while it is shown constraints first."""


def should_prune(study: optuna.Study, number: int, prune_on: PruneOn = "both") -> bool:
    """Ask the pruner of a study about a trial.

    Args:
        study: Its trials have `VIOLATIONS` where there are constraints to be regarded.
        number: Of the trial.
        prune_on: What it is shown; see `OptunaStrategy`.
    """
    trial = study.get_trials(deepcopy=False)[number]
    constrained = VIOLATIONS in trial.user_attrs and isinstance(study.pruner, COMPARE)
    hopeless = True
    if not constrained or prune_on != "constraints_first":
        hopeless = study.pruner.prune(study, trial)
    if constrained and prune_on != "objective":
        # Asked whatever it said before, since it notes who has come how far.
        seen = _constraints_first(trial, study.direction)
        hopeless = study.pruner.prune(_seen(study), seen) and hopeless
    return hopeless


def _constraints_first(trial: FrozenTrial, direction: StudyDirection) -> FrozenTrial:
    """Return a trial whose values along the way are in the order of constraints first."""
    violations: dict[str, float] = trial.user_attrs.get(VIOLATIONS, {})
    worse = FAR if direction == StudyDirection.MINIMIZE else -FAR
    seen = copy.copy(trial)  # what the storage has is shared
    seen.intermediate_values = {
        epoch: value + (worse * (1 + violation) if violation > 0 else 0)
        for epoch, value in trial.intermediate_values.items()
        for violation in [violations.get(str(epoch), 0.0)]
    }
    seen.system_attrs = {
        name.removeprefix(MARKS): mark
        for name, mark in trial.system_attrs.items()
        if name.startswith(MARKS)
    }
    return seen


def _seen(study: optuna.Study) -> optuna.Study:
    """Return a study as a pruner is to see it."""
    seen = optuna.Study(study.study_name, study._storage, study.sampler, study.pruner)
    # Some pruners make studies of their own of it, and its storage is what these have in common.
    seen._storage = cast(BaseStorage, _ConstraintsFirst(study._storage, study.direction))
    return seen


class _ConstraintsFirst:
    """A storage that shows trials with constraints first, and keeps what a pruner notes apart."""

    def __init__(self, storage: BaseStorage, direction: StudyDirection) -> None:
        self._storage = storage
        self._direction = direction

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_trials(self, *arguments: Any, **options: Any) -> list[FrozenTrial]:
        """Return trials, their values along the way in the order of constraints first."""
        trials = self._storage.get_all_trials(*arguments, **options)
        return [_constraints_first(trial, self._direction) for trial in trials]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Note something of a trial."""
        self._storage.set_trial_system_attr(trial_id, MARKS + key, value)
