"""Active units against latent_dim: where the count stops growing is the intrinsic dimension."""

from math import ceil

import altair as alt
import pandas as pd

from analysis.charts.style import PANEL_HEIGHT, PANEL_WIDTH, setting_legend, styled, wrapped
from analysis.group_words import beta_words, in_natural_order, naturally, setting_labels
from analysis.groups import group_columns, has_variance_part, with_group_values

__all__ = ["MOST_BETAS", "active_units_chart"]

MOST_BETAS = 6
MOST_COLUMNS = 3

_PANEL = ["dataset", "beta", "in_words"]
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

    Args:
        trials: The `trials` table; completed trials count, but for controls, whose counts mean
            nothing (see `analysis.groups.has_variance_part`).
        estimates: What `estimate_intrinsic_dimension` says of them, for the bands.
    """
    counted = trials[(trials["status"] == "completed") & has_variance_part(trials)]
    completed = with_group_values(counted)
    groups = group_columns(completed)
    betas = _spread_out(completed["beta"])
    shown = completed[completed["beta"].isin(betas)].astype({"active_units": "float64"})
    counts = (
        shown.groupby([*groups, "latent_dim"], dropna=False)["active_units"]
        .agg(["mean", "min", "max", "size"])
        .reset_index()
        .rename(columns={"size": "trials"})
        .sort_values([*groups, "latent_dim"], key=naturally)
    )
    counts = counts.assign(setting=setting_labels(counts), in_words=beta_words(counts))
    counts = counts.assign(kind="count")
    measured = ["kind", "latent_dim", "mean", "min", "max", "trials"]
    rows = [counts[[*_PANEL, "setting", *measured]]]
    if estimates is not None:
        rows.append(_bands(estimates[estimates["beta"].isin(betas)]))
    points = pd.concat(rows, ignore_index=True)
    return _draw(points.assign(panel=points["dataset"] + ", " + points["in_words"]))


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
            **{name: known[name] for name in _PANEL},
            "setting": setting_labels(known),
            "kind": "band",
            "latent_dim": known["plateau_from"].astype("float64"),
            "to": known["largest_latent_dim"].astype("float64"),
            "mean": known["estimate"],
            "min": known["lower"],
            "max": known["upper"],
        }
    )


def _draw(rows: pd.DataFrame) -> alt.FacetChart:
    panels = list(rows.sort_values(["dataset", "beta"], key=naturally)["panel"].unique())
    datasets, betas = rows["dataset"].nunique(), rows["beta"].nunique()
    if datasets > 1 and len(panels) == datasets * betas:
        columns = betas  # a dataset in each row
    else:
        lines = ceil(len(panels) / MOST_COLUMNS) or 1
        columns = ceil(len(panels) / lines) or 1
    return styled(wrapped(_panel(rows, columns * PANEL_WIDTH), "panel", panels, columns))


def _panel(rows: pd.DataFrame, total_width: float) -> alt.LayerChart:
    chosen = alt.selection_point(fields=["setting"], bind="legend")
    latent_dim = alt.X("latent_dim:Q", title="latent_dim", axis=alt.Axis(tickMinStep=1))
    settings = in_natural_order(rows["setting"])
    legend = setting_legend(settings, total_width, symbolOpacity=1)  # not as pale as the bands
    colour = alt.Color(
        "setting:N", title="setting (click to single out)", legend=legend, sort=settings
    )
    seen = alt.when(chosen).then(alt.value(1)).otherwise(alt.value(0.12))
    counts = alt.Chart().transform_filter("datum.kind == 'count'")
    bands = alt.Chart().transform_filter("datum.kind == 'band'")
    shown_bands = [
        bands.mark_rect(opacity=0.25).encode(
            latent_dim,
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
    layers = [
        counts.mark_line(color="#888888", strokeDash=[4, 4]).encode(latent_dim, y="latent_dim:Q"),
        *shown_bands,
        counts.mark_rule(strokeWidth=2).encode(
            latent_dim, y="min:Q", y2="max:Q", color=colour, opacity=seen
        ),
        counts.mark_line().encode(
            latent_dim, alt.Y("mean:Q", title="active units"), color=colour, opacity=seen
        ),
        counts.mark_point(filled=True, size=55)
        .encode(
            latent_dim,
            y="mean:Q",
            color=colour,
            shape=alt.Shape("setting:N", legend=None, sort=settings),
            opacity=seen,
            tooltip=_TOOLTIP,
        )
        .add_params(chosen),
    ]
    return alt.LayerChart(layer=layers, data=rows, width=PANEL_WIDTH, height=PANEL_HEIGHT)
