"""The least time that a training step can take on this machine, from measured peaks.

A step takes at least the time of its arithmetic at the speed of the fastest matrix product, and at
least that of its memory traffic at the speed of a copy; both could overlap, so that the floor is
the larger. Counted are all products of forward and backward, and for every parameter what Adam
must move: read value, gradient and two moments, write value and two moments.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from search_spaces import Trial
from trainables.costs import lane_cost

__all__ = ["Peaks", "floor_seconds", "measure_peaks"]

# (rows, inner, columns): large products, and those of the paper's dense net at batch 128
SHAPES = [(1024, 1024, 1024), (2048, 2048, 2048), (256, 784, 128), (784, 256, 128), (784, 128, 256)]
COPIED = 50_000_000  # values, far beyond any cache
ADAM_BYTES = 7 * 4  # per float32 parameter and step


@dataclass(frozen=True)
class Peaks:
    """What one thread reaches.

    Attributes:
        flops: Floating-point operations per second of the fastest product.
        bandwidth: Bytes read and written per second by a copy.
    """

    flops: float
    bandwidth: float


def measure_peaks() -> Peaks:
    """Measure with PyTorch, in float32, with the threads that it is set to."""
    flops = 0.0
    for rows, inner, columns in SHAPES:
        a, b = torch.randn(rows, inner), torch.randn(inner, columns)
        out = torch.empty(rows, columns)
        seconds = _least_seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out))
        flops = max(flops, 2 * rows * inner * columns / seconds)
    source, target = torch.randn(COPIED), torch.empty(COPIED)
    seconds = _least_seconds(lambda: target.copy_(source))
    return Peaks(flops, 2 * source.nbytes / seconds)


def floor_seconds(trial: Trial, peaks: Peaks) -> float:
    """Return the floor of one step of one lane, on images of 28x28 pixels."""
    cost = lane_cost(trial, (1, 28, 28), 0)
    arithmetic = cost.flops_per_image * trial.batch_size / peaks.flops
    return max(arithmetic, ADAM_BYTES * cost.parameters / peaks.bandwidth)


def _least_seconds(run: Callable[[], object], repeats: int = 15) -> float:
    run()
    least = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        least = min(least, time.perf_counter() - start)
    return least
