"""Random streams: every draw of a trial, by purpose, as a function of its own seed alone.

A stream is addressed by what it is for and by the numbers that select it, never by how much
was drawn before. A trial's draws therefore do not depend on its pack, its lane or a resume, and
a checkpoint needs no generator state. All streams live on the CPU and draw float32, so that a
trial sees the same numbers in every precision and on every device.
"""

import hashlib
from typing import Literal

import torch
from torch import Tensor

Purpose = Literal["weights", "noise", "order", "evaluation", "samples", "blur"]

__all__ = [
    "Purpose",
    "blur",
    "evaluation_noise",
    "minibatch_order",
    "prior_samples",
    "stream",
    "training_noise",
]


def stream(purpose: Purpose, *numbers: int) -> torch.Generator:
    """Return the generator addressed by `purpose` and `numbers` (seed, epoch, …)."""
    address = ":".join([purpose, *map(str, numbers)])
    digest = hashlib.sha256(address.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def minibatch_order(images: int, data_seed: int, epoch: int) -> Tensor:
    """Return the order in which an epoch visits the training images, shape (images,)."""
    return torch.randperm(images, generator=stream("order", data_seed, epoch))


def training_noise(images: int, latent_dim: int, seed: int, epoch: int) -> Tensor:
    """Return one epoch's reparametrisation noise, shape (images, latent_dim), float32.

    Row i belongs to the i-th image that the epoch visits. The whole epoch is one draw, since
    PyTorch fills a tensor in blocks and drawing it in pieces would give other numbers.
    """
    return torch.randn(images, latent_dim, generator=stream("noise", seed, epoch))


def evaluation_noise(images: int, latent_dim: int, seed: int, split: str) -> Tensor:
    """Return the noise of every evaluation on a split, shape (images, latent_dim), float32.

    It is the same at every epoch, so that statistics along training differ by training only.
    """
    number = {"train": 0, "test": 1}[split]
    return torch.randn(images, latent_dim, generator=stream("evaluation", seed, number))


def prior_samples(images: int, latent_dim: int, seed: int) -> Tensor:
    """Return the codes of generated images, z ~ N(0, I), shape (images, latent_dim), float32."""
    return torch.randn(images, latent_dim, generator=stream("samples", seed))


def blur(images: int, seed: int, epoch: int | None = None) -> Tensor:
    """Return noise of standard deviation 1 for one unit of a probe, shape (images,), float32.

    Row i belongs to the i-th image that the epoch visits; without an epoch, to the i-th image of
    the split, for evaluations, which all see the same.
    """
    numbers = (seed,) if epoch is None else (seed, epoch)
    return torch.randn(images, generator=stream("blur", *numbers))
