"""Convolutional VAEs, the paper's and others; all lanes of a pack as groups of one convolution."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainables.architectures.dense import affine, affine_parameters
from trainables.architectures.parameters import ParameterShape

__all__ = ["Convolution", "ConvolutionalNetwork", "paper_encoder", "strided_encoder"]

BATCH_NORM_MOMENTUM = 0.1  # PyTorch's defaults; the paper states none
BATCH_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Convolution:
    """One convolution of the encoder; the decoder has its transpose at the mirrored place.

    Attributes:
        channels: Output channels.
        kernel: Height and width of the kernel.
        stride: Step in both directions.
        padding: Zeros added on every side.
        padding_end: Zeros added at the bottom and right only, as "same" does for even kernels.
        normalise: Whether batch normalisation and ReLU follow.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    padding_end: int = 0
    normalise: bool = False

    def output_size(self, size: int) -> int:
        """Return the height (or width) of the output for an input of that height (or width)."""
        return (size + 2 * self.padding + self.padding_end - self.kernel) // self.stride + 1


def paper_encoder() -> list[Convolution]:
    """Return the paper's figure 7, read by its parameter counts.

    The three layers of 4,128 = 32·32·2·2 + 32 parameters have 2x2 kernels, whatever their label
    says, and the paired convolutions have no ReLU between them.
    """
    return [
        Convolution(16, stride=2, normalise=True),  # 28 -> 14
        Convolution(32),
        Convolution(32, stride=2, normalise=True),  # -> 7
        Convolution(32, stride=2),  # -> 4
        Convolution(32, normalise=True),
        Convolution(32, kernel=2, stride=2, padding=0),  # -> 2
        Convolution(32, kernel=2, padding=0, padding_end=1, normalise=True),
        Convolution(32, kernel=2, padding=0),  # -> 1
    ]


def strided_encoder(channels: Sequence[int]) -> list[Convolution]:
    """Return one 3x3 convolution of stride 2 with batch norm and ReLU per entry of `channels`."""
    return [Convolution(c, stride=2, normalise=True) for c in channels]


@dataclass(frozen=True)
class _Layer:
    """A convolution at its place in the net: its name, channels and image sizes."""

    name: str
    convolution: Convolution
    inputs: int
    size_in: tuple[int, int]
    size_out: tuple[int, int]
    transposed: bool

    @property
    def outputs(self) -> int:
        return self.convolution.channels

    @property
    def products(self) -> int:
        """Multiplications for one image."""
        positions = math.prod(self.size_in if self.transposed else self.size_out)
        return self.inputs * self.outputs * self.convolution.kernel**2 * positions

    def parameters(self) -> list[ParameterShape]:
        area = self.convolution.kernel**2
        if self.transposed:  # torch counts the fan-in of ConvTranspose2d on its second dimension
            channels = (self.inputs, self.outputs)
            fan_in, fan_out = self.outputs * area, self.inputs * area
        else:
            channels = (self.outputs, self.inputs)
            fan_in, fan_out = self.inputs * area, self.outputs * area
        kernel = (self.convolution.kernel, self.convolution.kernel)
        declared = [
            ParameterShape(f"{self.name}.weight", (*channels, *kernel), "weight", fan_in, fan_out),
            ParameterShape(f"{self.name}.bias", (self.outputs,), "bias", fan_in, fan_out),
        ]
        if self.convolution.normalise:
            declared += [
                ParameterShape(f"{self.name}.norm.weight", (self.outputs,), "ones"),
                ParameterShape(f"{self.name}.norm.bias", (self.outputs,), "zeros"),
            ]
        return declared

    def buffers(self) -> list[ParameterShape]:
        if not self.convolution.normalise:
            return []
        return [
            ParameterShape(f"{self.name}.norm.running_mean", (self.outputs,), "zeros"),
            ParameterShape(f"{self.name}.norm.running_var", (self.outputs,), "ones"),
        ]


class ConvolutionalNetwork:
    """A convolutional encoder, affine heads on its flattened output, and the mirrored decoder.

    The decoder is symmetric, with transposed convolutions (the paper, section IV-B). On a 1x1
    output the affine heads are the paper's 1x1 convolutions. Each block keeps its place in the
    mirror image: where the encoder goes "convolutions, batch norm, ReLU" from one size to the
    next, so does the decoder on the way back, and its last layer has neither.
    """

    def __init__(self, shape: tuple[int, int, int], encoder: Sequence[Convolution]) -> None:
        """Build for images of `shape` (channels, height, width)."""
        self.shape = shape
        self.encoder: list[_Layer] = []
        channels, size = shape[0], (shape[1], shape[2])
        for index, convolution in enumerate(encoder):
            out = (convolution.output_size(size[0]), convolution.output_size(size[1]))
            layer = _Layer(f"encoder.{index}", convolution, channels, size, out, transposed=False)
            self.encoder.append(layer)
            channels, size = convolution.channels, out
        self.code_shape = (channels, *size)
        self.features = channels * size[0] * size[1]
        self.decoder = _mirror(self.encoder)

    def parameters(self, latent_dim: int) -> list[ParameterShape]:
        """Declare one lane's parameters in the order in which they are drawn."""
        return [
            *(p for layer in self.encoder for p in layer.parameters()),
            *affine_parameters("encoder.mean", self.features, latent_dim),
            *affine_parameters("encoder.log_variance", self.features, latent_dim),
            *affine_parameters("decoder.features", latent_dim, self.features),
            *(p for layer in self.decoder for p in layer.parameters()),
        ]

    def buffers(self) -> list[ParameterShape]:
        """Declare the running statistics of batch normalisation."""
        return [b for layer in (*self.encoder, *self.decoder) for b in layer.buffers()]

    def flops(self, latent_dim: int) -> int:
        """Return the floating-point operations of a training step, per image of one lane.

        Forward, gradient of the weights and gradient of the inputs, which the first layer lacks.
        """
        products = [layer.products for layer in (*self.encoder, *self.decoder)]
        heads = 3 * latent_dim * self.features  # μ, log σ², and back from the codes
        return 2 * (3 * (sum(products) + heads) - products[0])

    def encode(
        self,
        parameters: Mapping[str, Tensor],
        images: Tensor,
        state: Mapping[str, Tensor],
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        """Encode images (batch, values) shared by all lanes.

        Returns:
            Posterior mean and log-variance, each (lanes, batch, latent_dim).
        """
        lanes = len(parameters["encoder.mean.weight"])
        features = images.view(len(images), *self.shape)  # (batch, channels, height, width)
        for layer in self.encoder:
            features = _apply(layer, parameters, state, features, lanes, training)
        hidden = features.reshape(len(images), lanes, self.features).transpose(0, 1)
        return (
            affine(parameters, "encoder.mean", hidden),
            affine(parameters, "encoder.log_variance", hidden),
        )

    def decode(
        self,
        parameters: Mapping[str, Tensor],
        codes: Tensor,
        state: Mapping[str, Tensor],
        training: bool,
    ) -> Tensor:
        """Decode codes (lanes, batch, latent_dim) to (lanes, batch, values)."""
        lanes, batch, _ = codes.shape
        hidden = affine(parameters, "decoder.features", codes).transpose(0, 1)
        channels, height, width = self.code_shape
        features = hidden.reshape(batch, lanes * channels, height, width)
        for layer in self.decoder:
            features = _apply(layer, parameters, state, features, lanes, training)
        return features.reshape(batch, lanes, -1).transpose(0, 1)


def _mirror(encoder: Sequence[_Layer]) -> list[_Layer]:
    """Return the transposed layers in reverse, batch norm and ReLU where the encoder has them."""
    decoder = []
    for index, layer in enumerate(reversed(encoder)):
        before = encoder[-index - 2] if index + 1 < len(encoder) else None
        convolution = replace(
            layer.convolution,
            channels=layer.inputs,
            normalise=before is not None and before.convolution.normalise,
        )
        decoder.append(
            _Layer(
                f"decoder.{index}",
                convolution,
                layer.outputs,
                layer.size_out,
                layer.size_in,
                transposed=True,
            )
        )
    return decoder


def _apply(
    layer: _Layer,
    parameters: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    features: Tensor,
    lanes: int,
    training: bool,
) -> Tensor:
    """Apply a layer to (batch, lanes·inputs, height, width), lanes as groups of channels.

    The first encoder layer gets (batch, channels, height, width), the images all lanes share.
    """
    convolution = layer.convolution
    weight = parameters[f"{layer.name}.weight"].flatten(0, 1)
    bias = parameters[f"{layer.name}.bias"].flatten()
    if features.device.type == "cpu":  # where convolutions are up to twice as fast channels last
        weight = weight.contiguous(memory_format=torch.channels_last)
        features = features.contiguous(memory_format=torch.channels_last)
    if layer.transposed:
        features = _transposed_convolution(layer, features, weight, lanes)
    else:
        groups = features.shape[1] // layer.inputs
        if convolution.padding_end:
            end = convolution.padding_end
            features = functional.pad(features, (0, end, 0, end))
        features = functional.conv2d(
            features, weight, None, convolution.stride, convolution.padding, groups=groups
        )
    if not convolution.normalise:
        added: Tensor = _AddBias.apply(features, bias)  # type: ignore[no-untyped-call]
        return added
    # Batch norm subtracts this bias again, so that its gradient is zero. Computed, it would be
    # rounding noise, which Adam scales up to full steps.
    features = features + bias.detach()[:, None, None]
    return torch.relu(_normalise(layer.name, parameters, state, features, training))


class _AddBias(torch.autograd.Function):
    """Adds a number per channel, in place, as a convolution does with its bias.

    On CPUs the gradient of a convolution's own bias takes longer than that of its weight.
    """

    @staticmethod
    def forward(features: Tensor, bias: Tensor) -> Tensor:
        """Add bias (channels,) to features (batch, channels, height, width)."""
        return features.add_(bias[:, None, None])

    @staticmethod
    def setup_context(context: Any, inputs: Any, output: Any) -> None:
        """Tell autograd that the features were changed."""
        context.mark_dirty(inputs[0])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the gradient of each channel, as a product with ones."""
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])
        return gradient, torch.mv(rows.t(), rows.new_ones(len(rows)))


def _transposed_convolution(layer: _Layer, features: Tensor, weight: Tensor, lanes: int) -> Tensor:
    """Undo the sizes of the mirrored convolution exactly, odd ones and one-sided padding too."""
    convolution = layer.convolution
    full = [
        (size - 1) * convolution.stride - 2 * convolution.padding + convolution.kernel
        for size in layer.size_in
    ]
    missing = [max(0, out - size) for out, size in zip(layer.size_out, full, strict=True)]
    features = functional.conv_transpose2d(
        features, weight, None, convolution.stride, convolution.padding, missing, groups=lanes
    )
    if features.shape[2:] == layer.size_out:
        return features
    height, width = layer.size_out
    return features[:, :, :height, :width].contiguous()


def _normalise(
    name: str,
    parameters: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    features: Tensor,
    training: bool,
) -> Tensor:
    """Batch normalisation per lane and channel (Ioffe and Szegedy 2015)."""
    mean, variance = state[f"{name}.norm.running_mean"], state[f"{name}.norm.running_var"]
    flat_mean, flat_variance = mean.flatten().clone(), variance.flatten().clone()
    normalised = functional.batch_norm(
        features,
        flat_mean,
        flat_variance,
        parameters[f"{name}.norm.weight"].flatten(),
        parameters[f"{name}.norm.bias"].flatten(),
        training,
        BATCH_NORM_MOMENTUM,
        BATCH_NORM_EPSILON,
    )
    if training:
        mean.copy_(flat_mean.view_as(mean))
        variance.copy_(flat_variance.view_as(variance))
    return normalised
