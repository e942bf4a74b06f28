"""What a study would take: packs, memory and time, from a short measurement on this machine."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from study.packing import PackQueue, PlannedPack, TrialCost
from study.planning import PlannedTrial
from trainables.datasets import ImageData
from trainables.device_data import DeviceData
from trainables.pack import Pack
from trainables.process import prepare_process

__all__ = ["GroupEstimate", "estimate_groups"]

MINIBATCHES = 8


@dataclass(frozen=True)
class GroupEstimate:
    """Trials of one shape.

    Attributes:
        dataset: Label of their data.
        architecture: Name of their architecture.
        trials: How many.
        packs: How many packs they make.
        lanes: Trials of the largest pack.
        memory: Bytes of the largest pack.
        seconds: Time of all packs, one after another.
    """

    dataset: str
    architecture: str
    trials: int
    packs: int
    lanes: int
    memory: int
    seconds: float


def estimate_groups(
    queue: PackQueue, costs: dict[str, TrialCost], datasets: dict[str, ImageData]
) -> list[GroupEstimate]:
    """Cut all packs and time a few minibatches of one pack of each shape.

    Args:
        queue: Trials that wait; empty afterwards.
        costs: By trial_id.
        datasets: Images by label.
    """
    shapes: dict[tuple[str, str, int, int], list[PlannedPack]] = {}
    while pack := queue.next_pack():
        trial = pack.members[0].trial
        key = (trial.dataset.label, trial.architecture.name, trial.batch_size, trial.epochs)
        shapes.setdefault(key, []).append(pack)
    groups = []
    for (label, architecture, _, _), packs in shapes.items():
        largest = max(packs, key=lambda pack: len(pack.members))
        members = [member for pack in packs for member in pack.members]
        rate = _samples_per_second(largest.members, datasets[label])
        images = sum(len(datasets[label].train) * member.trial.epochs for member in members)
        groups.append(
            GroupEstimate(
                dataset=label,
                architecture=architecture,
                trials=len(members),
                packs=len(packs),
                lanes=len(largest.members),
                memory=sum(costs[member.trial_id].memory for member in largest.members),
                seconds=images / rate,
            )
        )
    return groups


def _samples_per_second(members: Sequence[PlannedTrial], data: ImageData) -> float:
    """Train a pack on a few minibatches, on one thread, and return images per second."""
    prepare_process(threads=1)
    images = MINIBATCHES * members[0].trial.batch_size
    few = replace(data, train=data.train[:images], test=data.test[:1])
    pack = Pack([m.trial for m in members], DeviceData.load(few, torch.device("cpu")))
    pack.train_epoch()  # the first one allocates and warms up
    start = time.perf_counter()
    pack.train_epoch()
    return len(members) * pack.samples_per_epoch / (time.perf_counter() - start)
