"""Studies as pandas DataFrames, for notebooks, scripts, reports and the command line."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from search_spaces import BadInput, OptunaStrategy, StudySpec, nearest_name
from study.data_description import read_datasets
from study.frozen_spec import SPEC_FILE, read_frozen
from study.ledger import committed, read_trials, scan_rows
from study.plan_table import count_planned, read_plan_ids
from study.storage import Folder
from study.tables import DONE, FURTHER_TABLES, KEYS, SCHEMAS, UNITS

__all__ = [
    "Study",
    "StudySummary",
    "list_studies",
    "load_study",
    "summarise",
    "trials_to_propose",
]


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
    def planned(self) -> int:
        """How many trials are planned."""
        return _planned(self.folder, self.spec)

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
        return self._pack_rows("units", self._members)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """One row per committed trial and epoch, sorted by these."""
        return self._pack_rows("epochs", self._members)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per committed trial and image, sorted; without rows if the spec asks for none."""
        return self._pack_rows("samples", self._members)

    @cached_property
    def encodings(self) -> pd.DataFrame:
        """One row per committed trial, recorded step, image and unit, likewise."""
        return self._pack_rows("encodings", self._members)

    @cached_property
    def probes(self) -> pd.DataFrame:
        """One row per committed trial and epoch of its probe, likewise."""
        return self._pack_rows("probes", self._members)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row per committed trial and layer of its net, likewise."""
        return self._pack_rows("layers", self._members)

    @cached_property
    def final_units(self) -> pd.DataFrame:
        """The units of each trial as they were when it ended, on the training images.

        One row per committed trial and unit, sorted by these, at the trial's last recorded epoch:
        what `analysis.final_units` makes of `units`, less the column study, but read without
        ever holding `units`.
        """
        columns = [name for name in UNITS.names if name != "study"]
        on_training_images = ds.field("split") == "train"
        return self._pack_rows("units", self._members, columns, on_training_images, _last_epochs)

    @cached_property
    def datasets(self) -> pd.DataFrame:
        """What `vae-study data describe` found out; without rows until it has been asked."""
        return read_datasets(self.folder)

    def units_of(self, trial_ids: Collection[str]) -> pd.DataFrame:
        """Return the rows of `units` of some trials, reading their packs only."""
        return self._pack_rows("units", self._members_among(trial_ids))

    def epochs_of(self, trial_ids: Collection[str]) -> pd.DataFrame:
        """Return the rows of `epochs` of some trials, reading their packs only."""
        return self._pack_rows("epochs", self._members_among(trial_ids))

    def samples_of(
        self, trial_ids: Collection[str], columns: list[str] | None = None
    ) -> pd.DataFrame:
        """Return the rows of `samples` of some trials, reading their packs only.

        Args:
            trial_ids: The trials.
            columns: Which columns besides the table's key; all by default. Pixels take by far the
                most room, and without them a row takes no more than one of `units`.
        """
        if columns is not None:
            columns = [*KEYS["samples"], *columns]
        return self._pack_rows("samples", self._members_among(trial_ids), columns)

    def encodings_of(self, trial_ids: Collection[str]) -> pd.DataFrame:
        """Return the rows of `encodings` of some trials, reading their packs only."""
        return self._pack_rows("encodings", self._members_among(trial_ids))

    def layers_of(self, trial_ids: Collection[str]) -> pd.DataFrame:
        """Return the rows of `layers` of some trials, reading their packs only."""
        return self._pack_rows("layers", self._members_among(trial_ids))

    def trials_with(self, name: str, kind: str | None = None) -> list[str]:
        """Return the ids of the committed trials that have rows in a table, in the planned order.

        Args:
            name: One of `FURTHER_TABLES`, of which only the ids are read.
            kind: Of `samples`: count rows of this kind only.
        """
        members = self._with_file(name, self._members)
        where = None if kind is None else ds.field("kind") == kind
        found: set[str] = set()
        for pack_id, batch in scan_rows(self.folder, name, sorted(members), ["trial_id"], where):
            found |= set(pc.unique(batch["trial_id"]).to_pylist()) & set(members[pack_id])
        return [trial_id for trial_id in self.trials["trial_id"] if trial_id in found]

    @cached_property
    def _members(self) -> dict[str, list[str]]:
        """Done trials by the pack that committed them."""
        return self._members_among(self.trials["trial_id"])

    def _members_among(self, trial_ids: Collection[str]) -> dict[str, list[str]]:
        done = self.trials["status"].isin(DONE) & self.trials["trial_id"].isin(list(trial_ids))
        members: dict[str, list[str]] = {}
        for pack_id, trial_id in self.trials.loc[done, ["pack_id", "trial_id"]].to_numpy():
            members.setdefault(pack_id, []).append(trial_id)
        return members

    def _with_file(self, name: str, members: Mapping[str, list[str]]) -> Mapping[str, list[str]]:
        """Keep the packs that have rows in one of the further tables: those with a file."""
        there = {file.removesuffix(".parquet") for file in self.folder.files(name, ".parquet")}
        return {pack_id: ids for pack_id, ids in members.items() if pack_id in there}

    def _pack_rows(
        self,
        name: str,
        members: Mapping[str, list[str]],
        columns: list[str] | None = None,
        where: pc.Expression | None = None,
        reduce: Callable[[pa.Table], pa.Table] = lambda rows: rows,
    ) -> pd.DataFrame:
        """Rows of a table, each from the pack that committed its trial.

        Args:
            name: The table.
            members: By pack, the trials of which it holds the rows that count.
            columns: Which columns, the table's key among them; all by default.
            where: Which rows; all by default.
            reduce: Applied to the rows of each batch as it comes, and to all of them in the end.
        """
        schema = pa.schema(
            [SCHEMAS[name].field(column) for column in columns or SCHEMAS[name].names]
        )
        if name in FURTHER_TABLES:
            members = self._with_file(name, members)
        parts = [schema.empty_table()]
        for pack_id, batch in scan_rows(self.folder, name, sorted(members), columns, where):
            counts = pc.is_in(batch["trial_id"], pa.array(members[pack_id], pa.string()))
            parts.append(reduce(pa.Table.from_batches([batch.filter(counts)])))
        rows = reduce(pa.concat_tables(parts))
        del parts
        rows = rows.sort_by([(column, "ascending") for column in KEYS[name]])
        # Column by column, so that the table and the frame are never there both in full.
        frame: pd.DataFrame = rows.to_pandas(self_destruct=True)
        return frame


def _last_epochs(units: pa.Table) -> pa.Table:
    """Rows of each trial's last epoch among these."""
    trials = units["trial_id"].combine_chunks().dictionary_encode()
    trial, epoch = trials.indices.to_numpy(), units["epoch"].to_numpy()
    last = np.zeros(len(trials.dictionary), np.int64)
    np.maximum.at(last, trial, epoch)
    return units.filter(pa.array(epoch == last[trial]))


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


def _planned(folder: Folder, spec: StudySpec) -> int:
    """Return how many trials are planned, or how many Optuna may propose."""
    proposed = trials_to_propose(spec)
    return count_planned(folder) if proposed is None else proposed


def trials_to_propose(spec: StudySpec) -> int | None:
    """Return how many trials Optuna may propose; None where it does not choose them."""
    if not isinstance(spec.strategy, OptunaStrategy) or spec.axes is None:
        return None
    seeds = len(spec.axes.data_seed.values()) * len(spec.axes.seed.values())
    return spec.strategy.points * seeds


def summarise(folder: Folder) -> StudySummary:
    """Count the trials of one study."""
    status = committed(folder)["status"]
    times = [time for time in folder.modified("trials", ".parquet").values() if time]
    return StudySummary(
        study=folder.name,
        planned=_planned(folder, read_frozen(folder).spec),
        done=int(status.isin(DONE).sum()),
        failed=int((status == "failed").sum()),
        created=min(times, default=None),
        updated=max(times, default=None),
    )
