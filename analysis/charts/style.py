"""What all charts look alike in: colours that the colour-blind can tell apart, sizes, grid."""

from collections.abc import Sequence
from typing import Any, TypeVar

import altair as alt

__all__ = [
    "ACTIVE",
    "INACTIVE",
    "PALETTE",
    "PANEL_HEIGHT",
    "PANEL_WIDTH",
    "setting_legend",
    "styled",
]

# Okabe and Ito (2008), "Color Universal Design", without yellow, which is pale on white.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
ACTIVE, INACTIVE = "#D55E00", "#B8C4CE"
PANEL_WIDTH, PANEL_HEIGHT = 260, 220
PAGE_WIDTH = 1072  # of a report, in pixels

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
    if panels_width + axes_and_symbol + labels <= PAGE_WIDTH:
        return alt.Legend(columns=1, **properties)
    return alt.Legend(
        orient="bottom", columns=1, labelLimit=PAGE_WIDTH - axes_and_symbol, **properties
    )
