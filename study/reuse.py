"""Trials that another study has finished: a point has the same id everywhere, so take its rows."""

from collections.abc import Iterable, Mapping

import pandas as pd
import pyarrow.compute as pc

from search_spaces import BadInput, RecordSettings
from study import ledger
from study.frozen_spec import SPEC_FILE, read_frozen
from study.packing import pack_name
from study.plan_table import read_plan_parts
from study.planning import PlannedTrial
from study.storage import Folder, StorageError

__all__ = ["reuse_finished"]


def reuse_finished(
    folder: Folder, waiting: Mapping[str, PlannedTrial], *, gpu: bool
) -> dict[str, int]:
    """Copy finished trials from the studies beside this one, models included.

    A trial is taken from a study that recorded the same of it and trained it on the same type of
    device (its id says the rest, precision included). Its rows stay as they are, but for
    the names of study and pack.

    Args:
        folder: The study's folder.
        waiting: Trials to run, by id.
        gpu: Whether packs would run on GPUs.

    Returns:
        Number of trials taken, by study.
    """
    taken: dict[str, int] = {}
    missing = set(waiting)
    for name in folder.parent.folders():
        other = folder.parent.child(name)
        if name == folder.name or not missing or not other.exists(SPEC_FILE):
            continue
        try:
            rows = ledger.read_trials(other)
            recorded = _recorded(other, rows["trial_id"])
        except (BadInput, StorageError):  # a damaged neighbour is not this study's trouble
            continue
        alike = {i for i in missing & recorded.keys() if recorded[i] == waiting[i].record}
        usable = (
            rows["trial_id"].isin(alike)
            & rows["status"].isin(["completed", "diverged"])
            & ((rows["device"] != "cpu") == gpu)
        )
        for pack_id, members in rows[usable].groupby("pack_id"):
            ids = list(members["trial_id"])
            try:
                units, epochs = (_read(other, table, pack_id, ids) for table in ("units", "epochs"))
                asked = {table for i in ids for table in waiting[i].record.further_tables}
                further = {
                    table: _read(other, table, pack_id, ids).assign(study=folder.name)
                    for table in sorted(asked)
                    if other.exists(f"{table}/{pack_id}.parquet")
                }
                kept = [i for i in ids if waiting[i].record.models]
                models = {i: other.read_bytes(_model(i)) for i in kept}
            except StorageError:  # likewise; its trials are run
                continue
            for trial_id, model in models.items():
                folder.write_whole(_model(trial_id), model)
            new_id, study = pack_name(ids), folder.name
            trials = members.assign(study=study, pack_id=new_id)
            units, epochs = units.assign(study=study), epochs.assign(study=study)
            ledger.commit(folder, new_id, trials, units, epochs, further)
            missing -= set(ids)
            taken[name] = taken.get(name, 0) + len(ids)
    return taken


def _recorded(other: Folder, trial_ids: Iterable[str]) -> dict[str, RecordSettings]:
    """What a study records of its trials, by trial; without those of which it does not say."""
    parts = read_frozen(other).spec.all_parts
    if "" in parts:  # the one part of a spec without parts
        return dict.fromkeys(trial_ids, parts[""].record)
    part_of = read_plan_parts(other)
    known = ((i, part_of.get(i)) for i in trial_ids)
    return {i: parts[part].record for i, part in known if part in parts}


def _read(other: Folder, table: str, pack_id: object, trial_ids: list[str]) -> pd.DataFrame:
    rows = ledger.read_rows(other, table, [f"{pack_id}.parquet"])
    wanted = rows.filter(pc.field("trial_id").isin(trial_ids)).drop_columns(["__filename"])
    frame: pd.DataFrame = wanted.to_pandas()
    return frame


def _model(trial_id: str) -> str:
    return f"models/{trial_id}.safetensors"
