"""The intrinsic dimension of each group of trials, from active units against latent_dim.

With more latent variables than the data need, an ideal VAE of intrinsic dimension D shows
min(latent_dim, D) active units: all of them up to a knee at D, and D on the plateau above it.
The estimate is the mean count on the plateau, given only where there is a plateau.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from analysis.activity import RULES, active_counts
from analysis.groups import group_columns, has_variance_part, with_group_values

__all__ = [
    "CONFIDENCE",
    "VERDICTS",
    "Criteria",
    "describe_estimate",
    "estimate_by_rule",
    "estimate_intrinsic_dimension",
]

Array = NDArray[Any]

VERDICTS: Final = ("saturated", "not saturated", "unstable", "too few trials")
CONFIDENCE: Final = 0.95

ON_PRIOR_SCALE: Final = ("active_units", "active_units_kl", "active_variance", "active_kl")
"""Counts by a threshold on Var μ or KL, which mean nothing without the KL's variance part."""

BLOCK: Final = 4_000_000  # bootstrap draws held at a time


@dataclass(frozen=True)
class Criteria:
    """What a plateau has to be for its group to get a number.

    Attributes:
        margin: The plateau is the latent_dims more than this above the knee. Nearer to it the
            last units are not used in every trial, and latent_dim itself cuts counts off. Below
            2, so that latent_dims from D + 3 on belong to it although the fit may err upwards.
        largest_rise: Change of the active units from one end of the plateau to the other, by a
            straight line in log latent_dim, from which on it is no plateau...
        significance: ...if the slope also differs from 0 at this level (one-sided t-test).
        spread_units: The group is unstable if seeds differ by a standard deviation above this...
        spread_share: ...and above this share of the mean: 4 units are much at 8, little at 60.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap: the same trials always give the same interval.
    """

    margin: float = 1.5
    largest_rise: float = 1.0
    significance: float = 0.005
    spread_units: float = 3.0
    spread_share: float = 0.1
    resamples: int = 4_000
    seed: int = 0


STANDARD: Final = Criteria()


def estimate_intrinsic_dimension(
    trials: pd.DataFrame, counts: str = "active_units", criteria: Criteria = STANDARD
) -> pd.DataFrame:
    """Estimate the intrinsic dimension of every group of trials, with a verdict.

    The knee is the least-squares fit of min(latent_dim, D) to all counts of the group. The
    plateau is the latent_dims more than `margin` above it, at least two. On the plateau:

    - estimate: the mean count over its trials;
    - lower, upper: a 95% interval by the smoothed percentile bootstrap over its n trials: each
      count drawn is moved at random by up to ½, as far as rounding to a whole number may have
      moved it. For few trials a plain bootstrap is too narrow: its variance divides by n where
      n − 1 is due, and its tails are normal where Student's are due (Hesterberg 2015, "What
      Teachers Should Know About the Bootstrap"). So its quantiles are stretched away from the
      mean by √(n/(n−1)) · t/z, t with n − k degrees of freedom for k latent_dims: the spread of
      seeds is known from trials of equal latent_dim.

    Verdicts, the first that applies:

    - too few trials: there are not two latent_dims on the plateau with at least two trials each
      (where there is no plateau: one among the two largest), so the seeds' spread is not known;
    - unstable: that spread is too large, or the counts fall along the plateau;
    - not saturated: fewer than two latent_dims lie above the knee and its margin, or the counts
      still rise along them: the sweep is too short. `at_least` is then the one-sided 95% lower
      bound (Student's t) on the mean count at the largest latent_dim, rounded down;
    - saturated.

    Args:
        trials: The `trials` table of one study or several; completed trials count, each once.
        counts: Its column with the counts: active_units, active_units_kl, or one of
            `active_counts` joined to it. Nulls are left out, and so are counts by Var μ or KL
            where the objective lacks the KL's variance part: they mean nothing there.
        criteria: The numbers behind the verdicts.

    Returns:
        One row per group, even without a count: the group's columns, verdict, estimate, lower,
        upper and plateau_from, its smallest latent_dim (null unless saturated), at_least (null
        unless not saturated), largest_latent_dim, latent_dims (how many), trials (with a count),
        plateau_trials, trials_without_count (completed ones), seed_sd (standard deviation among
        trials of equal latent_dim, pooled over the plateau or, without one, over the two largest
        latent_dims), rise (of the fitted line from end to end of the plateau).
    """
    columns = group_columns(trials)
    valued = with_group_values(trials)
    group = valued.groupby(columns, dropna=False).ngroup().rename("group")
    groups = valued[columns].assign(group=group).drop_duplicates("group").set_index("group")
    completed = trials.assign(group=group)[trials["status"] == "completed"]
    completed = completed.drop_duplicates("trial_id")
    counted = _counted(completed, counts)

    found = _measure(counted, criteria).reindex(groups.index)
    found["verdict"] = _verdicts(found, criteria)
    saturated = found["verdict"] == "saturated"
    found["estimate"] = found["mean"].where(saturated)
    found["plateau_from"] = found["plateau_from"].where(saturated)
    found["at_least"] = _lower_bound(found).where(found["verdict"] == "not saturated")
    on_plateau = counted["latent_dim"] >= counted["group"].map(found["plateau_from"])
    found[["lower", "upper"]] = _intervals(counted[on_plateau], criteria).reindex(found.index)

    how_many = ["latent_dims", "trials", "plateau_trials"]
    found[how_many] = found[how_many].fillna(0)
    asked = completed["group"].value_counts().reindex(found.index, fill_value=0)
    found["trials_without_count"] = asked - found["trials"]
    whole = ["at_least", "plateau_from", "largest_latent_dim", *how_many, "trials_without_count"]
    found[whole] = found[whole].astype("Int64")
    measured = ["verdict", "estimate", "lower", "upper", *whole, "seed_sd", "rise"]
    return groups.join(found[measured]).sort_index().reset_index(drop=True)


def estimate_by_rule(
    trials: pd.DataFrame,
    units: pd.DataFrame,
    criteria: Criteria = STANDARD,
    **thresholds: float,
) -> pd.DataFrame:
    """Estimate the intrinsic dimension under the three activity rules.

    Args:
        trials: The `trials` table.
        units: The `units` table.
        criteria: The numbers behind the verdicts.
        **thresholds: Of `active_counts`: variance, kl, relative_gain.

    Returns:
        The rows of `estimate_intrinsic_dimension` under each rule, and the rule in a column
        `rule`. The variance and KL rules have no row for a group in which they mean nothing.
    """
    counted = trials.merge(active_counts(trials, units, **thresholds), on="trial_id")
    parts = []
    for rule in RULES:
        estimates = estimate_intrinsic_dimension(counted, f"active_{rule}", criteria)
        if rule != "gain" and len(trials):
            # An objective that does not vary is not among the group's columns.
            only = {} if "objective" in estimates else {"objective": trials["objective"].iloc[0]}
            estimates = estimates[has_variance_part(estimates.assign(**only))]
        parts.append(estimates.assign(rule=rule))
    return pd.concat(parts, ignore_index=True)


def describe_estimate(row: "pd.Series[Any]", criteria: Criteria = STANDARD) -> str:
    """Put a group's answer into words: "8 units, 95% CI 8 to 9, saturated from latent_dim 16"."""
    if row["verdict"] == "saturated":
        interval = f"{CONFIDENCE:.0%} CI {_short(row['lower'])} to {_short(row['upper'])}"
        start = f"saturated from latent_dim {row['plateau_from']}"
        return f"{_units(row['estimate'])}, {interval}, {start}"
    if row["verdict"] == "not saturated" and row["at_least"] == 0:
        return (
            f"not saturated: no plateau at {row['latent_dims']} latent_dims up to "
            f"{row['largest_latent_dim']}"
        )
    if row["verdict"] == "not saturated":
        at_least = _units(row["at_least"])
        return f"not saturated: at least {at_least} at latent_dim {row['largest_latent_dim']}"
    if row["verdict"] == "unstable":
        if row["seed_sd"] > criteria.spread_units:
            return f"unstable: seeds differ by a standard deviation of {_units(row['seed_sd'])}"
        return f"unstable: the count falls by {_units(-row['rise'])} as latent_dim grows"
    if row["trials"] == 0 and row["trials_without_count"] > 0:
        return f"too few trials: none of {row['trials_without_count']} has a count"
    return f"too few trials: {row['trials']} at {row['latent_dims']} latent_dims"


def _units(number: float) -> str:
    return f"{_short(number)} unit{'' if _short(number) == '1' else 's'}"


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _counted(completed: pd.DataFrame, counts: str) -> pd.DataFrame:
    """Return group, latent_dim and active of the trials whose count means something."""
    active = completed[counts].astype("Float64")
    if counts in ON_PRIOR_SCALE:
        active = active.where(has_variance_part(completed))
    counted = completed[["group", "latent_dim"]].assign(active=active).dropna(subset="active")
    return counted.astype(float).astype({"group": int})


def _measure(counted: pd.DataFrame, criteria: Criteria) -> pd.DataFrame:
    """Return per group the plateau and what the verdict is made of."""
    counted = counted.assign(square=counted["active"] ** 2)
    cells = counted.groupby(["group", "latent_dim"], as_index=False).agg(
        n=("active", "size"), total=("active", "sum"), squares=("square", "sum")
    )
    above = cells["latent_dim"] > cells["group"].map(_knees(cells)) + criteria.margin
    plateau_dims = above.groupby(cells["group"]).sum()
    has_plateau = cells["group"].map(plateau_dims) >= 2
    two_largest = cells.groupby("group").cumcount(ascending=False) < 2
    top = cells[above.where(has_plateau, two_largest)]

    whole, by_group = cells.groupby("group"), top.groupby("group")
    repeated = (top["n"] >= 2).groupby(top["group"]).sum()
    freedom = by_group["n"].sum() - by_group["n"].size()
    within = (top["squares"] - top["total"] ** 2 / top["n"]).groupby(top["group"]).sum()
    last = cells.drop_duplicates("group", keep="last").set_index("group")
    found = pd.DataFrame(
        {
            "has_plateau": plateau_dims >= 2,
            "mean": by_group["total"].sum() / by_group["n"].sum(),
            "plateau_from": by_group["latent_dim"].min(),
            "plateau_trials": by_group["n"].sum().where(plateau_dims >= 2),
            "repeated": repeated,
            "freedom": freedom,
            "seed_sd": np.sqrt(within.clip(lower=0) / freedom.where(freedom > 0)),
            "latent_dims": whole.size(),
            "trials": whole["n"].sum(),
            "largest_latent_dim": last["latent_dim"],
            "last_mean": last["total"] / last["n"],
            "last_n": last["n"],
        }
    )
    return found.join(_trends(top, criteria).where(found["has_plateau"]))


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


def _trends(top: pd.DataFrame, criteria: Criteria) -> pd.DataFrame:
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
    limit = stdtrit(freedom, 1 - criteria.significance) * error
    length = x.groupby(top["group"]).max() - x.groupby(top["group"]).min()
    return pd.DataFrame({"rise": slope * length, "real": slope.abs() > limit})


def _verdicts(found: pd.DataFrame, criteria: Criteria) -> Array:
    has_plateau = found["has_plateau"].fillna(False).astype(bool)
    enough = found["repeated"] >= np.where(has_plateau, 2, 1)
    limit = np.maximum(criteria.spread_units, criteria.spread_share * found["mean"])
    real = found["real"].fillna(False).astype(bool)
    enough_change = criteria.largest_rise - 1e-9  # whole counts can change by exactly one
    return np.select(
        [
            ~enough,
            (found["seed_sd"] > limit) | (real & (found["rise"] <= -enough_change)),
            ~has_plateau | (real & (found["rise"] >= enough_change)),
        ],
        ["too few trials", "unstable", "not saturated"],
        "saturated",
    )


def _lower_bound(found: pd.DataFrame) -> "pd.Series[float]":
    """Return the whole units that the mean at the largest latent_dim surely reaches."""
    error = found["seed_sd"] / np.sqrt(found["last_n"])
    bound = found["last_mean"] - stdtrit(found["freedom"], CONFIDENCE) * error
    return pd.Series(np.floor(bound + 1e-9)).clip(0, found["largest_latent_dim"])


def _intervals(counted: pd.DataFrame, criteria: Criteria) -> pd.DataFrame:
    """Bootstrap the mean count over each group's plateau: lower and upper."""
    counted = counted.sort_values(["group", "active"])  # so that the rows' order does not matter
    by_group = counted.groupby("group")
    sizes, freedom = by_group.size(), by_group.size() - by_group["latent_dim"].nunique()
    tail = (1 - CONFIDENCE) / 2
    parts = [pd.DataFrame(columns=["lower", "upper"], dtype=float)]
    for n, members in sizes.groupby(sizes):
        active: Array = counted["active"].to_numpy()[counted["group"].isin(members.index)]
        active = active.reshape(-1, n)  # (groups, trials)
        mean = active.mean(axis=1)
        quantiles = _bootstrap_quantiles(active, (tail, 1 - tail), criteria)  # (2, groups)
        student = stdtrit(freedom[members.index].to_numpy(), tail) / ndtri(tail)
        lower, upper = mean + np.sqrt(n / (n - 1)) * student * (quantiles - mean)
        part = {"lower": np.maximum(lower, 0), "upper": upper}
        parts.append(pd.DataFrame(part, index=members.index))
    return pd.concat(parts)


def _bootstrap_quantiles(active: Array, tails: tuple[float, float], criteria: Criteria) -> Array:
    """Return quantiles (tails, groups) of the means of resampled counts (groups, trials).

    All groups share the resamples, as weights: a matrix product then gives all their means.
    """
    groups, n = active.shape
    at_a_time = max(1, min(criteria.resamples, BLOCK // n))
    seeds = [(criteria.seed, block) for block in range(0, criteria.resamples, at_a_time)]
    quantiles = np.empty((len(tails), groups))
    step = max(1, BLOCK // criteria.resamples)
    for start in range(0, groups, step):
        some = active[start : start + step]
        resamples = (_resamples(n, at_a_time, seed) for seed in seeds)
        means = [(some @ times_drawn + moved) / n for times_drawn, moved in resamples]
        quantiles[:, start : start + step] = np.quantile(np.hstack(means), tails, axis=1)
    return quantiles


@lru_cache(maxsize=4)
def _resamples(n: int, resamples: int, seed: tuple[int, int]) -> tuple[Array, Array]:
    """Return how often each trial is drawn, (trials, resamples), and the sum of what is added."""
    random = np.random.default_rng([*seed, n])
    drawn = random.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    times_drawn = np.bincount(drawn.ravel(), minlength=n * resamples).reshape(resamples, n)
    return times_drawn.T.astype(float), random.uniform(-0.5, 0.5, (resamples, n)).sum(axis=1)
