"""A pack: trials with stacked weights, trained together as one fused model.

Lanes share the minibatch and nothing else. Each lane has its own weights, noise, coefficients
and Adam moments, and the loss that is differentiated is the sum of the lanes' losses, so that
no lane enters the gradient of another. Lanes of smaller latent_dim are padded with units whose
weights and noise are zero; such a unit has μ = 0, σ² = 1, z = 0 and a gradient of exactly zero,
so that it stays that way.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces import Trial, stack_key
from trainables.adam import LaneAdam
from trainables.architectures import LaneBuffer, ParameterShape, build_network, draw_parameters
from trainables.device_data import DeviceData
from trainables.engines import build_engine
from trainables.mixed_precision import ProductFormat, require_mixed_precision
from trainables.objectives import LEARNED_VARIANCE, Disturbance, LaneObjectives
from trainables.streams import minibatch_order, training_noise

__all__ = ["NUMERICS_VERSION", "EpochMeans", "Pack", "minibatch_sizes"]

NUMERICS_VERSION = 2
"""Raised whenever the same trial would give other numbers; part of every trial_id."""


@dataclass(frozen=True)
class EpochMeans:
    """Means over an epoch's images, taken while the parameters move; each of shape (lanes,).

    Attributes:
        reconstruction: -log p(x | z), nats per image.
        kl: KL divergence (the paper, equation 6), nats per image.
        objective: What was minimised, nats per image.
    """

    reconstruction: Tensor
    kl: Tensor
    objective: Tensor

    @property
    def elbo(self) -> Tensor:
        """ELBO at β = 1, nats per image."""
        return -(self.reconstruction + self.kl)


def minibatch_sizes(images: int, batch_size: int) -> list[int]:
    """Return an epoch's minibatch sizes: full ones and the rest.

    A rest of a single image is left out, since batch normalisation has no variance to divide by.
    """
    full, rest = divmod(images, batch_size)
    return [batch_size] * full + ([rest] if rest > 1 or full == 0 else [])


class Pack:
    """Trials in training: parameters, Adam moments and running statistics of all lanes.

    Attributes:
        trials: The lanes' trials.
        data: The images, on the device that trains.
        epoch: Epochs completed.
        parameters: Trained values, views of shape (lanes, …) by name.
        state: Running statistics of batch normalisation, likewise.
        engine: Computes losses, gradients and evaluations of all lanes.
    """

    def __init__(
        self, trials: Sequence[Trial], data: DeviceData, latent_dim: int | None = None
    ) -> None:
        """Draw the initial weights of every lane from its own seed.

        Args:
            trials: The lanes' trials, one or more, of one `stack_key`.
            data: The images.
            latent_dim: Units per lane, padding included; the largest of the trials by default.

        Raises:
            ValueError: The trials cannot be stacked.
            BadInput: The architecture cannot take images of this shape, or the device is not made
                for mixed precision.
        """
        if len({stack_key(trial) for trial in trials}) != 1:
            raise ValueError("a pack needs one or more trials of one stack_key")
        self.trials = tuple(trials)
        self.data = data
        self.epoch = 0
        self.device = data.splits["train"].device
        precision = trials[0].precision
        self.dtype = torch.float64 if precision == "float64" else torch.float32
        self._products: AbstractContextManager[None] = nullcontext()
        if precision == "mixed":
            require_mixed_precision(self.device)
            family = trials[0].architecture.family
            self._products = ProductFormat.fastest(
                self.device, "convolutions" if family == "conv" else "matrices"
            )
        self.network = build_network(trials[0].architecture, data.shape)
        self.latent_dim = latent_dim or max(trial.latent_dim for trial in trials)
        self.objectives = LaneObjectives.of(trials, self.dtype, self.device)

        padded = self.parameter_shapes(self.latent_dim)
        self.parameters = self._buffer(padded)
        self.state = self._buffer(self.network.buffers())
        for lane, trial in enumerate(self.trials):
            shapes = self.parameter_shapes(trial.latent_dim)
            values = draw_parameters(shapes, trial.initialisation, trial.seed)
            self.parameters.fill_lane(lane, values)
            buffers = draw_parameters(self.network.buffers(), trial.initialisation, trial.seed)
            self.state.fill_lane(lane, buffers)
        gradients = self._buffer(padded)
        total_steps = trials[0].epochs * self.steps_per_epoch
        self._adam = LaneAdam(trials, total_steps, self.parameters.flat, gradients.flat)
        self.engine = build_engine(
            self.network,
            self.objectives,
            self.parameters,
            gradients,
            self.state,
            mixed=precision == "mixed",
        )

    def parameter_shapes(self, latent_dim: int) -> list[ParameterShape]:
        """Return the trained parameters of a lane of that latent_dim."""
        shapes = self.network.parameters(latent_dim)
        if self.trials[0].decoder == "gaussian_learned":
            shapes = [*shapes, ParameterShape(LEARNED_VARIANCE, (1,), "zeros")]
        return shapes

    @property
    def steps_per_epoch(self) -> int:
        """Minibatches of an epoch."""
        return len(minibatch_sizes(self.data.images("train"), self.trials[0].batch_size))

    @property
    def samples_per_epoch(self) -> int:
        """Images that each lane sees in an epoch."""
        return sum(minibatch_sizes(self.data.images("train"), self.trials[0].batch_size))

    @property
    def log_decoder_variance(self) -> Tensor:
        """Log s of a Gaussian decoder, fixed or as learned so far, shape (lanes, 1)."""
        if self.trials[0].decoder == "gaussian_learned":
            return self.parameters.views[LEARNED_VARIANCE]
        return self.objectives.log_decoder_variance

    def train_epoch(
        self,
        watch: Callable[[int], None] | None = None,
        disturbance: Disturbance | None = None,
    ) -> EpochMeans:
        """Train all lanes for one epoch.

        A lane that diverges has a mean that is not finite; the other lanes do not notice.

        Args:
            watch: Called after each step with the number of steps since the start of training;
                it may look, and must not touch.
            disturbance: What happens to the codes, by the order in which the epoch visits images.
        """
        sizes = minibatch_sizes(self.data.images("train"), self.trials[0].batch_size)
        order = minibatch_order(self.data.images("train"), self.trials[0].data_seed, self.epoch).to(
            self.device
        )
        images = self.data.images("train")
        noise = self.stacked(  # (lanes, images, latent_dim)
            images, lambda trial: training_noise(images, trial.latent_dim, trial.seed, self.epoch)
        )
        totals = torch.zeros(3, len(self.trials), dtype=torch.float64, device=self.device)
        start = 0
        with _denormals_as_zero():
            for step, size in enumerate(sizes):
                rows = slice(start, start + size)
                start += size
                batch = self.data.batch("train", order[rows], self.dtype)
                disturbed = None if disturbance is None else disturbance.rows(rows)
                with self._products:
                    totals += self.engine.step(batch, noise[:, rows], disturbed)
                self._adam.step(self.epoch * len(sizes) + step)
                if watch is not None:
                    watch(self.epoch * len(sizes) + step + 1)
        self.epoch += 1
        reconstruction, kl, objective = totals / sum(sizes)
        return EpochMeans(reconstruction, kl, objective)

    def subset(self, lanes: Sequence[int]) -> "Pack":
        """Return a pack of some of the lanes, in the state they are in."""
        pack = Pack([self.trials[lane] for lane in lanes], self.data, self.latent_dim)
        pack.restore(
            {name: tensor[list(lanes)] for name, tensor in self.tensors().items()}, self.epoch
        )
        return pack

    def tensors(self) -> dict[str, Tensor]:
        """Return all that changes in training, by name, each (lanes, …); not copies."""
        return {
            "parameters": self.parameters.flat,
            "exp_avg": self._adam.exp_avg,
            "exp_avg_sq": self._adam.exp_avg_sq,
            "state": self.state.flat,
        }

    def restore(self, tensors: dict[str, Tensor], epoch: int) -> None:
        """Return to a state that `tensors` gave at the end of `epoch`."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self.epoch = epoch

    def stacked(self, rows: int, draw: Callable[[Trial], Tensor]) -> Tensor:
        """Return what is drawn for each lane, (rows, its latent_dim), as (lanes, rows, latent_dim).

        Units that pad a lane are zero.
        """
        stack = torch.zeros(len(self.trials), rows, self.latent_dim, dtype=self.dtype)
        for lane, trial in enumerate(self.trials):
            stack[lane, :, : trial.latent_dim] = draw(trial)
        return stack.to(self.device)

    def _buffer(self, shapes: list[ParameterShape]) -> LaneBuffer:
        return LaneBuffer.zeros(shapes, len(self.trials), self.dtype, self.device)


@contextmanager
def _denormals_as_zero() -> Iterator[None]:
    """Let a CPU take numbers below its normal range for zero, which they are to Adam.

    The first moments of dead weights decay into that range, where arithmetic takes a hundred
    times as long: after five epochs of MNIST an epoch takes a quarter longer.
    """
    before = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
