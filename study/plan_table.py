"""plan/trials.parquet: what a study is going to run, in which order."""

from collections.abc import Sequence

import pandas as pd
import pyarrow.parquet as pq

from search_spaces import stack_key
from study.ledger import write_table
from study.planned_trial import PlannedTrial
from study.storage import Folder
from study.tables import PLAN, to_table

__all__ = ["PLAN_FILE", "count_planned", "read_plan_ids", "read_plan_parts", "write_plan"]

PLAN_FILE = "plan/trials.parquet"


def write_plan(folder: Folder, planned: Sequence[PlannedTrial]) -> None:
    """Write the planned trials; an existing plan is replaced.

    Args:
        folder: The study's folder.
        planned: In the planned order.
    """
    groups: dict[object, int] = {}  # numbered as they first appear
    frame = pd.DataFrame(
        [
            {
                "trial_id": p.trial_id,
                "position": position,
                "part": p.part,
                "stack_group": groups.setdefault((stack_key(p.trial), p.record), len(groups)),
                **p.trial.hyperparameters(),
            }
            for position, p in enumerate(planned)
        ],
        columns=PLAN.names,
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


def read_plan_parts(folder: Folder) -> dict[str, str]:
    """Return the part that each planned trial belongs to, by trial_id; none where none is known.

    A plan that was written before studies had parts knows of none.
    """
    if not folder.exists(PLAN_FILE):
        return {}
    with folder.errors("read", PLAN_FILE):
        file = pq.ParquetFile(folder.full(PLAN_FILE), filesystem=folder.filesystem)
        if "part" not in file.schema_arrow.names:
            return {}
        table = file.read(columns=["trial_id", "part"])
    return dict(zip(table["trial_id"].to_pylist(), table["part"].to_pylist(), strict=True))


def count_planned(folder: Folder) -> int:
    """Return how many trials are planned, from the file's footer alone."""
    if not folder.exists(PLAN_FILE):
        return 0
    with folder.errors("read", PLAN_FILE):
        metadata = pq.read_metadata(folder.full(PLAN_FILE), filesystem=folder.filesystem)
    return int(metadata.num_rows)
