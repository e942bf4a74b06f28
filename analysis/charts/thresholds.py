"""How many units are active at any threshold: whether the answer hangs on the one in use."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from analysis.charts.style import styled

__all__ = ["thresholds_chart"]

_TITLES = {
    "variance": "threshold on Var μ",
    "kl": "threshold on the KL (nats)",
    "gain": "threshold on gain / (β·KL)",
    "relative_gain": "threshold on the share of all gain",
}


def thresholds_chart(sensitivity: pd.DataFrame, in_use: Mapping[str, float]) -> alt.HConcatChart:
    """Draw mean active units against the threshold, a panel per rule, a line per group.

    Args:
        sensitivity: What `sensitivity_at_plateau` returns, with `setting`, the group in words.
        in_use: The threshold of each rule that the counts of the study were taken with.
    """
    panels = [
        _panel(sensitivity[sensitivity["rule"] == rule], title, in_use.get(rule))
        for rule, title in _TITLES.items()
        if (sensitivity["rule"] == rule).any()
    ]
    chart: alt.HConcatChart = alt.hconcat(*panels).resolve_legend(
        color="shared", strokeDash="shared"
    )
    return styled(chart)


def _panel(rows: pd.DataFrame, title: str, in_use: float | None) -> alt.LayerChart:
    lines = (
        alt.Chart(rows)
        .mark_line(point=alt.OverlayMarkDef(size=18))
        .encode(
            alt.X("threshold:Q", title=title).scale(type="log"),
            alt.Y("active_units:Q", title="active units on the plateau"),
            alt.Color("beta:O", title="β").scale(scheme="viridis"),
            alt.StrokeDash("setting:N", title="setting"),
            detail="dataset:N",
            tooltip=[
                "setting:N",
                "dataset:N",
                alt.Tooltip("beta:Q", title="β"),
                "threshold:Q",
                alt.Tooltip("active_units:Q", title="active units", format=".2f"),
                "trials:Q",
            ],
        )
    )
    layers: list[alt.Chart] = [lines]
    if in_use is not None:
        rule = alt.Chart(pd.DataFrame({"threshold": [in_use]}))
        layers.append(rule.mark_rule(strokeDash=[5, 4]).encode(alt.X("threshold:Q", title=title)))
    return alt.LayerChart(layer=layers).properties(width=225, height=200)
