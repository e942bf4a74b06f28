"""Images decoded from a grid of codes, in slices: the lower halves of the paper's figure 3."""

from typing import Final

import altair as alt
import pandas as pd

from analysis.charts.style import styled

__all__ = ["slices_chart"]

WIDTH: Final = 900  # of all slices together, in pixels of the page, at most
LARGEST: Final = 440  # of one slice
GAP: Final = 10


def slices_chart(slices: pd.DataFrame) -> alt.Chart:
    """Draw slices side by side, a row of them per trial.

    Args:
        slices: One row per slice: row, what the trial is called, in the order to draw them in;
            slice, what the slice is called, likewise, or empty; address, its images as one
            picture; width and height of that, in any unit: the same for all.
    """
    rows, columns = list(slices["row"].unique()), list(slices["slice"].unique())
    width = min(WIDTH / len(columns) - GAP, LARGEST)
    height = width * float(slices["height"].iloc[0]) / float(slices["width"].iloc[0])
    axis = alt.Axis(domain=False, ticks=False, labelLimit=300, labelAngle=0)
    above = (
        alt.Axis(domain=False, ticks=False, labelAngle=0, orient="top") if any(columns) else None
    )
    chart = (
        alt.Chart(slices)
        .mark_image(width=width, height=height, smooth=False)
        .encode(
            alt.X("slice:N", sort=columns, title=None, axis=above if any(columns) else None),
            alt.Y("row:N", sort=rows, title=None, axis=axis),
            alt.Url("address:N"),
            tooltip=["row:N", "slice:N"],
        )
        .properties(width=len(columns) * (width + GAP), height=len(rows) * (height + GAP))
    )
    sheet: alt.Chart = styled(chart).configure_view(stroke=None).configure_axis(labelFontSize=12)
    return sheet
