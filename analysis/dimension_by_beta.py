"""How the intrinsic dimension moves with β, and the β at which it drops by one.

A larger β makes every unit's KL dearer, so units stop paying for themselves one after another:
on a linear VAE unit i is active if and only if its eigenvalue is above β·s (Lucas et al. 2019,
"Don't Blame the ELBO!"). The dimension is a falling step function of β.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from analysis.group_words import naturally
from analysis.groups import ALWAYS, WHERE_VARIED, range_ends

__all__ = ["beta_of_drops", "dimension_by_beta"]

Array = NDArray[Any]

CURVES = ("dimension", "lower", "upper")
NUMBERS = {"from_dimension": int, "to_dimension": int} | dict.fromkeys(
    ("beta", "lower", "upper"), float
)


def dimension_by_beta(estimates: pd.DataFrame) -> pd.DataFrame:
    """Return the curve of dimension against β for each setting, all else equal.

    Args:
        estimates: What `estimate_intrinsic_dimension` returns, or `estimate_by_rule`.

    Returns:
        Sorted by setting and β: the setting's columns (the group's without beta; rule, if there),
        beta (the middle of a range, whose ends beta_from and beta_to then follow), dimension,
        lower, upper (null unless saturated), at_least (null unless not saturated: a bound),
        verdict, plateau_trials. Unstable groups and those with too few trials say nothing and have
        no row.
    """
    setting = _setting_columns(estimates)
    kept = estimates[estimates["verdict"].isin(["saturated", "not saturated"])]
    kept = kept.rename(columns={"estimate": "dimension"})
    kept = kept.sort_values([*setting, "beta"], key=naturally, ignore_index=True)
    beta = [name for name in ("beta", *range_ends("beta")) if name in kept]
    return kept[[*setting, *beta, *CURVES, "at_least", "verdict", "plateau_trials"]]


def beta_of_drops(estimates: pd.DataFrame) -> pd.DataFrame:
    """Find the β at which each setting's dimension drops from n to n − 1.

    The dimension drops to n − 1 where the curve through the estimates falls to n − ½. The curve is
    the falling function nearest to the estimates in least squares (isotonic regression, weighted
    by the plateau's trials), linear in log β between the values of β that were tried.

    How the dimension falls between two of those is not known, only that it falls. So the interval
    runs from the last β tried at which the estimate's 95% interval lies above n − ½ to the first
    at which it lies below (the ends of the intervals are made to fall in the same way): it is at
    least as wide as the sweep's step. Where groups are ranges of β, an estimate is a mean over its
    range; the interval then begins at the lower end of the one and stops at the upper end of the
    other.

    Args:
        estimates: What `estimate_intrinsic_dimension` returns, or `estimate_by_rule`.

    Returns:
        For each setting with an estimate at β > 0, a row per drop: the setting's columns,
        from_dimension, to_dimension, beta, lower, upper. First come the drops that a bound at a
        smaller β shows to have happened before the first estimate (beta null); then those between
        the first and the last estimate; then the next one, which lies beyond the sweep (beta
        null). lower and upper are null where the sweep does not tell.
    """
    curves = dimension_by_beta(estimates)
    curves = curves[curves["beta"] > 0]  # β = 0 has no place on a logarithmic scale
    setting = _setting_columns(curves)
    columns = [*setting, "from_dimension", "to_dimension", "beta", "lower", "upper"]
    parts = [pd.DataFrame(columns=columns).astype(NUMBERS)]
    for _, curve in curves.groupby(setting, dropna=False, sort=False):
        saturated = curve[curve["verdict"] == "saturated"]
        if not saturated.empty:
            drops = _drops(saturated, curve[curve["verdict"] == "not saturated"])
            parts.append(drops.assign(**curve.iloc[0][setting])[columns])
    return pd.concat(parts, ignore_index=True)


def _setting_columns(estimates: pd.DataFrame) -> list[str]:
    names = [*ALWAYS, *WHERE_VARIED, *range_ends("decoder_variance"), "rule"]
    return [name for name in names if name in estimates.columns and name != "beta"]


def _drops(saturated: pd.DataFrame, bounds: pd.DataFrame) -> pd.DataFrame:
    """Find the drops of one setting: of rows with an estimate, and of rows with a bound."""
    beta = saturated["beta"].to_numpy(float)
    low, high = range_ends("beta") if "beta_from" in saturated else ("beta", "beta")
    beta_from, beta_to = (saturated[end].to_numpy(float) for end in (low, high))
    weights = saturated["plateau_trials"].to_numpy(float)
    fitted = {
        name: isotonic_regression(
            saturated[name].to_numpy(float), weights=weights, increasing=False
        ).x
        for name in CURVES
    }
    before = bounds[bounds["beta"] < beta[0]]
    highest = before["at_least"].max() if len(before) else 0
    first = max(_last_above(fitted["dimension"][0]), int(highest))
    last = max(_last_above(fitted["dimension"][-1]), 1)
    rows = []
    for n in range(first, last - 1, -1):
        level = n - 0.5
        above = [*before.loc[before["at_least"] > level, low], *beta_from[fitted["lower"] > level]]
        below = beta_to[fitted["upper"] < level]
        rows.append(
            {
                "from_dimension": n,
                "to_dimension": n - 1,
                "beta": _falls_to(level, beta, fitted["dimension"]),
                "lower": max(above, default=np.nan),
                "upper": min(below, default=np.nan),
            }
        )
    return pd.DataFrame(rows, columns=list(NUMBERS)).astype(NUMBERS)


def _last_above(dimension: float) -> int:
    """Return the largest n for which the dimension is above n − ½: it can drop to n − 1."""
    return int(np.ceil(dimension + 0.5)) - 1


def _falls_to(level: float, beta: Array, curve: Array) -> float:
    """Return the first β at which a falling curve is at a level, NaN if that is not within it."""
    below = np.flatnonzero(curve <= level)
    if len(below) == 0 or below[0] == 0:
        return np.nan
    step = slice(below[0] - 1, below[0] + 1)
    # np.interp wants rising values: minus the curve, which falls within this step.
    return float(np.exp(np.interp(-level, -curve[step], np.log(beta[step]))))
