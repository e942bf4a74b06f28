"""The active units of the paper's nets against β, by setting, with the paper's count as a line."""

import altair as alt
import pandas as pd

from analysis.charts.style import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    beta_axis,
    setting_channels,
    styled,
    wrapped,
)
from analysis.group_words import in_natural_order
from analysis.paper_counts import setting_words

__all__ = ["paper_counts_chart"]


def paper_counts_chart(counts: pd.DataFrame) -> alt.FacetChart:
    """Draw a panel per net: means over seeds, bars from the fewest to the most.

    Args:
        counts: What `analysis.paper_counts.paper_counts` returns.
    """
    rows = counts.assign(
        setting=setting_words(counts, without="beta"),
        net=counts["where"] + ": " + counts["architecture"] + " on " + counts["dataset"],
    )
    settings = in_natural_order(rows["setting"])
    beta = beta_axis(rows["beta"])
    colour, shape = setting_channels(settings, "setting", alt.Legend(columns=1))
    base = alt.Chart()
    layers = [
        base.mark_rule(color="#888888", strokeDash=[4, 4]).encode(y="paper:Q"),
        base.mark_line().encode(
            beta, alt.Y("mean:Q", title="active units", scale=alt.Scale(domainMin=0)), color=colour
        ),
        base.mark_rule(strokeWidth=2).encode(beta, y="fewest:Q", y2="most:Q", color=colour),
        base.mark_point(filled=True, size=55, opacity=1).encode(
            beta,
            y="mean:Q",
            color=colour,
            shape=shape,
            tooltip=[
                alt.Tooltip("net:N"),
                alt.Tooltip("setting:N"),
                alt.Tooltip("beta:Q", title="β"),
                alt.Tooltip("mean:Q", title="mean active units", format=".2f"),
                alt.Tooltip("fewest:Q"),
                alt.Tooltip("most:Q"),
                alt.Tooltip("paper:Q", title="the paper"),
                alt.Tooltip("trials:Q"),
                alt.Tooltip("epochs:Q"),
            ],
        ),
    ]
    panel = alt.LayerChart(layer=layers, data=rows, width=PANEL_WIDTH, height=PANEL_HEIGHT)
    return styled(wrapped(panel, "net", list(rows["net"].unique()), columns=2))
