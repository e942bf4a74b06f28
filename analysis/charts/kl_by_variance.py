"""The KL divergence against σ² where the ratio of σ to μ is fixed: the paper's figure 13."""

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.charts.style import styled

__all__ = ["best_variance", "kl_by_variance", "kl_by_variance_chart"]

Array = NDArray[np.float64]

RATIOS = (0.1, 0.2, 0.5, 1.0, 2.0)
LOWEST, HIGHEST, POINTS = 1e-3, 3.0, 120


def kl_by_variance(
    variance: "np.typing.ArrayLike", ratio: float
) -> "np.typing.NDArray[np.float64]":
    """Return the KL of a unit whose σ² = ρ² μ², in nats (the paper, equation 7).

    Args:
        variance: σ².
        ratio: ρ = σ / |μ|.
    """
    variance = np.asarray(variance, dtype=np.float64)
    kl: Array = 0.5 * (variance * (1 + ratio**2) / ratio**2 - np.log(variance) - 1)
    return kl


def best_variance(ratio: float) -> float:
    """Return the σ² at which that KL is smallest, ρ² / (1 + ρ²) (the paper, equation 8)."""
    return ratio**2 / (1 + ratio**2)


def kl_by_variance_chart() -> alt.LayerChart:
    """Draw the KL against σ² for several ratios, with the minimum of each."""
    variances = np.geomspace(LOWEST, HIGHEST, POINTS)
    curves = pd.concat(
        pd.DataFrame({"ratio": r, "variance": variances, "kl": kl_by_variance(variances, r)})
        for r in RATIOS
    )
    least = pd.DataFrame({"ratio": RATIOS, "variance": [best_variance(r) for r in RATIOS]})
    least["kl"] = [float(kl_by_variance(best_variance(r), r)) for r in RATIOS]
    variance = alt.X("variance:Q", title="σ²").scale(type="log", domain=[LOWEST, HIGHEST])
    kl = alt.Y("kl:Q", title="KL, nats").scale(domain=[0, 6], clamp=True)
    ratio = alt.Color("ratio:N", title="ρ = σ / |μ|", sort=list(RATIOS))
    tooltip = [
        alt.Tooltip("ratio:N", title="ρ"),
        alt.Tooltip("variance:Q", title="σ²", format=".4f"),
        alt.Tooltip("kl:Q", title="KL, nats", format=".3f"),
    ]
    lines = alt.Chart(curves[curves["kl"] <= 6]).mark_line().encode(variance, kl, ratio)
    points = alt.Chart(least).mark_point(filled=True, size=70, opacity=1)
    minima = points.encode(variance, kl, ratio, tooltip=tooltip)
    return styled(alt.LayerChart(layer=[lines, minima], width=380, height=260))
