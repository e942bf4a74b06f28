"""Probabilistic PCA against the linear VAE's own objective, minimised."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis.data_dimension import cross_checks
from analysis.groups import group_columns
from analysis.probabilistic_pca import (
    eigenvalues_of,
    linear_answers,
    optimal_variance,
    pca_dimension,
)
from tests.analysis.dataset_tables import SPECTRUM, TWONN, datasets_of, linear_trials, only

Array = NDArray[np.float64]

spectra = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)
weights = st.floats(0.05, 20) | st.sampled_from([0.5, 1.0, 2.0])


# The exact answers


def minimised(
    spectrum: list[float], beta: float, latent_dim: int, variance: float | None
) -> tuple[Array, float]:
    """Minimise the objective of a linear VAE over its weights: posterior variances, and s.

    The expectation over Gaussian data with covariance diag(spectrum) is taken by hand: encoder
    mean V x, posterior variances D, decoder mean W z. With `variance` None, s is learned, too.
    """
    values = len(spectrum)
    covariance = torch.diag(torch.tensor(spectrum, dtype=torch.float64))
    random = torch.Generator().manual_seed(0)
    encoder, decoder = (
        (0.3 * torch.randn(shape, generator=random, dtype=torch.float64)).requires_grad_()
        for shape in ((latent_dim, values), (values, latent_dim))
    )
    log_posterior = torch.zeros(latent_dim, dtype=torch.float64, requires_grad=True)
    log_s = torch.tensor(math.log(variance or 1.0), dtype=torch.float64)
    parameters = [encoder, decoder, log_posterior]
    if variance is None:
        parameters.append(log_s.requires_grad_())

    def objective() -> torch.Tensor:
        left = torch.eye(values, dtype=torch.float64) - decoder @ encoder
        posterior = log_posterior.exp()
        error = (left @ covariance @ left.T).trace() + (decoder**2 @ posterior).sum()
        reconstruction = 0.5 * (error / log_s.exp() + values * (math.log(2 * math.pi) + log_s))
        second_moment = (encoder @ covariance @ encoder.T).diagonal() + posterior
        return reconstruction + beta * 0.5 * (second_moment - log_posterior - 1).sum()

    optimizer = torch.optim.LBFGS(
        parameters, max_iter=5_000, tolerance_grad=1e-11, tolerance_change=0, history_size=50,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def step() -> float:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()
        return loss.item()

    optimizer.step(step)
    return np.sort(log_posterior.exp().detach().numpy()), log_s.exp().item()


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_a_linear_vae_keeps_the_eigenvalues_above_beta_s(beta: float, count: int) -> None:
    threshold = [16.0, *SPECTRUM][count] / math.sqrt(2)
    found, _ = minimised(SPECTRUM, beta, 5, threshold / beta)
    exact = pca_dimension(SPECTRUM, beta, threshold / beta)
    assert exact.dimension == count == (found < 0.99).sum()
    assert exact.sharp
    expected = [threshold / eigenvalue for eigenvalue in SPECTRUM[:count]] + [1.0] * (5 - count)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("latent_dim", [1, 2, 4])
def test_a_learned_variance_is_where_the_objective_is_smallest(
    beta: float, latent_dim: int
) -> None:
    spectrum = [*SPECTRUM, 0.2, 0.1]
    found, s = minimised(spectrum, beta, latent_dim, None)
    expected = optimal_variance(spectrum, beta, latent_dim)
    assert expected == pytest.approx(s, rel=1e-4)
    active = min(pca_dimension(spectrum, beta, s).dimension, latent_dim)
    assert (found < 0.99).sum() == active


@settings(deadline=None)
@given(spectra, weights, weights)
def test_the_count_and_its_gaps(spectrum: list[float], beta: float, variance: float) -> None:
    exact = pca_dimension(spectrum, beta, variance)
    above = [value for value in spectrum if value > beta * variance]
    below = [value for value in spectrum if value <= beta * variance]
    assert exact.dimension == len(above)
    assert exact.threshold == beta * variance
    if above:
        assert min(above) == pytest.approx(exact.threshold * (1 + exact.gap_above))
    else:
        assert exact.gap_above == math.inf
    if below:
        assert max(below) * (1 + exact.gap_below) == pytest.approx(exact.threshold)
    else:
        assert exact.gap_below == math.inf


@pytest.mark.parametrize(
    ("spectrum", "sharp"),
    [
        ([1.11, 0.9], True),
        ([1.105, 0.905], True),
        ([1.09, 0.5], False),
        ([2.0, 0.92], False),
        ([1.0], False),  # at β·s itself: inactive, and as blurred as can be
        ([2.0, 0.0], True),
        ([], True),
    ],
)
@pytest.mark.filterwarnings("error")
def test_sharp_is_a_tenth_on_each_side(spectrum: list[float], sharp: bool) -> None:
    exact = pca_dimension(spectrum, 2.0, 0.5)
    assert exact.sharp == sharp
    assert exact.dimension == sum(value > 1 for value in spectrum)


@pytest.mark.parametrize(("beta", "variance"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, -1.0)])
def test_no_threshold_no_count(beta: float, variance: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        pca_dimension(SPECTRUM, beta, variance)


@settings(deadline=None)
@given(spectra, st.integers(0, 3), weights, st.none() | st.integers(1, 14))
def test_the_optimal_variance_by_bisection(
    nonzero: list[float], zeros: int, beta: float, latent_dim: int | None
) -> None:
    spectrum = np.array([*nonzero, *[0.0] * zeros])
    order = np.sort(spectrum)[::-1]

    def units(s: float) -> float:
        """d(objective)/ds = 0 where this is the number of values."""
        return float(np.minimum(order[:latent_dim] / s, beta).sum()) + (
            0.0 if latent_dim is None else float((order[latent_dim:] / s).sum())
        )

    found = optimal_variance(spectrum, beta, latent_dim)
    low, high = 1e-12, 1e9
    if units(low) == pytest.approx(len(spectrum), rel=1e-9):
        assert beta != 1 or found is None
        return
    if units(low) < len(spectrum):
        assert found is None
        return
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if units(middle) > len(spectrum) else (low, middle)
    assert found == pytest.approx(middle, rel=1e-6)


def test_at_beta_1_it_is_the_mean_of_the_discarded_eigenvalues() -> None:
    for latent_dim in range(1, 6):
        expected = np.mean(SPECTRUM[latent_dim:])
        assert optimal_variance(SPECTRUM[::-1], 1.0, latent_dim) == pytest.approx(expected)
    assert optimal_variance(SPECTRUM, 1.0, 6) is None
    assert optimal_variance(SPECTRUM, 1.0) is None
    assert optimal_variance([3.0, 2.0, 0.0, 0.0], 1.0, 2) is None
    assert optimal_variance([0.0, 0.0], 1.0) is None


# The tables


def test_eigenvalues_come_from_the_largest_and_once() -> None:
    table = pd.concat([datasets_of(TWONN)] * 2)
    assert eigenvalues_of(table, "f").tolist() == SPECTRUM
    assert eigenvalues_of(table, "g").tolist() == []


def test_a_linear_group_beside_its_exact_count() -> None:
    trials = linear_trials(
        [
            {"latent_dim": 2, "active_units": 1, "seed": 0},
            {"latent_dim": 5, "active_units": 2, "seed": 0},
            {"latent_dim": 5, "active_units": 3, "seed": 1},
        ]
    )
    row = only(linear_answers(trials, datasets_of()))
    assert row["dimension"] == row["expected_active_units"] == 3  # 8, 4 and 2 are above 1.5
    assert row["threshold"] == row["expected_variance"] == row["found_variance"] == 1.5
    assert row["gap_above"] == pytest.approx(2 / 1.5 - 1)
    assert row["gap_below"] == pytest.approx(0.5)
    assert row["sharp"]
    assert row["active_units"] == 2.5  # at the largest latent_dim
    assert (row["latent_dim"], row["trials"]) == (5, 2)
    assert pd.isna(row["note"])


@pytest.mark.parametrize(
    ("change", "dimension", "expected", "note"),
    [
        ({"beta": 2.0}, 2, 2, None),
        ({"decoder_variance": 0.7}, 4, 2, "largest latent_dim, 2"),
        ({"decoder_variance": 1.95}, 3, 2, "largest latent_dim, 2"),
        ({"decoder_variance": 3.9}, 2, 2, "within 10%"),
        ({"decoder_variance": 100.0}, 0, 0, None),
    ],
)
def test_what_limits_the_exact_count(
    change: dict[str, float], dimension: int, expected: int, note: str | None
) -> None:
    row = only(linear_answers(linear_trials([{"latent_dim": 2} | change]), datasets_of()))
    assert (row["dimension"], row["expected_active_units"]) == (dimension, expected)
    assert pd.isna(row["note"]) if note is None else note in row["note"]


def test_a_learned_variance_at_beta_1_has_no_count_of_its_own() -> None:
    learned = {"decoder": "gaussian_learned", "latent_dim": 2, "active_units": 2}
    trials = linear_trials(
        [learned | {"decoder_variance": s, "seed": i} for i, s in enumerate((0.9, 1.0))]
    )
    row = only(linear_answers(trials, datasets_of()))
    assert pd.isna(row["dimension"])
    assert pd.isna(row["threshold"])
    assert row["expected_active_units"] == 2
    assert row["expected_variance"] == pytest.approx(np.mean(SPECTRUM[2:]))
    assert row["found_variance"] == pytest.approx(0.95)
    assert pd.isna(row["decoder_variance"])  # a result: it makes no group
    assert "β up to 1, falls with every further unit" in row["note"]
    flat = datasets_of(spectrum=[3.0, 2.0, 1.0, 0.0, 0.0, 0.0])
    assert "β up to 2," in only(linear_answers(trials.assign(beta=2.0), flat))["note"]
    assert only(linear_answers(trials.assign(beta=2.1), flat))["dimension"] == 2


def test_a_learned_variance_above_beta_1_has_one() -> None:
    learned = {"decoder": "gaussian_learned", "decoder_variance": 2.0, "beta": 3.0}
    row = only(linear_answers(linear_trials([learned]), datasets_of()))
    _, s = minimised(SPECTRUM, 3.0, 5, None)
    assert row["expected_variance"] == pytest.approx(s, rel=1e-4)
    assert row["dimension"] == row["expected_active_units"] == sum(x > 3 * s for x in SPECTRUM)
    assert row["threshold"] == pytest.approx(3 * s, rel=1e-4)


def test_a_learned_variance_may_fall_to_nothing() -> None:
    learned = {"decoder": "gaussian_learned", "decoder_variance": 1e-9, "latent_dim": 2}
    table = datasets_of(spectrum=[2.0, 1.0, 0.0, 0.0])
    row = only(linear_answers(linear_trials([learned]), table))
    assert pd.isna(row["expected_active_units"])
    assert "no optimum" in row["note"]


@pytest.mark.parametrize(
    "change",
    [
        {"family": "dense"},
        {"decoder": "bernoulli", "decoder_variance": None},
        {"objective": "quadratic_penalty"},
        {"objective": "no_sampling"},
        {"beta": 0.0},
        {"status": "failed", "active_units": None},
        {"status": "diverged"},
    ],
)
def test_what_has_no_exact_answer_has_no_row(change: dict[str, Any]) -> None:
    trials = linear_trials([change])
    assert linear_answers(trials, datasets_of()).empty
    assert cross_checks(trials, datasets_of()).empty


def test_groups_that_differ_in_the_decoder_alone() -> None:
    trials = linear_trials(
        [
            {"decoder_variance": 0.35},
            {"decoder_variance": 1.5},
            {"decoder": "gaussian_learned", "decoder_variance": 0.3},
            {"dataset_fingerprint": "other"},
        ]
    )
    answers = linear_answers(trials, datasets_of())
    assert set(group_columns(trials)) <= set(answers.columns)
    by_variance = answers.set_index(["dataset_fingerprint", "decoder_variance"])["dimension"]
    assert by_variance["f", 0.35] == 5
    assert by_variance["f", 1.5] == 3
    assert len(answers) == 4
    missing = only(answers[answers["dataset_fingerprint"] == "other"])
    assert pd.isna(missing["dimension"])
    assert "data describe" in missing["note"]


def test_a_trial_of_two_studies_counts_once() -> None:
    trials = linear_trials([{"active_units": 1}, {"active_units": 4}])
    twice = pd.concat([trials, trials.iloc[:1].assign(study="other")])  # an index that repeats
    row = only(linear_answers(twice, datasets_of()))
    assert (row["active_units"], row["trials"]) == (2.5, 2)
