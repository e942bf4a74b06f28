"""Rows of finished packs, completed with what the driver knows, and put on storage."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import pandas as pd

from study import ledger
from study.packing import PlannedPack
from study.storage import Folder
from study.tables import EPOCHS, FURTHER_TABLES, TRIALS, UNITS
from trainables.pack import NUMERICS_VERSION
from trainables.rows import PackRows

__all__ = ["commit_failed", "commit_pack", "trial_rows"]


def commit_pack(
    folder: Folder,
    study: str,
    pack: PlannedPack,
    rows: PackRows,
    attempts: Mapping[str, int],
    node: str | None,
) -> None:
    """Commit a finished pack: models, units, epochs and what else was asked for, trials last.

    Args:
        folder: The study's folder.
        study: Its name.
        pack: The pack.
        rows: What the worker measured.
        attempts: The number of the attempt by trial_id, where it is not the first.
        node: The host that trained it.

    Raises:
        StorageError: Storage went on failing, or another driver has started on the study.
    """
    trials = trial_rows(study, pack, rows.trials.to_dict("records"), node, attempts)
    units, epochs = (
        frame.assign(study=study) if len(frame) else schema.empty_table().to_pandas()
        for frame, schema in ((rows.units, UNITS), (rows.epochs, EPOCHS))
    )

    for trial_id, model in rows.models.items():
        folder.write_whole(f"models/{trial_id}.safetensors", model)
    further = {name: getattr(rows, name) for name in FURTHER_TABLES}
    further = {name: frame.assign(study=study) for name, frame in further.items() if len(frame)}
    ledger.commit(folder, pack.pack_id, trials, units, epochs, further)


def commit_failed(
    folder: Folder, study: str, pack: PlannedPack, attempts: Mapping[str, int], error: str
) -> None:
    """Commit the trials of a pack as failed.

    Raises:
        StorageError: Storage went on failing, or another driver has started on the study.
    """
    failed = [
        {"trial_id": member.trial_id, "status": "failed", "error": error} for member in pack.members
    ]
    trials = trial_rows(study, pack, failed, None, attempts)
    units, epochs = (schema.empty_table().to_pandas() for schema in (UNITS, EPOCHS))
    ledger.commit(folder, pack.pack_id, trials, units, epochs)


def trial_rows(
    study: str,
    pack: PlannedPack,
    measured: Iterable[Mapping[Any, Any]],
    node: str | None,
    attempts: Mapping[str, int],
) -> pd.DataFrame:
    """Return rows of `trials`: what was measured, and what is known of each trial before it ran.

    Args:
        study: The study's name.
        pack: The pack.
        measured: Columns of some of its trials, trial_id among them.
        node: The host that trained it.
        attempts: The number of the attempt by trial_id, where it is not the first.
    """
    shared = dict.fromkeys(TRIALS.names) | {
        "study": study,
        "pack_id": pack.pack_id,
        "node": node,
        "version": version("vae-study"),  # once per pack: it reads a file
        "numerics_version": NUMERICS_VERSION,
    }
    members = {member.trial_id: member for member in pack.members}
    rows = []
    for row in measured:
        member = members[row["trial_id"]]
        known = {
            "dataset_fingerprint": member.dataset_fingerprint,
            **member.trial.hyperparameters(),
            "attempt": attempts.get(member.trial_id, 1),
        }
        rows.append(shared | known | dict(row))
    return pd.DataFrame(rows, columns=None if rows else TRIALS.names)
