import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.charts.kl_by_variance import best_variance, kl_by_variance, kl_by_variance_chart


@given(st.floats(0.02, 20), st.floats(0.01, 5))
def test_it_is_the_kl_of_a_gaussian_and_smallest_where_equation_8_says(
    ratio: float, variance: float
) -> None:
    mean_squared = variance / ratio**2
    closed_form = 0.5 * (mean_squared + variance - np.log(variance) - 1)  # equation 6
    assert kl_by_variance(variance, ratio) == pytest.approx(closed_form, rel=1e-9, abs=1e-9)
    best = best_variance(ratio)
    assert best + best / ratio**2 == pytest.approx(1)  # equation 9
    assert kl_by_variance(variance, ratio) >= kl_by_variance(best, ratio) - 1e-12


def test_the_minima_are_marked() -> None:
    chart = kl_by_variance_chart().to_dict()
    lines, points = (chart["datasets"][layer["data"]["name"]] for layer in chart["layer"])
    for point in points:
        curve = [row for row in lines if row["ratio"] == point["ratio"]]
        assert point["kl"] <= min(row["kl"] for row in curve) + 1e-9
        nearest = min(curve, key=lambda row: row["kl"])
        assert nearest["variance"] == pytest.approx(point["variance"], rel=0.1)
