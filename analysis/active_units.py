"""Active units by group and latent_dim: the table that a study's end prints."""

import pandas as pd

from analysis.groups import group_columns, with_group_values

__all__ = ["active_units_table"]


def active_units_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the active units of completed trials, one row per group, one column per latent_dim.

    Args:
        trials: The `trials` table of a study.

    Returns:
        Index dataset, architecture and β, with whichever further hyperparameters vary; a cell
        holds the mean over the group's trials, with their smallest and largest in brackets where
        they differ; empty where no trial completed.
    """
    completed = with_group_values(trials[trials["status"] == "completed"])
    group = group_columns(completed)
    if completed.empty:
        return pd.DataFrame(index=pd.MultiIndex.from_frame(completed[group]))
    cells = (
        completed.groupby([*group, "latent_dim"], dropna=False)["active_units"]
        .agg(["mean", "min", "max"])
        .apply(_cell, axis=1)
    )
    return cells.unstack("latent_dim", fill_value="")


def _cell(row: "pd.Series[float]") -> str:
    if row["min"] == row["max"]:
        return f"{row['mean']:.0f}"
    return f"{row['mean']:.1f} ({row['min']:.0f}-{row['max']:.0f})"
