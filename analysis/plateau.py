"""What is measured of each group's counts: the knee, the plateau above it, its spread and trend.

With more latent variables than the data need, an ideal VAE of intrinsic dimension D shows
min(latent_dim, D) active units: all of them up to a knee at D, and D on the plateau above it.
"""

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

__all__ = ["measure_plateaus"]

Array = NDArray[Any]

MANY_LATENT_DIMS: Final = 8
"""From more latent_dims on, most of them tried once, a group counts as drawn at random."""


def measure_plateaus(counted: pd.DataFrame, margin: float, significance: float) -> pd.DataFrame:
    """Measure every group.

    Args:
        counted: A row per trial, or per several that count as one: group, latent_dim, active (the
            count, or their mean), trials (how many).
        margin: The plateau is the latent_dims more than this above the knee, if they are two.
        significance: Level of the one-sided test of the plateau's trend.

    Returns:
        By group: has_plateau; mean count over the trials, and mean_of_rows, over the rows;
        plateau_from, plateau_trials; repeated, the latent_dims at which rows repeat each other,
        seed_sd, the rows' pooled standard deviation there, and its degrees of freedom (on the
        plateau, or, where there is none, at the two largest latent_dims); latent_dims and trials,
        how many;
        largest_latent_dim, with last_mean and last_n, mean and number of the rows there; rise of
        the fitted line along the plateau, and whether it is real.

        Where a group was tried at many latent_dims and at most of them once, as in a random
        search, the spread is taken among rows whose latent_dim is of the same power of two.
    """
    active = counted["active"]
    counted = counted.assign(square=active**2, of_trials=active * counted["trials"])
    cells = counted.groupby(["group", "latent_dim"], as_index=False).agg(
        n=("active", "size"),
        total=("active", "sum"),
        squares=("square", "sum"),
        trials=("trials", "sum"),
        total_of_trials=("of_trials", "sum"),
    )
    group = cells["group"]
    knees = group.map(_knees(cells))
    alike = _alike(cells)
    above = cells["latent_dim"] > knees + margin
    plateau_dims = above.groupby(group).sum()
    has_plateau = group.map(plateau_dims) >= 2
    is_top = above.where(has_plateau, alike.groupby(group).rank("dense", ascending=False) <= 2)
    top, whole = cells[is_top], cells.groupby("group")
    by_group = top.groupby("group")
    last = cells.drop_duplicates("group", keep="last").set_index("group")
    found = pd.DataFrame(
        {
            "has_plateau": plateau_dims >= 2,
            "mean": by_group["total_of_trials"].sum() / by_group["trials"].sum(),
            "mean_of_rows": by_group["total"].sum() / by_group["n"].sum(),
            "plateau_from": by_group["latent_dim"].min(),
            "plateau_trials": by_group["trials"].sum().where(plateau_dims >= 2),
            "latent_dims": whole.size(),
            "trials": whole["trials"].sum(),
            "largest_latent_dim": last["latent_dim"],
            "last_mean": last["total"] / last["n"],
            "last_n": last["n"],
        }
    )
    found = found.join(_spreads(top, alike[is_top], knees[is_top]))
    return found.join(_trends(top, significance).where(found["has_plateau"]))


def _knees(cells: pd.DataFrame) -> "pd.Series[float]":
    """Fit min(latent_dim, D) to each group's counts by least squares and return D.

    Between two neighbouring latent_dims the sum of squares is a parabola in D. Row by row: the
    best D from the row's latent_dim down to the one before; then the best row of the group.
    """
    group, dim = cells["group"], cells["latent_dim"]
    on_diagonal = cells["squares"] - 2 * dim * cells["total"] + cells["n"] * dim**2
    cost_below = on_diagonal.groupby(group).cumsum() - on_diagonal
    n, total, squares = (
        cells[::-1].groupby("group")[name].cumsum()[::-1] for name in ("n", "total", "squares")
    )
    before = dim.groupby(group).shift(fill_value=0)
    knee = (total / n).clip(before, dim)
    cost = cost_below + squares - 2 * knee * total + n * knee**2
    return knee[cost.groupby(group).idxmin()].set_axis(group.unique())


def _alike(cells: pd.DataFrame) -> "pd.Series[float]":
    """The latent_dims whose trials repeat each other: equal ones, or of one power of two."""
    by_group = cells.groupby("group")["n"]
    drawn = (by_group.transform("size") > MANY_LATENT_DIMS) & (by_group.transform("mean") < 2)
    power = 2 ** np.floor(np.log2(cells["latent_dim"]))
    return cells["latent_dim"].where(~drawn, power)


def _spreads(
    top: pd.DataFrame, alike: "pd.Series[float]", knees: "pd.Series[float]"
) -> pd.DataFrame:
    """Pool the spread of the counts around min(latent_dim, knee) among trials that are alike."""
    # A whole number, so that equal counts still have a spread of exactly 0.
    expected = np.minimum(top["latent_dim"], knees.round())
    cells = pd.DataFrame(
        {
            "group": top["group"],
            "alike": alike,
            "n": top["n"],
            "latent_dims": 1,
            "total": top["total"] - top["n"] * expected,
            "squares": top["squares"] - 2 * expected * top["total"] + top["n"] * expected**2,
        }
    )
    cells = cells.groupby(["group", "alike"], as_index=False).sum()
    cells["repeated"] = cells["latent_dims"].where(cells["n"] >= 2, 0)
    cells["within"] = cells["squares"] - cells["total"] ** 2 / cells["n"]
    by_group = cells.groupby("group")
    freedom = by_group["n"].sum() - by_group["n"].size()
    variance = by_group["within"].sum().clip(lower=0) / freedom.where(freedom > 0)
    repeated = by_group["repeated"].sum()
    return pd.DataFrame({"repeated": repeated, "freedom": freedom, "seed_sd": np.sqrt(variance)})


def _trends(top: pd.DataFrame, significance: float) -> pd.DataFrame:
    """Fit counts against log latent_dim by least squares: the rise, and whether it is real."""
    x, n = np.log(top["latent_dim"]), top["n"]
    sums = pd.DataFrame(
        {"n": n, "x": n * x, "xx": n * x**2, "xy": x * top["total"]}
        | {"y": top["total"], "yy": top["squares"]}
    )
    sums = sums.groupby(top["group"]).sum()
    xx = sums["xx"] - sums["x"] ** 2 / sums["n"]
    xy = sums["xy"] - sums["x"] * sums["y"] / sums["n"]
    yy = sums["yy"] - sums["y"] ** 2 / sums["n"]
    slope = xy / xx.where(xx > 0)
    freedom = (sums["n"] - 2).where(sums["n"] > 2)
    error = np.sqrt((yy - slope * xy).clip(lower=0) / freedom / xx)
    limit = stdtrit(freedom, 1 - significance) * error
    length = x.groupby(top["group"]).max() - x.groupby(top["group"]).min()
    return pd.DataFrame({"rise": slope * length, "real": slope.abs() > limit})
