"""What happens in the driver when Tune tells of a trial: packs assigned, committed, put back."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ray import cloudpickle
from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from search_spaces import StudySpec
from study.committing import commit_failed, commit_pack
from study.dispatch import WorkerSearcher
from study.pack_checkpoints import FolderCheckpoints
from study.packing import PlannedPack
from study.progress import Progress
from study.storage import Folder, StorageError
from study.workers import MEMORY_SHARE, WorkerError, Workers
from trainables.pack_config import pack_config
from trainables.tune_trainable import (
    CHECKPOINT_PROBLEM,
    ROWS,
    WORKER,
    Worker,
    versions,
)

__all__ = ["PackCallback"]

REPORT_SECONDS = 2.0
"""Least time between two results of a pack."""

RESULTS_PER_SECOND = 50.0
"""Results of all packs together: many more and workers would wait for the driver."""

LOST_NODES = 5
"""Nodes that a pack may lose without a result in between, before that is held against it."""

START_FAILURES = 3
"""Workers that fail to start, one after the other and with none at work, before the study ends."""

WAIT_SECONDS = 60.0
"""Time between two lines that say what is waited for."""

_ERROR = re.compile(r"[\w.]*(Error|Exception|Exit|Interrupt|BadInput)\b")


# Ray's words, since Tune keeps no more of an error. A node that goes in silence is first out of
# reach, and known to be dead seconds later.
_LOST = re.compile(r"The actor \w+ is unavailable: |The actor died because its node has died")

_NEVER_RAN = "The actor never ran - it was cancelled before it started running."
"""What Ray says after the reason for it."""


class Judge(Protocol):
    """Who hears of results while packs train, and gives trials up."""

    @property
    def prunes(self) -> bool:
        """Whether it may give trials up, and so wants to hear of every epoch."""
        ...

    def report(self, lanes: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Take what the lanes of a pack measured; return the ids of those to prune."""
        ...

    def finish(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows of `trials` that are committed."""
        ...


class PackCallback(Callback):
    """Gives packs to workers, commits each when its rows arrive, and tells the progress display."""

    def __init__(
        self,
        folder: Folder,
        spec: StudySpec,
        searcher: WorkerSearcher,
        workers: Workers,
        attempts: Mapping[str, int],
        progress: Progress,
        judge: Judge | None = None,
    ) -> None:
        """Commit to a study's folder.

        Args:
            folder: The study's folder.
            spec: The study.
            searcher: Which packs run.
            workers: Where they run.
            attempts: The number of the attempt by trial_id, where it is not the first.
            progress: Told of results, finished packs and failures.
            judge: Gives trials up; nobody by default.
        """
        self._folder = folder
        self._spec = spec
        self._searcher = searcher
        self._workers = workers
        self._attempts = attempts
        self._progress = progress
        self._judge = judge
        self._checkpoints = FolderCheckpoints(folder)
        self._nodes: dict[str, str] = {}  # node ids of Tune trials at work
        self._failures: dict[str, list[str | None]] = {}  # node ids by pack_id
        self._lost: Counter[str] = Counter()  # nodes by pack_id, since its last result
        self._start_failures = 0  # in a row
        self._waited = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for Tuner.restore, which a study does not use

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Say now and then what is waited for, while no pack runs."""
        now = time.monotonic()
        if self._searcher.running:
            self._waited = now
        elif now - self._waited > WAIT_SECONDS or (iteration == 0 and not self._workers.room):
            self._waited = now
            self._progress.warn(self._workers.describe_wait())

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Give a worker its pack; commit the rows of a finished one, which leave the result."""
        if worker := result.pop(WORKER, None):
            self._assign(trial, worker)
            return
        self._start_failures = 0
        pack = self._searcher.running.get(trial.trial_id)
        if pack is None:  # a worker that came too late for a pack
            return
        rows = result.pop(ROWS, None)
        self._lost.pop(pack.pack_id, None)
        if problem := result.get(CHECKPOINT_PROBLEM):
            self._progress.warn(f"{pack.pack_id} goes on without a new checkpoint: {problem}")
        self._progress.report(pack, result)
        hopeless = self._judge.report(result.get("lanes", {})) if self._judge is not None else []
        if rows is None:
            if hopeless:
                actor: Any = trial.temporary_state.ray_actor
                actor.prune.remote(hopeless)  # before Tune's next call
            return
        commit_pack(
            self._folder, self._spec.study, pack, rows, self._attempts, result.get("hostname")
        )
        if self._judge is not None:
            self._judge.finish(rows.trials.to_dict("records"))
        self._checkpoints.delete(pack.pack_id)
        self._progress.finish(pack, rows.trials)
        self._searcher.finish(trial.trial_id)
        self._nodes.pop(trial.trial_id, None)

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Put a pack back whose worker is gone, as long as it may be tried again.

        After that its members go on alone, and a trial that failed alone is recorded.

        Raises:
            StorageError: The worker could not reach storage, for which no trial is to blame.
            WorkerError: No worker starts.
        """
        if problem := _storage_problem(trial):
            raise problem
        pack = self._searcher.running.get(trial.trial_id)
        node = self._nodes.pop(trial.trial_id, None)
        lost = _is_lost(trial) or (node is not None and not self._workers.is_up(node))
        reason = "its node was lost" if lost else _reason(trial)
        if pack is None:
            if trial.trial_id in self._searcher.waiting:
                self._searcher.waiting.discard(trial.trial_id)
                self._note_failed_start(lost, reason)
            return
        self._progress.leave(pack)
        if self._count_failures(pack, node, lost) <= self._spec.resources.max_failures:
            self._progress.warn(f"{pack.pack_id} starts again: {reason}")
            self._searcher.put_back(trial.trial_id)
            return
        self._checkpoints.delete(pack.pack_id)
        if len(pack.members) > 1:
            self._progress.warn(f"{pack.pack_id} failed, its trials go on one by one: {reason}")
            self._searcher.split(trial.trial_id)
        else:
            commit_failed(self._folder, self._spec.study, pack, self._attempts, reason)
            if self._judge is not None:
                self._judge.finish(
                    {"trial_id": member.trial_id, "status": "failed"} for member in pack.members
                )
            self._progress.fail(pack, reason)
            self._searcher.finish(trial.trial_id)

    def _assign(self, trial: TuneTrial, worker: Worker) -> None:
        """Cut a pack for a worker that has started, and hand it over before Tune's next call."""
        _check(worker)
        self._nodes[trial.trial_id] = worker.node_id
        share = min(1.0, self._workers.gpus)
        if worker.gpu_memory is None:
            memory = self._workers.memory(worker.node_id)
        else:
            memory = int(MEMORY_SHARE * share * worker.gpu_memory)
        pack = self._searcher.take(trial.trial_id, memory)
        config: dict[str, Any] = {}
        if pack is not None:
            if worker.lacks_mixed and pack.members[0].trial.precision == "mixed":
                raise WorkerError(f"{worker.host}: {worker.lacks_mixed}, or leave this machine out")
            resources = self._spec.resources
            report_seconds = max(REPORT_SECONDS, self._workers.count / RESULTS_PER_SECOND)
            if self._judge is not None and self._judge.prunes:
                report_seconds = 0.0
            config = pack_config(
                pack.pack_id,
                [member.trial for member in pack.members],
                [member.trial_id for member in pack.members],
                pack.members[0].record,
                threads=resources.cpus_per_pack,
                gpu_share=share,
                # Checkpoints are taken between results.
                report_seconds=min(report_seconds, resources.checkpoint_seconds),
                checkpoint_seconds=resources.checkpoint_seconds,
            )
        actor: Any = trial.temporary_state.ray_actor
        actor.assign.remote(config)  # Ray runs an actor's calls in the order they were made in

    def _count_failures(self, pack: PlannedPack, node: str | None, lost: bool) -> int:
        """Note a failure, and return how many are held against a pack.

        A lost node is nobody's fault, and also when it takes its workers along first and is only
        then seen to be gone: a failure counts while the node it happened on is up. A pack that
        goes on losing nodes without a result is not believed for ever.
        """
        failures = self._failures.setdefault(pack.pack_id, [])
        self._lost[pack.pack_id] += lost
        if not lost:
            failures.append(node)
        elif self._lost[pack.pack_id] > LOST_NODES:
            failures.append(None)
        return sum(node is None or self._workers.is_up(node) for node in failures)

    def _note_failed_start(self, lost: bool, reason: str) -> None:
        """Give up when no worker starts: no trial is to blame for that."""
        if lost:
            return
        self._start_failures += 1
        self._progress.warn(f"a worker did not start: {reason}")
        if self._start_failures >= START_FAILURES and not self._searcher.running:
            raise WorkerError(
                f"workers do not start, {self._start_failures} in a row; the last one: {reason}"
            )


def _check(worker: Worker) -> None:
    """Refuse a machine that would give other numbers, or train where nobody expects it."""
    ours = versions()
    if differing := [name for name in ours if worker.versions.get(name) != ours[name]]:
        told = ", ".join(
            f"{name} {worker.versions.get(name)} there and {ours[name]} here" for name in differing
        )
        raise WorkerError(
            f"{worker.host} does not have the driver's versions: {told}; install the same there"
        )
    if worker.reserved_gpu and worker.gpu_memory is None:
        raise WorkerError(
            f"{worker.host} reserved a GPU for a pack, and PyTorch {worker.versions['PyTorch']} "
            "finds none there; install its CUDA build, or set resources.gpus_per_pack=0"
        )


def _storage_problem(trial: TuneTrial) -> StorageError | None:
    """Return what a worker met that waited for storage and could not load its checkpoint."""
    file = trial.pickled_error_file  # what this process wrote a moment ago
    error = cloudpickle.loads(Path(file).read_bytes()) if file and Path(file).exists() else None
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, StorageError) else None


def _is_lost(trial: TuneTrial) -> bool:
    """Return whether a trial's actor was lost with its node, or with the way to it."""
    return _LOST.search(_error_text(trial)) is not None


def _reason(trial: TuneTrial) -> str:
    """Return the line of a trial's traceback that says what happened."""
    text = _error_text(trial).replace(_NEVER_RAN, "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines or ["the worker died without a word"])[-1]


def _error_text(trial: TuneTrial) -> str:
    if trial.error_file is None or not Path(trial.error_file).exists():
        return ""
    return Path(trial.error_file).read_text(errors="replace")
