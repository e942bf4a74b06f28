"""Networks by name: what a trial's `architecture` means in PyTorch.

A network is a description without state. It declares the parameters of one lane and computes
the encoder and the decoder of all lanes at once from parameters stacked along a first
dimension. A new architecture is one class with the methods of `Network` and its line in
`build_network`.
"""

import math
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from search_spaces import Architecture, BadInput, Shape, check_shape
from trainables.architectures.convolutional import (
    ConvolutionalNetwork,
    paper_encoder,
    strided_encoder,
)
from trainables.architectures.dense import DenseNetwork, LinearNetwork
from trainables.architectures.parameters import LaneBuffer, ParameterShape, draw_parameters

__all__ = [
    "DenseNetwork",
    "LaneBuffer",
    "LinearNetwork",
    "Network",
    "ParameterShape",
    "build_network",
    "draw_parameters",
]


class Network(Protocol):
    """What the fused trainer needs of an architecture."""

    def parameters(self, latent_dim: int) -> list[ParameterShape]:
        """Declare one lane's parameters in the order in which they are drawn."""

    def buffers(self) -> list[ParameterShape]:
        """Declare one lane's state that is kept but not trained (running statistics)."""

    def flops(self, latent_dim: int) -> int:
        """Return the floating-point operations of a training step, per image of one lane."""

    def encode(
        self,
        parameters: Mapping[str, Tensor],
        images: Tensor,
        state: Mapping[str, Tensor],
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        """Map images (batch, values) to mean and log-variance (lanes, batch, latent_dim)."""

    def decode(
        self,
        parameters: Mapping[str, Tensor],
        codes: Tensor,
        state: Mapping[str, Tensor],
        training: bool,
    ) -> Tensor:
        """Map codes (lanes, batch, latent_dim) to decoder outputs (lanes, batch, values)."""


def build_network(architecture: Architecture, shape: Shape) -> Network:
    """Build the network of an architecture for images of a shape.

    Args:
        architecture: Family and widths.
        shape: (channels, height, width) or (values,).

    Raises:
        BadInput: The architecture cannot take images of that shape.
    """
    check_shape(architecture, shape)
    if architecture.family == "dense":
        return DenseNetwork(math.prod(shape), architecture.widths)
    if architecture.family == "linear":
        return LinearNetwork(math.prod(shape))
    if len(shape) != 3:
        raise BadInput(f"axes.architecture: {architecture.name} needs images, not {shape}")
    if architecture.name == "paper-conv":
        return ConvolutionalNetwork(shape, paper_encoder())
    return ConvolutionalNetwork(shape, strided_encoder(architecture.widths))
