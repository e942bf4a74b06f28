"""Studies as pandas DataFrames, for notebooks, scripts, reports and the command line."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath

import pandas as pd

from search_spaces import BadInput, StudySpec, nearest_name
from study.frozen_spec import SPEC_FILE, read_frozen
from study.ledger import committed, read_rows, read_trials
from study.plan_table import count_planned, read_plan_ids
from study.storage import Folder
from study.tables import DONE, KEYS

__all__ = ["Study", "StudySummary", "list_studies", "load_study", "summarise"]


@dataclass(frozen=True)
class StudySummary:
    """How far a study is.

    Attributes:
        study: Its name.
        planned: Trials planned.
        done: Trials that are not run again.
        failed: Trials that failed.
        created: When a file of its trials was first written (UTC); None where storage keeps no
            times.
        updated: When one was last written, likewise.
    """

    study: str
    planned: int
    done: int
    failed: int
    created: datetime | None
    updated: datetime | None


@dataclass(frozen=True, eq=False)
class Study:
    """A study on storage. Its tables are read when first asked for, and show committed trials.

    A study that still runs is read as it is at that moment; load it again to see more.

    Attributes:
        folder: Where it lies.
        spec: Its resolved spec.
        versions: Versions it was started with, by name.
    """

    folder: Folder
    spec: StudySpec
    versions: Mapping[str, str | int]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.spec.study

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per committed trial, in the planned order."""
        rows = read_trials(self.folder)
        place = {trial_id: place for place, trial_id in enumerate(read_plan_ids(self.folder))}
        rows["place"] = rows["trial_id"].map(place)
        order = rows.sort_values(["place", "trial_id"], ignore_index=True)
        return order.drop(columns="place")

    @cached_property
    def units(self) -> pd.DataFrame:
        """One row per committed trial, recorded epoch, split and unit, sorted by these."""
        return self._pack_rows("units")

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """One row per committed trial and epoch, sorted by these."""
        return self._pack_rows("epochs")

    def _pack_rows(self, name: str) -> pd.DataFrame:
        """Rows of a table, each from the pack that committed its trial."""
        done = self.trials.loc[self.trials["status"].isin(DONE), ["trial_id", "pack_id"]]
        files = {f"{pack_id}.parquet" for pack_id in done["pack_id"]}
        rows: pd.DataFrame = read_rows(self.folder, name, sorted(files)).to_pandas()
        packs = {path: PurePosixPath(path).stem for path in rows["__filename"].unique()}
        rows["pack_id"] = rows.pop("__filename").map(packs).astype("str")
        kept = rows.merge(done, on=["trial_id", "pack_id"]).drop(columns="pack_id")
        return kept.sort_values(KEYS[name], ignore_index=True)


def load_study(location: str | Path | Folder) -> Study:
    """Open a study.

    Example:
        >>> study = load_study("studies/quickstart")
        >>> study.trials.groupby("latent_dim")["active_units"].mean()

    Args:
        location: The study's folder, or its URI.

    Raises:
        BadInput: There is no study; the message names the studies that are there.
        StorageError: The storage cannot be read.
    """
    folder = Folder.at(location)
    if not folder.exists(SPEC_FILE):
        there = _study_names(folder.parent)
        hint = nearest_name(folder.name, there) if there else " (there are none)"
        raise BadInput(f"study: {str(folder)!r} is not a study{hint}")
    frozen = read_frozen(folder)
    return Study(folder, frozen.spec, frozen.versions)


def list_studies(storage: Folder) -> pd.DataFrame:
    """Return one row per study in a storage folder, sorted by name.

    Returns:
        study; planned, done and failed (numbers of trials); created and updated (UTC; the first
        and last time a file of its trials was written; null where storage keeps no times).
    """
    rows = [summarise(storage.child(name)) for name in _study_names(storage)]
    frame = pd.DataFrame(rows, columns=[field.name for field in fields(StudySummary)])
    times = {column: "datetime64[ms, UTC]" for column in ("created", "updated")}
    return frame.astype({"study": "str", **times})


def _study_names(storage: Folder) -> list[str]:
    return [name for name in storage.folders() if storage.exists(f"{name}/{SPEC_FILE}")]


def summarise(folder: Folder) -> StudySummary:
    """Count the trials of one study."""
    status = committed(folder)["status"]
    times = [time for time in folder.modified("trials", ".parquet").values() if time]
    return StudySummary(
        study=folder.name,
        planned=count_planned(folder),
        done=int(status.isin(DONE).sum()),
        failed=int((status == "failed").sum()),
        created=min(times, default=None),
        updated=max(times, default=None),
    )
