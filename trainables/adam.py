"""Adam (Kingma and Ba 2015) over the flat buffers of a pack.

The kernel is PyTorch's own, the one behind `torch.optim.Adam(fused=True)`. It is called directly
because the first optimizer object of a process imports PyTorch's compiler, which takes a second.
"""

import math
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from search_spaces import Trial

__all__ = ["LaneAdam"]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # PyTorch's defaults


class LaneAdam:
    """Updates all lanes' parameters in place, each lane with its own learning rate.

    Attributes:
        exp_avg: First moments, shape (lanes, values per lane).
        exp_avg_sq: Second moments, likewise.
    """

    def __init__(
        self, trials: Sequence[Trial], total_steps: int, parameters: Tensor, gradients: Tensor
    ) -> None:
        """Start with moments of zero.

        Args:
            trials: The lanes' trials.
            total_steps: Steps of the whole training, over which a cosine schedule falls to zero.
            parameters: Shape (lanes, values per lane).
            gradients: Likewise; read at every step.
        """
        self.exp_avg = torch.zeros_like(parameters)
        self.exp_avg_sq = torch.zeros_like(parameters)
        self._total_steps = total_steps
        self._step = torch.zeros((), dtype=torch.float32, device=parameters.device)
        buffers = parameters, gradients, self.exp_avg, self.exp_avg_sq

        def key(lane: int) -> tuple[float, str, int]:
            """Tell runs apart: by learning rate on a GPU, where a call costs more than its work.

            On a CPU every lane has a run, since the kernel rounds the last values of a run
            differently, and a lane should not see where in its pack it is.
            """
            trial = trials[lane]
            own = lane if parameters.device.type == "cpu" else 0
            return trial.learning_rate, trial.learning_rate_schedule, own

        self._runs = []  # of lanes, one kernel call each
        for (rate, schedule, _), lanes in groupby(range(len(trials)), key):
            numbers = list(lanes)
            block = slice(numbers[0], numbers[-1] + 1)
            self._runs.append((rate, schedule, [buffer[block] for buffer in buffers]))

    def step(self, number: int) -> None:
        """Update the parameters.

        Args:
            number: Steps taken before this one, since the start of training.
        """
        cosine = 0.5 * (1 + math.cos(math.pi * number / self._total_steps))
        self._step.fill_(number + 1)
        for rate, schedule, (parameters, gradients, exp_avg, exp_avg_sq) in self._runs:
            torch._fused_adam_(
                [parameters],
                [gradients],
                [exp_avg],
                [exp_avg_sq],
                [],
                [self._step],
                lr=rate * cosine if schedule == "cosine" else rate,
                beta1=BETA1,
                beta2=BETA2,
                eps=EPSILON,
                weight_decay=0.0,
                amsgrad=False,
                maximize=False,
            )
