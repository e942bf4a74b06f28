"""Intervals for the mean count of each group: a smoothed percentile bootstrap, stretched.

Each count drawn is moved at random by up to ½, as far as rounding to a whole number may have moved
it. For few trials a plain bootstrap is too narrow: its variance divides by n where n − 1 is due,
and its tails are normal where Student's are due (Hesterberg 2015, "What Teachers Should Know About
the Bootstrap"). So its quantiles are stretched away from the mean by √(n/(n−1)) · t/z.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

__all__ = ["mean_intervals"]

Array = NDArray[Any]

BLOCK: Final = 4_000_000  # bootstrap draws held at a time


def mean_intervals(
    counted: pd.DataFrame,
    freedom: "pd.Series[int]",
    confidence: float,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Bootstrap the mean count of each group.

    Args:
        counted: A row per trial, or per several that count as one: group, and active, the count.
        freedom: Degrees of freedom of each group's spread, for Student's t.
        confidence: Of the intervals, such as 0.95.
        resamples: How often the trials are drawn.
        seed: Of the draws: the same trials always give the same interval.

    Returns:
        lower (no less than 0) and upper, by group.
    """
    counted = counted.sort_values(["group", "active"])  # so that the rows' order does not matter
    sizes = counted.groupby("group").size()
    tail = (1 - confidence) / 2
    parts = [pd.DataFrame(columns=["lower", "upper"], dtype=float)]
    for n, members in sizes.groupby(sizes):
        active: Array = counted["active"].to_numpy()[counted["group"].isin(members.index)]
        active = active.reshape(-1, n)  # (groups, trials)
        mean = active.mean(axis=1)
        quantiles = _quantiles_of_means(active, (tail, 1 - tail), resamples, seed)  # (2, groups)
        student = stdtrit(freedom[members.index].to_numpy(float), tail) / ndtri(tail)
        lower, upper = mean + np.sqrt(n / (n - 1)) * student * (quantiles - mean)
        part = {"lower": np.maximum(lower, 0), "upper": upper}
        parts.append(pd.DataFrame(part, index=members.index))
    return pd.concat(parts)


def _quantiles_of_means(
    active: Array, tails: tuple[float, float], resamples: int, seed: int
) -> Array:
    """Return quantiles (tails, groups) of the means of resampled counts (groups, trials).

    All groups share the resamples, as weights: a matrix product then gives all their means.
    """
    groups, n = active.shape
    at_a_time = max(1, min(resamples, BLOCK // n))
    seeds = [(seed, block) for block in range(0, resamples, at_a_time)]
    quantiles = np.empty((len(tails), groups))
    step = max(1, BLOCK // resamples)
    for start in range(0, groups, step):
        some = active[start : start + step]
        draws = (_resamples(n, at_a_time, of_block) for of_block in seeds)
        means = [(some @ times_drawn + moved) / n for times_drawn, moved in draws]
        quantiles[:, start : start + step] = np.quantile(np.hstack(means), tails, axis=1)
    return quantiles


@lru_cache(maxsize=4)
def _resamples(n: int, resamples: int, seed: tuple[int, int]) -> tuple[Array, Array]:
    """Return how often each trial is drawn, (trials, resamples), and the sum of what is added."""
    random = np.random.default_rng([*seed, n])
    drawn = random.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    times_drawn = np.bincount(drawn.ravel(), minlength=n * resamples).reshape(resamples, n)
    return times_drawn.T.astype(float), random.uniform(-0.5, 0.5, (resamples, n)).sum(axis=1)
