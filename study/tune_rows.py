"""Packs that a user's own Tuner has trained, and their rows, from what Tune has kept of them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from ray.tune import Result, ResultGrid
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.utils.serialization import TuneFunctionDecoder

from search_spaces import BadInput, RecordSettings, Trial
from study.committing import trial_rows
from study.packing import PlannedPack
from study.planned_trial import PlannedTrial
from study.tables import KEYS, SCHEMAS, to_table
from trainables.rows import ROW_TABLES, PackRows
from trainables.tune_trainable import ENDED, read_checkpoint

__all__ = ["TunePack", "as_trials", "ended_rows", "failed_rows", "pack_rows", "packs_of_tune"]


@dataclass(frozen=True)
class TunePack:
    """A pack as Tune's snapshot of a run has it.

    Attributes:
        pack: The pack.
        status: What Tune calls the state of its trial: "TERMINATED", "ERROR", "RUNNING", ….
        result: Its last result; empty if there is none.
    """

    pack: PlannedPack
    status: str
    result: Mapping[str, Any]


def packs_of_tune(folder: Path) -> dict[str, TunePack]:
    """Return the packs by Tune trial that Tune goes on with when it restores a run.

    Args:
        folder: Where Tune keeps the state of the run: its newest snapshot is read, as Tune does.
    """
    newest = max(folder.glob("experiment_state-*.json"), key=lambda path: path.name)
    # Trusted as much as Tune trusts it, which has just read the same file in the same way.
    state = json.loads(newest.read_text(), cls=TuneFunctionDecoder, allow_cloudpickle=True)
    packs = {}
    for described, metadata in state["trial_data"]:
        trial = TuneTrial.from_json_state(described, stub=True)
        trial.restore_run_metadata(metadata)
        result = trial.run_metadata.last_result or {}
        packs[trial.trial_id] = TunePack(_pack(trial.config), trial.status, result)
    return packs


def pack_rows(results: ResultGrid) -> PackRows:
    """Return the tables of all packs, as a study would have committed them.

    Rows of `trials` are in Tune's results, all others in the last checkpoint of each pack. A trial
    of a pack that was stopped before its end (by a scheduler or a `stop` criterion of the Tuner's)
    is `pruned`, without statistics of its own; its epochs and units go as far as the last
    checkpoint. Trials of packs that failed for good are `failed`; of a pack whose workers
    never started Tune has kept nothing, and `PackSearcher.trials` alone knows its trials.

    Args:
        results: What `Tuner.fit` or `Tuner.get_results` returns.

    Returns:
        `trials`, `units`, `epochs` and what else the spec asks for, with the columns that
        `study.column_dictionary` describes; models by trial_id.

    Raises:
        BadInput: The last checkpoint of a pack is gone.

    Example:
        >>> rows = pack_rows(tuner.fit())
        >>> rows.trials.groupby("beta")["active_units"].mean()
    """
    trials: dict[str, dict[str, Any]] = {}
    tables: dict[str, list[pa.Table]] = {name: [] for name in ROW_TABLES if name != "trials"}
    models: dict[str, bytes] = {}
    all_results = [results[number] for number in range(len(results))]
    for result in sorted(all_results, key=lambda result: result.error is None):  # failed ones first
        if not result.config:
            continue
        study, pack = result.config["study"], _pack(result.config)
        if result.error is not None:
            rows = failed_rows(study, pack, _last_line(result.error))
        else:
            rows = ended_rows(study, pack, result.metrics or {})
            left = _read(result, pack)
            if left is not None:
                models |= left.models
                for name, parts in tables.items():
                    if len(frame := getattr(left, name)):
                        parts.append(to_table(name, frame.assign(study=study)))
        trials |= {row["trial_id"]: row for row in rows}  # a trial that ran again, alone, counts
    frames = {name: _sorted(name, parts) for name, parts in tables.items()}
    return PackRows(trials=as_trials(trials.values()), models=models, **frames)


def ended_rows(study: str, pack: PlannedPack, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return rows of `trials` of a pack that Tune runs no longer, from its last result."""
    measured = [dict(row) for row in result.get(ENDED, ())]
    there = {row["trial_id"] for row in measured}
    left = [member.trial_id for member in pack.members if member.trial_id not in there]
    epochs = int(result.get("epoch", 0))
    measured += [{"trial_id": name, "status": "pruned", "epochs_trained": epochs} for name in left]
    return _records(trial_rows(study, pack, measured, result.get("hostname"), {}))


def failed_rows(study: str, pack: PlannedPack, error: str) -> list[dict[str, Any]]:
    """Return rows of `trials` of a pack that failed."""
    failed = [
        {"trial_id": member.trial_id, "status": "failed", "error": error} for member in pack.members
    ]
    return _records(trial_rows(study, pack, failed, None, {}))


def as_trials(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a table `trials`, sorted by trial_id."""
    rows = list(rows)
    return _sorted("trials", [to_table("trials", pd.DataFrame(rows))] if rows else [])


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _sorted(name: str, parts: list[pa.Table]) -> pd.DataFrame:
    rows = pa.concat_tables([SCHEMAS[name].empty_table(), *parts])
    frame: pd.DataFrame = rows.sort_by([(key, "ascending") for key in KEYS[name]]).to_pandas()
    return frame


def _pack(config: Mapping[str, Any]) -> PlannedPack:
    """Return the pack of a Tune config."""
    record = RecordSettings.model_validate(config["record"])
    members = tuple(
        PlannedTrial(Trial.model_validate(trial), name, config["dataset_fingerprint"], record)
        for trial, name in zip(config["trials"], config["trial_ids"], strict=True)
    )
    return PlannedPack(config["pack_id"], members)


def _read(result: Result, pack: PlannedPack) -> PackRows | None:
    """Return what the last checkpoint of a pack holds, if there is one.

    Raises:
        BadInput: The pack was done, and its last checkpoint is not there any more.
    """
    ids = [member.trial_id for member in pack.members]
    left = None
    if result.checkpoint is not None:
        with result.checkpoint.as_directory() as folder:
            left = read_checkpoint(folder, ids)
    done = len((result.metrics or {}).get(ENDED, ())) == len(ids)
    if done and (left is None or len(left.trials) < len(ids)):
        raise BadInput(
            f"results: {pack.pack_id} was done, and its last checkpoint, which held its rows, is "
            "gone; keep the files, and leave checkpoint_score_attribute out of CheckpointConfig"
        )
    return left


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1]
