"""Active units by architecture and latent dimension: the table and the chart of a study."""

import altair as alt
import pandas as pd

__all__ = ["active_units_chart", "active_units_table"]

GROUP = ["dataset", "architecture", "beta"]
FURTHER = [
    "objective",
    "decoder",
    "decoder_variance",
    "initialisation",
    "learning_rate",
    "learning_rate_schedule",
    "batch_size",
    "epochs",
    "precision",
]
TOOLTIP = ["dataset:N", "architecture:N", "beta:Q", "latent_dim:Q", "mean:Q", "min:Q", "max:Q"]


def active_units_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the active units of completed trials, one row per group, one column per latent_dim.

    Args:
        trials: The `trials` table of a study.

    Returns:
        Index dataset, architecture and β, with whichever further hyperparameters vary; a cell
        holds the mean over the group's trials, with their smallest and largest in brackets where
        they differ; empty where no trial completed.
    """
    completed = trials[trials["status"] == "completed"]
    set_by_user = completed["decoder"] == "gaussian"  # a learned variance is a result
    completed = completed.assign(decoder_variance=completed["decoder_variance"].where(set_by_user))
    group = GROUP + [name for name in FURTHER if completed[name].nunique() > 1]
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


def active_units_chart(trials: pd.DataFrame) -> alt.FacetChart:
    """Draw active units against latent_dim, a line per architecture and a panel per β.

    Lines join the means over seeds and all else that varies, bars span the smallest and the
    largest trial, and the dashed diagonal is where every unit is active.

    Args:
        trials: The `trials` table of a study.
    """
    completed = trials[trials["status"] == "completed"]
    panels = completed.groupby([*GROUP, "latent_dim"])
    summary = panels["active_units"].agg(["mean", "min", "max"]).reset_index()
    dimension = alt.X("latent_dim:Q", title="latent dimension", axis=alt.Axis(tickMinStep=1))
    architecture = alt.Color("architecture:N", scale=alt.Scale(scheme="tableau10"))
    shape = alt.Shape("architecture:N", legend=None)
    panel = alt.layer(
        alt.Chart().mark_line(color="grey", strokeDash=[4, 4]).encode(dimension, y="latent_dim:Q"),
        alt.Chart()
        .mark_rule(strokeWidth=2)
        .encode(dimension, y="min:Q", y2="max:Q", color=architecture),
        alt.Chart()
        .mark_line()
        .encode(dimension, alt.Y("mean:Q", title="active units"), color=architecture),
        alt.Chart()
        .mark_point(filled=True, size=60, opacity=1)
        .encode(dimension, y="mean:Q", color=architecture, shape=shape, tooltip=TOOLTIP),
        data=summary,
    )
    return panel.properties(width=260, height=240).facet(
        column=alt.Column("beta:N", title="β"), row=alt.Row("dataset:N", title=None)
    )
