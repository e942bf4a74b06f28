"""Latent statistics: what each unit of each lane does on a whole split of the data.

All variances divide by the number of images N. Sums run in float64 whatever the precision of
the model, so that the variance of a unit that is nearly constant is not lost to rounding.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.objectives import kl_divergence
from trainables.pack import Pack
from trainables.streams import evaluation_noise

__all__ = ["Evaluation", "evaluate", "stacked_noise"]

CHUNK = 128  # images evaluated at a time: the logits of a lane fit into the cache of a CPU

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """One split under the current parameters. Units are those of the padded pack.

    Attributes:
        mean: Mean over images of μ, shape (lanes, latent_dim).
        mean_variance: Var_x[μ(x)], likewise.
        posterior_variance: Mean over images of σ²(x), likewise.
        second_moment: Mean over images of μ², likewise.
        kl: Mean KL divergence of each unit (the paper, equation 6), nats per image, likewise.
        reconstruction_gain: Increase of the reconstruction loss when the unit is set to zero,
            nats per image (the paper, section VI), likewise; None where it was not asked for.
        reconstruction: Mean of -log p(x | z), nats per image, shape (lanes,).
        objective: Mean of what is minimised, nats per image, shape (lanes,).
        mse: Mean squared error per value of the decoder's mean, shape (lanes,).
    """

    mean: Array
    mean_variance: Array
    posterior_variance: Array
    second_moment: Array
    kl: Array
    reconstruction_gain: Array | None
    reconstruction: Array
    objective: Array
    mse: Array

    @property
    def elbo(self) -> Array:
        """ELBO at β = 1, nats per image, shape (lanes,)."""
        elbo: Array = -(self.reconstruction + self.kl.sum(1))
        return elbo


@torch.no_grad()
def evaluate(pack: Pack, split: str, gain_images: int = 0) -> Evaluation:
    """Compute the statistics of all lanes on a split, each image encoded and sampled once.

    Args:
        pack: Trials with their parameters.
        split: `train` or `test`.
        gain_images: How many images, from the first, give the reconstruction gain; 0 for none.

    Returns:
        float64 arrays on the CPU.
    """
    images = pack.data.images(split)
    noise = stacked_noise(pack, split)
    units = torch.zeros(
        4, len(pack.trials), pack.latent_dim, dtype=torch.float64, device=pack.device
    )
    lanes = torch.zeros(3, len(pack.trials), dtype=torch.float64, device=pack.device)
    for start in range(0, images, CHUNK):
        rows = slice(start, min(start + CHUNK, images))
        batch = pack.data.batch(split, rows, pack.dtype)
        mean, log_variance = pack.engine.encode(batch)
        codes = pack.objectives.codes(mean, log_variance, noise[:, rows])
        penalty = pack.objectives.penalty(mean, log_variance).sum(1, dtype=torch.float64)
        wide, wide_log_variance = mean.double(), log_variance.double()
        lanes[:2] += pack.engine.losses(codes, batch)
        lanes[2] += penalty
        units += torch.stack(
            [
                wide.sum(1),
                (wide**2).sum(1),
                wide_log_variance.exp().sum(1),
                kl_divergence(wide, wide_log_variance).sum(1),
            ]
        )
    first, second, posterior_variance, kl = (units / images).cpu().numpy()
    reconstruction, mse, penalty = (lanes / images).cpu().numpy()
    beta = pack.objectives.beta.squeeze(1).double().cpu().numpy()
    gain = None
    if gain_images:
        gain = _reconstruction_gain(pack, split, noise, min(gain_images, images))
    return Evaluation(
        mean=first,
        mean_variance=np.maximum(second - first**2, 0.0),
        posterior_variance=posterior_variance,
        second_moment=second,
        kl=kl,
        reconstruction_gain=gain,
        reconstruction=reconstruction,
        objective=reconstruction + beta * penalty,
        mse=mse,
    )


def _reconstruction_gain(pack: Pack, split: str, noise: Tensor, images: int) -> Array:
    """Return the loss with one unit of z at zero minus the loss with all, (lanes, latent_dim)."""
    gain = torch.zeros(pack.latent_dim, len(pack.trials), dtype=torch.float64, device=pack.device)
    for start in range(0, images, CHUNK):
        rows = slice(start, min(start + CHUNK, images))
        batch = pack.data.batch(split, rows, pack.dtype)
        mean, log_variance = pack.engine.encode(batch)
        codes = pack.objectives.codes(mean, log_variance, noise[:, rows])
        loss = pack.engine.losses(codes, batch)[0]
        for unit in range(pack.latent_dim):
            without = codes.clone()
            without[..., unit] = 0
            gain[unit] += pack.engine.losses(without, batch)[0] - loss
    gain_per_image: Array = (gain / images).T.cpu().numpy()
    return gain_per_image


def stacked_noise(pack: Pack, split: str) -> Tensor:
    """Return the noise of every evaluation on a split, shape (lanes, images, latent_dim)."""
    images = pack.data.images(split)
    return pack.stacked(
        images, lambda trial: evaluation_noise(images, trial.latent_dim, trial.seed, split)
    )
