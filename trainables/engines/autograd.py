"""The engine of any network, differentiated by PyTorch: lanes at once, or one after another."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.architectures import LaneBuffer, Network
from trainables.objectives import (
    LEARNED_VARIANCE,
    Disturbance,
    LaneObjectives,
    kl_divergence,
    reconstruction_loss,
    squared_error,
)

__all__ = ["AutogradEngine", "LaneByLaneEngine"]


class AutogradEngine:
    """See `Engine`."""

    def __init__(
        self,
        network: Network,
        objectives: LaneObjectives,
        parameters: LaneBuffer,
        gradients: LaneBuffer,
        state: LaneBuffer,
    ) -> None:
        """Set up on the memory of a pack."""
        self._network = network
        self._objectives = objectives
        self._leaves = {
            name: view.detach().requires_grad_() for name, view in parameters.views.items()
        }
        self._gradients = gradients.views
        self._state = state.views

    def step(self, images: Tensor, noise: Tensor, disturbance: Disturbance | None = None) -> Tensor:
        """Compute losses and gradients."""
        objectives = self._objectives
        mean, log_variance = self._network.encode(self._leaves, images, self._state, training=True)
        codes = objectives.codes(mean, log_variance, noise)
        if disturbance is not None:
            codes = disturbance.apply(codes)
        output = self._network.decode(self._leaves, codes, self._state, training=True)
        reconstruction = self._reconstruction(output, images)
        objective = reconstruction + objectives.beta * objectives.penalty(mean, log_variance)
        gradients = torch.autograd.grad(
            objective.mean(1).sum(), list(self._leaves.values()), materialize_grads=True
        )
        for name, gradient in zip(self._leaves, gradients, strict=True):
            self._gradients[name].copy_(gradient)
        with torch.no_grad():
            kl = kl_divergence(mean, log_variance).sum(-1)
            return torch.stack([reconstruction, kl, objective]).sum(2)

    @torch.no_grad()
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return posterior mean and log-variance."""
        return self._network.encode(self._leaves, images, self._state, training=False)

    @torch.no_grad()
    def losses(self, codes: Tensor, images: Tensor) -> Tensor:
        """Return reconstruction loss and squared error."""
        output = self._network.decode(self._leaves, codes, self._state, training=False)
        error = squared_error(self._objectives.decoder, output, images)
        return torch.stack([self._reconstruction(output, images), error]).sum(2)

    def _reconstruction(self, output: Tensor, images: Tensor) -> Tensor:
        log_s = self._leaves.get(LEARNED_VARIANCE, self._objectives.log_decoder_variance)
        return reconstruction_loss(self._objectives.decoder, output, images, log_s)


class LaneByLaneEngine:
    """One engine per lane: for networks whose lanes are slower together (see `Engine`)."""

    def __init__(self, engines: Sequence[AutogradEngine]) -> None:
        """Take an engine of one lane for each lane."""
        self._engines = list(engines)

    def step(self, images: Tensor, noise: Tensor, disturbance: Disturbance | None = None) -> Tensor:
        """Compute losses and gradients."""
        losses = []
        for lane, engine in enumerate(self._engines):
            own = slice(lane, lane + 1)
            disturbed = None if disturbance is None else disturbance.lanes(own)
            losses.append(engine.step(images, noise[own], disturbed))
        return torch.cat(losses, dim=1)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return posterior mean and log-variance."""
        means, log_variances = zip(*(e.encode(images) for e in self._engines), strict=True)
        return torch.cat(means), torch.cat(log_variances)

    def losses(self, codes: Tensor, images: Tensor) -> Tensor:
        """Return reconstruction loss and squared error."""
        lanes = zip(self._engines, torch.split(codes, 1), strict=True)
        return torch.cat([engine.losses(own, images) for engine, own in lanes], dim=1)
