"""How many units are active at any threshold: whether the answer hangs on the one in use."""

from collections.abc import Mapping

import altair as alt
import pandas as pd

from analysis.charts.style import styled
from analysis.group_words import beta_words, in_natural_order

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
    rows = sensitivity.assign(in_words=beta_words(sensitivity))
    orders = {
        "in_words": list(rows.sort_values("beta")["in_words"].unique()),
        "setting": in_natural_order(rows["setting"]),
    }
    panels = [
        _panel(rows[rows["rule"] == rule], title, in_use.get(rule), orders)
        for rule, title in _TITLES.items()
        if (rows["rule"] == rule).any()
    ]
    chart: alt.HConcatChart = alt.hconcat(*panels).resolve_legend(
        color="shared", strokeDash="shared"
    )
    return styled(chart)


def _panel(
    rows: pd.DataFrame, title: str, in_use: float | None, orders: Mapping[str, list[str]]
) -> alt.LayerChart:
    base = alt.Chart(rows).encode(
        alt.X("threshold:Q", title=title).scale(type="log"),
        alt.Y("active_units:Q", title="active units on the plateau"),
        alt.Color(
            "in_words:O", sort=orders["in_words"], legend=alt.Legend(title=None, orient="top")
        ).scale(scheme="viridis"),
        tooltip=[
            "setting:N",
            "dataset:N",
            alt.Tooltip("in_words:N", title="β"),
            "threshold:Q",
            alt.Tooltip("active_units:Q", title="active units", format=".2f"),
            "trials:Q",
        ],
    )
    settings = alt.Legend(
        title="setting", orient="bottom", columns=2, symbolType="stroke", symbolSize=400
    )
    dash = alt.StrokeDash("setting:N", sort=orders["setting"], legend=settings)
    layers = [
        base.mark_line().encode(dash, detail="dataset:N"),
        base.mark_circle(size=18, opacity=1),
    ]
    if in_use is not None:
        rule = alt.Chart(pd.DataFrame({"threshold": [in_use]}))
        layers.append(rule.mark_rule(strokeDash=[5, 4]).encode(alt.X("threshold:Q", title=title)))
    return alt.LayerChart(layer=layers).properties(width=225, height=200)
