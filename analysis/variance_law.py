"""The variance law: mean σ² + Var μ = 1 for every unit of a converged VAE (equations 12, 13).

Two sums are taken of each unit, over the full training set:

    law     mean_x[σ²(x)] + Var_x[μ(x)]     equation 13, which the paper's tables are about
    second  mean_x[σ²(x)] + mean_x[μ²(x)]   equation 12, which is what is exactly stationary

Why the second is exact: scale one unit's μ and σ by c and let the decoder undo it. The
reconstruction stays as it is, and the KL's part that moves, ½ (c²·second - log c²), is least at
c² = 1 / second. So at a stationary point second = 1 for every β > 0, active or not. The first sum
is smaller by the square of the unit's mean. That goes to 0 as well, but slowly where β is small: on
MNIST at β = 0.25, after 40 epochs, the means over 16 units were 0.984 and 1.118.

The law is predicted where the objective has the KL's variance part (equation 14) with a weight
above zero; other objectives are controls and never mixed in. All variances divide by N, as the
paper's 0.00048 does. Completed trials only, each counted once, also where two studies hold it.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.final_units import final_units
from analysis.groups import describe_group, group_columns, has_variance_part, with_group_values

__all__ = [
    "MEAN_TOLERANCE",
    "SUMS",
    "UNIT_TOLERANCE",
    "expected_violation",
    "law_by_group",
    "law_by_trial",
    "law_controls",
    "law_overall",
    "law_units",
    "residual_by",
]

MEAN_TOLERANCE, UNIT_TOLERANCE = 0.05, 0.08
"""How far a converged trial's second moments may be from 1: their mean, and the worst unit's."""

SUMS = {"law": "mean σ² + Var μ", "second": "mean σ² + mean μ²"}
_QUANTILES = {0.05: "q05", 0.25: "q25", 0.5: "median", 0.75: "q75", 0.95: "q95"}

Codes = NDArray[np.intp]


def law_units(trials: pd.DataFrame, units: pd.DataFrame, controls: bool = False) -> pd.DataFrame:
    """Return the final units with both sums, for charts and for statistics of one's own.

    Args:
        trials: The `trials` table.
        units: The `units` table, whole or final.
        controls: Take the trials in which the law is not predicted, not those in which it is.

    Returns:
        One row per unit: unit, posterior_variance (mean σ²), mean_variance (Var μ), active,
        kl (nats per image), law, second; trial_id, latent_dim and beta of its trial, and group, in
        words.
    """
    chosen, groups = _completed(trials, controls)
    rows = _sums(chosen, final_units(units), "active", "kl")
    place = rows["place"].to_numpy()
    words = pd.Series([describe_group(row) for _, row in groups.iterrows()], dtype="str")
    labels, categories = pd.factorize(words)  # rounding may give two groups one name
    group = chosen["group"].to_numpy()[place]
    return rows.drop(columns=["place", "epoch", "second_moment"]).assign(
        trial_id=chosen["trial_id"].to_numpy()[place],
        latent_dim=chosen["latent_dim"].to_numpy()[place],
        beta=chosen["beta"].to_numpy()[place],
        group=pd.Categorical.from_codes(labels[group], categories),
    )


def law_by_trial(
    trials: pd.DataFrame,
    units: pd.DataFrame,
    mean_tolerance: float = MEAN_TOLERANCE,
    unit_tolerance: float = UNIT_TOLERANCE,
) -> pd.DataFrame:
    """Return both sums of every trial, and whether it was trained for long enough.

    A trial is `converged` when second differs from 1 by no more than the tolerances, in the mean
    over its units and in its worst unit. The mean alone is not enough: where most units are
    inactive they sit at 1 and hide the few that move.

    Why these tolerances: the paper's own tables are off by 0.003 and 0.044. Of 21 runs that were
    repeated with twice the epochs (MNIST at β = 0.25, 1 and 4, manifold data), 9 changed their
    count of active units, and all 9 had a unit off by 0.083 or more, as had 6 of the other 12.

    What the verdict cannot say: the law is necessary at a stationary point, not sufficient (a
    network before its first step may fulfil it, with σ² = 1 and μ = 0). And longer training does
    not always mend it: a network that goes on fitting noise does not come to rest. On manifold data
    active units stood at 1.06 to 1.07 from 40 to 160 epochs, with the right count.

    Args:
        trials: The `trials` table.
        units: The `units` table, whole or final.
        mean_tolerance: Largest |mean of second - 1|.
        unit_tolerance: Largest |second - 1| of a unit.

    Returns:
        One row per row of `trials`, of any status, with its index: trial_id; units (how many have
        been measured); law_mean, law_variance, second_mean, second_variance over them, divided by
        N; worst_unit, the unit whose second is farthest from 1, and worst_residual, its
        second - 1; predicted; verdict: converged, train longer, not predicted (a control), or
        unknown (the trial has not completed, or a statistic is missing).
    """
    distinct = trials.drop_duplicates("trial_id")
    rows = _sums(distinct, final_units(units))
    pooled = _pooled(rows, rows["place"].to_numpy(), len(distinct)).drop(columns="trials")
    pooled = pooled.join(_worst_units(rows)).set_axis(pd.Index(distinct["trial_id"]))
    found = pooled.loc[trials["trial_id"]].set_axis(trials.index)
    found.insert(0, "trial_id", trials["trial_id"])
    found["predicted"] = has_variance_part(trials)
    known = (trials["status"] == "completed") & (found.pop("missing") == 0)
    settled = (found["second_mean"] - 1).abs() <= mean_tolerance
    settled &= found["worst_residual"].abs() <= unit_tolerance
    found["verdict"] = np.select(
        [~found["predicted"], ~known, settled],
        ["not predicted", "unknown", "converged"],
        "train longer",
    )
    return found


def law_by_group(trials: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    """Return mean and variance of both sums over all units of each group's trials.

    Args:
        trials: The `trials` table.
        units: The `units` table, whole or final.

    Returns:
        One row per group in which the law is predicted: the columns that `group_columns` names;
        trials and units, how many have been measured; law_mean, law_variance, second_mean and
        second_variance over all those units (not over the trials' means), divided by N.
    """
    chosen, groups = _completed(trials, controls=False)
    rows = _sums(chosen, final_units(units))
    group = chosen["group"].to_numpy()[rows["place"]]
    return groups.join(_pooled(rows, group, len(groups)))


def law_overall(trials: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    """Return mean and variance of both sums over all units of all trials, in one row.

    This is how the paper states the law: 0.997 and 0.00048 over the 32 units of tables I and II.

    Args:
        trials: The `trials` table.
        units: The `units` table, whole or final.

    Returns:
        trials, units, law_mean, law_variance, second_mean and second_variance as in
        `law_by_group`; units is 0 and the means are null where there is nothing to measure.
    """
    chosen, _ = _completed(trials, controls=False)
    rows = _sums(chosen, final_units(units))
    return _pooled(rows, np.zeros(len(rows), dtype=np.intp), 1)


def law_controls(trials: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    """Return both sums where the law is not predicted, and what to expect there instead.

    Args:
        trials: The `trials` table.
        units: The `units` table, whole or final.

    Returns:
        One row per group, as in `law_by_group`, objective always among its columns; then
        posterior_variance and mean_variance, the means over the units of mean σ² and of Var μ,
        and expected, in words.
    """
    chosen, groups = _completed(trials, controls=True)
    rows = _sums(chosen, final_units(units))
    group = chosen["group"].to_numpy()[rows["place"]]
    parts = rows.groupby(group)[["posterior_variance", "mean_variance"]].mean()
    settings = zip(groups["objective"], groups["beta"], strict=True)
    expected = [expected_violation(objective, beta) for objective, beta in settings]
    return groups.join(_pooled(rows, group, len(groups))).join(parts).assign(expected=expected)


def expected_violation(objective: str, beta: float) -> str:
    """Say what an objective without the KL's variance part does to mean σ² and to Var μ.

    The paper, section VI: without it the scale of the latent space is arbitrary. Where σ² has no
    part in the objective its head gets no gradient, but the layers below it move: on manifold data
    mean σ² came out between 0.5 and 100,000.
    """
    if objective == "no_sampling":
        held = "the penalty draws μ to 0" if beta > 0 else "nothing holds the scale of μ"
        return f"σ² has no part in the objective and may be anything, {held}: any sum"
    if beta > 0:  # the quadratic penalty
        return "noise only harms, so σ² falls to 0, and the penalty draws μ in: a sum below 1"
    return "noise only harms, so σ² falls to 0, and nothing holds the scale of μ: any sum"


def residual_by(
    trials: pd.DataFrame, units: pd.DataFrame, column: str, bins: int = 20
) -> pd.DataFrame:
    """Summarise how far units are from the law, against a property of the unit or its trial.

    Args:
        trials: The `trials` table; completed trials in which the law is predicted count.
        units: The `units` table, whole or final.
        column: Of `units` (active, kl, ...) or of `trials` (beta, latent_dim, epochs_trained,
            architecture, ...). With `epoch` every recorded epoch counts, else the final one.
        bins: A number with more values than this is cut into so many bins of equal counts, or
            fewer where values repeat. All else has a bin per value.

    Returns:
        Two rows per bin, one for each sum: by, the column; label, the bin in words; low, middle
        (median) and high of its values, null where they are no numbers; sum, in words; units;
        mean, sd (divided by N), q05, q25, median, q75 and q95 of the sum - 1. Units whose value is
        null are left out.
    """
    chosen, _ = _completed(trials, controls=False)
    of_unit = column in units.columns
    recorded = units[units["split"] == "train"] if column == "epoch" else final_units(units)
    rows = _sums(chosen, recorded, *([column] if of_unit else []))
    if not of_unit:
        rows[column] = chosen[column].to_numpy()[rows["place"]]
    rows = rows[rows[column].notna()].infer_objects()
    rows = rows.assign(bin=_bin_numbers(rows[column], bins))
    described = _described(rows, column)
    spreads = [described.assign(sum=SUMS[name]).join(_spread(rows, name)) for name in SUMS]
    return pd.concat(spreads).sort_index(kind="stable").reset_index(drop=True)


def _completed(trials: pd.DataFrame, controls: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Completed trials with or without the prediction, with their group's number; the groups."""
    completed = trials[trials["status"] == "completed"].drop_duplicates("trial_id")
    names = group_columns(completed)
    if controls and "objective" not in names:
        names.append("objective")
    chosen = completed[has_variance_part(completed) != controls]
    valued = with_group_values(chosen)[names]
    number = valued.groupby(names, dropna=False).ngroup()
    groups = valued.assign(number=number).drop_duplicates("number").set_index("number")
    return chosen.assign(group=number), groups.sort_index().rename_axis(None)


def _sums(trials: pd.DataFrame, recorded: pd.DataFrame, *further: str) -> pd.DataFrame:
    """The units of these trials, each once, with both sums; `place` is the trial's row."""
    place = pd.Index(trials["trial_id"]).get_indexer(pd.Index(recorded["trial_id"]))
    statistics = ["posterior_variance", "mean_variance", "second_moment"]
    names = dict.fromkeys(["epoch", "unit", *statistics, *further])
    rows: pd.DataFrame = recorded.loc[place >= 0, list(names)]
    rows = rows.assign(**rows[statistics].astype("float64"), place=place[place >= 0])
    again = rows.duplicated(["place", "epoch", "unit"])
    rows = rows[~again] if again.any() else rows  # a copy less, of millions of rows
    return rows.assign(
        law=rows["posterior_variance"] + rows["mean_variance"],
        second=rows["posterior_variance"] + rows["second_moment"],
    ).reset_index(drop=True)


def _pooled(rows: pd.DataFrame, group: Codes, groups: int) -> pd.DataFrame:
    """Mean of both sums, and variance divided by N, over the units of each group from 0 on."""
    measured = rows["law"].notna().to_numpy()
    grouped = rows[measured].groupby(group[measured])
    pooled = pd.DataFrame(
        {
            "trials": grouped["place"].nunique(),
            "units": grouped.size(),
            "law_mean": grouped["law"].mean(),
            "law_variance": grouped["law"].var(ddof=0),
            "second_mean": grouped["second"].mean(),
            "second_variance": grouped["second"].var(ddof=0),
        }
    ).reindex(range(groups))
    counts = ["trials", "units"]
    return pooled.assign(**pooled[counts].fillna(0).astype("int64"))


def _worst_units(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each trial's place: the unit farthest from the law, and how many cannot be judged."""
    residual = rows["second"] - 1
    farthest = residual.abs().dropna().groupby(rows["place"]).idxmax()
    return pd.DataFrame(
        {
            "worst_unit": pd.Series(rows["unit"].loc[farthest].to_numpy(), farthest.index, "Int64"),
            "worst_residual": pd.Series(residual.loc[farthest].to_numpy(), farthest.index),
            "missing": residual.isna().groupby(rows["place"]).sum(),
        }
    )


def _bin_numbers(values: pd.Series, bins: int) -> Codes:
    """Number each value's bin in ascending order: a bin per value, or quantiles of a number."""
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if not numeric or values.nunique() <= bins:
        return pd.factorize(values, sort=True)[0]
    edges = np.quantile(values, np.arange(1, bins) / bins)
    return np.searchsorted(edges, values, side="right")


def _described(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Each bin's values: what they are of, from, to and in the middle, and in words."""
    values = rows.groupby("bin")[column]
    low, high = values.min(), values.max()
    if pd.api.types.is_bool_dtype(low) or not pd.api.types.is_numeric_dtype(low):
        words = [{True: "active", False: "inactive"}.get(value, str(value)) for value in low]
        low = middle = high = pd.Series(np.nan, low.index)
    else:
        middle = values.median()
        words = [
            f"{a:.3g}" if a == b else f"{a:.3g} to {b:.3g}" for a, b in zip(low, high, strict=True)
        ]
    return pd.DataFrame(
        {"by": column, "label": words, "low": low, "middle": middle, "high": high}, index=low.index
    )


def _spread(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """How the residuals of one sum spread in each bin."""
    residual = (rows[name] - 1).groupby(rows["bin"])
    numbers = {"units": residual.count(), "mean": residual.mean(), "sd": residual.std(ddof=0)}
    at = np.array(list(_QUANTILES))
    quantiles = residual.quantile(at).unstack().reindex(columns=at).rename(columns=_QUANTILES)
    return pd.DataFrame(numbers).join(quantiles)
