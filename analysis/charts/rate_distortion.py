"""Rate against distortion: what a trial spends in KL, and what it gets for it."""

import altair as alt
import pandas as pd

from analysis.charts.style import setting_legend, styled, wrapped
from analysis.group_words import in_natural_order, setting_labels
from analysis.groups import group_columns, with_group_values

__all__ = ["rate_distortion_chart"]

PANEL_WIDTH = 420


def rate_distortion_chart(trials: pd.DataFrame) -> alt.FacetChart:
    """Draw a point per completed trial: KL against reconstruction on the test images.

    There is a panel per dataset and likelihood. Colour is the number of active units, shape the
    setting. Left and down is better: the ELBO is minus the sum of both.

    Args:
        trials: The `trials` table, or those of its rows that are to be drawn.
    """
    completed = trials[trials["status"] == "completed"]
    labels = setting_labels(with_group_values(completed)[group_columns(completed)])
    panel = completed["dataset"]
    if completed["decoder"].nunique() > 1:  # nats of one likelihood are not those of another
        panel = panel + ", " + completed["decoder"]
    rows = completed.assign(setting=labels, panel=panel)[
        [
            "trial_id",
            "panel",
            "setting",
            "beta",
            "latent_dim",
            "seed",
            "active_units",
            "test_reconstruction",
            "test_kl",
            "test_elbo",
        ]
    ]
    settings = in_natural_order(labels)
    legend = setting_legend(settings, PANEL_WIDTH * min(2, rows["panel"].nunique()))
    points = (
        alt.Chart(rows)
        .mark_point(filled=True, size=45, opacity=0.85)
        .encode(
            alt.X(
                "test_reconstruction:Q", title="reconstruction, −E log p(x|z) (nats per image)"
            ).scale(zero=False, nice=True),
            alt.Y("test_kl:Q", title="KL (nats per image)").scale(zero=False),
            alt.Color("active_units:Q", title="active units").scale(scheme="viridis"),
            alt.Shape("setting:N", title="setting", sort=settings, legend=legend),
            tooltip=[
                alt.Tooltip("setting:N"),
                alt.Tooltip("beta:Q", title="β"),
                alt.Tooltip("latent_dim:Q"),
                alt.Tooltip("seed:Q"),
                alt.Tooltip("active_units:Q", title="active units"),
                alt.Tooltip("test_elbo:Q", title="test ELBO", format=".2f"),
                alt.Tooltip("test_reconstruction:Q", title="reconstruction", format=".2f"),
                alt.Tooltip("test_kl:Q", title="KL", format=".2f"),
                alt.Tooltip("trial_id:N"),
            ],
        )
        .properties(width=PANEL_WIDTH, height=280)
    )
    panels = wrapped(points, "panel", in_natural_order(rows["panel"]), columns=2)
    free: alt.FacetChart = panels.resolve_scale(x="independent", y="independent")
    return styled(free)
