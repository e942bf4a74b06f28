"""Dense VAEs of any depth and width, and the linear VAE; all lanes of a pack in one call."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from trainables.architectures.parameters import ParameterShape

__all__ = ["DenseNetwork", "LinearNetwork", "affine", "affine_parameters"]


def affine(parameters: Mapping[str, Tensor], name: str, inputs: Tensor) -> Tensor:
    """Apply each lane's own affine layer.

    Args:
        parameters: Holds `<name>.weight` (lanes, outputs, inputs) and `<name>.bias`
            (lanes, outputs).
        name: The layer.
        inputs: Shape (lanes, batch, inputs), or (batch, inputs) where lanes share it.

    Returns:
        Shape (lanes, batch, outputs).
    """
    weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
    if inputs.dim() == 2:
        inputs = inputs.expand(len(weight), *inputs.shape)
    return torch.baddbmm(bias.unsqueeze(1), inputs, weight.transpose(1, 2))


def affine_parameters(name: str, inputs: int, outputs: int) -> list[ParameterShape]:
    """Declare the weight and bias of an affine layer, shaped like `torch.nn.Linear`'s."""
    return [
        ParameterShape(f"{name}.weight", (outputs, inputs), "weight", inputs, outputs),
        ParameterShape(f"{name}.bias", (outputs,), "bias", inputs, outputs),
    ]


class DenseNetwork:
    """A dense encoder with ReLU and its mirror image as decoder.

    The paper's nets are 784-256-32-24-16 (section IV-A), 784-256-64-16-3 (figure 3) and
    784-512-256-64-32-16 (section V): all but the last number are the input and the hidden
    widths, the last is latent_dim. The encoder ends in two affine heads, μ and log σ²; the
    decoder ends in an affine layer (logits, or means of a Gaussian).
    """

    def __init__(self, values: int, widths: Sequence[int]) -> None:
        """Build for images of `values` numbers and hidden layers of the given widths."""
        self.widths = (values, *widths)
        self.hidden = len(widths)

    def parameters(self, latent_dim: int) -> list[ParameterShape]:
        """Declare one lane's parameters in the order in which they are drawn."""
        return [*self._encoder_parameters(latent_dim), *self._decoder_parameters(latent_dim)]

    def buffers(self) -> list[ParameterShape]:
        """Declare state that is not trained: none here."""
        return []

    def flops(self, latent_dim: int) -> int:
        """Return the floating-point operations of a training step, per image of one lane.

        Forward, gradient of the weights and gradient of the inputs, which the first layer lacks.
        """
        weights = [p for p in self.parameters(latent_dim) if p.name.endswith(".weight")]
        of_images = sum(p.numel for p in weights if p.shape[1] == self.widths[0])
        return 2 * (3 * sum(p.numel for p in weights) - of_images)

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
        hidden = images
        for layer in range(self.hidden):
            hidden = torch.relu(affine(parameters, f"encoder.{layer}", hidden))
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
        hidden = codes
        for layer in range(self.hidden):
            hidden = torch.relu(affine(parameters, f"decoder.{layer}", hidden))
        return affine(parameters, f"decoder.{self.hidden}", hidden)

    def _encoder_parameters(self, latent_dim: int) -> Iterator[ParameterShape]:
        for layer, (inputs, outputs) in enumerate(pairwise(self.widths)):
            yield from affine_parameters(f"encoder.{layer}", inputs, outputs)
        for head in ("mean", "log_variance"):
            yield from affine_parameters(f"encoder.{head}", self.widths[-1], latent_dim)

    def _decoder_parameters(self, latent_dim: int) -> Iterator[ParameterShape]:
        sizes = [latent_dim, *reversed(self.widths)]
        for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
            yield from affine_parameters(f"decoder.{layer}", inputs, outputs)


class LinearNetwork(DenseNetwork):
    """The linear VAE: affine encoder and decoder, one posterior variance per unit.

    Its optimum is known: with a Gaussian decoder of variance s, unit i is active if and only if
    the i-th eigenvalue of the data covariance exceeds β·s, and then σ² = β·s/λ_i (Tipping and
    Bishop 1999; Lucas et al. 2019, "Don't Blame the ELBO!", which also has σ² not depend on x).
    """

    def __init__(self, values: int) -> None:
        """Build for images of `values` numbers."""
        super().__init__(values, ())

    def encode(
        self,
        parameters: Mapping[str, Tensor],
        images: Tensor,
        state: Mapping[str, Tensor],
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        """Encode as `DenseNetwork.encode` does; the log-variance is the same for all images."""
        mean = affine(parameters, "encoder.mean", images)
        return mean, parameters["encoder.log_variance"].unsqueeze(1).expand_as(mean)

    def _encoder_parameters(self, latent_dim: int) -> Iterator[ParameterShape]:
        yield from affine_parameters("encoder.mean", self.widths[0], latent_dim)
        yield ParameterShape("encoder.log_variance", (latent_dim,), "zeros")
