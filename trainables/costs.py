"""What a lane costs, computed without training it: arithmetic, memory and epochs."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from search_spaces import Architecture, RecordSettings, Shape, Trial
from trainables.architectures import build_network
from trainables.deterioration import expected_epochs
from trainables.statistics import CHUNK

__all__ = ["LaneCost", "lane_cost", "lane_epochs"]


@dataclass(frozen=True)
class LaneCost:
    """The cost of one lane.

    Attributes:
        flops_per_image: Floating-point operations of a training step, per image.
        memory: Bytes while training and evaluating, an estimate from above.
        parameters: Trained values.
    """

    flops_per_image: float
    memory: int
    parameters: int


def lane_cost(trial: Trial, shape: Shape, images: int) -> LaneCost:
    """Return what a trial costs on images of a shape.

    Args:
        trial: The trial.
        shape: Shape of one image.
        images: Training images, for which an epoch's noise is drawn at once.
    """
    flops, saved, parameters = _step_cost(trial.architecture, trial.latent_dim, shape)
    size = 8 if trial.precision == "float64" else 4
    # Weights, two moments, gradient, the copy before each epoch (three) and what the engine needs.
    state = 8 * parameters * size
    noise = images * trial.latent_dim * (size + 4)
    activations = 2 * saved * max(trial.batch_size, CHUNK) * size
    return LaneCost(flops, state + noise + activations, parameters)


def lane_epochs(trial: Trial, record: RecordSettings) -> int:
    """Return how many epochs a trial is expected to train for, those of its probe included.

    A probe ends when its unit says so, and a trial without an active unit has none.
    """
    return trial.epochs + (expected_epochs(record.probe) if record.probe else 0)


@lru_cache
def _step_cost(architecture: Architecture, latent_dim: int, shape: Shape) -> tuple[float, int, int]:
    """Return FLOPs and saved values per image, and the parameters; two blank images tell."""
    batch = 2
    network = build_network(architecture, shape)
    shapes = network.parameters(latent_dim)
    parameters = {p.name: torch.zeros(1, *p.shape, requires_grad=True) for p in shapes}
    state = {b.name: torch.zeros(1, *b.shape) for b in network.buffers()}
    saved = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.numel()
        return tensor

    images = torch.zeros(batch, torch.Size(shape).numel())
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        mean, log_variance = network.encode(parameters, images, state, training=True)
        network.decode(parameters, mean + log_variance, state, training=True)
    numel = sum(p.numel for p in shapes)
    return network.flops(latent_dim), max(1, saved - numel) // batch, numel
