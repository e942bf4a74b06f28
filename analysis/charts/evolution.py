"""How units and counts move along training: the paper's figure 5, and whether it has settled."""

import altair as alt
import pandas as pd

from analysis.charts.style import styled

__all__ = ["evolution_chart", "learning_chart"]

_QUANTITIES = {"mean_variance": "Var μ", "posterior_variance": "mean σ²"}


def evolution_chart(units: pd.DataFrame, labels: "pd.Series[str]") -> alt.FacetChart:
    """Draw each unit's variances against the epoch: Var μ on the left, mean σ² on the right.

    The paper's figure 5 says "variance of latent variables", which may mean either.

    Args:
        units: Rows of `units` of the trials to draw, all recorded epochs, one split.
        labels: What to call each trial, by trial_id, in the order to draw them in.
    """
    rows = units.melt(
        ["trial_id", "epoch", "unit"], list(_QUANTITIES), var_name="quantity", value_name="value"
    )
    rows["quantity"] = rows["quantity"].map(_QUANTITIES)
    rows["trial"] = rows["trial_id"].map(labels)
    units_per_column = 24
    columns = -(-rows["unit"].nunique() // units_per_column)
    legend = alt.Legend(columns=columns, symbolLimit=0)  # no limit
    lines = (
        alt.Chart(rows)
        .mark_line(point=alt.OverlayMarkDef(size=12), strokeWidth=1.2)
        .encode(
            alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1)),
            alt.Y("value:Q", title=None),
            alt.Color("unit:O", title="unit", legend=legend).scale(scheme="turbo"),
            tooltip=["trial:N", "unit:O", "epoch:Q", alt.Tooltip("value:Q", format=".4f")],
        )
        .properties(width=340, height=190)
    )
    panels: alt.FacetChart = lines.facet(
        column=alt.Column("quantity:N", title=None, sort=list(_QUANTITIES.values())),
        row=alt.Row(
            "trial:N",
            title=None,
            sort=list(labels),
            header=alt.Header(labelOrient="top", labelAnchor="start", labelLimit=700),
        ),
    )
    return styled(panels)


_CURVES = {
    "active_units": "active units (test images)",
    "variance_law_mean": "variance law: mean σ² + Var μ, mean over units",
    "test_elbo": "test ELBO (nats per image)",
}


def learning_chart(epochs: pd.DataFrame, labels: "pd.Series[str]") -> alt.FacetChart:
    """Draw active units, the variance law and the test ELBO against the epoch, a line per trial.

    Args:
        epochs: Rows of `epochs` of the trials to draw.
        labels: What to call each trial, by trial_id, in the order to list them in.
    """
    numbers = epochs.astype(dict.fromkeys(_CURVES, "float64"))
    rows = numbers.melt(
        ["trial_id", "epoch"], list(_CURVES), var_name="quantity", value_name="value"
    )
    rows = rows.assign(
        trial=rows["trial_id"].map(labels), quantity=rows["quantity"].map(_CURVES)
    ).dropna(subset="value")
    chosen = alt.selection_point(fields=["trial"], bind="legend")
    # The same for colour and dash, domain included, so that Vega-Lite draws one legend of both.
    scale = alt.Scale(domain=list(labels))
    legend = alt.Legend(
        title="trial (click to single out)", orient="bottom", columns=1, labelLimit=700
    )
    lines = (
        alt.Chart(rows)
        .mark_line()
        .encode(
            alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1)),
            alt.Y("value:Q", title=None).scale(zero=False),
            alt.Color("trial:N", scale=scale, legend=legend),
            alt.StrokeDash("trial:N", scale=scale, legend=legend),
            opacity=alt.when(chosen).then(alt.value(1)).otherwise(alt.value(0.12)),
            tooltip=["trial:N", "epoch:Q", alt.Tooltip("value:Q", format=".4f")],
        )
        .properties(width=290, height=210)
        .add_params(chosen)
    )
    quantity = alt.Column("quantity:N", title=None, sort=list(_CURVES.values()))
    panels: alt.FacetChart = lines.facet(column=quantity).resolve_scale(y="independent")
    return styled(panels)
