"""The spectrum of the data's covariance, with the thresholds that probabilistic PCA cuts it at."""

import altair as alt
import numpy as np
import pandas as pd

from analysis.charts.style import styled
from analysis.group_words import in_natural_order

__all__ = ["MOST_THRESHOLDS", "eigenvalue_spectrum"]

MOST_THRESHOLDS = 12
LABELS_APART = 1.8
SMALLEST_SHARE = 1e-6
_EVERY_COMPONENT_UP_TO = 50
_POINTS_PER_DECADE = 60

_POINTS = ["dataset", "component", "eigenvalue", "share"]
_RULES = ["threshold", "rule", "label"]


def eigenvalue_spectrum(
    datasets: pd.DataFrame, answers: pd.DataFrame | None = None
) -> alt.LayerChart:
    """Draw covariance eigenvalues against their rank, both on logarithmic scales.

    A dashed rule at each threshold β·s: a linear VAE keeps the components above it active. Of more
    than twelve thresholds, twelve that are spread over their range are drawn. Left out are
    eigenvalues below a millionth of the largest and, from the 50th on, some of those that would
    fall on the same pixels.

    Args:
        datasets: The `datasets` table.
        answers: What `analysis.data_dimension.linear_answers` says, for the thresholds.
    """
    points = _spectra(datasets)
    order = in_natural_order(points["dataset"])
    rules = _thresholds(answers)
    spectra = alt.Chart(points)
    thresholds = alt.Chart(rules).encode(
        alt.Y("threshold:Q"),
        tooltip=[
            alt.Tooltip("threshold:Q", title="β·s", format=".4g"),
            alt.Tooltip("rule:N", title="settings"),
        ],
    )
    lines = [
        thresholds.mark_rule(color="#555555", strokeDash=[5, 4]),
        thresholds.mark_text(align="right", dx=-4, dy=-6, color="#555555").encode(
            x=alt.value("width"), text="label:N"
        ),
    ]
    drawn = [
        *(lines if len(rules) else []),
        spectra.mark_line(strokeWidth=1, point={"filled": True, "size": 28}).encode(
            alt.X("component:Q", title="component, from the largest").scale(type="log", nice=False),
            alt.Y("eigenvalue:Q", title="eigenvalue of the covariance").scale(type="log"),
            alt.Color("dataset:N", sort=order),
            alt.Shape("dataset:N", legend=None, sort=order),
            tooltip=[
                alt.Tooltip("dataset:N"),
                alt.Tooltip("component:Q"),
                alt.Tooltip("eigenvalue:Q", format=".4g"),
                alt.Tooltip("share:Q", title="variance up to here", format=".1%"),
            ],
        ),
    ]
    title = "Covariance eigenvalues" + (" and thresholds β·s" if len(rules) else "")
    return styled(alt.LayerChart(layer=drawn, width=480, height=300, title=title))


def _spectra(datasets: pd.DataFrame) -> pd.DataFrame:
    """Return the points to draw: dataset, component, eigenvalue, share of the variance so far."""
    key = ["dataset_fingerprint", "component"]
    found = datasets[datasets["quantity"] == "eigenvalue"].drop_duplicates(key).sort_values(key)
    found = found.rename(columns={"value": "eigenvalue"})
    so_far = found.groupby("dataset_fingerprint")["eigenvalue"].cumsum()
    found = found.assign(share=so_far / found["total_variance"])
    largest = found.groupby("dataset_fingerprint")["eigenvalue"].transform("max")
    found = found[found["eigenvalue"] > SMALLEST_SHARE * largest]
    component = found["component"].to_numpy(float)
    place = np.floor(np.log10(component) * _POINTS_PER_DECADE)
    pixel = found.assign(place=np.where(component <= _EVERY_COMPONENT_UP_TO, -component, place))
    distinct = ~pixel.duplicated(["dataset_fingerprint", "place"])
    return found.loc[distinct, _POINTS].reset_index(drop=True)


def _thresholds(answers: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rules to draw: the threshold, and which β and s it belongs to."""
    if answers is None:
        return pd.DataFrame(columns=_RULES)
    known = answers.dropna(subset=["threshold"])
    variances = known["threshold"] / known["beta"]
    pairs = zip(known["beta"], variances, strict=True)
    words = [f"β = {beta:g}, s = {variance:.4g}" for beta, variance in pairs]
    rules = known.assign(rule=pd.Series(words, known.index, dtype="str"))
    # β·s of different β and s may differ in the last bit.
    rules["threshold"] = [float(f"{value:.6g}") for value in rules["threshold"]]
    distinct = (
        rules.drop_duplicates(["threshold", "rule"])
        .groupby("threshold")["rule"]
        .agg("; ".join)
        .reset_index()
    )
    spread = np.linspace(0, len(distinct) - 1, min(MOST_THRESHOLDS, len(distinct)))
    drawn = distinct.iloc[spread.round().astype(int)].reset_index(drop=True)
    return drawn.assign(label=_labels(drawn["threshold"].tolist()))


def _labels(thresholds: list[float]) -> list[str]:
    """Write the thresholds, rising, leaving out those too close to the one below."""
    labels, last = [], 0.0
    for threshold in thresholds:
        readable = threshold >= LABELS_APART * last
        labels.append(f"β·s = {threshold:.3g}" if readable else "")
        last = threshold if readable else last
    return labels
