"""Whether sparsity disappears without the KL's variance part: the paper's section VI-A, measured.

"If we replace the Kullback-Leibler component with some other regularization, for instance just
considering a quadratic penalty on latent variables, the sparsity phenomenon disappears." Such a
control is set against the trial that differs in the objective alone. Thresholds on Var μ or the KL
mean nothing for a control, so both are counted by what their units contribute.
"""

import pandas as pd

from analysis.activity import LEAST_GAIN
from analysis.design_points import design_points
from analysis.final_units import final_units

__all__ = ["sparsity_of_controls", "units_in_use"]

_SHOWN = ["dataset", "architecture", "latent_dim", "beta", "objective", "seed"]


def units_in_use(
    units: pd.DataFrame, relative_gain: float = 0.01, least_gain: float = LEAST_GAIN
) -> "pd.Series[float]":
    """Count, for each trial, the units that contribute to the reconstruction.

    Unlike thresholds on Var μ or the KL, this does not depend on the scale of the latent space,
    which without the KL's variance part is arbitrary.

    Args:
        units: The `units` table, whole or final.
        relative_gain: A unit is in use if its reconstruction gain exceeds this share of the sum of
            the trial's positive gains,
        least_gain: and this many nats per image.

    Returns:
        Counts by trial_id; null where a gain is.
    """
    final = final_units(units)
    gain = final["reconstruction_gain"].astype(float)
    together = gain.clip(lower=0).groupby(final["trial_id"]).transform("sum")
    used = (gain > relative_gain * together) & (gain > least_gain)
    counts = used.groupby(final["trial_id"]).sum().astype(float)
    return counts.mask(gain.isna().groupby(final["trial_id"]).any())


def sparsity_of_controls(
    trials: pd.DataFrame, units: pd.DataFrame, objective: str = "quadratic_penalty"
) -> pd.DataFrame:
    """Pair each control with the trial that minimises the whole KL, and is equal in all else.

    Args:
        trials: The `trials` table; completed trials count.
        units: The `units` table, whole or final.
        objective: The control's.

    Returns:
        One row per pair: trial_id and elbo_trial_id; dataset, architecture, latent_dim, beta,
        objective and seed; in_use and elbo_in_use, what `units_in_use` says of both; difference,
        in_use - elbo_in_use.
    """
    completed = trials[trials["status"] == "completed"].drop_duplicates("trial_id")
    points = design_points(completed)
    points["in_use"] = completed["trial_id"].map(units_in_use(units)).astype("float64")
    points["trial_id"] = completed["trial_id"]
    points = points[points["in_use"].notna()]
    keys = points.columns.difference(["objective", "in_use", "trial_id"], sort=False)
    full = points[(points["objective"] == "elbo") & (points["beta"] > 0)]
    renamed = {name: f"elbo_{name}" for name in ("in_use", "trial_id")}
    full = full.drop(columns="objective").rename(columns=renamed)
    pairs = points[points["objective"] == objective].merge(full, on=list(keys))
    pairs["difference"] = pairs["in_use"] - pairs["elbo_in_use"]
    return pairs[["trial_id", "elbo_trial_id", *_SHOWN, "in_use", "elbo_in_use", "difference"]]
