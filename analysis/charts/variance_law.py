"""The variance law in pictures: units around the line mean σ² + Var μ = 1, and their residuals."""

import json
from typing import Final, Literal

import altair as alt
import numpy as np
import pandas as pd

from analysis.charts.style import MOST_TICKS, PALETTE, PANEL_HEIGHT, PANEL_WIDTH, styled

__all__ = ["bin_law", "law_density", "law_residual_chart", "law_scatter"]

_VARIANCES = ["posterior_variance", "mean_variance"]
_LINE = "#444444"
_SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke"]
_AXES = {
    "kl": "KL of the unit (nats per image)",
    "beta": "β",
    "latent_dim": "latent dimension",
    "epochs_trained": "epochs trained",
    "epoch": "epoch",
    "reconstruction_gain": "reconstruction gain of the unit (nats per image)",
    "active": "unit",
}
_SCALES: Final[dict[str, Literal["linear", "sqrt"]]] = {
    "kl": "sqrt",
    "reconstruction_gain": "sqrt",
}
_WHOLE = ("latent_dim", "epochs_trained", "epoch")
_RESIDUAL_TOOLTIP = [
    alt.Tooltip("label:N", title="bin"),
    alt.Tooltip("units:Q", format=","),
    *(
        alt.Tooltip(f"{name}:Q", format=".4f")
        for name in ("mean", "sd", "q05", "q25", "median", "q75", "q95")
    ),
]
_POINT = [
    "trial_id",
    "unit",
    "group",
    "latent_dim",
    "beta",
    "posterior_variance",
    "mean_variance",
    "kl",
]


def law_scatter(units: pd.DataFrame) -> alt.LayerChart:
    """Draw Var μ against mean σ², a point per unit, with the line of slope −1 that the law says.

    A group has a colour and a shape. Of more than seven, the six with the most units have one
    each, and all others share one.

    Args:
        units: What `analysis.law_units.law_units` returns, thinned to as many rows as a page
            can carry.
    """
    points = units[_POINT].round(5)  # more digits than a page shows would only make it larger
    named = _named_groups(units["group"])
    others = f"{units['group'].nunique() - len(named)} other groups"
    shown = [*named, others] if units["group"].nunique() > len(named) else named
    legend = alt.Legend(
        title="group (click to single out)", orient="bottom", columns=1, labelLimit=700
    )
    chosen = alt.selection_point(fields=["shown"], bind="legend")
    marks = (
        alt.Chart(points)
        .transform_calculate(
            shown=f"indexof({json.dumps(named)}, datum.group) < 0 ? '{others}' : datum.group",
            law="datum.posterior_variance + datum.mean_variance",
        )
        .mark_point(size=38, strokeWidth=1.3)
        .encode(
            *_axes(points[_VARIANCES]),
            alt.Color("shown:N", legend=legend).scale(domain=shown, range=PALETTE),
            alt.Shape("shown:N", legend=legend).scale(domain=shown, range=_SHAPES),
            opacity=alt.when(chosen).then(alt.value(0.75)).otherwise(alt.value(0.06)),
            tooltip=[
                alt.Tooltip("trial_id:N", title="trial"),
                alt.Tooltip("unit:Q"),
                alt.Tooltip("group:N"),
                alt.Tooltip("latent_dim:Q"),
                alt.Tooltip("beta:Q", title="β"),
                alt.Tooltip("posterior_variance:Q", title="mean σ²", format=".4f"),
                alt.Tooltip("mean_variance:Q", title="Var μ", format=".4f"),
                alt.Tooltip("law:Q", title="mean σ² + Var μ", format=".4f"),
                alt.Tooltip("kl:Q", title="KL (nats)", format=".3f"),
            ],
        )
        .add_params(chosen)
    )
    return _square([_law_line(), marks])


def bin_law(units: pd.DataFrame, bins: int = 60, upper: float = 1.5) -> pd.DataFrame:
    """Count units in squares of mean σ² and Var μ, for studies with too many to draw each.

    Args:
        units: What `analysis.law_units.law_units` returns, or any frame with
            posterior_variance and mean_variance.
        bins: Squares along each axis.
        upper: Where the axes end. Units beyond are counted in the last square of the axis.

    Returns:
        One row per square that is not empty: posterior_variance and mean_variance, its lower
        edges; posterior_variance_to and mean_variance_to, its upper ones; units, how many it
        holds; beyond, how many of these lie above the end of an axis.
    """
    points = units[_VARIANCES].astype("float64").dropna()
    square = np.floor(points / upper * bins).clip(0, bins - 1)
    beyond = (points > upper).any(axis=1)
    counted = beyond.groupby([square[name] for name in _VARIANCES]).agg(units="size", beyond="sum")
    lower = counted.reset_index()
    lower[_VARIANCES] *= upper / bins
    return lower.assign(**{f"{name}_to": lower[name] + upper / bins for name in _VARIANCES})


def law_density(binned: pd.DataFrame) -> alt.LayerChart:
    """Draw how many units lie where around the line of slope −1, the darker the more.

    Args:
        binned: What `bin_law` returns.
    """
    beyond = int(binned["beyond"].sum())
    notes = [f"{int(binned['units'].sum()):,} units"]
    if beyond:
        notes.append(f"{beyond:,} beyond the axes, counted at the border")
    squares = (
        alt.Chart(binned)
        .mark_rect()
        .encode(
            *_axes(binned[[f"{name}_to" for name in _VARIANCES]]),
            alt.X2("posterior_variance_to:Q"),
            alt.Y2("mean_variance_to:Q"),
            alt.Color("units:Q").scale(type="log", scheme="viridis", reverse=True),
            tooltip=[
                alt.Tooltip("posterior_variance:Q", title="mean σ² from", format=".3f"),
                alt.Tooltip("mean_variance:Q", title="Var μ from", format=".3f"),
                alt.Tooltip("units:Q", format=","),
                alt.Tooltip("beyond:Q", title="of these beyond", format=","),
            ],
        )
    )
    return _square([squares, _law_line()], "; ".join(notes))


def law_residual_chart(summary: pd.DataFrame) -> alt.FacetChart:
    """Draw the residuals of both sums against what they were summarised by, with their spread.

    The dark band spans half of the units, the light one 90%; lines are medians, points are means.
    Where the law holds everything lies at 0.

    Args:
        summary: What `analysis.law_residuals.residual_by` returns.
    """
    by = str(summary["by"].iloc[0]) if len(summary) else ""
    title = _AXES.get(by, by.replace("_", " "))
    scale = alt.Scale(type=_SCALES.get(by, "linear"), zero=False)
    if by == "beta":
        scale = alt.Scale(type="log")  # has no zero, and Vega-Lite warns where told so
    axis = alt.Axis(labelAngle=0, tickMinStep=1 if by in _WHOLE else 0)
    if by == "beta" and summary["middle"].nunique() <= MOST_TICKS:
        axis.values = sorted(summary["middle"].unique())  # else a log axis is labelled 0.3 0.4 0.5
    base = alt.Chart().encode(color=alt.value(PALETTE[0]), tooltip=_RESIDUAL_TOOLTIP)
    point = base.encode(alt.X("middle:Q", title=title, scale=scale, axis=axis))
    band, median, whiskers = point.mark_area(), point.mark_line(), []
    if summary["middle"].isna().any():  # text
        point = base.encode(alt.X("label:N", title=title, sort=None, axis=axis))
        band, median = point.mark_bar(size=30), point.mark_tick(size=30)
    elif (summary["low"] < summary["high"]).any():  # a bin has a width, and bins have gaps
        bins = base.encode(alt.X("low:Q", title=title, scale=scale, axis=axis), x2="high:Q")
        band, median = bins.mark_rect(), bins.mark_rule()
        whiskers = [point.mark_rule().encode(y="q05:Q", y2="q95:Q")]  # a bin may be a single value
    layers = [
        band.encode(alt.Y("q05:Q", title="residual, sum − 1"), y2="q95:Q", opacity=alt.value(0.2)),
        band.encode(y="q25:Q", y2="q75:Q", opacity=alt.value(0.4)),
        *whiskers,
        alt.Chart().mark_rule(strokeDash=[4, 4], color=_LINE).encode(y=alt.datum(0)),
        median.encode(y="median:Q", strokeWidth=alt.value(2)),
        point.mark_point(filled=True, size=45).encode(y="mean:Q", opacity=alt.value(1)),
    ]
    panel = alt.LayerChart(layer=layers, data=summary, width=PANEL_WIDTH, height=PANEL_HEIGHT)
    return styled(panel.facet(column=alt.Column("sum:N", title=None, sort=None)))


def _named_groups(groups: pd.Series) -> list[str]:
    """The groups that get a colour of their own, in the order of their categories."""
    counts = groups.value_counts()
    counts = counts[counts > 0]
    if len(counts) > len(PALETTE):
        counts = counts.iloc[: len(PALETTE) - 1]
    ordered = groups.astype("category").cat.categories
    return [str(name) for name in ordered if name in counts.index]


def _axes(variances: pd.DataFrame) -> tuple[alt.X, alt.Y]:
    """The same scale on both axes, so that the line has slope −1 on the page too."""
    end = float(np.nanmax(variances.to_numpy(), initial=1.0))
    scale = alt.Scale(domain=[0, end], nice=False, padding=7)
    return (
        alt.X("posterior_variance:Q", title="mean posterior variance, mean σ²(x)", scale=scale),
        alt.Y("mean_variance:Q", title="variance of the mean, Var μ(x)", scale=scale),
    )


def _law_line() -> alt.Chart:
    ends = pd.DataFrame({"posterior_variance": [0.0, 1.0], "mean_variance": [1.0, 0.0]})
    line: alt.Chart = alt.Chart(ends).mark_line(color=_LINE, strokeDash=[6, 4], strokeWidth=1.5)
    return line.encode(x="posterior_variance:Q", y="mean_variance:Q")


def _square(layers: list[alt.Chart], title: str = "") -> alt.LayerChart:
    heading = alt.Title(title, fontSize=11, fontWeight="normal", anchor="start")
    return styled(alt.LayerChart(layer=layers, title=heading, width=400, height=400))
