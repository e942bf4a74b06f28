"""What all charts look alike in: colours that the colour-blind tell apart, sizes, axes, panels."""

from collections.abc import Sequence
from typing import Any, TypeVar

import altair as alt
import pandas as pd

__all__ = [
    "ACTIVE",
    "INACTIVE",
    "MOST_TICKS",
    "PALETTE",
    "PANEL_HEIGHT",
    "PANEL_WIDTH",
    "beta_axis",
    "setting_channels",
    "setting_legend",
    "styled",
    "wrapped",
]

# Okabe and Ito (2008), "Color Universal Design", without yellow, which is pale on white.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
ACTIVE, INACTIVE = "#D55E00", "#B8C4CE"
PANEL_WIDTH, PANEL_HEIGHT = 260, 220
PAGE_WIDTH = 1072  # of a report, in pixels
MOST_TICKS = 8

AnyChart = TypeVar("AnyChart", bound=alt.TopLevelMixin)


def styled(chart: AnyChart) -> AnyChart:
    """Return the chart with the report's sizes and colours; to be called on a whole chart once."""
    styled: AnyChart = (
        chart.configure_axis(
            labelFontSize=11, titleFontSize=12, titleFontWeight="normal", gridColor="#e6e6e6"
        )
        .configure_legend(labelFontSize=11, titleFontSize=11, labelLimit=360, symbolLimit=30)
        .configure_header(labelFontSize=12, titleFontSize=12)
        .configure_range(category=PALETTE)
        .configure_view(stroke="#cccccc")
    )
    return styled


def setting_legend(settings: Sequence[str], panels_width: float, **properties: Any) -> alt.Legend:
    """Return a legend beside the panels, or below them where the page has no room beside them.

    Args:
        settings: Its labels.
        panels_width: Of all panels side by side, in pixels, without axes.
        properties: Of the legend.
    """
    axes_and_symbol, letter = 100, 6.2
    labels = letter * max(map(len, settings), default=0)
    if panels_width + axes_and_symbol + labels > PAGE_WIDTH:
        properties["orient"] = "bottom"
    return alt.Legend(columns=1, labelLimit=PAGE_WIDTH - axes_and_symbol, **properties)


def setting_channels(
    settings: Sequence[str], title: str, legend: alt.Legend
) -> tuple[alt.Color, alt.Shape]:
    """Return colours and shapes of settings, both in one legend: there are more than colours.

    Args:
        settings: All of them; rows have theirs in a column `setting`.
        title: Of the legend.
        legend: How it looks.
    """
    # With a domain, and not a sort, for each, Vega-Lite makes one legend of both.
    domain = list(settings)
    return (
        alt.Color("setting:N", title=title, legend=legend).scale(domain=domain),
        alt.Shape("setting:N", title=title, legend=legend).scale(domain=domain),
    )


def beta_axis(betas: "pd.Series[float]") -> alt.X:
    """Return an axis of β, logarithmic unless 0 is among them, with ticks at a few different β."""
    beta = alt.X("beta:Q", title="β")
    if (betas <= 0).any():  # a logarithm has no place for them
        return beta
    if betas.nunique() <= MOST_TICKS:
        beta = beta.axis(values=sorted(betas.unique()), format="~g")
    return beta.scale(type="log", nice=False, padding=12)


def wrapped(
    panel: alt.LayerChart | alt.Chart, by: str, names: Sequence[str], columns: int
) -> alt.FacetChart:
    """Return a panel for each value of a column, in rows of so many.

    Where the last row is short each panel has an x axis: Vega-Lite would draw a shared one below
    every column, also where there is no panel.

    Args:
        panel: What is drawn of each.
        by: The column.
        names: Its values, in the order of the panels.
        columns: Panels in a row.
    """
    facet = alt.Facet(f"{by}:N", title=None, sort=list(names))
    chart: alt.FacetChart = panel.facet(facet, columns=columns)
    return chart.resolve_axis(x="independent") if len(names) % columns else chart
