"""How many units of a trial are active, under three rules side by side, at any threshold.

| rule | a unit is active if | source |
| --- | --- | --- |
| variance | Var_x[μ(x)] > 0.01 | Burda, Grosse and Salakhutdinov 2015 |
| kl | mean_x KL > 0.1 nats | thresholds from 0.01 to 0.1 are in use |
| gain | reconstruction gain > β·KL: the unit pays for itself | the paper, section VI |

Without the KL's variance part (quadratic penalty, no sampling, β = 0) nothing ties the latent
space to a scale: the encoder can shrink its means and the decoder stretch them back, so a unit
that matters may have any Var μ and any KL, and pays no KL to weigh its gain against. The first
two rules then mean nothing. The gain itself does not change when the latent space is stretched:
there a unit is active if it has more than 1% of what all units of the trial gain together.

A unit that the decoder ignores has a KL and a gain of about 0. Which of the two is larger is up to
chance: the gain is measured with sampled codes on some images (standard deviation about 0.02 nats
on 2,000 tiles), so the paper's comparison alone calls about every third dead unit active. A gain
therefore counts only from `least_gain` on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.final_units import final_units
from analysis.groups import group_columns, has_variance_part, with_group_values

__all__ = [
    "LEAST_GAIN",
    "RULES",
    "THRESHOLDS",
    "active_counts",
    "sensitivity_at_plateau",
    "threshold_sensitivity",
]

Array = NDArray[Any]

RULES: Final = ("variance", "kl", "gain")

THRESHOLDS: Final[Mapping[str, Sequence[float]]] = {
    "variance": (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3),
    "kl": (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0),
    "gain": (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    "relative_gain": (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
}
"""Thresholds to sweep: Var μ; KL in nats; gain in units of β·KL; gain as a share of all gain."""

LEAST_GAIN: Final = 0.1
"""Nats per image: as the KL rule's threshold, and above what chance gave dead units (0.06)."""


class _Rule(NamedTuple):
    """A unit is active where value > threshold × scale, and value > least."""

    value: Array  # (units,); NaN where not known
    scale: Array  # (units,); NaN where the rule means nothing
    least: float = -np.inf


class _Units(NamedTuple):
    """The final units of some trials, and what the rules look at."""

    place: Array  # (units,), which trial each belongs to
    trials: int
    rules: Mapping[str, _Rule]


def active_counts(
    trials: pd.DataFrame,
    units: pd.DataFrame,
    variance: float = 0.01,
    kl: float = 0.1,
    relative_gain: float = 0.01,
    least_gain: float = LEAST_GAIN,
) -> pd.DataFrame:
    """Count the active units of every trial under the three rules.

    Args:
        trials: The `trials` table.
        units: The `units` table; the last recorded epoch on the training images counts.
        variance: Threshold on Var_x[μ(x)] (the prior's variance is 1).
        kl: Threshold on the mean KL, nats per image.
        relative_gain: Threshold of the gain rule for trials without the KL's variance part, as a
            share of the sum of the trial's positive gains.
        least_gain: Gain, in nats per image, up to which no unit is active by the gain rule. 0
            makes it the paper's inequality alone, which chance decides for dead units.

    Returns:
        One row per trial_id: trial_id, active_variance, active_kl, active_gain (Int64). Null where
        a trial has no units, where a statistic of one of them is null (not computed, diverged),
        and, for the first two, where the trial lacks the KL's variance part.
    """
    distinct = trials.drop_duplicates("trial_id")
    known = _final_units_of(distinct, units, least_gain)
    counts = {
        "active_variance": _counts(known, "variance", variance),
        "active_kl": _counts(known, "kl", kl),
        "active_gain": np.where(
            has_variance_part(distinct),
            _counts(known, "gain", 1.0),
            _counts(known, "relative_gain", relative_gain),
        ),
    }
    table = pd.DataFrame(counts).astype("Float64").astype("Int64")  # NaN becomes null
    table.insert(0, "trial_id", distinct["trial_id"].to_numpy())
    return table


def threshold_sensitivity(
    trials: pd.DataFrame,
    units: pd.DataFrame,
    thresholds: Mapping[str, Sequence[float]] = THRESHOLDS,
    least_gain: float = LEAST_GAIN,
) -> pd.DataFrame:
    """Count the active units under a sweep of thresholds, per group and latent_dim.

    Args:
        trials: The `trials` table; completed trials count.
        units: The `units` table.
        thresholds: By rule: variance, kl, gain (in units of β·KL; 1 is the paper's rule), and
            relative_gain, which is the gain rule of trials without the KL's variance part.
        least_gain: As for `active_counts`.

    Returns:
        The group's columns, latent_dim, rule, threshold, active_units (mean over the trials) and
        trials (how many have a count). A rule has no rows where it means nothing.
    """
    completed = trials[trials["status"] == "completed"].drop_duplicates("trial_id")
    columns = [*group_columns(completed), "latent_dim"]
    known = _final_units_of(completed, units, least_gain)
    valued = with_group_values(completed)[columns]
    cell = valued.groupby(columns, dropna=False).ngroup().to_numpy()
    cells = valued.assign(cell=cell).drop_duplicates("cell").sort_values("cell")[columns]
    parts = [cells.iloc[:0].assign(rule="", threshold=0.0, active_units=0.0, trials=0)]
    for rule, values in thresholds.items():
        for threshold in values:
            counts = _counts(known, rule, threshold)
            counted = ~np.isnan(counts)
            n = np.bincount(cell[counted], minlength=len(cells))
            total = np.bincount(cell[counted], weights=counts[counted], minlength=len(cells))
            filled = n > 0
            part = cells[filled].assign(rule=rule, threshold=float(threshold))
            parts.append(part.assign(active_units=total[filled] / n[filled], trials=n[filled]))
    return pd.concat(parts, ignore_index=True)


def sensitivity_at_plateau(sensitivity: pd.DataFrame, estimates: pd.DataFrame) -> pd.DataFrame:
    """Average the counts under each threshold over each saturated group's plateau.

    Args:
        sensitivity: What `threshold_sensitivity` returns.
        estimates: What `estimate_intrinsic_dimension` returns for the same trials: a row per group.

    Returns:
        The group's columns, rule, threshold, active_units (mean over the plateau's trials) and
        trials. Groups that are not saturated have no rows: they have no plateau.
    """
    measured = ("latent_dim", "rule", "threshold", "active_units", "trials")
    columns = [name for name in sensitivity.columns if name not in measured]
    saturated = estimates.loc[estimates["verdict"] == "saturated", [*columns, "plateau_from"]]
    joined = sensitivity.merge(saturated, on=columns)  # joins null to null as well
    plateau = joined[joined["latent_dim"] >= joined["plateau_from"]]
    summed = (
        plateau.assign(active_units=plateau["active_units"] * plateau["trials"])
        .groupby([*columns, "rule", "threshold"], dropna=False)[["active_units", "trials"]]
        .sum()
        .reset_index()
    )
    return summed.assign(active_units=summed["active_units"] / summed["trials"])


def _final_units_of(trials: pd.DataFrame, units: pd.DataFrame, least_gain: float) -> _Units:
    final = final_units(units)
    place = pd.Index(trials["trial_id"]).get_indexer(final["trial_id"])
    # Several studies may hold the same trial: its units count once.
    again = pd.DataFrame({"place": place, "unit": final["unit"].to_numpy()}).duplicated()
    chosen = (place >= 0) & ~again.to_numpy()
    final, place = final[chosen], place[chosen]

    def column(name: str) -> Array:
        values: Array = final[name].to_numpy(float, na_value=np.nan)
        return values

    kl, gain = column("kl"), column("reconstruction_gain")
    on_prior_scale = has_variance_part(trials).to_numpy()[place]
    meant = np.where(on_prior_scale, 1.0, np.nan)
    price = trials["beta"].to_numpy(float)[place] * kl  # β·KL, nats per image
    gained = np.bincount(place, weights=np.maximum(gain, 0), minlength=len(trials))[place]
    rules = {
        "variance": _Rule(column("mean_variance"), meant),
        "kl": _Rule(kl, meant),
        "gain": _Rule(gain, price * meant, least_gain),
        "relative_gain": _Rule(gain, np.where(on_prior_scale, np.nan, gained), least_gain),
    }
    return _Units(place, len(trials), rules)


def _counts(units: _Units, rule: str, threshold: float) -> Array:
    """Return each trial's active units: NaN where it has no units, or one that is not known."""
    value, scale, least = units.rules[rule]
    known = ~np.isnan(value) & ~np.isnan(scale)
    active = (value > threshold * scale) & (value > least)
    recorded, usable, counts = (
        np.bincount(units.place, weights=these, minlength=units.trials)
        for these in (np.ones(len(value)), known, active)
    )
    return np.where((recorded > 0) & (usable == recorded), counts, np.nan)
