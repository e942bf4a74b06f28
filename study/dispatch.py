"""The driver's side of Ray Tune: how workers are asked for and packs are cut for them.

Tune wants a trial's config before it looks for a node, and a pack should be cut for the node that
was found. So a Tune trial starts without a pack: it asks for a worker. Its first result says
where the worker runs and what it has; the driver, which takes results one at a time, cuts a pack
for it and assigns it before Tune asks the actor to go on. No pack waits for a node of a certain
kind, whatever nodes turn up, and the autoscaler sees as many requests as there are packs to cut.

A Tune trial that fails is not tried again by Tune: its pack goes back to the head of the queue,
and the next worker that asks goes on from its checkpoint.
"""

from typing import Any, Protocol

from ray.tune import Stopper
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from study.packing import PlannedPack
from study.workers import Workers

__all__ = ["PackScheduler", "PackStopper", "Queue", "WorkerSearcher"]


class Queue(Protocol):
    """Who has packs for workers: of planned trials, or of proposals.

    Attributes:
        workers: How many packs run at a time, as far as is known now.
        memory: Bytes that a pack may use, on the worker that was there last.
    """

    workers: int
    memory: int

    @property
    def packs_left(self) -> int:
        """How many packs are still to come, as far as is known now."""
        ...

    def next_pack(self) -> PlannedPack | None:
        """Return a pack for a worker; None where there is nothing for it now."""
        ...

    def put_back(self, pack: PlannedPack) -> None:
        """Let a pack go on somewhere else, before all others."""
        ...

    def split(self, pack: PlannedPack) -> None:
        """Put the members of a pack that failed back, each to run by itself."""
        ...


class WorkerSearcher(Searcher):
    """Asks Tune for workers, as many as there are packs to cut and as may run at a time.

    It is done when nothing waits and nothing runs, since a pack may come back.

    Attributes:
        running: Packs by the Tune trial that trains them.
        waiting: Tune trials that have no pack yet.
    """

    def __init__(self, queue: Queue, workers: Workers) -> None:
        """Take packs from a queue."""
        super().__init__()
        self._queue = queue
        self._workers = workers
        self.running: dict[str, PlannedPack] = {}
        self.waiting: set[str] = set()

    @property
    def done(self) -> bool:
        """Whether nothing waits for a worker and nothing runs."""
        return not (self.running or self._queue.packs_left)

    def suggest(self, trial_id: str) -> Any:
        """Return an empty config, for a worker to be found; None while there are enough."""
        if self.done:
            return Searcher.FINISHED
        asked, count = len(self.waiting), self._workers.count
        if asked + len(self.running) >= count or asked >= self._queue.packs_left:
            return None
        self.waiting.add(trial_id)
        return {}

    def take(self, trial_id: str, memory: int) -> PlannedPack | None:
        """Cut a pack for the worker of a Tune trial; None if others have taken all.

        Args:
            trial_id: The Tune trial.
            memory: Bytes that its pack may use.
        """
        self.waiting.discard(trial_id)
        self._queue.memory, self._queue.workers = memory, self._workers.count
        pack = self._queue.next_pack()
        if pack is not None:
            self.running[trial_id] = pack
        return pack

    def finish(self, trial_id: str) -> None:
        """Note that a pack is done."""
        del self.running[trial_id]

    def put_back(self, trial_id: str) -> None:
        """Let a pack go on with another worker."""
        self._queue.put_back(self.running.pop(trial_id))

    def split(self, trial_id: str) -> None:
        """Let the members of a pack run alone, each on a worker."""
        self._queue.split(self.running.pop(trial_id))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: `PackCallback` hears of it too, after the rows are committed."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for Tuner.restore, which a study does not use

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a study resumes from its tables."""

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: a study resumes from its tables, with `vae-study resume`."""
        raise RuntimeError("a study is resumed with `vae-study resume`, not with Tuner.restore")


class PackStopper(Stopper):
    """Ends the run when every pack is done, though workers that were asked for may be missing."""

    def __init__(self, searcher: WorkerSearcher) -> None:
        """Follow a searcher."""
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no trial by its result."""
        return False

    def stop_all(self) -> bool:
        """Return whether all is done."""
        return self._searcher.done

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for Tuner.restore, which a study does not use


class PackScheduler(FIFOScheduler):
    """Leaves it to Tune which trial gets the worker of a pack that is done: the newest.

    Tune's own would search all trials, done ones too, for the oldest that waits at every step,
    and give it that worker, though one of its own is starting up and is killed then. With packs
    that take seconds no worker but the first would ever be ready.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Choose none."""
