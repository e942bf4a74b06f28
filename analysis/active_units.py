"""Active units by group and latent_dim: the table that a study's end prints."""

from typing import Final

import numpy as np
import pandas as pd

from analysis.group_words import naturally
from analysis.groups import group_columns, has_variance_part, range_ends, with_group_values

__all__ = ["active_units_table"]

MOST_COLUMNS: Final = 12
"""Of more latent_dims than these, those within a power of two share a column: "16 to 31"."""


def active_units_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the active units of completed trials, one row per group, one column per latent_dim.

    Args:
        trials: The `trials` table of a study.

    Returns:
        Index dataset, architecture and β (of a range, its ends in place of its middle), with
        whichever further hyperparameters vary, in natural order; a cell holds the mean over the
        group's trials, with their smallest and largest in brackets where they differ; empty where
        no trial completed, and a dash where counts mean nothing: in controls.
    """
    completed = with_group_values(trials[trials["status"] == "completed"])
    columns = group_columns(completed)
    group = [name for name in columns if range_ends(name)[0] not in columns]
    if completed.empty:
        return pd.DataFrame(index=pd.MultiIndex.from_frame(completed[group]))
    dims, words = _columns(completed["latent_dim"])
    counts = completed["active_units"].astype("float64").where(has_variance_part(completed))
    cells = (
        completed.assign(latent_dim=dims, active_units=counts)
        .groupby([*group, "latent_dim"], dropna=False)["active_units"]
        .agg(["mean", "min", "max"])
        .apply(_cell, axis=1)
    )
    table = cells.unstack("latent_dim", fill_value="").reset_index()
    return table.sort_values(group, key=naturally).set_index(group).rename(columns=words)


def _columns(latent_dims: "pd.Series[int]") -> tuple["pd.Series[int]", dict[int, str]]:
    """Each trial's column, and what to call those that hold several latent_dims."""
    if latent_dims.nunique() <= MOST_COLUMNS:
        return latent_dims, {}
    power = pd.Series(2 ** np.floor(np.log2(latent_dims)), latent_dims.index).astype("int64")
    return power, {first: f"{first} to {2 * first - 1}" for first in power.unique() if first > 1}


def _cell(row: "pd.Series[float]") -> str:
    if np.isnan(row["mean"]):
        return "–"
    if row["min"] == row["max"]:
        return f"{row['mean']:.0f}"
    return f"{row['mean']:.1f} ({row['min']:.0f}-{row['max']:.0f})"
