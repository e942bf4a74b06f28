"""The chart of a comparison: differences between two sets of trials, with intervals."""

import altair as alt
import pandas as pd

from analysis.charts.style import PALETTE, styled
from analysis.comparison import ALL, MEASURES

__all__ = ["comparison_chart"]

ROW_HEIGHT = 22
MOST_GROUPS = 30
SHOWN, OPEN = "interval without zero", "no difference shown"


def comparison_chart(
    differences: pd.DataFrame, names: tuple[str, str] = ("left", "right")
) -> alt.ConcatChart:
    """Draw the differences of all trials, and of each group of them, a panel per measure.

    Dots are differences of the second side minus the first, rules their 95% intervals; a difference
    whose interval holds zero, or that has none, is hollow. Diamonds stand for trials paired by id,
    circles for pairs of equal points, squares for means of groups. Of more than `MOST_GROUPS`
    groups, those with the most trials are drawn.

    Args:
        differences: `Comparison.differences`.
        names: What to call the two sides.
    """
    trials = differences.groupby("group")[["left_trials", "right_trials"]].max().sum(axis=1)
    largest = trials.sort_values(ascending=False, kind="stable").index[: MOST_GROUPS + 1]
    rows = differences[differences["group"].isin(largest)]
    clear = (rows["low"] > 0) | (rows["high"] < 0)
    rows = rows.assign(
        shown=clear.map({True: SHOWN, False: OPEN}),
        matched=rows["matched_by"].map(
            {"trial_id": "equal ids", "point": "equal points", "group": "unpaired means"}
        ),
    )
    groups = [ALL, *(name for name in rows["group"].unique() if name != ALL)]
    panels = [_panel(rows, name, groups, names) for name in MEASURES]
    return styled(alt.ConcatChart(concat=panels, columns=2, spacing=24))


def _panel(
    rows: pd.DataFrame, measure: str, groups: list[str], names: tuple[str, str]
) -> alt.LayerChart:
    left, right = names
    place = alt.Y("group:N", title=None, sort=groups).axis(labelLimit=320)
    difference = (
        alt.X("difference:Q", title=f"{right} minus {left}: {MEASURES[measure]}")
        .scale(nice=False, padding=12)
        .axis(tickCount=5)
    )
    tooltip = [
        alt.Tooltip("group:N"),
        alt.Tooltip("matched:N", title="compared by"),
        alt.Tooltip("left:Q", title=left, format=".4~g"),
        alt.Tooltip("right:Q", title=right, format=".4~g"),
        alt.Tooltip("difference:Q", format="+.3~g"),
        alt.Tooltip("low:Q", title="95% interval from", format="+.3~g"),
        alt.Tooltip("high:Q", title="to", format="+.3~g"),
        alt.Tooltip("pairs:Q"),
        alt.Tooltip("left_trials:Q", title=f"trials of {left}"),
        alt.Tooltip("right_trials:Q", title=f"trials of {right}"),
    ]
    base = alt.Chart(rows[rows["measure"] == measure])
    zero = base.mark_rule(color="#666666", strokeDash=[4, 3]).encode(x=alt.datum(0))
    intervals = base.mark_rule(strokeWidth=2, color=PALETTE[0]).encode(
        alt.X("low:Q"), alt.X2("high:Q"), place
    )
    dots = base.mark_point(size=70, opacity=1, color=PALETTE[0], strokeWidth=2).encode(
        difference,
        place,
        alt.Fill("shown:N", title=None)
        .scale(domain=[SHOWN, OPEN], range=[PALETTE[0], "white"])
        .legend(orient="bottom", symbolStrokeColor=PALETTE[0]),
        alt.Shape("matched:N", title=None)
        .scale(
            domain=["equal ids", "equal points", "unpaired means"],
            range=["diamond", "circle", "square"],
        )
        .legend(orient="bottom", symbolStrokeColor=PALETTE[0], symbolFillColor="white"),
        tooltip=tooltip,
    )
    layers = alt.LayerChart(layer=[zero, intervals, dots])
    return layers.properties(width=260, height=alt.Step(ROW_HEIGHT))
