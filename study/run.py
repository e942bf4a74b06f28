"""Running a study: from a spec to committed tables, again and again until all trials are done."""

import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console

from search_spaces import ArrayDataset, BadInput, ResourceSettings, StudySpec, Trial, load_spec
from study import ledger
from study.adaptive.opening import adaptive_part, check_strategy, drawn_points, representatives
from study.adaptive.warm_start import earlier_points
from study.driver_folder import take_over
from study.driver_lock import driver_lock
from study.frozen_spec import SPEC_FILE, freeze, read_frozen, reconcile
from study.loading import Study, load_study
from study.plan_table import write_plan
from study.planning import PlannedTrial, check_trials, plan_study, planned_trial
from study.storage import Folder
from study.tables import DONE
from trainables.datasets import ImageData, load_dataset
from trainables.mixed_precision import require_mixed_precision
from trainables.pack import NUMERICS_VERSION

__all__ = ["PreparedStudy", "check_cpus", "prepare_study", "resume_study", "run_study"]

RAY_ADDRESS = re.compile(r"auto|local|(ray://)?([^\s/:]+|\[[0-9A-Fa-f:]+\]):[0-9]+")


@dataclass(frozen=True)
class PreparedStudy:
    """A study that is ready to run, nothing written yet.

    Attributes:
        spec: The spec, paths in it absolute.
        planned: Its trials in the planned order. Where Optuna is to choose them, as many as it may
            that chance has chosen: enough for an estimate.
        datasets: Images by label.
    """

    spec: StudySpec
    planned: list[PlannedTrial]
    datasets: dict[str, ImageData]


def prepare_study(spec: StudySpec, data_dir: Path | None = None) -> PreparedStudy:
    """Plan a study, load its data and check that the one fits the other.

    Raises:
        BadInput: It does not, or a dataset cannot be had.
    """
    spec = _with_absolute_paths(spec)
    if (part := adaptive_part(spec)) is not None:
        check_strategy(part)
    planned = plan_study(spec, data_dir)
    datasets = {dataset.label: load_dataset(dataset, data_dir) for dataset in spec.datasets}
    if part is None:
        check_trials(planned, datasets)
        return PreparedStudy(spec, planned, datasets)

    def plan(trials: list[Trial]) -> list[PlannedTrial]:
        prints = {label: data.fingerprint for label, data in datasets.items()}
        return [planned_trial(t, prints[t.dataset.label], part.record) for t in trials]

    check_trials(plan(representatives(part)), datasets)
    return PreparedStudy(spec, plan(drawn_points(part)), datasets)


def run_study(
    spec: StudySpec | str | Path | dict[str, Any],
    overrides: Sequence[str] = (),
    *,
    storage: str | Path = "studies",
    extend: bool = False,
    retry_failed: bool = False,
    reuse: bool = True,
    data_dir: str | Path | None = None,
    address: str | None = None,
    cpus: int | None = None,
    console: Console | None = None,
) -> Study:
    """Run a study to its end, or go on with one: trials that are done are never run again.

    Args:
        spec: A preset's name, a YAML file, a mapping, or a validated spec.
        overrides: Fields to set, as `training.epochs=5`.
        storage: Local folder or URI that holds studies.
        extend: Let the spec of an existing study add points.
        retry_failed: Run trials again that failed.
        reuse: Take trials that other studies in the storage have finished from there; not where
            Optuna chooses them.
        data_dir: Where to look for datasets first.
        address: A Ray cluster; by default RAY_ADDRESS, else a Ray of our own.
        cpus: CPUs to use on this machine; all by default.
        console: Where to show progress; standard error by default.

    Returns:
        The study, as on storage.

    Raises:
        BadInput: The spec, a dataset or the storage is not as it should be; nothing was started.
        StorageError: Storage failed while the study ran; it can be resumed.
        KeyboardInterrupt: The user interrupted; the study can be resumed.

    Example:
        >>> study = run_study("quickstart", ["training.epochs=2"])
        >>> study.trials[["architecture", "latent_dim", "active_units"]]
    """
    if not isinstance(spec, StudySpec):
        spec = load_spec(spec, overrides)
    elif overrides:
        raise BadInput("overrides: give them with a preset, file or mapping, not a StudySpec")
    prepared = prepare_study(spec, None if data_dir is None else Path(data_dir))
    part = adaptive_part(prepared.spec)
    if part is not None and retry_failed:
        raise BadInput(
            "--retry-failed: Optuna has been told that they failed, and proposes other points; "
            "leave it out"
        )
    if address or os.environ.get("RAY_ADDRESS"):
        _check_address(address)
    else:
        _check_machine(prepared, cpus or os.cpu_count() or 1)
    folder = Folder.at(storage).child(spec.study)
    if part is not None and not folder.exists(SPEC_FILE):
        earlier_points(folder.parent, part, prepared.datasets)  # before anything is written
    folder.create()
    # Where there are no locks, Ray is asked for another driver, before anything is written.
    alone = nullcontext() if folder.local else _only_driver(folder, address, cpus)
    with driver_lock(folder), alone:
        if folder.exists(SPEC_FILE):
            _check_versions(folder)
            reconcile(folder, prepared.spec, extend)
        else:
            freeze(folder, prepared.spec, _versions())
        asked = {
            table
            for part in prepared.spec.all_parts.values()
            for table in part.record.further_tables
        }
        ledger.create_tables(folder, sorted(asked))
        console = console or Console(stderr=True)
        if part is None:
            write_plan(folder, prepared.planned)
            _run_waiting(folder, prepared, retry_failed, reuse, address, cpus, console)
        else:
            _run_search(folder, prepared, address, cpus, console)
    return load_study(folder)


def resume_study(name: str, *, storage: str | Path = "studies", **options: Any) -> Study:
    """Go on with a study as it was started; see `run_study` for the options.

    Raises:
        BadInput: There is no such study, and the message names those there are.
    """
    study = load_study(Folder.at(storage).child(name))
    return run_study(study.spec, storage=storage, **options)


def _run_waiting(
    folder: Folder,
    prepared: PreparedStudy,
    retry_failed: bool,
    reuse: bool,
    address: str | None,
    cpus: int | None,
    console: Console,
) -> None:
    """Run what is planned and not committed."""
    name, planned = prepared.spec.study, prepared.planned
    there = ledger.committed(folder)
    done = set(there.loc[there["status"].isin(DONE), "trial_id"])
    failed = there[there["status"] == "failed"].set_index("trial_id")["attempt"]
    settled = done if retry_failed else done | set(failed.index)
    waiting = [p for p in planned if p.trial_id not in settled]
    if not waiting:
        left = "" if failed.empty else f"; {len(failed)} failed, and --retry-failed runs them again"
        console.print(f"{name}: all {len(planned)} trials are done already{left}", soft_wrap=True)
        return
    attempts = {trial_id: int(failed[trial_id]) + 1 for trial_id in failed.index}
    with _driving(folder, prepared.spec, address, cpus, console) as own:
        from study.ray_run import run_packs

        ledger.forget_failed(own, {p.trial_id for p in waiting} & attempts.keys())
        finished = run_packs(
            own,
            prepared.spec,
            waiting,
            prepared.datasets,
            attempts=attempts,
            done=done,
            failed=0 if retry_failed else len(failed),
            reuse=reuse,
            console=console,
        )
        if finished:
            ledger.clean(own)  # of what a driver left that was replaced in the middle of a commit
    if not finished:
        raise KeyboardInterrupt


def _run_search(
    folder: Folder,
    prepared: PreparedStudy,
    address: str | None,
    cpus: int | None,
    console: Console,
) -> None:
    """Run what Optuna proposes."""
    from study.adaptive.running import SearchRun

    search = SearchRun(folder, prepared.spec, prepared.datasets)
    if search.done:
        console.print(
            f"{prepared.spec.study}: all {search.search.points} points have been tried; --extend "
            "with more strategy.points goes on",
            soft_wrap=True,
        )
        return
    with _driving(folder, prepared.spec, address, cpus, console) as own:
        finished = search.run(own, console)
        if finished:
            ledger.clean(own)
    if not finished:
        raise KeyboardInterrupt


@contextmanager
def _only_driver(folder: Folder, address: str | None, cpus: int | None) -> Iterator[None]:
    """Start Ray, and refuse where another driver of the same cluster is at work."""
    # Ray takes seconds to import, which a study with nothing to do need not wait for.
    from study.driver_actor import driver_actor
    from study.ray_run import ray_session

    # In this order: ray.init sets a SIGTERM handler of its own.
    with ray_session(address, cpus), driver_actor(folder), _terminate_like_interrupt():
        yield


@contextmanager
def _driving(
    folder: Folder, spec: StudySpec, address: str | None, cpus: int | None, console: Console
) -> Iterator[Folder]:
    """Start Ray where it is not up yet, and take the study over from whoever drove it before."""

    def warn(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    with _only_driver(folder, address, cpus) if folder.local else nullcontext():
        # From here on nobody else is at work here, or stops before the next commit.
        own = take_over(folder, patience=spec.resources.storage_patience_seconds, warn=warn)
        ledger.clean(own)
        yield own


def _check_address(address: str | None) -> None:
    """Refuse what cannot be the address of a Ray cluster, given or in the environment."""
    name = "address" if address else "RAY_ADDRESS"
    address = address or os.environ["RAY_ADDRESS"]
    if not RAY_ADDRESS.fullmatch(address):
        raise BadInput(
            f"{name}: {address!r} is no address of a Ray cluster; give host:port (of its head, "
            "6379 by default), or 'auto' for the one that this machine belongs to"
        )


def check_cpus(resources: ResourceSettings, cpus: int) -> None:
    """Refuse packs that want more CPUs than there are.

    Raises:
        BadInput: They do.
    """
    if resources.cpus_per_pack > cpus:
        raise BadInput(
            f"resources.cpus_per_pack: {resources.cpus_per_pack} CPUs per pack, and there are "
            f"{cpus} to use; give {cpus} or fewer"
        )


def _check_machine(prepared: PreparedStudy, cpus: int) -> None:
    """Refuse packs that this machine will never have room for, or cannot compute."""
    resources = prepared.spec.resources
    check_cpus(resources, cpus)
    gpus = resources.gpus_per_pack
    if gpus != "auto" and gpus > torch.cuda.device_count():
        raise BadInput(
            f"resources.gpus_per_pack: {gpus:g} GPUs per pack, and PyTorch finds "
            f"{torch.cuda.device_count()} here; give 'auto' to use those that are there"
        )
    if any(p.trial.precision == "mixed" for p in prepared.planned):
        on_gpus = gpus != 0 and torch.cuda.is_available()
        require_mixed_precision(torch.device("cuda" if on_gpus else "cpu"))


def _with_absolute_paths(spec: StudySpec) -> StudySpec:
    """Let a user's own file be found again when the study is resumed from another folder."""
    return spec.with_datasets(
        {
            dataset: dataset.model_copy(
                update={"path": os.path.abspath(os.path.expanduser(dataset.path))}
            )
            for dataset in spec.datasets
            if isinstance(dataset, ArrayDataset)
        }
    )


def _versions() -> dict[str, str | int]:
    return {
        "vae-study": version("vae-study"),
        "torch": version("torch"),
        "ray": version("ray"),
        "numerics_version": NUMERICS_VERSION,
    }


def _check_versions(folder: Folder) -> None:
    started_with = read_frozen(folder).versions["numerics_version"]
    if started_with != NUMERICS_VERSION:
        raise BadInput(
            f"study: {folder.name!r} was started with numerics version {started_with}, and this "
            f"vae-study has {NUMERICS_VERSION}, which gives other numbers; use the version that "
            "study.yaml names, or give the study another name"
        )


@contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """Let SIGTERM, a job's way of stopping us, end the run in as good order as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    # Ray starts the drivers of jobs with SIGINT blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
