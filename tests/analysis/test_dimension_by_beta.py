import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from analysis.dimension_by_beta import beta_of_drops, dimension_by_beta
from analysis.intrinsic_dimension import estimate_intrinsic_dimension
from study.tables import TRIALS
from tests.analysis.tables import trials_of

NAN = float("nan")
SATURATED, AT_LEAST = "saturated", "not saturated"


def estimates_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """What `estimate_intrinsic_dimension` returns, as far as it matters here."""
    setting = {"dataset": "mnist", "architecture": "dense-16"}
    table = pd.DataFrame([setting | {"estimate": NAN, "at_least": None} | row for row in rows])
    half = table.get("half", 0.3)
    table = table.assign(lower=table["estimate"] - half, upper=table["estimate"] + half)
    weights = {} if "plateau_trials" in table else {"plateau_trials": 6}
    return table.astype({"at_least": "Int64"}).assign(**weights)


def curve(points: dict[float, float], **more: Any) -> list[dict[str, Any]]:
    return [
        {"beta": beta, "estimate": value, "verdict": SATURATED} | more
        for beta, value in points.items()
    ]


def drops_of(rows: list[dict[str, Any]]) -> list[tuple[int, float, float, float]]:
    found = beta_of_drops(estimates_of(rows))
    assert (found["to_dimension"] == found["from_dimension"] - 1).all()
    columns = ["from_dimension", "beta", "lower", "upper"]
    return list(found[columns].itertuples(index=False, name=None))


def same(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, nan_ok=True)


def test_the_curve_holds_numbers_and_bounds_by_setting() -> None:
    rows = [
        *curve({2.0: 8.0, 1.0: 9.0}),
        {"beta": 0.5, "verdict": AT_LEAST, "at_least": 16},
        {"beta": 4.0, "verdict": "unstable"},
        {"beta": 8.0, "verdict": "too few trials"},
        *curve({1.0: 5.0}, architecture="conv-8"),
    ]
    found = dimension_by_beta(estimates_of(rows))
    assert found["architecture"].tolist() == ["conv-8", *["dense-16"] * 3]
    assert found["beta"].tolist() == [1.0, 0.5, 1.0, 2.0]
    assert found["dimension"].fillna(0).tolist() == [5.0, 0.0, 9.0, 8.0]
    assert found["at_least"].fillna(0).tolist() == [0, 16, 0, 0]
    assert found["lower"].fillna(0).tolist() == pytest.approx([4.7, 0, 8.7, 7.7])
    assert found["verdict"].tolist() == [SATURATED, AT_LEAST, SATURATED, SATURATED]


def test_a_drop_is_where_the_curve_is_half_way() -> None:
    found = drops_of(curve({1.0: 8.0, 4.0: 7.0, 16.0: 7.0}))
    same(found, [(8, 2.0, 1.0, 4.0), (7, NAN, 16.0, NAN)])


def test_the_place_within_a_step_is_linear_in_log_beta() -> None:
    found = drops_of(curve({0.1: 10.0, 1.0: 8.0}))
    beta = [math.exp(math.log(0.1) * share) for share in (0.75, 0.25)]
    same(found, [(10, beta[0], 0.1, 1.0), (9, beta[1], 0.1, 1.0), (8, NAN, 1.0, NAN)])


def test_wide_intervals_reach_over_several_steps() -> None:
    points = {1.0: 8.0, 2.0: 7.8, 4.0: 7.2, 8.0: 7.0}
    narrow = drops_of(curve(points, half=0.1))
    wide = drops_of(curve(points, half=0.4))
    same(narrow[:1], [(8, math.sqrt(8), 2.0, 4.0)])
    same(wide[:1], [(8, math.sqrt(8), 1.0, 8.0)])
    wider = drops_of(curve(points, half=0.6))
    same(wider[:1], [(8, math.sqrt(8), NAN, NAN)])  # no β is surely before or beyond the drop


def test_without_a_drop_in_the_sweep_there_is_no_beta() -> None:
    same(drops_of(curve({1.0: 8.0, 2.0: 8.0})), [(8, NAN, 2.0, NAN)])
    same(drops_of(curve({1.0: 8.0})), [(8, NAN, 1.0, NAN)])
    same(drops_of(curve({1.0: 0.0})), [])  # nothing left to drop


def test_dimensions_that_end_on_a_half() -> None:
    """At n - ½ already: the drop from n lies before the sweep, the next is from n - 1."""
    found = drops_of(curve({1.0: 8.5, 4.0: 7.5}))
    same(found, [(8, 4.0, 1.0, NAN), (7, NAN, 4.0, NAN)])


def test_a_bound_at_a_smaller_beta_shows_drops_without_telling_where() -> None:
    bound = {"beta": 0.5, "verdict": AT_LEAST, "at_least": 10}
    lower_bound = {"beta": 0.25, "verdict": AT_LEAST, "at_least": 11}
    found = drops_of([lower_bound, bound, *curve({1.0: 8.0, 4.0: 7.0})])
    same(
        found,
        [
            (11, NAN, 0.25, 1.0),
            (10, NAN, 0.5, 1.0),
            (9, NAN, 0.5, 1.0),
            (8, 2.0, 1.0, 4.0),
            (7, NAN, 4.0, NAN),
        ],
    )
    useless = {"beta": 0.5, "verdict": AT_LEAST, "at_least": 6}
    after = {"beta": 9.0, "verdict": AT_LEAST, "at_least": 12}
    same(drops_of([useless, *curve({1.0: 8.0, 4.0: 7.0}), after]), found[3:])


def test_what_supports_no_number_is_passed_over() -> None:
    rows = curve({1.0: 8.0, 4.0: 7.0})
    silent = [
        {"beta": 2.0, "verdict": "unstable"},
        {"beta": 3.0, "verdict": "too few trials"},
        *curve({0.0: 30.0}),  # no place on a logarithmic scale
    ]
    same(drops_of([*silent, *rows]), drops_of(rows))


def test_settings_are_kept_apart() -> None:
    rows = [
        *curve({1.0: 8.0, 4.0: 7.0}, decoder_variance=None, rule="kl"),
        *curve({1.0: 4.0, 4.0: 3.0}, decoder_variance=0.1, rule="kl"),
        *curve({1.0: 6.0, 4.0: 5.0}, decoder_variance=0.1, rule="gain"),
    ]
    found = beta_of_drops(estimates_of(rows))
    assert list(found.columns[:4]) == ["dataset", "architecture", "decoder_variance", "rule"]
    within = found[found["beta"].notna()]
    assert within["beta"].tolist() == pytest.approx([2.0] * 3)
    by_setting = within.set_index(["decoder_variance", "rule"])["from_dimension"]
    assert sorted(by_setting) == [4, 6, 8]
    assert by_setting.loc[(0.1, "gain")] == 6
    assert within.loc[within["decoder_variance"].isna(), "from_dimension"].tolist() == [8]


STEPS = st.lists(st.floats(0, 12), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    values=STEPS,
    gaps=st.lists(st.floats(0.1, 2), min_size=8, max_size=8),
    halves=st.lists(st.floats(0.01, 2), min_size=8, max_size=8),
    trials=st.lists(st.integers(4, 30), min_size=8, max_size=8),
)
def test_drops_follow_the_nearest_falling_curve(
    values: list[float], gaps: list[float], halves: list[float], trials: list[int]
) -> None:
    """Against scikit-learn's isotonic regression, and a root found by bisection."""
    n = len(values)
    beta = np.exp(np.cumsum(gaps[:n]))
    rows = [
        {"beta": b, "estimate": value, "half": half, "plateau_trials": k, "verdict": SATURATED}
        for b, value, half, k in zip(beta, values, halves, trials, strict=False)
    ]
    estimates = estimates_of(rows).sample(frac=1, random_state=0)
    found = beta_of_drops(estimates)
    ordered = estimates.sort_values("beta")
    fitted = {
        name: IsotonicRegression(increasing=False).fit_transform(
            np.log(beta), ordered[name], sample_weight=trials[:n]
        )
        for name in ("estimate", "lower", "upper")
    }
    assert found["from_dimension"].is_monotonic_decreasing
    assert found["beta"].dropna().is_monotonic_increasing
    for row in found.itertuples():
        level = row.from_dimension - 0.5
        if fitted["estimate"][0] > level >= fitted["estimate"][-1]:
            value = np.interp(math.log(row.beta), np.log(beta), fitted["estimate"])
            assert value == pytest.approx(level, abs=1e-6)
        else:
            assert math.isnan(row.beta)
        above, below = beta[fitted["lower"] > level], beta[fitted["upper"] < level]
        assert row.lower == pytest.approx(max(above, default=NAN), nan_ok=True)
        assert row.upper == pytest.approx(min(below, default=NAN), nan_ok=True)
        if not math.isnan(row.beta):
            assert not row.lower > row.beta
            assert not row.upper < row.beta
    levels = np.arange(0.5, 15)
    crossed = (fitted["estimate"][0] > levels) & (levels >= fitted["estimate"][-1])
    assert found["beta"].notna().sum() == crossed.sum()


def test_the_eigenvalues_of_a_linear_vae_are_found_again() -> None:
    """There unit i is active if its eigenvalue is above β·s: the drops are at the eigenvalues."""
    eigenvalues = np.array([9.0, 5.0, 3.0, 1.1, 0.6])
    tried = np.geomspace(0.5, 8, 13)
    rows = [
        {
            "beta": beta,
            "latent_dim": dim,
            "seed": seed,
            "active_units": min(dim, int((eigenvalues > beta).sum())),
        }
        for beta in tried
        for dim in (2, 4, 8, 12, 16)
        for seed in range(3)
    ]
    found = beta_of_drops(estimate_intrinsic_dimension(trials_of(rows)))
    assert found["from_dimension"].tolist() == [5, 4, 3, 2, 1]
    for row, true in zip(found.itertuples(), eigenvalues[::-1], strict=True):
        if true > max(tried):
            assert math.isnan(row.beta)
            assert row.lower == max(tried)
            continue
        assert row.lower < true <= row.upper
        assert row.lower < row.beta < row.upper
        assert row.upper / row.lower == pytest.approx(tried[1] / tried[0])  # one step


@pytest.mark.parametrize("verdict", ["empty", "too few trials", AT_LEAST])
def test_without_an_estimate_there_are_no_drops(verdict: str) -> None:
    estimates = estimate_intrinsic_dimension(TRIALS.empty_table().to_pandas())
    if verdict != "empty":
        estimates = estimates_of([{"beta": 1.0, "verdict": verdict, "at_least": 3}])
    found = beta_of_drops(estimates)
    assert found.empty
    expected = ["dataset", "architecture"]
    expected += ["from_dimension", "to_dimension", "beta", "lower", "upper"]
    assert list(found.columns) == expected
    assert len(dimension_by_beta(estimates)) == (verdict == AT_LEAST)
