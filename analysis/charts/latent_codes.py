"""Codes of many images as points, trial beside trial: the paper's figure 3."""

from itertools import combinations
from typing import Final

import altair as alt
import pandas as pd

from analysis.charts.latent_space import label_colour, plane_axes, prior_rings, reach_of
from analysis.charts.style import styled

__all__ = ["codes_chart"]

PANEL: Final = 270  # pixels of the page; three side by side fill it
WIDE_PANEL: Final = 400


def codes_chart(trials: list[tuple[str, pd.DataFrame, list[int]]]) -> alt.VConcatChart:
    """Draw codes in the planes of their units, two at a time, all panels on one scale.

    Args:
        trials: Of each trial what to call it, what `latent_points` returns for one step, and the
            two or three units to show. A row of panels each.
    """
    reach = max(reach_of(points, [f"unit_{unit}" for unit in units]) for _, points, units in trials)
    rows = [_row(*trial, reach) for trial in trials]
    return styled(alt.VConcatChart(vconcat=rows, spacing=26))


def _row(title: str, points: pd.DataFrame, units: list[int], reach: float) -> alt.HConcatChart:
    names = [f"unit_{unit}" for unit in units]
    planes = list(combinations(names, 2))
    size = PANEL if len(planes) > 1 else WIDE_PANEL
    marks = alt.Chart(points[[*names, "label"]].round(3)).mark_circle(size=8, opacity=0.6)
    panels = [
        alt.LayerChart(
            layer=[
                marks.encode(*plane_axes(x, y, reach), label_colour(points)),
                *prior_rings(size / (2 * reach)),
            ],
            width=size,
            height=size,
        )
        for x, y in planes
    ]
    heading = alt.TitleParams(title, anchor="start", fontSize=13, fontWeight="normal")
    return alt.HConcatChart(hconcat=panels, title=heading, spacing=18)
