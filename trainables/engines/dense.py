"""The engine of dense nets: forward and backward by hand, in memory allocated once.

A plain step of such small nets spends half its time around the matrix products: on fresh memory,
whose pages the kernel has to clear, on separate passes over the logits, on copies of gradients.
Here every product is written to where it stays. Activations are feature-major, (lanes, features,
batch), so that a layer reads W·h + b as in a paper and its weights enter the product as they lie
in memory, which is the faster order on CPUs.

Gradients are those of each lane's mean loss over the minibatch (`trainables.objectives`).
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from trainables.architectures import DenseNetwork, LaneBuffer, LinearNetwork
from trainables.mixed_precision import ProductFormat
from trainables.objectives import LEARNED_VARIANCE, LOG_2PI, Disturbance, LaneObjectives

__all__ = ["DenseEngine"]

FACTORS = 8
"""Probabilities in [½, 1] that are multiplied before their logarithm is taken."""

SMALL_PRODUCT = 2**15
"""Weights below which rounding the factors of a product takes longer than it saves."""

LATENT_LAYERS = ("encoder.mean", "encoder.log_variance", "decoder.0")
"""Layers whose weights grow with latent_dim: theirs is that of the pack, and no lane's own."""


class DenseEngine:
    """See `Engine`."""

    def __init__(
        self,
        network: DenseNetwork,
        objectives: LaneObjectives,
        parameters: LaneBuffer,
        gradients: LaneBuffer,
        *,
        mixed: bool = False,
    ) -> None:
        """Set up on the memory of a pack."""
        self._objectives = objectives
        self._parameters, self._gradients = parameters.views, gradients.views
        hidden = range(network.hidden)
        device = parameters.flat.device
        self._full = ProductFormat.full(device, "matrices") if mixed else nullcontext()

        def layer(name: str) -> _Affine:
            multiply = _multiply
            small = parameters.views[f"{name}.weight"][0].numel() < SMALL_PRODUCT
            if mixed and (small or name in LATENT_LAYERS):
                multiply = self._multiply_in_full
            elif mixed and device.type == "cpu":
                multiply = _multiply_by_lane
            return _Affine.of(parameters, gradients, name, multiply)

        self._encoder = [layer(f"encoder.{index}") for index in hidden]
        self._mean = layer("encoder.mean")
        linear = isinstance(network, LinearNetwork)  # σ² is a parameter there
        self._log_variance = None if linear else layer("encoder.log_variance")
        self._decoder = [layer(f"decoder.{index}") for index in hidden]
        self._output = layer(f"decoder.{network.hidden}")

        lanes = len(parameters.flat)
        # On a CPU one lane at a time: its logits, and all that is made of them, fit the cache.
        size = 1 if parameters.flat.device.type == "cpu" else lanes
        self._blocks = [slice(start, start + size) for start in range(0, lanes, size)]
        self._workspaces: dict[int, _Workspace] = {}

    def step(self, images: Tensor, noise: Tensor, disturbance: Disturbance | None = None) -> Tensor:
        """Compute losses and gradients."""
        batch = len(images)
        objectives = self._objectives
        space = self._workspace(images)
        mean, log_variance = self._encode(space)
        deviation = torch.exp(0.5 * log_variance)
        variance = deviation**2
        spread = objectives.sampling * deviation * noise.transpose(1, 2)  # σ·ε
        torch.add(mean, spread, out=space.codes)
        if disturbance is not None:
            kept = disturbance.kept.transpose(1, 2)
            space.codes.mul_(kept).add_(disturbance.added.transpose(1, 2))
        reconstruction = self._decode_and_back(space)
        if disturbance is not None:
            space.code_gradient.mul_(kept)

        weight = objectives.beta.unsqueeze(2) / batch  # (lanes, 1, 1)
        excess = objectives.variance_part * (variance - 1)
        self._encode_back(
            space,
            mean_gradient=space.code_gradient + weight * mean,
            log_variance_gradient=0.5 * (space.code_gradient * spread + weight * excess),
        )
        squares = mean**2
        surplus = variance - log_variance - 1
        kl = 0.5 * (squares + surplus).sum((1, 2))
        penalty = 0.5 * (squares + objectives.variance_part * surplus).sum((1, 2))
        objective = reconstruction + objectives.beta.squeeze(1) * penalty
        return torch.stack([reconstruction, kl, objective])

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return posterior mean and log-variance."""
        mean, log_variance = self._encode(self._workspace(images))
        return mean.transpose(1, 2), log_variance.transpose(1, 2)

    def losses(self, codes: Tensor, images: Tensor) -> Tensor:
        """Return reconstruction loss and squared error."""
        space = self._workspace(images)
        space.codes.copy_(codes.transpose(1, 2))
        self._decode(space)
        losses = []
        for block in self._blocks:
            self._output.lanes(block).forward(space.decoder[-1][block], space.output)
            reconstruction = self._reconstruction(space, block)
            squares = space.error.square_().sum((1, 2)) / len(space.images)
            losses.append(torch.stack([reconstruction, squares]))
        return torch.cat(losses, dim=1)

    def _encode(self, space: "_Workspace") -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (lanes, latent_dim, batch)."""
        for layer, (inputs, out) in zip(self._encoder, pairwise(space.encoder), strict=True):
            layer.forward(inputs, out).relu_()
        mean = self._mean.forward(space.encoder[-1], space.mean)
        if self._log_variance is None:
            constant = self._parameters["encoder.log_variance"]
            return mean, constant.unsqueeze(2).expand_as(mean)
        return mean, self._log_variance.forward(space.encoder[-1], space.log_variance)

    def _encode_back(
        self, space: "_Workspace", mean_gradient: Tensor, log_variance_gradient: Tensor
    ) -> None:
        """Compute the encoder's gradients."""
        hidden, into = space.encoder[-1], space.encoder_gradients[-1]
        self._mean.backward(mean_gradient, hidden, into)
        if self._log_variance is None:
            constant = self._gradients["encoder.log_variance"]
            torch.sum(log_variance_gradient, 2, out=constant)
        else:
            self._log_variance.backward(log_variance_gradient, hidden, into, accumulate=True)
        _backward(self._encoder, space.encoder, space.encoder_gradients)

    def _decode(self, space: "_Workspace") -> None:
        """Compute the decoder's hidden layers."""
        for layer, (inputs, out) in zip(self._decoder, pairwise(space.decoder), strict=True):
            layer.forward(inputs, out).relu_()

    def _decode_and_back(self, space: "_Workspace") -> Tensor:
        """Return the reconstruction loss, (lanes,), and compute gradients down to the codes."""
        self._decode(space)
        losses = []
        for block in self._blocks:
            layer, hidden = self._output.lanes(block), space.decoder[-1][block]
            layer.forward(hidden, space.output)
            losses.append(self._reconstruction(space, block))
            if self._objectives.decoder != "bernoulli":
                space.error.div_(self._log_s(block).exp().unsqueeze(2))
            into = space.decoder_gradients[-1][block]
            layer.backward(space.error, hidden, into, scale=1 / hidden.shape[2])
        _backward(self._decoder, space.decoder, space.decoder_gradients)
        reconstruction = torch.cat(losses)
        if self._objectives.decoder == "gaussian_learned":
            # d/d log s of ½ Σ (error²/s + log 2πs), which is ½ (Σ error²/s) + ½ Σ log 2πs
            numel, log_s = space.images.numel(), self._log_s(slice(None)).squeeze(1)
            squares = 2 * reconstruction - numel * (LOG_2PI + log_s)
            gradient = 0.5 * (numel - squares) / space.images.shape[1]
            self._gradients[LEARNED_VARIANCE].copy_(gradient.unsqueeze(1))
        return reconstruction

    def _reconstruction(self, space: "_Workspace", block: slice) -> Tensor:
        """Return -log p(x | z) of a block of lanes from its output; leaves its error in `space`."""
        if self._objectives.decoder == "bernoulli":
            with self._full:
                return _cross_entropy(space)
        error = torch.sub(space.output, space.images, out=space.error)
        log_s = self._log_s(block).squeeze(1)
        squares = torch.mul(error, error, out=space.output).sum((1, 2)) / log_s.exp()
        return 0.5 * (squares + space.images.numel() * (LOG_2PI + log_s))

    def _multiply_in_full(
        self, out: Tensor, first: Tensor, second: Tensor, scale: float, kept: float
    ) -> None:
        with self._full:
            _multiply(out, first, second, scale, kept)

    def _log_s(self, block: slice) -> Tensor:
        """Return log s of a Gaussian decoder, (block, 1)."""
        fixed = self._objectives.log_decoder_variance
        return self._parameters.get(LEARNED_VARIANCE, fixed)[block]

    def _workspace(self, images: Tensor) -> "_Workspace":
        """Return memory for a minibatch of this size, with the images in it."""
        batch = len(images)
        if batch not in self._workspaces:
            self._workspaces[batch] = self._allocate(batch)
        space = self._workspaces[batch]
        space.images.copy_(images.t())
        return space

    def _allocate(self, batch: int) -> "_Workspace":
        weight = self._output.weight
        lanes, values, _ = weight.shape

        def empty(rows: int, lanes: int = lanes) -> Tensor:
            return weight.new_empty(lanes, rows, batch)

        images = weight.new_empty(values, batch)
        encoder = [empty(layer.outputs) for layer in self._encoder]
        codes = empty(self._mean.outputs)
        decoder = [codes, *(empty(layer.outputs) for layer in self._decoder)]
        block = len(range(lanes)[self._blocks[0]])
        groups = -(-values // FACTORS)
        return _Workspace(
            images=images,
            encoder=[images.expand(lanes, -1, -1), *encoder],
            mean=torch.empty_like(codes),
            log_variance=torch.empty_like(codes),
            decoder=decoder,
            encoder_gradients=[None, *map(torch.empty_like, encoder)],
            decoder_gradients=list(map(torch.empty_like, decoder)),
            output=empty(values, block),
            error=empty(values, block),
            factors=weight.new_ones(block, groups, FACTORS, batch),
        )


@dataclass(frozen=True)
class _Workspace:
    """Memory for one size of minibatch; gradients are those of what has the same name and index.

    Attributes:
        images: Shape (values, batch).
        mean: Shape (lanes, latent_dim, batch), as is `log_variance`.
        encoder: The images, then each hidden layer, (lanes, features, batch).
        decoder: The codes, then each hidden layer, likewise.
        output: Logits or means of a block of lanes, (block, values, batch).
        error: Mean of the decoder minus images, likewise.
        factors: Room for probabilities, (block, groups, FACTORS, batch), ones beyond the values.
    """

    images: Tensor
    encoder: list[Tensor]
    mean: Tensor
    log_variance: Tensor
    decoder: list[Tensor]
    encoder_gradients: list[Tensor | None]
    decoder_gradients: list[Tensor]
    output: Tensor
    error: Tensor
    factors: Tensor

    @property
    def codes(self) -> Tensor:
        return self.decoder[0]

    @property
    def code_gradient(self) -> Tensor:
        return self.decoder_gradients[0]


@dataclass(frozen=True)
class _Affine:
    """A layer of all lanes: weight (lanes, outputs, inputs), bias (lanes, outputs), gradients.

    Its products are computed by `multiply`.
    """

    weight: Tensor
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor
    multiply: "_Multiply"

    @classmethod
    def of(
        cls, parameters: LaneBuffer, gradients: LaneBuffer, name: str, multiply: "_Multiply"
    ) -> "_Affine":
        return cls(
            parameters.views[f"{name}.weight"],
            parameters.views[f"{name}.bias"],
            gradients.views[f"{name}.weight"],
            gradients.views[f"{name}.bias"],
            multiply,
        )

    @property
    def outputs(self) -> int:
        return self.weight.shape[1]

    def lanes(self, block: slice) -> "_Affine":
        return _Affine(
            self.weight[block],
            self.bias[block],
            self.weight_gradient[block],
            self.bias_gradient[block],
            self.multiply,
        )

    def forward(self, inputs: Tensor, out: Tensor) -> Tensor:
        """Write W·inputs + b to `out`, (lanes, outputs, batch)."""
        self.multiply(out, self.weight, inputs, 1, 0)
        return out.add_(self.bias.unsqueeze(2))

    def backward(
        self,
        gradient: Tensor,
        inputs: Tensor,
        into: Tensor | None,
        *,
        scale: float = 1.0,
        accumulate: bool = False,
    ) -> None:
        """Write the gradients of weight and bias, and add or write that of the inputs to `into`.

        Args:
            gradient: Of the layer's output, (lanes, outputs, batch), before `scale`.
            inputs: What the layer saw, (lanes, inputs, batch).
            into: Where the gradient of the inputs goes, if anyone needs it.
            scale: Factor on everything that is written.
            accumulate: Add to `into`.
        """
        weight_gradient, bias_gradient = self.weight_gradient, self.bias_gradient
        self.multiply(weight_gradient, gradient, inputs.transpose(1, 2), scale, 0)
        torch.sum(gradient, 2, out=bias_gradient).mul_(scale)
        if into is not None:
            self.multiply(into, self.weight.transpose(1, 2), gradient, scale, float(accumulate))


_Multiply = Callable[[Tensor, Tensor, Tensor, float, float], None]
"""Writes `scale` times the products of the lanes' matrices, plus `kept` times what is there."""


def _multiply(out: Tensor, first: Tensor, second: Tensor, scale: float, kept: float) -> None:
    # With beta=0 the first argument is not read, not even where it is not a number.
    torch.baddbmm(out, first, second, beta=kept, alpha=scale, out=out)


def _multiply_by_lane(
    out: Tensor, first: Tensor, second: Tensor, scale: float, kept: float
) -> None:
    """See `_Multiply`: in bfloat16, PyTorch copies factors of a batch that are not dense."""
    for lane, left, right in zip(out, first, second, strict=True):
        torch.addmm(lane, left, right, beta=kept, alpha=scale, out=lane)


def _backward(
    layers: list[_Affine], activations: list[Tensor], gradients: Sequence[Tensor | None]
) -> None:
    """Take the gradient of the last activation down to the first, through affine and ReLU."""
    for index, layer in reversed(list(enumerate(layers))):
        gradient, activation = gradients[index + 1], activations[index + 1]
        assert gradient is not None
        torch.ops.aten.threshold_backward.grad_input(gradient, activation, 0, grad_input=gradient)
        layer.backward(gradient, activations[index], gradients[index])


def _cross_entropy(space: _Workspace) -> Tensor:
    """Return the Bernoulli loss of a block of lanes, shape (block,); leaves p - x in `space`.

    With p = sigmoid(logit), softplus(logit) = max(logit, 0) - log max(p, 1 - p). These factors are
    at least ½, so that a few are multiplied for one logarithm, which costs more than all else.
    """
    logits, images = space.output, space.images
    probability = torch.sigmoid(logits, out=space.error)
    larger = space.factors.flatten(1, 2)[:, : len(images)]
    torch.sub(torch.ones_like(space.factors[0, 0, 0, 0]), probability, out=larger)
    torch.maximum(probability, larger, out=larger)
    log_larger = space.factors.prod(2).log_().sum((1, 2))
    linear = torch.mv(logits.flatten(1), images.flatten())  # Σ x·logit
    positive = logits.clamp_(min=0).sum((1, 2))
    probability.sub_(images)
    return positive - log_larger - linear
