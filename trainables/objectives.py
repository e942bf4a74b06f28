"""What a VAE minimises: likelihoods of the decoder, the Kullback-Leibler term and its variants.

Everything is per lane and per image, in nats. With ε ~ N(0, 1) drawn per image and unit, a
trial minimises the mean over images of

    loss(x) = -log p(x | z) + β · penalty(x),      z = μ(x) + σ(x)·ε         (the paper, eq. 15)

    objective            penalty, summed over units                 sampling
    elbo                 ½ (μ² + σ² - log σ² - 1)  (eq. 6)          z = μ + σε
    quadratic_penalty    ½ μ²  (the KL without eq. 14)              z = μ + σε
    no_sampling          ½ μ²  (the paper's figure 3B)              z = μ

β = 0 leaves the reconstruction alone. Whatever is minimised, the reported KL is equation 6 and
the reported ELBO has β = 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from search_spaces import Trial

__all__ = [
    "LEARNED_VARIANCE",
    "LOG_2PI",
    "Disturbance",
    "LaneObjectives",
    "kl_divergence",
    "reconstruction_loss",
    "squared_error",
]

LEARNED_VARIANCE = "decoder.log_variance"
"""Name of the parameter log s, where the decoder learns it."""

LOG_2PI = math.log(2 * math.pi)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) per unit, in nats (the paper, equation 6); any shape."""
    return 0.5 * (mean**2 + log_variance.exp() - log_variance - 1)


def reconstruction_loss(
    decoder: str, output: Tensor, images: Tensor, log_decoder_variance: Tensor
) -> Tensor:
    """Return -log p(x | z), with its normaliser, summed over the values of each image.

    `bernoulli`: cross-entropy of x in [0, 1] with the output as logits.
    `gaussian` and `gaussian_learned`: ½ Σ ((x - output)²/s + log 2πs), one variance s per lane.

    Args:
        decoder: The trial's `decoder`.
        output: Decoder output, shape (lanes, batch, values).
        images: Shape (batch, values).
        log_decoder_variance: log s, shape (lanes, 1); not used by `bernoulli`.

    Returns:
        Nats per image, shape (lanes, batch).
    """
    if decoder == "bernoulli":
        target = images.expand_as(output)
        loss = functional.binary_cross_entropy_with_logits(output, target, reduction="none")
        return loss.sum(-1)
    squares = ((images - output) ** 2).sum(-1)
    normaliser = output.shape[-1] * (LOG_2PI + log_decoder_variance)
    return 0.5 * (squares * torch.exp(-log_decoder_variance) + normaliser)


def squared_error(decoder: str, output: Tensor, images: Tensor) -> Tensor:
    """Return the mean over values of (x - x̂)², x̂ the decoder's mean, shape (lanes, batch)."""
    mean = torch.sigmoid(output) if decoder == "bernoulli" else output
    return ((images - mean) ** 2).mean(-1)


@dataclass(frozen=True)
class LaneObjectives:
    """The objectives of a pack's lanes, as coefficients, so that lanes may differ in them.

    Attributes:
        decoder: The likelihood, shared by the lanes.
        beta: Weight of the penalty, shape (lanes, 1).
        sampling: 1 where z = μ + σε, 0 where z = μ, shape (lanes, 1, 1).
        variance_part: 1 where the penalty has its variance part (eq. 14), shape (lanes, 1, 1).
        log_decoder_variance: log s of fixed Gaussian decoders, shape (lanes, 1).
    """

    decoder: str
    beta: Tensor
    sampling: Tensor
    variance_part: Tensor
    log_decoder_variance: Tensor

    @classmethod
    def of(
        cls, trials: Sequence[Trial], dtype: torch.dtype, device: torch.device
    ) -> "LaneObjectives":
        """Collect the coefficients of trials that share a decoder."""

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device).unsqueeze(1)

        return cls(
            decoder=trials[0].decoder,
            beta=column([trial.beta for trial in trials]),
            sampling=column([trial.objective != "no_sampling" for trial in trials]).unsqueeze(2),
            variance_part=column([trial.objective == "elbo" for trial in trials]).unsqueeze(2),
            log_decoder_variance=column(
                [math.log(trial.decoder_variance or 1.0) for trial in trials]
            ),
        )

    def lanes(self, block: slice) -> "LaneObjectives":
        """Return the objectives of some of the lanes."""
        return LaneObjectives(
            self.decoder,
            self.beta[block],
            self.sampling[block],
            self.variance_part[block],
            self.log_decoder_variance[block],
        )

    def codes(self, mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
        """Return z, the reparametrised sample (or the mean), shape (lanes, batch, latent_dim)."""
        return mean + self.sampling * torch.exp(0.5 * log_variance) * noise

    def penalty(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return the penalty before its weight β, in nats per image, shape (lanes, batch)."""
        variance_part = log_variance.exp() - log_variance - 1
        return 0.5 * (mean**2 + self.variance_part * variance_part).sum(-1)


@dataclass(frozen=True)
class Disturbance:
    """What an experiment does to the codes on their way to the decoder: z = kept·z + unit·blur.

    Attributes:
        kept: 0 for units that are held at zero, 1 for all others, shape (lanes, 1, latent_dim).
        unit: 1 for the unit of each lane that is blurred, 0 for all others, likewise.
        blur: What is added to it, shape (lanes, batch, 1).
    """

    kept: Tensor
    unit: Tensor
    blur: Tensor

    @property
    def added(self) -> Tensor:
        """What is added to the codes, shape (lanes, batch, latent_dim)."""
        return self.unit * self.blur

    def apply(self, codes: Tensor) -> Tensor:
        """Return disturbed codes, shape (lanes, batch, latent_dim)."""
        return self.kept * codes + self.added

    def rows(self, rows: slice) -> "Disturbance":
        """Return what is done to some of the images."""
        return Disturbance(self.kept, self.unit, self.blur[:, rows])

    def lanes(self, block: slice) -> "Disturbance":
        """Return what is done to some of the lanes."""
        return Disturbance(self.kept[block], self.unit[block], self.blur[block])
