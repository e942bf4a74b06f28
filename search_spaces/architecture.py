"""The shape of an encoder (its decoder mirrors it), and the architectures that have a name."""

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from search_spaces.dataset import Shape
from search_spaces.errors import BadInput, nearest_name
from search_spaces.fields import Count

Family = Literal["dense", "conv", "linear"]


class Architecture(BaseModel):
    """Layers between the data and the latent heads.

    Use the constructors `dense`, `conv` and `linear`, or `named_architecture`: they give equal
    networks equal names. Where a model has an architecture as a field, its name will do.

    Attributes:
        name: Name in the tables: "dense-256-32-24", "conv-16-32", "linear" or "paper-conv".
        family: "dense", "conv", or "linear" (an affine encoder and decoder).
        widths: Units of each dense layer, or channels of each convolution; empty for "linear".
            A generic conv net halves the image at each of its channels (3x3 convolution of
            stride 2, batch norm, ReLU); "paper-conv" follows figure 7 of the paper instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: Family
    widths: tuple[Count, ...]

    @property
    def depth(self) -> int:
        """Number of layers before the latent heads."""
        return len(self.widths)

    @classmethod
    def dense(cls, widths: Sequence[int]) -> "Architecture":
        """A dense net with the given units per layer."""
        return cls(name=_canonical_name("dense", widths), family="dense", widths=tuple(widths))

    @classmethod
    def conv(cls, channels: Sequence[int]) -> "Architecture":
        """A conv net with one stage of stride 2 for each of the given channels."""
        return cls(name=_canonical_name("conv", channels), family="conv", widths=tuple(channels))

    @classmethod
    def linear(cls) -> "Architecture":
        """An affine encoder and an affine decoder."""
        return cls(name="linear", family="linear", widths=())

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return dict(named_architecture(value)) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Architecture":
        if (self.family == "linear") != (not self.widths):
            raise ValueError(
                f"a {self.family} architecture "
                + ("has no layers" if self.widths else "needs at least one layer; use 'linear'")
            )
        paper_conv = ("paper-conv", "conv", _PAPER_CONV_CHANNELS)
        canonical = _canonical_name(self.family, self.widths)
        if self.name != canonical and (self.name, self.family, self.widths) != paper_conv:
            raise ValueError(f"{self.name!r} is not the name of these layers; give {canonical!r}")
        return self


def _canonical_name(family: Family, widths: Sequence[int]) -> str:
    return "-".join([family, *map(str, widths)])


# The eight convolutions before the latent heads, from figure 7 of the paper.
_PAPER_CONV_CHANNELS = (16, 32, 32, 32, 32, 32, 32, 32)

NAMED: dict[str, Architecture] = {
    "paper-dense-mnist": Architecture.dense((256, 32, 24)),
    "paper-dense-mnist-3": Architecture.dense((256, 64, 16)),
    "paper-dense-tiles": Architecture.dense((512, 256, 64, 32)),
    "paper-conv": Architecture(name="paper-conv", family="conv", widths=_PAPER_CONV_CHANNELS),
    "linear": Architecture.linear(),
}
"""Architectures that a spec may call by name; all but "paper-conv" and "linear" are aliases."""


def named_architecture(name: str) -> Architecture:
    """Find an architecture by its name.

    Args:
        name: A key of `NAMED`, or a name as it stands in the tables, such as "dense-256-32-24".

    Returns:
        The architecture under its canonical name, so that an alias and the layers it stands for
        are the same point of a search space.

    Raises:
        BadInput: No architecture has this name.
    """
    if name in NAMED:
        return NAMED[name]
    if match := re.fullmatch(r"(dense|conv)((?:-[1-9][0-9]*)+)", name):
        widths = tuple(int(width) for width in match[2][1:].split("-"))
        return Architecture.dense(widths) if match[1] == "dense" else Architecture.conv(widths)
    raise BadInput(f"{name!r} is not an architecture{nearest_name(name, NAMED)}")


def check_shape(architecture: Architecture, shape: Shape) -> None:
    """Refuse an architecture which examples of this shape cannot pass through.

    Args:
        architecture: The architecture.
        shape: Shape of one example, (channels, height, width) or (values,).

    Raises:
        BadInput: A conv net on vectors; more stages than the image can be halved (height or width
            is 1 already before a stage); "paper-conv" on images other than 28x28.
    """
    if architecture.family != "conv":
        return
    if len(shape) != 3:
        raise BadInput(
            f"{architecture.name!r} needs images, and these are vectors of {shape[0]} values; "
            "use a dense or linear architecture"
        )
    _, height, width = shape
    if architecture.name == "paper-conv":
        if (height, width) != (28, 28):
            raise BadInput(
                f"'paper-conv' needs images of 28x28 pixels, and these are {height}x{width}; "
                "use a conv architecture with channels of your own"
            )
        return
    # Each stage gives ceil(h / 2), so a side of h is 1 after ceil(log2 h) stages.
    stages = (min(height, width) - 1).bit_length()
    if architecture.depth > stages:
        raise BadInput(
            f"{architecture.name!r} halves the image {architecture.depth} times, and images of "
            f"{height}x{width} pixels allow {stages}; give fewer channels"
        )
