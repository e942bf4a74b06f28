"""What all charts look alike in: colours that the colour-blind can tell apart, sizes, grid."""

from typing import TypeVar

import altair as alt

__all__ = ["ACTIVE", "INACTIVE", "PALETTE", "PANEL_HEIGHT", "PANEL_WIDTH", "styled"]

# Okabe and Ito (2008), "Color Universal Design", without yellow, which is pale on white.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
ACTIVE, INACTIVE = "#D55E00", "#B8C4CE"
PANEL_WIDTH, PANEL_HEIGHT = 260, 220

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
