"""Likelihoods, divergences and gradients against torch.distributions, scipy and finite steps."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from tests.trainables.small_packs import small_trial
from trainables.objectives import (
    LaneObjectives,
    kl_divergence,
    reconstruction_loss,
    squared_error,
)

CPU = torch.device("cpu")
LANES, BATCH, UNITS, VALUES = 3, 5, 4, 11


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def objectives(*lanes: dict[str, Any], decoder: str = "bernoulli") -> LaneObjectives:
    trials = [small_trial(decoder=decoder, **lane) for lane in lanes]
    return LaneObjectives.of(trials, torch.float64, CPU)


def test_kl_is_that_of_two_normals() -> None:
    mean, log_variance = normal(LANES, BATCH, UNITS), 3 * normal(LANES, BATCH, UNITS, seed=1)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(posterior, Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected, rtol=1e-12, atol=1e-12)


def test_kl_is_the_integral_that_defines_it() -> None:
    for mean, log_variance in [(0.7, -1.3), (-2.0, 0.4), (0.0, 0.0)]:
        q, p = stats.norm(mean, math.exp(log_variance / 2)), stats.norm()

        def integrand(z: float, q: Any = q, p: Any = p) -> float:
            return float(q.pdf(z) * (q.logpdf(z) - p.logpdf(z)))

        expected, _ = integrate.quad(integrand, -15, 15, points=[mean])
        found = kl_divergence(*torch.tensor([mean, log_variance], dtype=torch.float64))
        assert found.item() == pytest.approx(expected, abs=1e-9)


def test_bernoulli_loss_is_the_log_probability() -> None:
    logits = 4 * normal(LANES, BATCH, VALUES)
    binary = (normal(BATCH, VALUES, seed=2) > 0).double()
    loss = reconstruction_loss("bernoulli", logits, binary, torch.zeros(LANES, 1))
    expected = -Bernoulli(logits=logits).log_prob(binary.expand_as(logits)).sum(-1)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    p = 1 / (1 + np.exp(-logits.numpy()))
    by_scipy = -stats.bernoulli(p).logpmf(binary.numpy()[None]).sum(-1)
    np.testing.assert_allclose(loss.numpy(), by_scipy, rtol=1e-10)


def test_bernoulli_loss_of_grey_pixels_is_the_cross_entropy() -> None:
    logits, grey = 4 * normal(LANES, BATCH, VALUES), normal(BATCH, VALUES, seed=3).sigmoid()
    p = logits.sigmoid()
    expected = -(grey * p.log() + (1 - grey) * (1 - p).log()).sum(-1)
    found = reconstruction_loss("bernoulli", logits, grey, torch.zeros(LANES, 1))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


def test_bernoulli_loss_stays_finite_at_extreme_logits() -> None:
    logits = torch.tensor([[[200.0, -200.0, 90.0]]])
    images = torch.tensor([[1.0, 0.0, 0.0]])
    loss = reconstruction_loss("bernoulli", logits, images, torch.zeros(1, 1))
    assert loss.item() == pytest.approx(90.0)


@pytest.mark.parametrize("decoder", ["gaussian", "gaussian_learned"])
def test_gaussian_loss_has_its_normaliser(decoder: str) -> None:
    """A variance of its own for each lane."""
    output, images = normal(LANES, BATCH, VALUES), normal(BATCH, VALUES, seed=4)
    variance = torch.tensor([[0.01], [1.0], [7.5]], dtype=torch.float64)
    found = reconstruction_loss(decoder, output, images, variance.log())
    by_torch = -Normal(output, variance.sqrt().unsqueeze(2)).log_prob(images).sum(-1)
    torch.testing.assert_close(found, by_torch, rtol=1e-12, atol=0)
    for lane, s in enumerate([0.01, 1.0, 7.5]):
        for image in range(BATCH):
            density = stats.multivariate_normal(output[lane, image].numpy(), s)
            expected = -density.logpdf(images[image].numpy())
            assert found[lane, image].item() == pytest.approx(expected, rel=1e-10)


def test_learned_variance_is_stationary_at_the_mean_squared_error() -> None:
    output, images = normal(1, BATCH, VALUES), normal(BATCH, VALUES, seed=4)
    mse = squared_error("gaussian_learned", output, images).mean()
    log_variance = mse.log().reshape(1, 1).requires_grad_()
    loss = reconstruction_loss("gaussian_learned", output, images, log_variance).mean()
    (gradient,) = torch.autograd.grad(loss, log_variance)
    assert abs(gradient.item()) < 1e-12


def test_squared_error_is_of_the_decoders_mean() -> None:
    output, images = normal(LANES, BATCH, VALUES), normal(BATCH, VALUES, seed=5).sigmoid()
    x, out = images.numpy()[None], output.numpy()
    expected = ((x - 1 / (1 + np.exp(-out))) ** 2).mean(-1)
    np.testing.assert_allclose(squared_error("bernoulli", output, images), expected, rtol=1e-12)
    for decoder in ("gaussian", "gaussian_learned"):
        found = squared_error(decoder, output, images)
        np.testing.assert_allclose(found, ((x - out) ** 2).mean(-1), rtol=1e-12)


OBJECTIVES = (
    {"objective": "elbo"},
    {"objective": "quadratic_penalty"},
    {"objective": "no_sampling"},
)


def test_penalties_by_lane() -> None:
    lanes = objectives(*OBJECTIVES)
    mean, log_variance = normal(LANES, BATCH, UNITS), normal(LANES, BATCH, UNITS, seed=1)
    penalty = lanes.penalty(mean, log_variance)
    kl = torch.distributions.kl_divergence(
        Normal(mean[0], (0.5 * log_variance[0]).exp()), Normal(0.0, 1.0)
    )
    torch.testing.assert_close(penalty[0], kl.sum(-1))
    torch.testing.assert_close(penalty[1:], 0.5 * (mean[1:] ** 2).sum(-1))


def test_only_the_elbos_penalty_pulls_at_the_variance() -> None:
    lanes = objectives(*OBJECTIVES)
    mean = normal(LANES, BATCH, UNITS).requires_grad_()
    log_variance = normal(LANES, BATCH, UNITS, seed=1).requires_grad_()
    by_mean, by_log_variance = torch.autograd.grad(
        lanes.penalty(mean, log_variance).sum(), [mean, log_variance]
    )
    torch.testing.assert_close(by_mean, mean.detach())
    torch.testing.assert_close(by_log_variance[0], 0.5 * (log_variance[0].detach().exp() - 1))
    assert not by_log_variance[1:].any()


def test_codes_are_reparametrised_samples_or_the_mean() -> None:
    lanes = objectives(*OBJECTIVES)
    mean, log_variance = normal(LANES, BATCH, UNITS), normal(LANES, BATCH, UNITS, seed=1)
    noise = normal(LANES, BATCH, UNITS, seed=2)
    codes = lanes.codes(mean, log_variance, noise)
    torch.testing.assert_close(codes[:2], (mean + (0.5 * log_variance).exp() * noise)[:2])
    assert torch.equal(codes[2], mean[2])
    assert torch.equal(lanes.codes(mean, log_variance, 100 + noise)[2], codes[2])
    assert not torch.isclose(lanes.codes(mean, log_variance, 100 + noise)[1], codes[1]).any()


def test_no_sampling_has_no_gradient_to_the_variance() -> None:
    lanes = objectives(*OBJECTIVES)
    mean = normal(LANES, BATCH, UNITS)
    log_variance = normal(LANES, BATCH, UNITS, seed=1).requires_grad_()
    codes = lanes.codes(mean, log_variance, normal(LANES, BATCH, UNITS, seed=2))
    (gradient,) = torch.autograd.grad(codes.sum(), log_variance)
    assert gradient[:2].all()
    assert not gradient[2].any()


def test_coefficients_follow_the_trials() -> None:
    lanes = objectives(
        {"beta": 0.0, "decoder_variance": 0.25},
        {"beta": 3.5},
        {"decoder_variance": 1e-6},
        decoder="gaussian",
    )
    assert lanes.beta.tolist() == [[0.0], [3.5], [1.0]]
    torch.testing.assert_close(
        lanes.log_decoder_variance, torch.tensor([[0.25], [1.0], [1e-6]]).double().log()
    )


@given(ratio=st.floats(0.02, 50))
@settings(max_examples=50, deadline=None)
def test_variance_law_is_where_the_kl_is_stationary(ratio: float) -> None:
    """With σ²/μ² = ρ² held, eq. 7 is least at σ² = ρ²/(1 + ρ²) (eq. 8): σ² + μ² = 1 (eq. 9)."""

    def kl(log_variance: float) -> float:
        variance = torch.tensor(math.exp(log_variance), dtype=torch.float64)
        return kl_divergence((variance / ratio**2).sqrt(), variance.log()).item()

    found = optimize.minimize_scalar(kl, bounds=(-12, 3), method="bounded", options={"xatol": 1e-9})
    variance = math.exp(found.x)
    assert variance == pytest.approx(ratio**2 / (1 + ratio**2), rel=1e-4)
    assert variance + variance / ratio**2 == pytest.approx(1, rel=1e-4)


def test_variance_law_over_a_data_set() -> None:
    """Rescaling μ and σ of a unit together, over all images, is least at eq. 12, not eq. 13."""
    mean = 0.8 + 1.7 * normal(1000, seed=6)
    log_variance = -2 + normal(1000, seed=7)

    def kl(log_scale: float) -> float:
        scaled = kl_divergence(mean * math.exp(log_scale), log_variance + 2 * log_scale)
        return scaled.mean().item()

    best = optimize.minimize_scalar(kl, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9})
    scale = math.exp(2 * best.x)
    second_moment = scale * (mean**2).mean().item()
    posterior_variance = scale * log_variance.exp().mean().item()
    assert posterior_variance + second_moment == pytest.approx(1, rel=1e-6)
    around_mean = scale * mean.var(correction=0).item()
    assert posterior_variance + around_mean < 0.95
