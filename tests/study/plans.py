"""Planned trials without data, for the tests of what is made of a plan."""

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces import load_spec, plan_parts
from study.packing import TrialCost
from study.planning import PlannedTrial

AXES: dict[str, Any] = {
    "architecture": {"family": "dense", "widths": [[16], [32, 8]]},
    "latent_dim": [2, 3],
    "seed": [0, 1, 2],
}


def planned_trials(axes: Mapping[str, Any] = AXES, **spec: Any) -> list[PlannedTrial]:
    """The trials of a study, with ids that are easy to read: t000, t001, …"""
    content = {"study": "test", "dataset": "tiles", "axes": dict(axes)} | spec
    study = load_spec(content)
    trials = [
        (trial, study.all_parts[part].record, part)
        for part, listed in plan_parts(study).items()
        for trial in listed
    ]
    return [
        PlannedTrial(trial, f"t{number:03}", "f" * 16, record, part)
        for number, (trial, record, part) in enumerate(trials)
    ]


def costs_of(planned: Sequence[PlannedTrial], memory: int = 1) -> dict[str, TrialCost]:
    """A cost per trial: work in proportion to its latent dimension and its first layer."""
    return {
        p.trial_id: TrialCost(p.trial.latent_dim * sum(p.trial.architecture.widths, 1), memory)
        for p in planned
    }
