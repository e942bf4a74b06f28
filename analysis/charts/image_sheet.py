"""Images side by side in labelled rows, as the paper shows generated digits and tiles."""

import altair as alt
import pandas as pd

from analysis.charts.style import styled

__all__ = ["image_sheet"]

SIZE = 44  # of an image, in pixels of the page
GAP = 4


def image_sheet(images: pd.DataFrame) -> alt.Chart:
    """Draw images in rows, from the left.

    Args:
        images: One row per image: row, what the row is called, in the order to draw them in;
            place, its column, from 0; address, the image as `picture_address` returns it; and
            optionally label, what to say of the image under the pointer.
    """
    rows, columns = list(images["row"].unique()), int(images["place"].max()) + 1
    tooltip = [name for name in ("row", "label") if name in images]
    chart = (
        alt.Chart(images)
        .mark_image(width=SIZE, height=SIZE, smooth=False)
        .encode(
            alt.X("place:O", axis=None),
            alt.Y(
                "row:N",
                sort=rows,
                title=None,
                axis=alt.Axis(domain=False, ticks=False, labelLimit=300),
            ),
            alt.Url("address:N"),
            tooltip=tooltip,
        )
        .properties(width=columns * (SIZE + GAP), height=len(rows) * (SIZE + GAP))
    )
    sheet: alt.Chart = styled(chart).configure_view(stroke=None).configure_axis(labelFontSize=12)
    return sheet
