"""plan/trials.parquet: what a study is going to run, in which order."""

from collections.abc import Sequence

import pandas as pd
import pyarrow.parquet as pq

from search_spaces import Trial, stack_key
from study.ledger import write_table
from study.storage import Folder
from study.tables import to_table

__all__ = ["PLAN_FILE", "count_planned", "read_plan_ids", "write_plan"]

PLAN_FILE = "plan/trials.parquet"


def write_plan(folder: Folder, trials: Sequence[Trial], trial_ids: Sequence[str]) -> None:
    """Write the planned trials with their ids; an existing plan is replaced.

    Args:
        folder: The study's folder.
        trials: In the planned order.
        trial_ids: Their ids, in the same order.
    """
    groups: dict[object, int] = {}  # numbered as they first appear
    frame = pd.DataFrame(
        [
            {
                "trial_id": trial_id,
                "position": position,
                "stack_group": groups.setdefault(stack_key(trial), len(groups)),
                **trial.hyperparameters(),
            }
            for position, (trial, trial_id) in enumerate(zip(trials, trial_ids, strict=True))
        ]
    )
    write_table(folder, PLAN_FILE, to_table("plan", frame))


def read_plan_ids(folder: Folder) -> list[str]:
    """Return the ids of the planned trials in their order; none where nothing is planned yet."""
    if not folder.exists(PLAN_FILE):
        return []
    with folder.errors("read", PLAN_FILE):
        table = pq.read_table(
            folder.full(PLAN_FILE), columns=["trial_id"], filesystem=folder.filesystem
        )
    return [str(trial_id) for trial_id in table["trial_id"].to_pylist()]


def count_planned(folder: Folder) -> int:
    """Return how many trials are planned, from the file's footer alone."""
    if not folder.exists(PLAN_FILE):
        return 0
    with folder.errors("read", PLAN_FILE):
        metadata = pq.read_metadata(folder.full(PLAN_FILE), filesystem=folder.filesystem)
    return int(metadata.num_rows)
