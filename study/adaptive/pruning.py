"""What a pruner is shown where there are constraints.

Optuna's pruners compare objectives and know of no constraint. Often the objective is best where a
constraint is violated: many active units bring a high ELBO, and `active_units <= 8` is sought. Such
a pruner keeps what breaks the constraint and gives up what fulfils it. So values are compared in
the order that Optuna's samplers have for whole trials (Deb 2000, "An efficient constraint handling
method for genetic algorithms"): what violates less is better, and of two that violate as much, the
better objective. What Optuna's storage and dashboard show stays as it was measured.
"""

import copy
from collections.abc import Container
from typing import Any

import optuna
from optuna.pruners import HyperbandPruner, PercentilePruner, SuccessiveHalvingPruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

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


def should_prune(study: optuna.Study, number: int) -> bool:
    """Ask the pruner of a study about a trial, constraints first.

    Args:
        study: Its trials have `VIOLATIONS` where there are constraints to be regarded.
        number: Of the trial.
    """
    trial = study.get_trials(deepcopy=False)[number]
    if not isinstance(study.pruner, COMPARE):
        return study.pruner.prune(study, trial)
    return study.pruner.prune(_ConstraintsFirst(study), _constraints_first(trial, study.direction))


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
    return seen


class _ConstraintsFirst(optuna.Study):
    """A study as a pruner is to see it."""

    def __init__(self, study: optuna.Study) -> None:
        super().__init__(study.study_name, study._storage, study.sampler, study.pruner)

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials: list[Any] = super().get_trials(deepcopy=deepcopy, states=states)
        return [_constraints_first(trial, self.direction) for trial in trials]
