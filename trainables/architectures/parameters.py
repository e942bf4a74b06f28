"""The parameters of a network: shapes, initial draws, and lanes stacked in one buffer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainables.streams import stream

__all__ = ["LaneBuffer", "ParameterShape", "draw_parameters"]


@dataclass(frozen=True)
class ParameterShape:
    """One parameter of one lane, as PyTorch's own layer would hold it.

    Attributes:
        name: Dotted name, e.g. `encoder.0.weight`; also its key in a saved model.
        shape: Shape at the lane's own latent_dim.
        kind: What its initial value is: a drawn `weight` or `bias`, or constant `ones`/`zeros`.
        fan_in: Inputs per output, as `torch.nn.init` counts them for this layer.
        fan_out: Outputs per input, likewise.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["weight", "bias", "ones", "zeros"]
    fan_in: int = 0
    fan_out: int = 0

    @property
    def numel(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def draw_parameters(
    parameters: Sequence[ParameterShape], initialisation: str, seed: int
) -> dict[str, Tensor]:
    """Draw the initial values of one lane, in the order of `parameters`, as float32 on the CPU.

    `torch` draws weights and biases from U(-b, b), b = 1/√fan_in, PyTorch's default for linear
    and convolutional layers. `glorot` draws weights from U(-b, b), b = √(6/(fan_in + fan_out)),
    and sets biases to zero, the default of Keras (Glorot and Bengio 2010, equation 16).

    Args:
        parameters: Shapes at the lane's own latent_dim.
        initialisation: `torch` or `glorot`.
        seed: The trial's seed.

    Returns:
        Name to tensor of the declared shape.
    """
    generator = stream("weights", seed)
    values: dict[str, Tensor] = {}
    for parameter in parameters:
        if parameter.kind == "ones":
            values[parameter.name] = torch.ones(parameter.shape)
        elif parameter.kind == "zeros" or (parameter.kind == "bias" and initialisation == "glorot"):
            values[parameter.name] = torch.zeros(parameter.shape)
        else:
            if initialisation == "glorot":
                bound = math.sqrt(6 / (parameter.fan_in + parameter.fan_out))
            else:
                bound = 1 / math.sqrt(parameter.fan_in)
            uniform = torch.rand(parameter.shape, generator=generator)
            values[parameter.name] = (2 * uniform - 1) * bound
    return values


class LaneBuffer:
    """Named tensors of all lanes in one flat buffer of shape (lanes, values per lane).

    `views[name]` has shape (lanes, *shape) and shares the buffer's memory, so that copying,
    freezing or dropping lanes, and checkpoints, are operations on one tensor.
    """

    def __init__(self, shapes: Sequence[ParameterShape], flat: Tensor) -> None:
        """Lay `shapes` (padded to the pack's largest latent_dim) out over `flat`."""
        self.shapes = list(shapes)
        self.flat = flat
        self.views: dict[str, Tensor] = {}
        values = sum(shape.numel for shape in self.shapes)
        if flat.shape[1] != values:
            raise ValueError(f"buffer of {flat.shape[1]} values per lane for {values} parameters")
        offset = 0
        for shape in self.shapes:
            block = flat[:, offset : offset + shape.numel]
            self.views[shape.name] = block.view(len(flat), *shape.shape)
            offset += shape.numel

    @classmethod
    def zeros(
        cls, shapes: Sequence[ParameterShape], lanes: int, dtype: torch.dtype, device: torch.device
    ) -> "LaneBuffer":
        """Allocate a buffer of zeros."""
        values = sum(shape.numel for shape in shapes)
        return cls(shapes, torch.zeros(lanes, values, dtype=dtype, device=device))

    def lanes(self, block: slice) -> "LaneBuffer":
        """Return a buffer of some of the lanes, in the same memory."""
        return LaneBuffer(self.shapes, self.flat[block])

    def fill_lane(self, lane: int, values: Mapping[str, Tensor]) -> None:
        """Copy one lane's values to the leading corner of each view; the padding stays as it is."""
        for name, value in values.items():
            _corner(self.views[name][lane], value.shape).copy_(value)

    def lane_values(self, lane: int, shapes: Sequence[ParameterShape]) -> dict[str, Tensor]:
        """Return one lane's values at its own `shapes`, without the padding, as copies."""
        return {
            shape.name: _corner(self.views[shape.name][lane], shape.shape).clone()
            for shape in shapes
        }


def _corner(tensor: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the view of a tensor's leading `sizes`."""
    for dimension, size in enumerate(sizes):
        tensor = tensor.narrow(dimension, 0, size)
    return tensor
