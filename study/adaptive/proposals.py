"""Configurations on their way through packs: asked for when a worker turns up, told when done."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil
from typing import Any, Literal

import pandas as pd

from search_spaces import stack_key
from study.adaptive.search import AdaptiveSearch, Configuration
from study.packing import AUTO_LANES, AUTO_LANES_GPU, PlannedPack, TrialCost, cut_pack
from study.planned_trial import PlannedTrial

__all__ = ["ProposalQueue"]

LOOK_AHEAD = 2
"""How many packs' worth of proposals are looked at to fill one with equal shapes."""

REPETITIONS = 100
"""Proposals in a row that are there already before the space counts as exhausted."""

SHAPED_REPETITIONS = 10
"""The same for points of one shape, which may be few where those of other shapes are many."""


class ProposalQueue:
    """Fills a pack with proposals whenever a worker asks for one; used like `PackQueue`.

    Proposals differ in shape, and only equal shapes can be stacked. So some more are asked for than
    a pack holds, those of the most frequent shape go first, and the others wait for the next
    worker. What is then missing is asked for with that shape given.

    Attributes:
        workers: How many packs run at a time, as far as is known now.
        memory: Bytes that a pack may use, on the worker that was there last.
        work: Floating-point operations by trial_id, of the trials in packs so far.
    """

    def __init__(
        self,
        search: AdaptiveSearch,
        cost: Callable[[PlannedTrial], TrialCost],
        *,
        committed: pd.DataFrame,
        unfinished: Sequence[Configuration],
        resumed: Sequence[PlannedPack],
        pack_size: int | Literal["auto"],
        workers: int,
        memory: int,
        gpu: bool,
        announce: Callable[[Sequence[PlannedTrial]], None] = lambda members: None,
    ) -> None:
        """Go on with a search.

        Args:
            search: Who proposes.
            cost: What a trial takes.
            committed: Rows of `trials` that are there already.
            unfinished: Configurations proposed before, of which not all trials are committed.
            resumed: Packs of their trials that have a checkpoint; they go first.
            pack_size: Lanes per pack.
            workers: How many packs run at a time.
            memory: Bytes that a pack may use.
            gpu: Whether packs run on GPUs.
            announce: Told of the trials of each pack that is filled.
        """
        self.workers = workers
        self.memory = memory
        self._search = search
        self._cost = cost
        self._pack_size = pack_size
        self._gpu = gpu
        self._announce = announce
        self._rows = {row["trial_id"]: row for row in committed.to_dict("records")}
        self._open: dict[int, Configuration] = {}
        self._exhausted = False
        self._used_up: set[Any] = set()  # shapes of which no more is asked for
        self._first = deque(resumed)
        members = [member for pack in resumed for member in pack.members]
        self._taken = {member.trial_id for member in members}
        self.work = {member.trial_id: cost(member).work for member in members}
        self._pool: list[Configuration] = []
        self._seeds = search.seeds
        for configuration in unfinished:
            self._add(configuration)

    def __len__(self) -> int:
        """Return the number of trials that wait, or may still be proposed."""
        first = sum(len(pack.members) for pack in self._first)
        return first + sum(len(self._missing(c)) for c in self._pool) + self._left * self._seeds

    @property
    def packs_left(self) -> int:
        """About how many packs are still to come, at least one while any is."""
        waiting = sum(len(self._missing(c)) for c in self._pool) + self._left * self._seeds
        return len(self._first) + ceil(waiting / max(1, self._lanes(None)))

    def next_pack(self) -> PlannedPack | None:
        """Ask for proposals and fill a pack; None when nothing is left to train."""
        if self._first:
            return self._first.popleft()
        self._look_ahead()
        self._pool = [c for c in self._pool if self._missing(c)]  # none that equals one in a pack
        if not self._pool:
            return None
        chosen = self._most_alike()
        first = self._missing(chosen[0])[0]
        lanes = self._lanes(first)
        members: list[PlannedTrial] = []
        for configuration in chosen:
            if members and len(members) + self._seeds > lanes:
                break
            members += self._take(configuration, first)
        members += self._more_like(chosen[0], first, lanes - len(members))
        self._announce(members)
        return cut_pack(members)

    def put_back(self, pack: PlannedPack) -> None:
        """Let a pack go on somewhere else, before all others."""
        self._first.appendleft(pack)

    def split(self, pack: PlannedPack) -> None:
        """Put the members of a pack that failed back, each to run by itself."""
        self._first += [cut_pack([member]) for member in pack.members]

    @property
    def prunes(self) -> bool:
        """Whether configurations may be given up before their last epoch."""
        return self._search.prunes

    def report(self, lanes: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Report what the lanes of a pack measured after an epoch; return those to prune.

        Only configurations of which all lanes are there are judged, and given up as a whole.
        """
        column = self._search.followed
        if column is None:
            return []
        hopeless: list[str] = []
        for number, configuration in self._open.items():
            ids = [member.trial_id for member in configuration.members]
            if all(trial_id in lanes for trial_id in ids):
                rows = pd.DataFrame([lanes[trial_id] for trial_id in ids])
                values, epoch = rows[column].astype(float).tolist(), int(rows["epoch"].iloc[0])
                if self._search.report(number, epoch, values, self._search.violation(rows)):
                    hopeless += ids
        return hopeless

    def finish(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take committed rows of `trials`, and tell of the configurations that are done now."""
        self._rows |= {row["trial_id"]: dict(row) for row in rows}
        for configuration in list(self._open.values()):
            self._tell_if_done(configuration)

    @property
    def _left(self) -> int:
        return 0 if self._exhausted else self._search.left

    def _look_ahead(self) -> None:
        lanes = self._lanes(None)
        while self._left and sum(map(len, map(self._missing, self._pool))) < LOOK_AHEAD * lanes:
            if self._ask() is None:
                return

    def _more_like(
        self, configuration: Configuration, like: PlannedTrial, lanes: int
    ) -> list[PlannedTrial]:
        """Ask for more of a configuration's shape, to fill so many lanes, and take them."""
        shape, members = self._search.shape(configuration), list[PlannedTrial]()
        while shape and _stack(like) not in self._used_up and len(members) + self._seeds <= lanes:
            more = self._ask(shape, SHAPED_REPETITIONS)
            if more is None:
                self._used_up.add(_stack(like))
            else:
                members += self._take(more, like)
        return members

    def _ask(
        self, shape: Mapping[str, Any] | None = None, repetitions: int = REPETITIONS
    ) -> Configuration | None:
        """Return a proposal that brings something new, which waits now; None if there is none."""
        for _ in range(repetitions):
            if not self._left:
                return None
            configuration = self._search.ask(shape)
            if self._add(configuration):
                return configuration
        if shape is None:
            self._exhausted = True
        return None

    def _add(self, configuration: Configuration) -> bool:
        """Let a configuration wait, if any of its trials is still to be trained."""
        self._open[configuration.number] = configuration
        if self._missing(configuration):
            self._pool.append(configuration)
            return True
        self._tell_if_done(configuration)
        return False

    def _take(self, configuration: Configuration, like: PlannedTrial) -> list[PlannedTrial]:
        """Take the trials of a configuration that can be stacked with another out of the pool.

        They are all that it waits for, but where it has several data_seeds.
        """
        taken = [m for m in self._missing(configuration) if _stack(m) == _stack(like)]
        self._taken |= {member.trial_id for member in taken}
        self.work |= {member.trial_id: self._cost(member).work for member in taken}
        if not self._missing(configuration):
            self._pool.remove(configuration)
        return taken

    def _missing(self, configuration: Configuration) -> list[PlannedTrial]:
        """Return the trials of a configuration that nobody trains or has trained."""
        there = self._rows.keys() | self._taken
        return [member for member in configuration.members if member.trial_id not in there]

    def _most_alike(self) -> list[Configuration]:
        """Return the configurations of the most frequent shape, of equal ones the oldest."""
        shapes: dict[Any, list[Configuration]] = {}
        for configuration in self._pool:
            shapes.setdefault(_stack(self._missing(configuration)[0]), []).append(configuration)
        return max(shapes.values(), key=len)

    def _tell_if_done(self, configuration: Configuration) -> None:
        ids = [member.trial_id for member in configuration.members]
        if all(trial_id in self._rows for trial_id in ids):
            self._search.tell(configuration.number, pd.DataFrame([self._rows[i] for i in ids]))
            del self._open[configuration.number]

    def _lanes(self, member: PlannedTrial | None) -> int:
        """Return how many lanes a pack has; never fewer than a configuration has seeds."""
        if self._pack_size != "auto":
            return max(self._pack_size, self._seeds)
        if self._gpu:
            lanes = AUTO_LANES_GPU
        else:
            lanes = AUTO_LANES[member.trial.architecture.family if member else "dense"]
        fits = lanes if member is None else max(1, self.memory // self._cost(member).memory)
        share = ceil(self._search.points * self._seeds / max(1, self.workers))
        return max(self._seeds, min(lanes, fits, share))


def _stack(member: PlannedTrial) -> tuple[Any, ...]:
    """What trials of a pack have in common."""
    return stack_key(member.trial), member.record
