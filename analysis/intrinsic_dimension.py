"""The intrinsic dimension of each group of trials, from active units against latent_dim.

The estimate is the mean count on the plateau, given only where there is a plateau.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis.activity import RULES, active_counts
from analysis.bootstrap import mean_intervals
from analysis.group_words import naturally
from analysis.groups import (
    group_columns,
    has_variance_part,
    points_of,
    range_ends,
    scattered_columns,
    with_group_values,
)
from analysis.plateau import measure_plateaus

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
    - lower, upper: a 95% interval by the smoothed percentile bootstrap over its n trials,
      stretched by √(n/(n−1)) · t/z (see `analysis.bootstrap`), t with n − k degrees of freedom for
      k latent_dims: the spread of seeds is known from trials of equal latent_dim.

    Verdicts, the first that applies:

    - too few trials: there are not two latent_dims on the plateau with at least two trials each
      (where there is no plateau: one among the two largest), so the seeds' spread is not known;
    - unstable: that spread is too large, or the counts fall along the plateau;
    - not saturated: fewer than two latent_dims lie above the knee and its margin, or the counts
      still rise along them: the sweep is too short. `at_least` is then the one-sided 95% lower
      bound (Student's t) on the mean count at the largest latent_dim, rounded down;
    - saturated.

    In a random search latent_dims hardly repeat. Where a group was tried at more than eight of
    them, and at most of them once, trials within a power of two (16 to 31, say) stand for trials
    of equal latent_dim, their counts taken relative to the fit. And where groups are ranges of β
    or mix what is left out of the grouping (see `analysis.groups`), the spread and the interval are
    those of points drawn from the space: trials that differ in their seed alone count as one.

    Args:
        trials: The `trials` table of one study or several; completed trials count, each once.
        counts: Its column with the counts: active_units, active_units_kl, or one of
            `active_counts` joined to it. Nulls are left out, and so are counts by Var μ or KL
            where the objective lacks the KL's variance part: they mean nothing there.
        criteria: The numbers behind the verdicts.

    Returns:
        One row per group, even without a count, in natural order: the group's columns, verdict,
        estimate, lower, upper and plateau_from, its smallest latent_dim (null unless saturated),
        at_least (null unless not saturated), largest_latent_dim, latent_dims (how many), trials
        (with a count), plateau_trials, trials_without_count (completed ones), seed_sd (standard
        deviation among trials of equal latent_dim, pooled over the plateau or, without one, over
        the two largest latent_dims), rise (of the fitted line from end to end of the plateau).
    """
    columns = group_columns(trials)
    valued = with_group_values(trials)
    group = valued.groupby(columns, dropna=False).ngroup().rename("group")
    groups = valued[columns].assign(group=group).drop_duplicates("group").set_index("group")
    completed = trials.assign(group=group)[trials["status"] == "completed"]
    completed = completed.drop_duplicates("trial_id")
    counted = _counted(completed, counts)
    if scattered_columns(trials):
        counted = _averaged_over_seeds(counted)

    found = measure_plateaus(counted, criteria.margin, criteria.significance)
    found = found.reindex(groups.index)
    found["verdict"] = _verdicts(found, criteria)
    saturated = found["verdict"] == "saturated"
    found["estimate"] = found["mean"].where(saturated)
    found["plateau_from"] = found["plateau_from"].where(saturated)
    found["at_least"] = _lower_bound(found).where(found["verdict"] == "not saturated")
    on_plateau = counted["latent_dim"] >= counted["group"].map(found["plateau_from"])
    intervals = mean_intervals(
        counted[on_plateau], found["freedom"], CONFIDENCE, criteria.resamples, criteria.seed
    )
    # Points may have lost seeds: the mean over trials is then not quite that over points.
    found[["lower", "upper"]] = intervals.reindex(found.index).add(
        found["mean"] - found["mean_of_rows"], axis=0
    )

    how_many = ["latent_dims", "trials", "plateau_trials"]
    found[how_many] = found[how_many].fillna(0)
    asked = completed["group"].value_counts().reindex(found.index, fill_value=0)
    found["trials_without_count"] = asked - found["trials"]
    whole = ["at_least", "plateau_from", "largest_latent_dim", *how_many, "trials_without_count"]
    found[whole] = found[whole].astype("Int64")
    measured = ["verdict", "estimate", "lower", "upper", *whole, "seed_sd", "rise"]
    answers = groups.join(found[measured])
    return answers.sort_values(columns, key=naturally, ignore_index=True)


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
            who = "trials" if range_ends("beta")[0] in row.index else "seeds"
            return f"unstable: {who} differ by a standard deviation of {_units(row['seed_sd'])}"
        return f"unstable: the count falls by {_units(-row['rise'])} as latent_dim grows"
    if row["trials"] == 0 and row["trials_without_count"] > 0:
        return (
            f"no count of {row['trials_without_count']} trials means anything, without the KL's "
            "variance part"
        )
    return f"too few trials: {row['trials']} at {row['latent_dims']} latent_dims"


def _units(number: float) -> str:
    return f"{_short(number)} unit{'' if _short(number) == '1' else 's'}"


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _counted(completed: pd.DataFrame, counts: str) -> pd.DataFrame:
    """Return the trials whose count means something: group, point, latent_dim, active, trials."""
    active = completed[counts].astype("Float64")
    if counts in ON_PRIOR_SCALE:
        active = active.where(has_variance_part(completed))
    counted = completed[["group", "latent_dim"]].assign(point=points_of(completed), active=active)
    counted = counted.dropna(subset="active").astype(float).astype({"group": int})
    return counted.assign(trials=1)


def _averaged_over_seeds(counted: pd.DataFrame) -> pd.DataFrame:
    """One row per point: where a group's points differ, their spread is not that of seeds."""
    by_point = counted.groupby(["group", "latent_dim", "point"], as_index=False)
    return by_point.agg(active=("active", "mean"), trials=("trials", "sum"))


def _verdicts(found: pd.DataFrame, criteria: Criteria) -> Array:
    has_plateau = found["has_plateau"].fillna(False).astype(bool)
    enough = found[["repeated", "freedom"]].min(axis=1) >= np.where(has_plateau, 2, 1)
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
