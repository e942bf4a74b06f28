"""Shape and place of codes: against published values, quadrature, simulation, and invariances."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import integrate, stats
from sklearn.datasets import load_iris

from analysis import normality
from analysis.normality import (
    axis_ratio,
    henze_zirkler,
    mardia_kurtosis,
    mardia_skewness,
    prior_covered,
    prior_kl,
)

ALL = (
    lambda codes: henze_zirkler(codes).statistic,
    lambda codes: mardia_skewness(codes).statistic,
    lambda codes: mardia_kurtosis(codes).statistic,
    axis_ratio,
    prior_kl,
    prior_covered,
)
SHAPE = ALL[:3]


def normal(images: int, units: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((images, units))


def test_published_values() -> None:
    """Iris setosa, as the R package MVN has it: Korkmaz et al., The R Journal 6 (2014), 151-162."""
    setosa = load_iris().data[:50]
    for test, statistic, p_value in (
        (henze_zirkler, 0.9488453, 0.04995356),
        (mardia_skewness, 3.079721, 0.1771859),
        (mardia_kurtosis, 26.53766, 0.1953229),
    ):
        found = test(setosa)
        assert found.statistic == pytest.approx(statistic, rel=2e-7)
        assert found.p_value == pytest.approx(p_value, rel=1e-6)


@pytest.mark.parametrize("units", [1, 2])
def test_henze_zirkler_is_a_distance_of_characteristic_functions(units: int) -> None:
    """By its definition: n ∫ |φ_n(t) − exp(−|t|²/2)|² N(t; 0, β²I) dt, on a grid of t."""
    codes = np.random.default_rng(3).exponential(size=(30, units))
    n = len(codes)
    beta = ((2 * units + 1) * n / 4) ** (1 / (units + 4)) / np.sqrt(2)
    centred = codes - codes.mean(0)
    root = np.linalg.cholesky(np.linalg.inv(centred.T @ centred / n))
    white = centred @ root
    line = np.linspace(-8 * beta, 8 * beta, 401)
    t = np.array(list(itertools.product(line, repeat=units)))
    empirical = np.exp(1j * t @ white.T).mean(1)
    length = (t**2).sum(1)
    weight = np.exp(-length / (2 * beta**2)) / (2 * np.pi * beta**2) ** (units / 2)
    values = np.abs(empirical - np.exp(-length / 2)) ** 2 * weight
    expected = n * values.sum() * (line[1] - line[0]) ** units
    assert henze_zirkler(codes).statistic == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("units", [1, 3])
def test_mardia_as_he_defined_it(units: int) -> None:
    codes = np.random.default_rng(1).gamma(2.0, size=(40, units))
    centred = codes - codes.mean(0)
    products = centred @ np.linalg.inv(centred.T @ centred / 40) @ centred.T
    cubes = [products[i, j] ** 3 for i in range(40) for j in range(40)]
    assert mardia_skewness(codes).statistic == pytest.approx(np.mean(cubes))
    assert mardia_kurtosis(codes).statistic == pytest.approx(np.mean(np.diag(products) ** 2))
    if units == 1:
        assert mardia_skewness(codes).statistic == pytest.approx(stats.skew(codes[:, 0]) ** 2)
        kurtosis = stats.kurtosis(codes[:, 0], fisher=False)
        assert mardia_kurtosis(codes).statistic == pytest.approx(kurtosis)


@pytest.mark.parametrize("test", [henze_zirkler, mardia_skewness, mardia_kurtosis])
def test_p_values_are_uniform_for_gaussians_of_any_shape(test) -> None:
    generator = np.random.default_rng(5)
    mixing = generator.standard_normal((3, 3))
    values = [test(generator.standard_normal((400, 3)) @ mixing + 7).p_value for _ in range(300)]
    assert stats.kstest(values, "uniform").statistic < 0.11
    assert 0.02 < np.mean(np.array(values) < 0.05) < 0.09


def test_departures_are_seen_and_told_apart() -> None:
    generator = np.random.default_rng(0)
    signs = generator.choice([-1.0, 1.0], (500, 1))
    departures = {
        "lopsided": generator.exponential(size=(500, 2)),
        "heavy": generator.standard_t(4, size=(500, 2)),
        "flat": generator.uniform(size=(500, 2)),
        "two heaps": 2.5 * signs + generator.standard_normal((500, 2)),
    }
    for codes in departures.values():
        assert henze_zirkler(codes).p_value < 1e-3
    assert mardia_skewness(departures["lopsided"]).p_value < 1e-6
    assert mardia_skewness(departures["flat"]).p_value > 0.05
    assert mardia_kurtosis(departures["heavy"]).statistic > 8  # d(d + 2)
    assert mardia_kurtosis(departures["flat"]).statistic < 8
    for kind in ("heavy", "flat"):
        assert mardia_kurtosis(departures[kind]).p_value < 1e-6


def test_henze_zirkler_grows_with_the_images_where_codes_are_not_gaussian() -> None:
    flat = np.random.default_rng(0).uniform(size=(4_000, 2))
    assert henze_zirkler(flat).statistic > 5 * henze_zirkler(flat[:500]).statistic
    assert henze_zirkler(normal(4_000, 2)).statistic < 1.5


def test_rows_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(0).uniform(size=(101, 3))
    whole = henze_zirkler(codes).statistic
    monkeypatch.setattr(normality, "PAIRS_AT_ONCE", 101 * 7)
    assert henze_zirkler(codes).statistic == pytest.approx(whole, rel=1e-12)


maps = hnp.arrays(np.float64, (3, 3), elements=st.floats(-5, 5)).filter(
    lambda matrix: np.linalg.cond(matrix) < 1e3
)


@settings(max_examples=60, deadline=None)
@given(maps, hnp.arrays(np.float64, 3, elements=st.floats(-100, 100)), st.integers(0, 20))
def test_shape_is_the_same_under_linear_maps(matrix, shift, seed: int) -> None:
    codes = np.random.default_rng(seed).gamma(1.5, size=(60, 3))
    for statistic in SHAPE:
        assert statistic(codes @ matrix + shift) == pytest.approx(statistic(codes), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_000), st.floats(0.01, 100))
def test_axes_are_the_same_under_rotations_and_scale(seed: int, scale: float) -> None:
    codes = np.random.default_rng(seed).gamma(1.5, size=(40, 3)) * [1, 2, 5]
    rotation = stats.ortho_group.rvs(3, random_state=seed)
    assert axis_ratio(scale * codes @ rotation + 3) == pytest.approx(axis_ratio(codes), rel=1e-6)
    # To rotate about the origin does not change where the prior is, to scale does.
    assert prior_kl(codes @ rotation) == pytest.approx(prior_kl(codes), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(random) -> None:
    codes = np.random.default_rng(0).gamma(1.5, size=(50, 2))
    order = list(range(50))
    random.shuffle(order)
    for statistic in ALL:
        assert statistic(codes[order]) == pytest.approx(statistic(codes), rel=1e-9)


def test_axis_ratio_of_an_ellipse() -> None:
    angle = np.linspace(0, 2 * np.pi, 1_000, endpoint=False)
    ellipse = np.stack([3 * np.cos(angle), np.sin(angle)], axis=1)
    assert axis_ratio(ellipse) == pytest.approx(3)
    assert axis_ratio(np.stack([np.cos(angle), np.sin(angle)], axis=1)) == pytest.approx(1)


def test_a_single_unit_has_one_axis() -> None:
    assert np.isnan(axis_ratio(normal(50, 1)))
    assert prior_covered(normal(50, 1)) > 0.8


def test_the_kl_from_the_prior_is_that_of_two_gaussians() -> None:
    codes = np.array([[0.0], [1.0], [2.0]])  # mean 1, variance 2/3
    gaussian = stats.norm(1, np.sqrt(2 / 3))
    expected, _ = integrate.quad(
        lambda z: gaussian.pdf(z) * (gaussian.logpdf(z) - stats.norm.logpdf(z)), -12, 12
    )
    assert prior_kl(codes) == pytest.approx(expected, rel=1e-7)
    # The aggregate posterior has mean and variance 1 with this: only the mean is off.
    assert prior_kl(codes, np.array([[1.0], [0.0], [0.0]])) == pytest.approx(0.5)
    assert prior_kl(normal(20_000, 3)) < 1e-3


@pytest.mark.parametrize("units", [1, 2, 4])
def test_draws_from_the_prior_cover_it_by_95_percent(units: int) -> None:
    covered = [prior_covered(normal(2_000, units, seed)) for seed in range(1, 9)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


def test_gaps_and_narrow_codes_do_not_cover_the_prior() -> None:
    codes = normal(3_000, 2, 1)
    whole = prior_covered(codes)
    narrow = prior_covered(0.3 * codes)
    inside = (np.linalg.norm(codes, axis=1) > 1) & (codes[:, 0] > -1)
    assert narrow < 0.35 < whole
    assert prior_covered(codes[inside]) < 0.75
    assert prior_covered(codes + 4) < 0.05
    assert prior_covered(codes) == whole  # the draws are always the same


@pytest.mark.parametrize(
    "codes",
    [
        np.empty((0, 2)),
        np.empty((10, 0)),
        np.zeros((10, 2)),
        normal(2, 2),
        normal(20, 2) @ np.array([[1.0, 2.0], [2.0, 4.0]]),
        np.where(np.arange(40).reshape(20, 2) == 3, np.nan, normal(20, 2)),
        np.where(np.arange(40).reshape(20, 2) == 3, np.inf, normal(20, 2)),
    ],
    ids=["no image", "no unit", "one point", "few images", "a line", "a NaN", "an infinity"],
)
def test_codes_that_fill_no_volume_have_no_shape(codes: np.ndarray) -> None:
    for statistic in ALL:
        assert np.isnan(statistic(codes))
