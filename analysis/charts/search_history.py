"""The course of a search: the value of each point, and the best so far."""

from typing import Any, Final

import altair as alt
import numpy as np
import pandas as pd

from analysis.charts.style import PALETTE, styled
from analysis.search_goals import Goal
from analysis.search_points import best_so_far
from analysis.search_words import goal_words, number_format, parameter_words

__all__ = ["search_history_chart", "visible_limit"]

GOOD, MISSES, BEYOND = "satisfies the constraints", "misses a constraint", "worse than is shown"
COMPLETED: Final = "completed"
"""What points are called that satisfy the constraints where there are none."""

_WIDTH: Final = 860
_COLOURS: Final = {COMPLETED: PALETTE[0], GOOD: PALETTE[0], MISSES: PALETTE[1], BEYOND: "#7F8B96"}
_FILLS: Final = _COLOURS | {MISSES: "white", BEYOND: "white"}
_LOST: Final = ("pruned", "failed")


def visible_limit(losses: "pd.Series[float]") -> float:
    """Return the largest loss that an axis shows: a few failures would flatten all the rest.

    It is the largest of those that lie no farther above the third quartile than three times the
    distance of the quartiles (Tukey's far-out values lie beyond), and never less than what four in
    five reach.
    """
    low, high = losses.quantile(0.25), losses.quantile(0.75)
    near = losses[losses <= high + 3 * (high - low)]
    return max(float(near.max()), float(losses.quantile(0.8, interpolation="higher")))


def search_history_chart(
    points: pd.DataFrame, goals: list[Goal], *, constrained: bool, by_epochs: bool = True
) -> alt.VConcatChart:
    """Draw the value of each completed point in the order of training, and the best so far.

    One panel per goal. Points that were pruned or failed are marks in a strip below, without a
    value: after fewer epochs it would be another quantity.

    Args:
        points: As `search_points` returns them, of one dataset; at least one.
        goals: The goals.
        constrained: Whether there are constraints, and so points that satisfy them.
        by_epochs: Against the epochs that all points up to each have trained; else their number.
    """
    x, title = "epochs_so_far", "epochs trained so far, of all points and seeds"
    if not by_epochs:
        x, title = "point", "points tried"
    end = float(points[x].max())
    place = alt.X(f"{x}:Q", title=None).scale(domain=[0, end], nice=False, padding=6)
    named = points.assign(parameters=parameter_words(points))
    height = 270 if len(goals) == 1 else 190
    known = [g for g in goals if (named[g.name].notna() & (named["outcome"] == "completed")).any()]
    lost = [outcome for outcome in _LOST if (points["outcome"] == outcome).any()]
    bare = place.axis(labels=False, ticks=False)
    titled = place.title(title)
    parts: list[Any] = []
    for goal in known:
        below = titled if goal == known[-1] and not lost else bare
        part = _values(named, goal, x, below, constrained)
        parts.append(part.properties(width=_WIDTH, height=height))
    if lost:
        parts.append(_strip(named, lost, x, titled))
    return styled(alt.vconcat(*parts, spacing=4))


def _values(
    points: pd.DataFrame, goal: Goal, x: str, place: alt.X, constrained: bool
) -> alt.LayerChart:
    """Points and the best so far, for one goal."""
    done = points[(points["outcome"] == "completed") & points[goal.name].notna()]
    form = number_format(done[goal.name])
    losses = goal.sign * done[goal.name]
    limit = visible_limit(losses)
    if done["feasible"].any():  # they may be those with the poorest values
        limit = max(limit, visible_limit(losses[done["feasible"]]))
    beyond = losses > limit
    good = GOOD if constrained else COMPLETED
    kind = np.select([beyond, done["feasible"]], [BEYOND, good], MISSES)
    best_loss = float(losses.min())
    room = limit - best_loss or max(1.0, abs(best_loss) / 100)
    edge = limit + 0.12 * room  # apart from all that is drawn in its place
    shown = done.assign(value=goal.sign * losses.mask(beyond, edge), kind=kind)
    kinds = [name for name in (good, MISSES, BEYOND) if (kind == name).any()]
    limits = best_loss - 0.06 * room, (edge if beyond.any() else limit) + 0.06 * room
    domain = sorted(goal.sign * loss for loss in limits)
    arrow = "triangle-down" if goal.direction == "maximise" else "triangle-up"
    shapes = [arrow if name == BEYOND else "circle" for name in kinds]
    value = alt.Y("value:Q", title=goal_words(goal)).scale(domain=domain, nice=False)
    value = value.axis(minExtent=52, maxExtent=52)
    legend = alt.Legend(title=None, orient="top", symbolStrokeWidth=1.6)
    dots = (
        alt.Chart(_with(shown, x, "value", "kind", "point", "parameters", "trials", goal.name))
        .mark_point(size=42, strokeWidth=1.4, opacity=0.9)
        .encode(
            place,
            value,
            alt.Stroke("kind:N", legend=legend).scale(
                domain=kinds, range=[_COLOURS[name] for name in kinds]
            ),
            alt.Fill("kind:N", legend=legend).scale(
                domain=kinds, range=[_FILLS[name] for name in kinds]
            ),
            alt.Shape("kind:N", legend=legend).scale(domain=kinds, range=shapes),
            tooltip=[
                alt.Tooltip("point:Q"),
                alt.Tooltip("parameters:N"),
                alt.Tooltip(f"{goal.name}:Q", title=goal_words(goal), format=form),
                alt.Tooltip("trials:Q", title="seeds"),
                alt.Tooltip("kind:N"),
            ],
        )
    )
    best = best_so_far(points, goal).to_frame("value").assign(**{x: points[x]}).dropna()
    if best.empty:
        return alt.LayerChart(layer=[dots])
    steps = best[best["value"] != best["value"].shift()]
    last = pd.DataFrame({"value": [best["value"].iloc[-1]], x: [points[x].max()]})
    line = (
        alt.Chart(pd.concat([steps, last]))
        .mark_line(interpolate="step-after", color="black", strokeWidth=1.8, clip=True)
        .encode(place, value)
    )
    label = (
        alt.Chart(last.assign(label=f"best: {best['value'].iloc[-1]:{form}}"))
        .mark_text(align="left", baseline="middle", dx=6)
        .encode(place, value, text="label:N")
    )
    return alt.LayerChart(layer=[line, dots, label])


def _with(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """What a chart needs of its rows, each column once: a page carries all of it."""
    return rows[list(dict.fromkeys(columns))]


def _strip(points: pd.DataFrame, lost: list[str], x: str, place: alt.X) -> alt.Chart:
    """Where points were given up, or failed."""
    rows = points[points["outcome"].isin(lost)]
    marks: alt.Chart = (
        alt.Chart(_with(rows, x, "outcome", "point", "parameters", "reached"))
        .mark_tick(color="#7F8B96", thickness=1.6, height=9, orient="vertical")
        .encode(
            place,
            alt.Y("outcome:N", title=None, sort=lost).axis(
                minExtent=52, maxExtent=52, ticks=False, domain=False
            ),
            tooltip=[
                alt.Tooltip("point:Q"),
                alt.Tooltip("parameters:N"),
                alt.Tooltip("outcome:N"),
                alt.Tooltip("reached:Q", title="after epochs"),
            ],
        )
        .properties(width=_WIDTH, height=15 * len(lost))
    )
    return marks
