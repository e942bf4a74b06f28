"""A unit under noise and after it: the paper's figure 14, and the same of many trials at once."""

from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd

from analysis.charts.style import PALETTE, styled
from analysis.deterioration import COLLAPSED_VARIANCE, FOLLOWED, VERDICTS

__all__ = ["deterioration_chart", "recovery_chart"]

PER_ROW = 3
_WIDTH, _SPACING = 284, 22
_QUIET = "#777777"
_PHASES = {"deterioration": "noise grows", "collapse": "noise stays"}
_TINTS = alt.Scale(domain=list(_PHASES.values()), range=["#FBE6BD", "#F4C4B0"])
_LINES = {"reconstruction_gain": "reconstruction gain", "cost": "β · KL"}
_COLOURS = alt.Scale(domain=list(_LINES.values()), range=PALETTE[:2])
_VERDICT_COLOURS = dict(
    zip(FOLLOWED, [PALETTE[2], PALETTE[5], PALETTE[4], PALETTE[1]], strict=True)
)
_DASHES = alt.Scale(domain=list(_LINES.values()), range=[[1, 0], [5, 3]])


def deterioration_chart(course: pd.DataFrame, titles: "pd.Series[str]") -> alt.VConcatChart:
    """Draw gain and β·KL, mean σ² and the noise against the epoch of the probe, a column per trial.

    All trials have the same axes.

    Args:
        course: What `analysis.deterioration_course` returns of the trials to draw.
        titles: What to call each trial, by trial_id, in the order to draw them in; in several
            lines, the first of which stands out.
    """
    nats = course[list(_LINES)].to_numpy(np.float64)
    domains = {
        "epoch": [0.0, float(course["epoch"].max())],
        "nats": [min(0.0, float(np.nanmin(nats))), float(np.nanmax(nats))],
        "variance": [0.0, max(1.05, float(course["posterior_variance"].max()))],
        "noise": [0.0, 1.08 * float(course["noise"].max())],
    }
    columns = [
        _column(course[course["trial_id"] == trial_id], title.splitlines(), domains)
        for trial_id, title in titles.items()
    ]
    rows = [
        alt.hconcat(*columns[start : start + PER_ROW], spacing=_SPACING)
        for start in range(0, len(columns), PER_ROW)
    ]
    return styled(alt.vconcat(*rows, spacing=_SPACING))


def _column(
    rows: pd.DataFrame, title: list[str], domains: dict[str, list[float]]
) -> alt.VConcatChart:
    """The three panels of one trial, over the same phases."""
    epoch = alt.Scale(domain=domains["epoch"], nice=False)
    tints = (
        alt.Chart(_phases(rows))
        .mark_rect()
        .encode(
            alt.X("start:Q", scale=epoch),
            alt.X2("end:Q"),
            alt.Fill("phase:N", scale=_TINTS, legend=_legend()),
            tooltip=["phase:N"],
        )
    )
    both = rows.melt(["epoch"], list(_LINES), "quantity", "nats")
    both["quantity"] = both["quantity"].map(_LINES)
    gain = (
        alt.Chart(both)
        .mark_line(strokeWidth=2)
        .encode(
            _x(epoch),
            _y("nats", "nats per image (√ scale)", domains["nats"], "sqrt"),
            alt.Color("quantity:N", scale=_COLOURS, legend=_legend()),
            alt.StrokeDash("quantity:N", scale=_DASHES, legend=_legend()),
            tooltip=["epoch:Q", "quantity:N", alt.Tooltip("nats:Q", format=".3f")],
        )
    )
    # Of the epochs' own columns only what is drawn, so that a page stays small.
    own = alt.Chart(rows[["epoch", "phase", "posterior_variance", "noise"]])
    variance = own.mark_line(strokeWidth=2, color=PALETTE[2]).encode(
        _x(epoch),
        _y("posterior_variance", "mean σ²", domains["variance"], values=[0, 0.5, 1]),
        tooltip=["epoch:Q", alt.Tooltip("posterior_variance:Q", title="mean σ²", format=".3f")],
    )
    # An epoch's noise is that of the training behind the point.
    noise = own.mark_line(strokeWidth=1.6, color=_QUIET, interpolate="step-before").encode(
        _x(epoch, "epoch of the probe"),
        _y("noise", "noise (sd)", domains["noise"], tickCount=2),
        tooltip=["epoch:Q", "phase:N", alt.Tooltip("noise:Q", format=".2f")],
    )
    panels = [
        alt.layer(tints, lines).properties(width=_WIDTH, height=height)
        for lines, height in ((gain, 150), (variance, 66), (noise, 46))
    ]
    heading = alt.TitleParams(
        title[0], subtitle=title[1:], anchor="start", fontSize=12, subtitleFontSize=11
    )
    return alt.vconcat(*panels, spacing=8, title=heading)


def _phases(rows: pd.DataFrame) -> pd.DataFrame:
    """Where the noise grows and where it stays: from the epoch before to the last of a phase."""
    noisy = rows[rows["phase"].isin(_PHASES)]
    spans = noisy.groupby("phase", sort=False)["epoch"].agg(["min", "max"]).reset_index()
    return pd.DataFrame(
        {"phase": spans["phase"].map(_PHASES), "start": spans["min"] - 1, "end": spans["max"]}
    )


def recovery_chart(course: pd.DataFrame, outcomes: pd.DataFrame) -> alt.VConcatChart:
    """Draw the gain as a share of the initial one, and mean σ², against epochs since the noise.

    A line is a trial, coloured by its verdict; a column is a schedule.

    Args:
        course: What `analysis.deterioration_course` returns of the trials to draw.
        outcomes: What `analysis.deterioration_by_trial` returns of the same; those without a
            schedule are not drawn.
    """
    named = outcomes.loc[outcomes["schedule"].notna(), ["trial_id", "schedule", "verdict"]]
    drawn = ["trial_id", "since_noise", "share", "posterior_variance"]
    rows = course[drawn].merge(named, on="trial_id")
    panels = [
        _seeds(rows, "share", "gain, of the initial one", 1.0, format="%"),
        _seeds(rows, "posterior_variance", "mean σ²", COLLAPSED_VARIANCE),
    ]
    return styled(alt.vconcat(*panels, spacing=6))


def _seeds(rows: pd.DataFrame, name: str, title: str, level: float, **axis: Any) -> alt.FacetChart:
    """One quantity of all trials, with the level that matters and the end of the noise."""
    present = [verdict for verdict in VERDICTS if (rows["verdict"] == verdict).any()]
    colours = [_VERDICT_COLOURS.get(verdict, _QUIET) for verdict in present]
    schedules = list(rows["schedule"].unique())
    base = alt.Chart()
    colour = alt.Color("verdict:N", legend=_legend()).scale(domain=present, range=colours)
    lines = base.mark_line(strokeWidth=1.7, opacity=0.85).encode(
        alt.X("since_noise:Q", title="epochs since the noise was gone", axis={"tickMinStep": 1}),
        alt.Y(f"{name}:Q", title=title, axis=alt.Axis(minExtent=38, maxExtent=38, **axis)),
        alt.Detail("trial_id:N"),
        colour,
        tooltip=[
            "trial_id:N",
            "verdict:N",
            "since_noise:Q",
            alt.Tooltip(f"{name}:Q", format=".3f"),
        ],
    )
    rule = base.mark_rule(color=_QUIET, strokeDash=[4, 4])
    lines_at = [rule.encode(x=alt.datum(0)), rule.encode(y=alt.datum(level))]
    panel = alt.layer(*lines_at, lines, data=rows).properties(width=430, height=150)
    return panel.facet(alt.Facet("schedule:N", title=None, sort=schedules), columns=2)


def _x(scale: alt.Scale, title: str | None = None) -> alt.X:
    """The epoch, with labels where the axis has a title."""
    axis = alt.Axis(title=title, tickMinStep=1, labels=bool(title), ticks=bool(title))
    return alt.X("epoch:Q", scale=scale, axis=axis)


def _y(
    name: str,
    title: str,
    domain: list[float],
    scale: Literal["linear", "sqrt"] = "linear",
    **axis: Any,
) -> alt.Y:
    """A quantity; axes take the same room, so that panels stand exactly one below another."""
    return alt.Y(
        f"{name}:Q",
        scale=alt.Scale(type=scale, domain=domain, nice=False),
        axis=alt.Axis(title=title, minExtent=34, maxExtent=34, **axis),
    )


def _legend() -> alt.Legend:
    return alt.Legend(title=None, orient="bottom", symbolSize=260)
