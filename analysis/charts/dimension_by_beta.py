"""The intrinsic dimension against β: how a heavier KL term switches units off."""

import altair as alt
import pandas as pd

from analysis.charts.style import styled
from analysis.groups import setting_labels

__all__ = ["dimension_by_beta_chart"]


def dimension_by_beta_chart(curve: pd.DataFrame) -> alt.FacetChart:
    """Draw the dimension with its interval against β, a line per setting, a panel per dataset.

    Args:
        curve: What `dimension_by_beta` returns.
    """
    rows = curve.assign(setting=setting_labels(curve))
    beta = alt.X("beta:Q", title="β").scale(type="log", nice=False, padding=12)
    if (rows["beta"] <= 0).any():  # a logarithm has no place for β = 0
        beta = alt.X("beta:Q", title="β")
    colour = alt.Color("setting:N", title="setting")
    tooltip = [
        alt.Tooltip("setting:N"),
        alt.Tooltip("beta:Q", title="β"),
        alt.Tooltip("dimension:Q", title="intrinsic dimension", format=".2f"),
        alt.Tooltip("lower:Q", title="95% from", format=".2f"),
        alt.Tooltip("upper:Q", title="95% to", format=".2f"),
        alt.Tooltip("at_least:Q", title="at least"),
        alt.Tooltip("verdict:N"),
    ]
    base = alt.Chart()
    panel = alt.layer(
        base.mark_rule(strokeWidth=2).encode(beta, y="lower:Q", y2="upper:Q", color=colour),
        base.mark_line().encode(
            beta, alt.Y("dimension:Q", title="intrinsic dimension"), color=colour
        ),
        base.mark_point(filled=True, size=55).encode(
            beta,
            y="dimension:Q",
            color=colour,
            shape=alt.Shape("setting:N", legend=None),
            tooltip=tooltip,
        ),
        base.mark_point(shape="triangle-up", size=70).encode(
            beta, y="at_least:Q", color=colour, tooltip=tooltip
        ),
        data=rows,
    )
    return styled(
        panel.properties(width=380, height=260).facet(alt.Facet("dataset:N", title=None), columns=2)
    )
