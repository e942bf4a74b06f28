"""The units of one trial, side by side: posterior variance and variance of the mean, stacked."""

import altair as alt
import pandas as pd

from analysis.charts.style import ACTIVE, INACTIVE, styled

__all__ = ["trial_units_chart"]

PARTS = {"posterior_variance": "mean σ²", "mean_variance": "Var μ"}


def trial_units_chart(units: pd.DataFrame | str) -> alt.LayerChart:
    """Draw a bar per unit, mean σ² below and Var μ above; the law says every bar ends at 1.

    Args:
        units: The final units of one trial: unit, mean_variance, posterior_variance, kl and
            reconstruction_gain. Or a name, under which a page hands them to the chart later.
    """
    data = alt.NamedData(units) if isinstance(units, str) else units
    tooltip = [
        alt.Tooltip("unit:O"),
        alt.Tooltip("posterior_variance:Q", title="mean σ²", format=".4f"),
        alt.Tooltip("mean_variance:Q", title="Var μ", format=".4f"),
        alt.Tooltip("kl:Q", title="KL (nats)", format=".3f"),
        alt.Tooltip("reconstruction_gain:Q", title="reconstruction gain (nats)", format=".3f"),
    ]
    bars = (
        alt.Chart(data)
        .transform_fold(list(PARTS), as_=["part", "value"])
        .mark_bar()
        .encode(
            alt.X("unit:O", title="unit", axis=alt.Axis(labelAngle=0)),
            alt.Y("value:Q", title="mean σ² + Var μ"),
            alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(domain=list(PARTS), range=[INACTIVE, ACTIVE]),
                legend=alt.Legend(
                    orient="top",
                    labelExpr=f"datum.value == 'mean_variance' ? '{PARTS['mean_variance']}'"
                    f" : '{PARTS['posterior_variance']}'",
                ),
            ),
            alt.Order("part:N", sort="descending"),
            tooltip=tooltip,
        )
    )
    law = alt.Chart().mark_rule(strokeDash=[4, 4]).encode(y=alt.datum(1))
    return styled(alt.LayerChart(layer=[bars, law], data=data).properties(width=620, height=200))
