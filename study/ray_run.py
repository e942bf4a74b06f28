"""Starting Ray, and one Tune run over the packs of a study."""

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager

import pandas as pd
import ray
from ray import tune
from rich.console import Console

from search_spaces import StudySpec
from study import ledger
from study.adaptive.proposals import ProposalQueue
from study.adaptive.search import AdaptiveSearch, Configuration
from study.dispatch import PackScheduler, PackStopper, Queue, WorkerSearcher
from study.pack_callback import Judge, PackCallback
from study.pack_checkpoints import FolderCheckpoints, find_resumable
from study.packing import PackQueue, trial_costs
from study.planning import PlannedTrial
from study.progress import Progress
from study.reuse import reuse_finished
from study.storage import Folder, StorageError
from study.tables import DONE
from study.workers import WorkerError, Workers, autoscaler_node_types, find_workers
from trainables.datasets import ImageData
from trainables.tune_trainable import PackTrainable

__all__ = ["ray_session", "run_packs", "run_search"]


_TUNE_SETTINGS = {
    # Results go to tables, so Tune's own CSV, JSON and TensorBoard logs would be written for
    # nobody; state for Tuner.restore is of no use for the same reason.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Tune would ask for one worker after the other; `WorkerSearcher` knows how many are wanted.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
}

_own_ray = False  # started by this process, for itself: nothing scales it


@contextmanager
def ray_session(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """Use the Ray that is there, or start one on this machine and stop it afterwards.

    Args:
        address: A cluster's address; by default RAY_ADDRESS, else a Ray of our own.
        cpus: CPUs to use on this machine; all by default. Not for a cluster.
    """
    if ray.is_initialized():
        yield
        return
    global _own_ray
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        ray.init(
            address=address,
            num_cpus=cpus if address == "local" else None,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    _own_ray = address == "local"
    try:
        yield
    finally:
        _own_ray = False
        ray.shutdown()


def run_packs(
    folder: Folder,
    spec: StudySpec,
    waiting: Sequence[PlannedTrial],
    datasets: Mapping[str, ImageData],
    *,
    attempts: Mapping[str, int],
    done: Set[str],
    failed: int,
    reuse: bool,
    console: Console,
) -> bool:
    """Run trials to their end on the Ray that is there, committing each pack as it finishes.

    Args:
        folder: The study's folder.
        spec: The study.
        waiting: Trials to run.
        datasets: Images by label.
        attempts: The number of the attempt by trial_id, where it is not the first.
        done: Ids of trials that are committed and did not fail.
        failed: How many failed before and are not run again.
        reuse: Whether to take finished trials from the studies beside this one.
        console: Where to show progress.

    Returns:
        False when the user interrupted; packs then leave a checkpoint.
    """
    node_types = [] if _own_ray else autoscaler_node_types()
    workers = find_workers(spec.resources, node_types, console)
    by_id = {p.trial_id: p for p in waiting}
    if reuse:
        for name, count in reuse_finished(folder, by_id, gpu=workers.gpus > 0).items():
            console.print(f"{count} trials taken from study {name}", highlight=False)
        committed = ledger.committed(folder)
        done = done | set(committed.loc[committed["status"].isin(DONE), "trial_id"])
        by_id = {trial_id: p for trial_id, p in by_id.items() if trial_id not in done}
    costs = trial_costs(list(by_id.values()), datasets)
    queue = PackQueue(
        list(by_id.values()),
        costs,
        pack_size=spec.resources.pack_size,
        workers=workers.count,
        memory=workers.memory(""),
        gpu=workers.gpus > 0,
        resumed=find_resumable(folder, by_id, done),
    )
    work = {trial_id: cost.work for trial_id, cost in costs.items()}
    return _train(
        folder,
        spec,
        queue,
        workers,
        datasets,
        attempts,
        Progress(console, len(done) + failed + len(by_id), len(done), work),
    )


def run_search(
    folder: Folder,
    spec: StudySpec,
    search: AdaptiveSearch,
    committed: pd.DataFrame,
    unfinished: Sequence[Configuration],
    datasets: Mapping[str, ImageData],
    *,
    announce: Callable[[Sequence[PlannedTrial]], None],
    console: Console,
) -> bool:
    """Train what a search proposes until it has proposed all it may, committing as `run_packs`.

    Args:
        folder: The study's folder.
        spec: The study.
        search: Who proposes.
        committed: Rows of `trials` that are there already.
        unfinished: Configurations proposed before, of which not all trials are committed.
        datasets: Images by label.
        announce: Told of the trials of each pack before they are trained.
        console: Where to show progress.

    Returns:
        False when the user interrupted; packs then leave a checkpoint.
    """
    node_types = [] if _own_ray else autoscaler_node_types()
    workers = find_workers(spec.resources, node_types, console)
    done = set(committed["trial_id"])
    members = [member for configuration in unfinished for member in configuration.members]
    waiting = {member.trial_id: member for member in members if member.trial_id not in done}
    queue = ProposalQueue(
        search,
        lambda planned: trial_costs([planned], datasets)[planned.trial_id],
        committed=committed,
        unfinished=unfinished,
        resumed=find_resumable(folder, waiting, done),
        pack_size=spec.resources.pack_size,
        workers=workers.count,
        memory=workers.memory(""),
        gpu=workers.gpus > 0,
        announce=announce,
    )
    progress = Progress(console, len(done) + len(queue), len(done), queue.work)
    return _train(folder, spec, queue, workers, datasets, {}, progress, queue)


def _train(
    folder: Folder,
    spec: StudySpec,
    queue: Queue,
    workers: Workers,
    datasets: Mapping[str, ImageData],
    attempts: Mapping[str, int],
    progress: Progress,
    judge: Judge | None = None,
) -> bool:
    """Train all packs of a queue; return False when the user interrupted."""
    searcher = WorkerSearcher(queue, workers)
    checkpoints = FolderCheckpoints(folder)
    with progress:
        callback = PackCallback(folder, spec, searcher, workers, attempts, progress, judge)
        if queue.packs_left:
            _tune(searcher, callback, workers, datasets, checkpoints)
    if not searcher.done:
        return False
    checkpoints.delete_all()
    return True


def _tune(
    searcher: WorkerSearcher,
    callback: PackCallback,
    workers: Workers,
    datasets: Mapping[str, ImageData],
    checkpoints: FolderCheckpoints,
) -> None:
    """One Tune run; it returns early when the user interrupts."""
    references = {label: ray.put(data) for label, data in datasets.items()}
    trainable = tune.with_resources(
        tune.with_parameters(PackTrainable, datasets=references, checkpoints=checkpoints),
        tune.PlacementGroupFactory([{"CPU": workers.cpus, "GPU": workers.gpus}]),
    )
    with _tune_settings(), tempfile.TemporaryDirectory(prefix="vae-study-tune-") as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=PackScheduler(),  # type: ignore[no-untyped-call]
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="packs",
                storage_path=scratch,
                callbacks=[callback],
                stop=PackStopper(searcher),
                failure_config=tune.FailureConfig(max_failures=0),  # the callback starts it again
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except tune.TuneError as error:
            raise _infrastructure_error(error) or error from None


@contextmanager
def _tune_settings() -> Iterator[None]:
    """Set Tune up for a study; other Tuners in this process find it as it was."""
    missing = {name: value for name, value in _TUNE_SETTINGS.items() if name not in os.environ}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(missing)
    logger.setLevel(logging.CRITICAL)  # the callback tells of failures
    try:
        yield
    finally:
        logger.setLevel(level)
        for name in missing:
            os.environ.pop(name, None)


def _infrastructure_error(error: BaseException | None) -> StorageError | WorkerError | None:
    """Return what lies behind an error of Tune, which wraps what callbacks raise."""
    while error is not None and not isinstance(error, StorageError | WorkerError):
        error = error.__cause__ or error.__context__
    return error
