"""Pruning: what points were worth after each epoch, where they were given up, how many went on."""

import math
from typing import Any, Final

import altair as alt
import pandas as pd

from analysis.charts.search_history import visible_limit
from analysis.charts.style import PALETTE, styled
from analysis.search_goals import Goal
from analysis.search_words import goal_words, number_format, parameter_words

__all__ = ["search_pruning_chart"]

_WIDTH: Final = 620
BEST, WHOLE, GIVEN_UP, LOST = "best", "completed", "given up", "failed"
_COLOURS: Final = {LOST: PALETTE[3], GIVEN_UP: "#B9860B", WHOLE: PALETTE[0], BEST: "black"}


def search_pruning_chart(
    values: pd.DataFrame,
    points: pd.DataFrame,
    by_epoch: pd.DataFrame,
    goal: Goal,
    best: float = math.nan,
) -> alt.VConcatChart:
    """Draw the values of points epoch by epoch, and below how many points trained each epoch.

    A point that was given up ends with a dot. In the lower panel, what lies between the bars and
    the line was spared.

    Args:
        values: As `values_by_epoch` returns them; at least one row.
        points: As `search_points` returns them, those to draw among them.
        by_epoch: As `points_by_epoch` returns it.
        goal: What is sought.
        best: Number of the best point; NaN where there is none.
    """
    named = points.assign(parameters=parameter_words(points))
    rows = values.merge(named[["point", "outcome", "parameters", "reached"]], on="point")
    curves = _curves(rows, goal, _epoch("epoch", by_epoch, bare=True), best)
    return styled(alt.vconcat(curves, _survivors(by_epoch), spacing=6))


def _curves(rows: pd.DataFrame, goal: Goal, place: alt.X, best: float) -> alt.LayerChart:
    kind = rows["outcome"].map({"pruned": GIVEN_UP, "failed": LOST}).fillna(WHOLE)
    rows = rows.assign(kind=kind.mask(rows["point"] == best, BEST))
    kinds = [name for name in _COLOURS if (rows["kind"] == name).any()]
    losses = goal.sign * rows["value"]
    edges = [float(losses.min()), visible_limit(losses)]
    room = edges[1] - edges[0] or max(1.0, abs(edges[0]) / 100)
    domain = sorted(goal.sign * e for e in (edges[0] - 0.06 * room, edges[1] + 0.06 * room))
    value = alt.Y("value:Q", title=f"{goal_words(goal)} after the epoch")
    value = value.scale(domain=domain, nice=False).axis(minExtent=52, maxExtent=52)
    colour = alt.Color("kind:N").scale(domain=kinds, range=[_COLOURS[name] for name in kinds])
    colour = colour.legend(title=None, orient="top", symbolOpacity=1, symbolStrokeWidth=2.2)
    tooltip = [
        alt.Tooltip("point:Q"),
        alt.Tooltip("parameters:N"),
        alt.Tooltip("epoch:Q"),
        alt.Tooltip("value:Q", title=goal_words(goal), format=number_format(rows["value"])),
        alt.Tooltip("kind:N"),
    ]

    def lines(of: pd.DataFrame, **mark: float) -> alt.Chart:
        base = alt.Chart(of[["point", "epoch", "value", "kind", "parameters"]])
        chart: alt.Chart = base.mark_line(clip=True, **mark).encode(  # type: ignore[arg-type]
            place, value, alt.Detail("point:N"), colour, alt.Order("epoch:Q"), tooltip=tooltip
        )
        return chart

    is_best = rows["kind"] == BEST
    ends = rows[(rows["epoch"] == rows["reached"]) & (rows["kind"] == GIVEN_UP)]
    layers: list[Any] = [lines(rows[~is_best], strokeWidth=1.1, opacity=0.5)]
    if len(ends):
        dots = alt.Chart(ends[["point", "epoch", "value", "kind", "parameters"]])
        dots = dots.mark_point(filled=True, size=26, opacity=0.9, clip=True)
        layers.append(
            dots.encode(place, value, color=alt.value(_COLOURS[GIVEN_UP]), tooltip=tooltip)
        )
    if is_best.any():  # above all others
        layers.append(lines(rows[is_best], strokeWidth=2.4))
    return alt.LayerChart(layer=layers).properties(width=_WIDTH, height=300)


def _survivors(by_epoch: pd.DataFrame) -> alt.LayerChart:
    """Bars of the points that trained an epoch, and a line of those that would have."""
    bounds = by_epoch.assign(start=by_epoch["epoch"] - 0.5, end=by_epoch["epoch"] + 0.5)
    base = alt.Chart(bounds).encode(_epoch("start", by_epoch), alt.X2("end:Q"))
    bars = base.mark_rect(color=PALETTE[0], opacity=0.75, stroke="white", strokeWidth=0.5).encode(
        alt.Y("points:Q", title="points").axis(tickMinStep=1, minExtent=52, maxExtent=52),
        alt.Y2(datum=0),
        tooltip=[
            alt.Tooltip("epoch:Q"),
            alt.Tooltip("points:Q", title="points that trained it"),
            alt.Tooltip("without:Q", title="without pruning"),
        ],
    )
    line = base.mark_rule(color="#555555", strokeDash=[4, 3], strokeWidth=1.4).encode(
        alt.Y("without:Q")
    )
    return alt.LayerChart(layer=[bars, line]).properties(width=_WIDTH, height=90)


def _epoch(name: str, by_epoch: pd.DataFrame, *, bare: bool = False) -> alt.X:
    """The axis of the epochs, half a one wider at both ends; bare where another is below it."""
    ends = [0.5, float(by_epoch["epoch"].max()) + 0.5]
    place = alt.X(f"{name}:Q", title=None if bare else "epoch").scale(domain=ends, nice=False)
    return place.axis(tickMinStep=1, labels=not bare, ticks=not bare, grid=False)
