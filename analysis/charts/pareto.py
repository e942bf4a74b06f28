"""Several goals at once: the points that no other beats, and those that are beaten."""

from itertools import combinations
from typing import Any, Final, Literal

import altair as alt
import numpy as np
import pandas as pd

from analysis.charts.search_history import visible_limit
from analysis.charts.style import PALETTE, styled
from analysis.search_goals import Goal
from analysis.search_words import goal_words, number_format, parameter_words

__all__ = ["MOST_PAIRS", "pareto_chart"]

MOST_PAIRS: Final = 6
FRONT, BEATEN, MISSES = "on the front", "beaten by one of them", "misses a constraint"
_COLOURS: Final = {MISSES: PALETTE[1], BEATEN: "#9AA7B2", FRONT: PALETTE[0]}
_SHAPES: Final = {MISSES: "cross", BEATEN: "circle", FRONT: "circle"}
_MOST_LABELS: Final = 15


def pareto_chart(points: pd.DataFrame, front: "pd.Series[bool]", goals: list[Goal]) -> Any:
    """Draw the completed points against two goals at a time, those of the front dark and numbered.

    With two goals, steps bound what the front beats. With more, a panel for each pair, of which
    six at most: a point of the front may then lie behind others in a panel, and be better in a goal
    that is not in it.

    Args:
        points: As `search_points` returns them, of one dataset.
        front: What `pareto_front` says of them.
        goals: Two goals or more.
    """
    done = points[points["outcome"] == "completed"]
    kind = np.select([front[done.index], done["feasible"]], [FRONT, BEATEN], MISSES)
    rows = done.assign(kind=kind, parameters=parameter_words(points)[done.index])
    pairs = list(combinations(goals, 2))[:MOST_PAIRS]
    alone = len(pairs) == 1
    size = {"width": 560, "height": 360} if alone else {"width": 400, "height": 280}
    panels = [_panel(rows, *pair, steps=alone).properties(**size) for pair in pairs]
    if alone:
        return styled(panels[0])
    return styled(alt.concat(*panels, columns=2, spacing=24))


def _panel(rows: pd.DataFrame, across: Goal, up: Goal, *, steps: bool) -> alt.LayerChart:
    kinds = [name for name in _COLOURS if (rows["kind"] == name).any()]
    names = list(dict.fromkeys([across.name, up.name]))
    x, y = _channel(alt.X, rows, across), _channel(alt.Y, rows, up)
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1, symbolSize=50)
    colours, shapes = [_COLOURS[kind] for kind in kinds], [_SHAPES[kind] for kind in kinds]
    values = [
        alt.Tooltip(f"{g.name}:Q", title=goal_words(g), format=number_format(rows[g.name]))
        for g in (across, up)
    ]

    def dots(of: pd.DataFrame, **mark: float) -> alt.Chart:
        base = alt.Chart(of[["point", "parameters", "kind", "trials", *names]])
        chart: alt.Chart = base.mark_point(filled=True, clip=True, **mark).encode(  # type: ignore[arg-type]
            x,
            y,
            alt.Color("kind:N", legend=legend).scale(domain=kinds, range=colours),
            alt.Shape("kind:N", legend=legend).scale(domain=kinds, range=shapes),
            tooltip=["point:Q", "parameters:N", *values, "kind:N"],
        )
        return chart

    on_front = rows["kind"] == FRONT
    best = rows[on_front].sort_values(across.name)
    layers: list[Any] = []
    if not on_front.all():
        layers.append(dots(rows[~on_front], size=32, opacity=0.55))
    if len(best):
        layers.append(dots(best, size=64, opacity=1))
    if steps and len(best) > 1:
        bound: Literal["step-before", "step-after"] = (
            "step-before" if across.direction == "maximise" else "step-after"
        )
        line = alt.Chart(best[names]).mark_line(
            interpolate=bound, color=PALETTE[0], strokeWidth=1.3, opacity=0.6, clip=True
        )
        layers.insert(0, line.encode(x, y))
    if 0 < len(best) <= _MOST_LABELS:
        # On the side that nothing of the front lies on.
        right, below = across.direction == "maximise", up.direction != "maximise"
        labels = alt.Chart(best[["point", *names]]).mark_text(
            align="left" if right else "right",
            baseline="top" if below else "bottom",
            dx=5 if right else -5,
            dy=4 if below else -4,
            fontSize=10,
            color="#333333",
        )
        layers.append(labels.encode(x, y, text="point:N"))
    return alt.LayerChart(layer=layers)


def _channel(kind: Any, rows: pd.DataFrame, goal: Goal) -> Any:
    """An axis that shows all but what would flatten the rest."""
    losses = goal.sign * rows[goal.name]
    front = losses[rows["kind"] == FRONT]  # all of which is to be seen
    best, worst = float(losses.min()), max([visible_limit(losses), *front])
    room = 0.06 * (worst - best) or max(0.5, abs(best) / 100)
    domain = sorted([goal.sign * (best - room), goal.sign * (worst + room)])
    arrow = {"maximise": "more is better", "minimise": "less is better"}
    title = f"{goal_words(goal)} ({arrow.get(goal.direction, 'less is better')})"
    return kind(f"{goal.name}:Q", title=title).scale(domain=domain, nice=False).axis(tickCount=8)
