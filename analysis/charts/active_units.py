"""Active units against latent_dim: where the count stops growing is the intrinsic dimension.

Where no setting was tried with more than one latent_dim they are drawn against β.
"""

from math import ceil

import altair as alt
import pandas as pd

from analysis.charts.style import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    beta_axis,
    setting_channels,
    setting_legend,
    styled,
    wrapped,
)
from analysis.group_words import beta_words, in_natural_order, naturally, setting_labels
from analysis.groups import group_columns, has_variance_part, with_group_values

__all__ = ["MOST_BETAS", "active_units_chart", "drawn_against"]

MOST_BETAS = 6
MOST_COLUMNS = 3

_POINT = ["dataset", "beta", "in_words", "latent_dim"]
_TOOLTIP = [
    alt.Tooltip("setting:N"),
    alt.Tooltip("dataset:N"),
    alt.Tooltip("in_words:N", title="β"),
    alt.Tooltip("latent_dim:Q"),
    alt.Tooltip("mean:Q", title="mean active units", format=".2f"),
    alt.Tooltip("min:Q", title="fewest"),
    alt.Tooltip("max:Q", title="most"),
    alt.Tooltip("trials:Q"),
]


def active_units_chart(
    trials: pd.DataFrame, estimates: pd.DataFrame | None = None
) -> alt.FacetChart:
    """Draw active units against latent_dim: a line per setting, a panel per dataset and β.

    Points are means over a setting's trials, bars span the fewest and the most; the dashed
    diagonal is where every unit is active. Bands are the intrinsic dimension's 95% intervals over
    the latent dimensions it was taken from. Of more than six β, or ranges of β, six that are spread
    over all of them are drawn.

    Where no group has more than one latent_dim, but there are several β, the counts are drawn
    against β, in a panel per dataset and latent_dim.

    Args:
        trials: The `trials` table; completed trials count, but for controls, whose counts mean
            nothing (see `analysis.groups.has_variance_part`).
        estimates: What `estimate_intrinsic_dimension` says of them, for the bands.
    """
    counts = _counts(trials)
    against = _against(counts)
    if against == "beta":
        panels = counts["dataset"] + ", latent_dim " + counts["latent_dim"].astype("str")
        return _draw(counts.assign(panel=panels), against)
    betas = _spread_out(counts["beta"])
    rows = [counts[counts["beta"].isin(betas)]]
    if estimates is not None:
        rows.append(_bands(estimates[estimates["beta"].isin(betas)]))
    points = pd.concat(rows, ignore_index=True)
    return _draw(points.assign(panel=points["dataset"] + ", " + points["in_words"]), against)


def drawn_against(trials: pd.DataFrame) -> str:
    """Return what the chart's x axis is: latent_dim, or beta where only that varies in settings."""
    return _against(_counts(trials))


def _against(counts: pd.DataFrame) -> str:
    tried = counts.groupby(["dataset", "setting", "beta"])["latent_dim"].nunique()
    return "latent_dim" if (tried > 1).any() or counts["beta"].nunique() < 2 else "beta"


def _counts(trials: pd.DataFrame) -> pd.DataFrame:
    """The points: counts of each group at each latent_dim."""
    counted = trials[(trials["status"] == "completed") & has_variance_part(trials)]
    completed = with_group_values(counted).astype({"active_units": "float64"})
    groups = group_columns(completed)
    counts = (
        completed.groupby([*groups, "latent_dim"], dropna=False)["active_units"]
        .agg(["mean", "min", "max", "size"])
        .reset_index()
        .rename(columns={"size": "trials"})
        .sort_values([*groups, "latent_dim"], key=naturally)
    )
    counts = counts.assign(setting=setting_labels(counts), in_words=beta_words(counts))
    return counts.assign(kind="count")[[*_POINT, "setting", "kind", "mean", "min", "max", "trials"]]


def _spread_out(betas: "pd.Series[float]") -> list[float]:
    values = sorted(betas.unique())
    if len(values) <= MOST_BETAS:
        return values
    return [values[round(i * (len(values) - 1) / (MOST_BETAS - 1))] for i in range(MOST_BETAS)]


def _bands(estimates: pd.DataFrame) -> pd.DataFrame:
    known = estimates[estimates["estimate"].notna()]
    known = known.assign(in_words=beta_words(known))
    return pd.DataFrame(
        {
            **{name: known[name] for name in ("dataset", "beta", "in_words")},
            "setting": setting_labels(known),
            "kind": "band",
            "latent_dim": known["plateau_from"].astype("float64"),
            "to": known["largest_latent_dim"].astype("float64"),
            "mean": known["estimate"],
            "min": known["lower"],
            "max": known["upper"],
        }
    )


def _draw(rows: pd.DataFrame, against: str) -> alt.FacetChart:
    by = "latent_dim" if against == "beta" else "beta"
    panels = list(rows.sort_values(["dataset", by], key=naturally)["panel"].unique())
    datasets, others = rows["dataset"].nunique(), rows[by].nunique()
    if datasets > 1 and len(panels) == datasets * others and others <= MOST_BETAS:
        columns = others  # a dataset in each row
    else:
        lines = ceil(len(panels) / MOST_COLUMNS) or 1
        columns = ceil(len(panels) / lines) or 1
    return styled(wrapped(_panel(rows, against, columns * PANEL_WIDTH), "panel", panels, columns))


def _panel(rows: pd.DataFrame, against: str, total_width: float) -> alt.LayerChart:
    chosen = alt.selection_point(fields=["setting"], bind="legend")
    x = alt.X("latent_dim:Q", title="latent_dim", axis=alt.Axis(tickMinStep=1))
    if against == "beta":
        x = beta_axis(rows["beta"])
    settings = in_natural_order(rows["setting"])
    legend = setting_legend(settings, total_width, symbolOpacity=1)  # not as pale as the bands
    colour, shape = setting_channels(settings, "setting (click to single out)", legend)
    seen = alt.when(chosen).then(alt.value(1)).otherwise(alt.value(0.12))
    counts = alt.Chart().transform_filter("datum.kind == 'count'")
    bands = alt.Chart().transform_filter("datum.kind == 'band'")
    shown_bands = [
        bands.mark_rect(opacity=0.25).encode(
            x,
            x2="to:Q",
            y="min:Q",
            y2="max:Q",
            color=colour,
            tooltip=[
                alt.Tooltip("setting:N"),
                alt.Tooltip("mean:Q", title="intrinsic dimension", format=".2f"),
                alt.Tooltip("min:Q", title="95% from", format=".2f"),
                alt.Tooltip("max:Q", title="95% to", format=".2f"),
            ],
        )
    ]
    if not (rows["kind"] == "band").any():  # an empty layer has no extent, and Vega warns
        shown_bands = []
    diagonal = counts.mark_line(color="#888888", strokeDash=[4, 4]).encode(x, y="latent_dim:Q")
    shown_diagonal = [diagonal] if against == "latent_dim" else []
    layers = [
        *shown_diagonal,
        *shown_bands,
        counts.mark_rule(strokeWidth=2).encode(
            x, y="min:Q", y2="max:Q", color=colour, opacity=seen
        ),
        counts.mark_line().encode(
            x, alt.Y("mean:Q", title="active units"), color=colour, opacity=seen
        ),
        counts.mark_point(filled=True, size=55)
        .encode(
            x,
            y="mean:Q",
            color=colour,
            shape=shape,
            opacity=seen,
            tooltip=_TOOLTIP,
        )
        .add_params(chosen),
    ]
    return alt.LayerChart(layer=layers, data=rows, width=PANEL_WIDTH, height=PANEL_HEIGHT)
