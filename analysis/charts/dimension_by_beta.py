"""The intrinsic dimension against β: how a heavier KL term switches units off."""

import altair as alt
import pandas as pd

from analysis.charts.style import beta_axis, setting_channels, setting_legend, styled, wrapped
from analysis.group_words import beta_words, in_natural_order, setting_labels
from analysis.groups import range_ends

__all__ = ["dimension_by_beta_chart"]

PANEL_WIDTH = 380


def dimension_by_beta_chart(curve: pd.DataFrame) -> alt.FacetChart:
    """Draw the dimension with its interval against β, a line per setting, a panel per dataset.

    Where groups are ranges of β, points are at their middles and horizontal rules span them.

    Args:
        curve: What `dimension_by_beta` returns.
    """
    rows = curve.assign(setting=setting_labels(curve), in_words=beta_words(curve))
    beta = beta_axis(rows["beta"])
    settings = in_natural_order(rows["setting"])
    datasets = in_natural_order(rows["dataset"])
    legend = setting_legend(settings, PANEL_WIDTH * min(2, len(datasets)), symbolOpacity=1)
    colour, shape = setting_channels(settings, "setting", legend)
    tooltip = [
        alt.Tooltip("setting:N"),
        alt.Tooltip("in_words:N", title="β"),
        alt.Tooltip("dimension:Q", title="intrinsic dimension", format=".2f"),
        alt.Tooltip("lower:Q", title="95% from", format=".2f"),
        alt.Tooltip("upper:Q", title="95% to", format=".2f"),
        alt.Tooltip("at_least:Q", title="at least"),
        alt.Tooltip("verdict:N"),
    ]
    base = alt.Chart()
    dimension = alt.Y("dimension:Q", title="intrinsic dimension")
    at_least = alt.Y("at_least:Q", title="intrinsic dimension")
    layers = [
        base.mark_line().encode(beta, dimension, color=colour),
        base.mark_rule(strokeWidth=2).encode(beta, y="lower:Q", y2="upper:Q", color=colour),
        base.mark_point(filled=True, size=55).encode(
            beta, dimension, color=colour, shape=shape, tooltip=tooltip
        ),
    ]
    bounds = [
        base.mark_point(shape="triangle-up", size=70).encode(
            beta, at_least, color=colour, tooltip=tooltip
        )
    ]
    low, high = range_ends("beta")
    if low in rows:
        span = base.mark_rule().encode(x=f"{low}:Q", x2=f"{high}:Q", color=colour)
        layers.append(span.encode(dimension))
        bounds.append(span.encode(at_least))
    # A layer without a number has no extent for its scales, and Vega warns.
    if rows["dimension"].isna().all():
        layers = []
    if rows["at_least"].notna().any():
        layers += bounds
    panel = alt.LayerChart(layer=layers, data=rows, width=PANEL_WIDTH, height=260)
    return styled(wrapped(panel, "dataset", datasets, columns=2))
