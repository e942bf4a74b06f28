"""How far units are from the variance law, against a property of theirs or of their trials."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.final_units import final_units
from analysis.law_units import SUMS, units_with_sums, with_group_numbers

__all__ = ["residual_by"]

_QUANTILES = {0.05: "q05", 0.25: "q25", 0.5: "median", 0.75: "q75", 0.95: "q95"}

Codes = NDArray[np.intp]


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
    chosen, _ = with_group_numbers(trials, controls=False)
    of_unit = column in units.columns
    recorded = units[units["split"] == "train"] if column == "epoch" else final_units(units)
    rows = units_with_sums(chosen, recorded, *([column] if of_unit else []))
    if not of_unit:
        rows[column] = chosen[column].to_numpy()[rows["place"]]
    rows = rows[rows[column].notna()].infer_objects()
    rows = rows.assign(bin=_bin_numbers(rows[column], bins))
    described = _described(rows, column)
    spreads = [described.assign(sum=SUMS[name]).join(_spread(rows, name)) for name in SUMS]
    return pd.concat(spreads).sort_index(kind="stable").reset_index(drop=True)


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
