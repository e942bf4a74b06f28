"""What a study would take: packs, memory and time, from measurements, here or on GPUs elsewhere."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapreplace

import torch

from search_spaces import BadInput, ResourceSettings
from study.packing import PackQueue, PlannedPack, TrialCost, packs_on_gpus
from study.planning import PlannedTrial
from study.throughput import Throughput, samples_per_second
from trainables.costs import lane_epochs
from trainables.datasets import ImageData

__all__ = [
    "START_SECONDS",
    "GpuEstimate",
    "GroupEstimate",
    "estimate_groups",
    "estimate_on_gpus",
    "run_in_thought",
]

START_SECONDS = 10.0
"""What a worker takes until it trains: Python, Ray, PyTorch and CUDA, on a node that is up."""


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
        seconds: CPU time of all packs.
        parts: Share of the trials, and so of the time, by the part of the spec they belong to.
    """

    dataset: str
    architecture: str
    trials: int
    packs: int
    lanes: int
    memory: int
    seconds: float
    parts: Mapping[str, float]


def estimate_groups(
    queue: PackQueue,
    costs: dict[str, TrialCost],
    datasets: dict[str, ImageData],
    threads: int = 1,
) -> list[GroupEstimate]:
    """Cut all packs and time a few minibatches of one pack of each shape.

    Args:
        queue: Trials that wait; empty afterwards.
        costs: By trial_id.
        datasets: Images by label.
        threads: CPU threads of a pack.
    """
    shapes: dict[tuple[str, str, int, int], list[PlannedPack]] = {}
    while pack := queue.next_pack():
        trial = pack.members[0].trial
        epochs = lane_epochs(trial, pack.members[0].record)
        key = (trial.dataset.label, trial.architecture.name, trial.batch_size, epochs)
        shapes.setdefault(key, []).append(pack)
    groups = []
    for (label, architecture, _, epochs), packs in shapes.items():
        largest = max(packs, key=lambda pack: len(pack.members))
        members = [member for pack in packs for member in pack.members]
        rate = samples_per_second(largest.members, datasets[label], torch.device("cpu"), threads)
        images = len(datasets[label].train) * epochs * len(members)
        groups.append(
            GroupEstimate(
                dataset=label,
                architecture=architecture,
                trials=len(members),
                packs=len(packs),
                lanes=len(largest.members),
                memory=sum(costs[member.trial_id].memory for member in largest.members),
                seconds=threads * images / rate,
                parts={
                    part: count / len(members)
                    for part, count in Counter(member.part for member in members).items()
                },
            )
        )
    return groups


@dataclass(frozen=True)
class GpuEstimate:
    """A study on a number of GPUs.

    Attributes:
        basis: What the speed of a GPU is based on.
        workers: Packs that run at a time.
        packs: Packs in all.
        lanes: Trials of the largest pack.
        memory: Bytes of the largest pack, an estimate from above.
        makespan: Seconds from the start of the first worker to the end of the last pack.
        gpu_hours: GPU time until each worker has nothing left to do, starting it included.
        idle_gpu_hours: GPU time more, if all GPUs are kept until the last pack is done.
    """

    basis: str
    workers: int
    packs: int
    lanes: int
    memory: int
    makespan: float
    gpu_hours: float
    idle_gpu_hours: float


def estimate_on_gpus(
    planned: Sequence[PlannedTrial],
    costs: dict[str, TrialCost],
    datasets: Mapping[str, ImageData],
    resources: ResourceSettings,
    gpus: int,
    throughput: Throughput,
) -> GpuEstimate:
    """Cut a study for so many GPUs and run it in thought: costly packs first, who is free takes.

    Args:
        planned: Its trials.
        costs: By trial_id.
        datasets: Images by label.
        resources: What the study may use; `auto` is one GPU per pack.
        gpus: How many GPUs there would be.
        throughput: What packs take.

    Raises:
        BadInput: The study uses no GPUs, or a pack needs more than there would be.
    """
    each = 1.0 if resources.gpus_per_pack == "auto" else resources.gpus_per_pack
    if not each:
        raise BadInput("resources.gpus_per_pack: 0, and --gpus plans for GPUs; give 'auto' or more")
    workers = packs_on_gpus(gpus, each)
    if resources.max_packs != "auto":
        workers = min(workers, resources.max_packs)
    if not workers:
        raise BadInput(f"--gpus: {gpus}, and a pack takes {each:g}; give more")
    queue = PackQueue(
        planned, costs, pack_size=resources.pack_size, workers=workers, memory=2**62, gpu=True
    )
    packs: list[PlannedPack] = []
    while pack := queue.next_pack():
        packs.append(pack)
    seconds = [
        throughput.seconds(
            pack,
            work=max(costs[member.trial_id].work for member in pack.members),
            images=len(datasets[pack.members[0].trial.dataset.label].train),
        )
        for pack in packs
    ]
    ends = run_in_thought(seconds, workers, START_SECONDS)
    makespan = max(ends, default=0.0)
    return GpuEstimate(
        basis=throughput.basis,
        workers=workers,
        packs=len(packs),
        lanes=max((len(pack.members) for pack in packs), default=0),
        memory=max((sum(costs[m.trial_id].memory for m in p.members) for p in packs), default=0),
        makespan=makespan,
        gpu_hours=each * sum(ends) / 3600,
        idle_gpu_hours=(gpus * makespan - each * sum(ends)) / 3600,
    )


def run_in_thought(seconds: Sequence[float], workers: int, start: float) -> list[float]:
    """Return when each worker that is used has done its last job (list scheduling).

    Args:
        seconds: What jobs take, in the order in which they are handed out.
        workers: Workers, all free at the beginning; who is free first takes the next job.
        start: Seconds that a worker takes to start.
    """
    free = [start] * min(workers, len(seconds))
    for job in seconds:
        heapreplace(free, free[0] + job)
    return sorted(free)
