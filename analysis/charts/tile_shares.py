"""How many tiles are in generated images: bars of shares, dense and convolutional side by side."""

import altair as alt
import pandas as pd

from analysis.charts.style import styled
from analysis.tile_shares import SHARES

__all__ = ["tile_shares_chart"]

WIDTH = {1: 480, 2: 300, 3: 200}
BAR = 19
# Nothing is grey, what the training images have is blue, and what they never have warm.
COLOURS = {
    "0": "#B8C4CE",
    "1": "#9ECAE1",
    "2": "#4292C6",
    "3": "#08519C",
    "4": "#F0A860",
    "5 or more": "#D55E00",
}


def tile_shares_chart(shares: pd.DataFrame) -> alt.FacetChart:
    """Draw a bar per row, a column of them per net.

    Args:
        shares: One row per bar, in the order to draw them in: net and setting, the column and the
            bar's name; trials, how many it stands for; and the shares of `tile_shares`.
    """
    named = dict(zip(SHARES, COLOURS, strict=True))
    long = shares[["net", "setting", "trials", *SHARES]].melt(
        ["net", "setting", "trials"], var_name="column", value_name="share"
    )
    long = long.assign(
        tiles=long["column"].map(named), order=long["column"].map(list(SHARES).index)
    )
    nets, settings = list(shares["net"].unique()), list(shares["setting"].unique())
    bars = (
        alt.Chart(long.drop(columns="column"))
        .mark_bar(height=BAR - 5)
        .encode(
            alt.X(
                "share:Q",
                title="share of images",
                scale=alt.Scale(domain=[0, 1], nice=False),
                axis=alt.Axis(format="%", tickCount=4),
            ),
            alt.Y(
                "setting:N",
                sort=settings,
                title=None,
                axis=alt.Axis(labelLimit=420, ticks=False, domain=False),
            ),
            alt.Color(
                "tiles:N",
                title="tiles in an image",
                sort=list(COLOURS),
                scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
                legend=alt.Legend(orient="top", columns=len(COLOURS)),
            ),
            alt.Order("order:Q"),
            tooltip=["net", "setting", "tiles", alt.Tooltip("share", format=".1%"), "trials"],
        )
        .properties(width=WIDTH.get(len(nets), 150), height=BAR * len(settings))
    )
    chart: alt.FacetChart = styled(bars.facet(column=alt.Column("net:N", sort=nets, title=None)))
    return chart
