"""Trials with units around the variance law, for its tests."""

from typing import Any

import numpy as np
import pandas as pd

from study.tables import TRIALS, UNITS
from tests.analysis.tables import trials_of, units_of

Frames = tuple[pd.DataFrame, pd.DataFrame]
EMPTY = TRIALS.empty_table().to_pandas(), UNITS.empty_table().to_pandas()


def unit(trial_id: str, number: int, values: tuple[float, float, float], **more: Any) -> Any:
    posterior_variance, mean_variance, mean = values
    return {
        "trial_id": trial_id,
        "unit": number,
        "mean": mean,
        "posterior_variance": posterior_variance,
        "mean_variance": mean_variance,
        "second_moment": mean_variance + mean**2,
        "active": mean_variance > 0.01,
    } | more


def tables(of_trials: list[Any], rows: list[dict[str, Any]] | None = None) -> Frames:
    """A trial per list of statistics, a unit per statistic; `rows` are the trials' own columns."""
    rows = rows or [{} for _ in of_trials]
    trials = trials_of(
        [row | {"latent_dim": len(units)} for row, units in zip(rows, of_trials, strict=True)]
    )
    units = [
        unit(trial_id, number, values)
        for trial_id, values_of_trial in zip(trials["trial_id"], of_trials, strict=True)
        for number, values in enumerate(values_of_trial)
    ]
    return trials, units_of(units) if units else EMPTY[1]


def at_law(*residuals: float, posterior_variance: float = 0.25) -> list[Any]:
    """Units whose sums are 1 plus the residuals, with a mean of 0."""
    return [(posterior_variance, 1 - posterior_variance + residual, 0.0) for residual in residuals]


def random_study(trials: int = 12) -> Frames:
    generator = np.random.default_rng(3)
    rows = [
        {"beta": [0.5, 1.0, 4.0][place % 3], "epochs_trained": [10, 40][place % 2]}
        for place in range(trials)
    ]
    of_trials = [
        [tuple(values) for values in generator.random((2 + place % 4, 3))]
        for place in range(trials)
    ]
    frames = tables(of_trials, rows)
    return frames[0], frames[1].assign(kl=generator.random(len(frames[1])) ** 3)
