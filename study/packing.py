"""Cutting trials into packs when workers turn up: what is stacked, how many, in which order.

A pack is cut when a worker asks for one, for the memory that this worker has and for the number
of workers that the cluster has by then. So a cluster may grow, shrink, or mix large and small
GPUs, and nothing has to be placed: whoever has room takes what suits it.
"""

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from search_spaces import RecordSettings, stack_key
from search_spaces.trial import StackKey
from study.planning import PlannedTrial
from trainables.costs import lane_cost, lane_epochs
from trainables.datasets import ImageData

__all__ = [
    "PackQueue",
    "PlannedPack",
    "TrialCost",
    "cut_pack",
    "pack_name",
    "packs_on_gpus",
    "trial_costs",
]

AUTO_LANES = {"dense": 4, "linear": 4, "conv": 2}
"""Lanes of an `auto` pack on one CPU thread: beyond these, images per second only fall."""

AUTO_LANES_GPU = 64

CPU_ROUNDS = 2
"""Packs that each worker gets at least, where there are trials enough: the more, the better the
load is spread at the end, and on a CPU small packs are as fast as large ones."""


@dataclass(frozen=True)
class PlannedPack:
    """Trials to be trained together, of which the same is recorded.

    Attributes:
        pack_id: Named after the members, so that equal packs have equal files.
        members: The lanes.
    """

    pack_id: str
    members: tuple[PlannedTrial, ...]


@dataclass(frozen=True)
class TrialCost:
    """What a trial takes.

    Attributes:
        work: Floating-point operations of its whole training, its probe as expected included.
        memory: Bytes.
    """

    work: float
    memory: int


def trial_costs(
    planned: Sequence[PlannedTrial], datasets: Mapping[str, ImageData]
) -> dict[str, TrialCost]:
    """Return what each trial takes, by trial_id.

    A cost takes milliseconds to compute and depends on the shapes of tensors alone, so trials that
    differ in other ways (beta, rates, seeds) share one.
    """
    costs = {}
    by_shape: dict[tuple[StackKey, int, int], TrialCost] = {}
    for p in planned:
        epochs = lane_epochs(p.trial, p.record)
        shape = stack_key(p.trial), p.trial.latent_dim, epochs
        if shape not in by_shape:
            data = datasets[p.trial.dataset.label]
            lane = lane_cost(p.trial, data.shape, len(data.train))
            work = lane.flops_per_image * len(data.train) * epochs
            by_shape[shape] = TrialCost(work, lane.memory)
        costs[p.trial_id] = by_shape[shape]
    return costs


@dataclass
class _Group:
    """Trials that may share a pack and wait, in the order in which they are cut into packs."""

    waiting: deque[PlannedTrial]
    work: float  # of the costliest trial
    memory: int  # of the largest one
    lanes: int  # that a device makes use of


class PackQueue:
    """Trials that wait to be run, handed out as packs, costly ones first.

    Attributes:
        workers: How many packs run at a time, as far as is known now.
        memory: Bytes that a pack may use, on the worker that was there last.
    """

    def __init__(
        self,
        waiting: Sequence[PlannedTrial],
        costs: dict[str, TrialCost],
        *,
        pack_size: int | Literal["auto"],
        workers: int,
        memory: int,
        gpu: bool,
        resumed: Sequence[PlannedPack] = (),
    ) -> None:
        """Sort trials into groups that can be stacked.

        Args:
            waiting: Trials to run.
            costs: By trial_id.
            pack_size: Lanes per pack; `auto` takes what suits the device, what fits in memory,
                and no more than leaves work for every worker. On CPUs it does not mix
                latent_dims: a lane that is not padded has bit for bit the numbers of its trial
                alone, and larger packs would not be faster.
            workers: How many packs run at a time.
            memory: Bytes that a pack may use.
            gpu: Whether packs run on GPUs.
            resumed: Packs that have a checkpoint; they keep their members and go first.
        """
        self.workers = workers
        self.memory = memory
        self._pack_size = pack_size
        self._rounds = 1 if gpu else CPU_ROUNDS
        self._trials = len(waiting)
        self._first = deque(resumed)
        taken = {member.trial_id for pack in resumed for member in pack.members}
        rest = [planned for planned in waiting if planned.trial_id not in taken]

        mixed = gpu or pack_size != "auto"
        stackable: dict[tuple[StackKey, RecordSettings, int], list[PlannedTrial]] = {}
        for planned in rest:
            padded_to = 0 if mixed else planned.trial.latent_dim
            key = stack_key(planned.trial), planned.record, padded_to
            stackable.setdefault(key, []).append(planned)

        groups = []
        for key in sorted(stackable, key=repr):
            group = sorted(stackable[key], key=lambda p: p.trial.latent_dim)
            own = [costs[p.trial_id] for p in group]
            family = group[0].trial.architecture.family
            groups.append(
                _Group(
                    deque(group),
                    work=max(cost.work for cost in own),
                    memory=max(cost.memory for cost in own),
                    lanes=AUTO_LANES_GPU if gpu else AUTO_LANES[family],
                )
            )
        self._groups = deque(sorted(groups, key=lambda group: -group.work))

    def __len__(self) -> int:
        """Return the number of trials that wait."""
        waiting = sum(len(group.waiting) for group in self._groups)
        return waiting + sum(len(pack.members) for pack in self._first)

    @property
    def packs_left(self) -> int:
        """How many packs the trials that wait make, cut as they would be now."""
        return len(self._first) + sum(self._packs(group) for group in self._groups)

    def next_pack(self) -> PlannedPack | None:
        """Cut the next pack for `workers` and `memory`; None when nothing waits."""
        if self._first:
            return self._first.popleft()
        while self._groups:
            group = self._groups[0]
            if group.waiting:
                size = ceil(len(group.waiting) / self._packs(group))
                return cut_pack([group.waiting.popleft() for _ in range(size)])
            self._groups.popleft()
        return None

    def put_back(self, pack: PlannedPack) -> None:
        """Let a pack go on somewhere else, before all others."""
        self._first.appendleft(pack)

    def split(self, pack: PlannedPack) -> None:
        """Put the members of a pack that failed back, each to run by itself."""
        self._first += [cut_pack([member]) for member in pack.members]

    def _packs(self, group: _Group) -> int:
        """Return into how many packs a group is cut; their sizes differ by one at most."""
        if self._pack_size == "auto":
            share = ceil(self._trials / (self._rounds * self.workers))
            limit = min(share, group.lanes, max(1, self.memory // group.memory))
        else:
            limit = self._pack_size
        return ceil(len(group.waiting) / limit)


def pack_name(trial_ids: Sequence[str]) -> str:
    """Return the pack_id of these members, whatever their order."""
    digest = hashlib.sha256("\n".join(sorted(trial_ids)).encode()).hexdigest()
    return f"pack-{digest[:16]}"


def packs_on_gpus(gpus: float, each: float) -> int:
    """Return how many packs so many GPUs of a node hold, where each takes so many or a share.

    A share of a GPU is a share of one: of three tenths, each GPU holds three. Ray counts in
    ten-thousandths.
    """
    if each >= 1:
        return int(gpus // each)
    return int(gpus) * int(1e4 // max(1, round(each * 1e4)))


def cut_pack(members: Sequence[PlannedTrial]) -> PlannedPack:
    """Return the pack of these trials, which can be stacked."""
    return PlannedPack(pack_name([member.trial_id for member in members]), tuple(members))
