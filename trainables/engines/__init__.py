"""How a pack is computed: losses and gradients of all its lanes, by architecture.

An engine works on the memory of a pack: it reads the lanes' parameters and writes their
gradients. `DenseEngine` computes dense and linear nets without autograd, `AutogradEngine` all
others, and on CPUs `LaneByLaneEngine` has one of these per lane.
"""

from typing import Protocol

from torch import Tensor

from trainables.architectures import DenseNetwork, LaneBuffer, Network
from trainables.engines.autograd import AutogradEngine, LaneByLaneEngine
from trainables.engines.dense import DenseEngine
from trainables.objectives import Disturbance, LaneObjectives

__all__ = ["Engine", "build_engine"]


class Engine(Protocol):
    """What training and statistics need to have computed."""

    def step(self, images: Tensor, noise: Tensor, disturbance: Disturbance | None = None) -> Tensor:
        """Compute losses, and the gradients of each lane's mean objective over the minibatch.

        Args:
            images: Shape (batch, values), shared by the lanes.
            noise: ε, shape (lanes, batch, latent_dim).
            disturbance: What happens to the codes before they are decoded, if anything.

        Returns:
            Reconstruction loss, KL and objective, summed over the batch, shape (3, lanes).
        """

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return posterior mean and log-variance, each (lanes, batch, latent_dim).

        Both are overwritten by the next call. Batch normalisation uses its running statistics.
        """

    def losses(self, codes: Tensor, images: Tensor) -> Tensor:
        """Decode codes (lanes, batch, latent_dim).

        Returns:
            -log p(x | z) in nats and the mean squared error per value of the decoder's mean, each
            summed over the batch, shape (2, lanes).
        """


def build_engine(
    network: Network,
    objectives: LaneObjectives,
    parameters: LaneBuffer,
    gradients: LaneBuffer,
    state: LaneBuffer,
    *,
    mixed: bool = False,
) -> Engine:
    """Return the fastest engine for a network.

    Args:
        network: The architecture.
        objectives: Coefficients of the lanes.
        parameters: Read by every call.
        gradients: Written by every step.
        state: Running statistics, updated by every step.
        mixed: Whether steps are taken within `ProductFormat.fastest`.
    """
    if isinstance(network, DenseNetwork):
        return DenseEngine(network, objectives, parameters, gradients, mixed=mixed)
    if parameters.flat.device.type != "cpu":
        return AutogradEngine(network, objectives, parameters, gradients, state)
    # CPUs take grouped convolutions more slowly than one lane after another.
    lanes = [slice(lane, lane + 1) for lane in range(len(parameters.flat))]
    return LaneByLaneEngine(
        [
            AutogradEngine(
                network,
                objectives.lanes(lane),
                *(b.lanes(lane) for b in (parameters, gradients, state)),
            )
            for lane in lanes
        ]
    )
