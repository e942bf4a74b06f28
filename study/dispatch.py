"""The driver's side of Ray Tune: packs handed out as trials, results committed as they come."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher

from search_spaces import ResourceSettings, StudySpec
from study.committing import commit_failed, commit_pack
from study.pack_checkpoints import FolderCheckpoints
from study.packing import PackQueue, PlannedPack
from study.progress import Progress
from study.storage import Folder
from trainables.tune_trainable import ROWS, pack_config

__all__ = ["PackCallback", "PackSearcher"]

REPORT_SECONDS = 2.0
"""Least time between two results of a pack."""

_ERROR = re.compile(r"[\w.]*(Error|Exception|Exit|Interrupt|BadInput)\b")


class PackSearcher(Searcher):
    """Hands out the next pack whenever Tune has room for one.

    It is done when nothing waits and nothing runs, since a pack that fails for good comes back
    as packs of one trial.
    """

    def __init__(self, queue: PackQueue, spec: StudySpec) -> None:
        """Take packs from a queue."""
        super().__init__()
        self._queue = queue
        self._spec = spec
        self.running: dict[str, PlannedPack] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return the config of the next pack; None while packs that run may still come back."""
        pack = self._queue.next_pack()
        if pack is None:
            return None if self.running else Searcher.FINISHED
        self.running[trial_id] = pack
        resources: ResourceSettings = self._spec.resources
        return pack_config(
            pack.pack_id,
            [member.trial for member in pack.members],
            [member.trial_id for member in pack.members],
            self._spec.record,
            threads=resources.cpus_per_pack,
            # Checkpoints are taken between results.
            report_seconds=min(REPORT_SECONDS, resources.checkpoint_seconds),
            checkpoint_seconds=resources.checkpoint_seconds,
        )

    def finish(self, tune_id: str, *, failed: bool = False) -> None:
        """Note that a pack is done, or failed for good: then its members wait again, alone."""
        pack = self.running.pop(tune_id)
        if failed and len(pack.members) > 1:
            self._queue.split(pack)

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


class PackCallback(Callback):
    """Commits each pack when its rows arrive, and tells the progress display."""

    def __init__(
        self,
        folder: Folder,
        spec: StudySpec,
        searcher: PackSearcher,
        attempts: Mapping[str, int],
        progress: Progress,
    ) -> None:
        """Commit to a study's folder.

        Args:
            folder: The study's folder.
            spec: The study.
            searcher: Which packs run.
            attempts: The number of the attempt by trial_id, where it is not the first.
            progress: Told of results, finished packs and failures.
        """
        self._folder = folder
        self._spec = spec
        self._searcher = searcher
        self._attempts = attempts
        self._progress = progress
        self._checkpoints = FolderCheckpoints(folder)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for Tuner.restore, which a study does not use

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Commit the rows of a finished pack, which leave the result with that."""
        pack = self._searcher.running[trial.trial_id]
        rows = result.pop(ROWS, None)
        self._progress.report(pack, result)
        if rows is None:
            return
        commit_pack(
            self._folder, self._spec.study, pack, rows, self._attempts, result.get("hostname")
        )
        self._checkpoints.delete(pack.pack_id)
        self._progress.finish(pack, rows.trials)
        self._searcher.finish(trial.trial_id)

    def on_trial_recover(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Say that a pack is being started again."""
        if pack := self._searcher.running.get(trial.trial_id):
            self._progress.warn(f"{pack.pack_id} starts again: {_reason(trial)}")

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Let the members of a failed pack run alone; record a trial that failed alone."""
        pack = self._searcher.running.get(trial.trial_id)
        if pack is None:  # its rows are committed; only the actor failed, on its way out
            return
        error = _reason(trial)
        if len(pack.members) > 1:
            self._progress.warn(f"{pack.pack_id} failed, its trials go on one by one: {error}")
        else:
            commit_failed(self._folder, self._spec.study, pack, self._attempts, error)
            self._progress.fail(pack, error)
        self._checkpoints.delete(pack.pack_id)
        self._searcher.finish(trial.trial_id, failed=True)


def _reason(trial: TuneTrial) -> str:
    """Return the line of a trial's traceback that says what happened."""
    if trial.error_file is None or not Path(trial.error_file).exists():
        return "the worker died without a word"
    text = Path(trial.error_file).read_text(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines or ["the worker died without a word"])[-1]
