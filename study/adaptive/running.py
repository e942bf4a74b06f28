"""Running a search: what is known is told to Optuna, and what it proposes is trained."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from rich.console import Console

from search_spaces import StudySpec, Trial
from study.adaptive.opening import adaptive_part, open_search, trials_of_rows
from study.adaptive.search import AdaptiveSearch, Configuration
from study.adaptive.tools import mend_journal
from study.adaptive.warm_start import WARM_START, earlier_points
from study.loading import load_study
from study.plan_table import write_plan
from study.planned_trial import PlannedTrial
from study.planning import planned_trial
from study.storage import Folder
from trainables.datasets import ImageData
from trainables.datasets.idx_dataset import cache_folder

__all__ = ["SearchRun"]

JOURNAL = "optuna.journal"


class SearchRun:
    """A search on a study's folder.

    Attributes:
        search: Who proposes.
        unfinished: Configurations proposed before, of which not all trials are committed.
    """

    def __init__(self, folder: Folder, spec: StudySpec, datasets: Mapping[str, ImageData]) -> None:
        """Open Optuna's study, and bring it in line with the tables.

        Raises:
            BadInput: Optuna's storage cannot be opened, or a study to start from not be read.
        """
        part = adaptive_part(spec)
        assert part is not None
        record = part.record

        def plan(trial: Trial) -> PlannedTrial:
            return planned_trial(trial, datasets[trial.dataset.label].fingerprint, record)

        self._spec, self._datasets = spec, datasets
        study = load_study(folder)
        self._committed = study.trials
        points = trials_of_rows(self._committed, part.dataset)
        journal = journal_of(folder)
        mend_journal(journal)
        self.search: AdaptiveSearch = open_search(spec, journal, plan)
        epochs = study.epochs_of(points)
        known = self.search.attributes(WARM_START)
        self.search.add(earlier_points(folder.parent, part, datasets, known))
        self.unfinished: list[Configuration] = self.search.restore(self._committed, epochs, points)
        self._planned = {trial_id: plan(trial) for trial_id, trial in points.items()}
        members = [member for c in self.unfinished for member in c.members]
        self._planned |= {member.trial_id: member for member in members}

    @property
    def done(self) -> bool:
        """Whether nothing is left to propose or to train."""
        return not (self.search.left or self.unfinished)

    def run(self, folder: Folder, console: Console) -> bool:
        """Train what is proposed, on the Ray that is there; return False on an interrupt."""
        from study.ray_run import run_search  # which takes seconds to import

        def announce(members: Sequence[PlannedTrial]) -> None:
            self._planned |= {member.trial_id: member for member in members}
            write_plan(folder, list(self._planned.values()))

        return run_search(
            folder,
            self._spec,
            self.search,
            self._committed,
            self.unfinished,
            self._datasets,
            announce=announce,
            console=console,
        )


def journal_of(folder: Folder) -> Path:
    """Return where Optuna's journal lies: beside the tables, or where those are no files, here.

    It can be made again from the tables.
    """
    if folder.local:
        return Path(folder.path) / JOURNAL
    name = sha256(str(folder).encode()).hexdigest()[:16]
    return cache_folder() / "optuna" / f"{folder.name}-{name}.journal"
