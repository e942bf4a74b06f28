"""Inert or not: what zeroing inactive units changes, against how far the trial has converged."""

import altair as alt
import pandas as pd

from analysis.charts.style import styled
from analysis.inert_units import INERT
from analysis.variance_law import UNIT_TOLERANCE

__all__ = ["inert_units_chart"]

WIDTH, HEIGHT = 560, 340
LEAST = 1e-5  # smaller numbers are drawn here: none at all has no place on a logarithmic axis
TICKS = [float(f"{digit}e{power}") for power in range(-5, 4) for digit in (1, 3)]
COLOURS = 7  # as many as the palette has


def inert_units_chart(rows: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Draw trials by their worst unit's distance to the variance law, and the largest change.

    Args:
        rows: One row per trial with inactive units: dataset, architecture, seed, epochs, inactive,
            images, largest_difference and worst_residual, as `inert_units` returns them.
    """
    nets = rows["architecture"].astype(str) + " on " + rows["dataset"].astype(str)
    if nets.nunique() > COLOURS:
        nets = rows["dataset"].astype(str)
    drawn = rows.assign(
        net=nets,
        change=rows["largest_difference"].clip(lower=LEAST),
        residual=rows["worst_residual"].clip(lower=LEAST),
    )
    epochs = sorted(drawn["epochs"].unique())
    points = (
        alt.Chart(drawn)
        .mark_point(filled=True, opacity=0.75, stroke="white", strokeWidth=0.5)
        .encode(
            alt.X(
                "residual:Q",
                title="worst unit's distance from the law, |mean σ² + mean μ² − 1|",
                scale=alt.Scale(type="log", nice=True),
                axis=alt.Axis(format="~g", values=TICKS),
            ),
            alt.Y(
                "change:Q",
                title="largest change of a pixel",
                scale=alt.Scale(type="log", nice=True),
                axis=alt.Axis(format="~g", values=TICKS),
            ),
            alt.Color("net:N", title="net", legend=alt.Legend(symbolOpacity=1)),
            alt.Size(
                "epochs:Q",
                title="epochs",
                scale=alt.Scale(range=[35, 200]),
                legend=alt.Legend(values=epochs, symbolFillColor="#888888")
                if 1 < len(epochs) <= 5
                else None,
            ),
            tooltip=[
                "net",
                "seed",
                "epochs",
                alt.Tooltip("inactive", title="inactive units"),
                "images",
                alt.Tooltip("largest_difference", format=".4f", title="largest change"),
                alt.Tooltip("worst_residual", format=".4f", title="worst unit"),
            ],
        )
    )
    limits = pd.DataFrame(
        {
            "inert": [INERT],
            "converged": [UNIT_TOLERANCE],
            "below": [f"inert: at most {INERT:g}"],
            "left": ["← converged"],
        }
    )
    base = alt.Chart(limits)
    rules = base.mark_rule(color="#555555", strokeDash=[5, 4])
    beneath = base.mark_text(color="#555555", fontSize=11, align="left", dx=4, dy=9)
    beside = base.mark_text(color="#555555", fontSize=11, align="right", dx=-4, dy=9)
    layers = [
        rules.encode(alt.Y("inert:Q")),
        rules.encode(alt.X("converged:Q")),
        beneath.encode(alt.Y("inert:Q"), x=alt.value(0), text="below:N"),
        beside.encode(alt.X("converged:Q"), y=alt.value(0), text="left:N"),
        points,
    ]
    return styled(alt.layer(*layers).properties(width=WIDTH, height=HEIGHT))
