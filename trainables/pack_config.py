"""What a pack is told: a Tune config of plain values."""

from collections.abc import Sequence
from typing import Any

from search_spaces import RecordSettings, Trial

__all__ = ["pack_config"]


def pack_config(
    pack_id: str,
    trials: Sequence[Trial],
    trial_ids: Sequence[str],
    record: RecordSettings,
    *,
    threads: int = 1,
    gpu_share: float = 0.0,
    report_seconds: float = 2.0,
    checkpoint_seconds: float = 60.0,
    dataset_fingerprint: str | None = None,
) -> dict[str, Any]:
    """Build the Tune config of a pack: plain values, readable in Tune's own logs.

    Args:
        pack_id: Name of the pack.
        trials: Its lanes, of one `stack_key`.
        trial_ids: Their ids, in the same order.
        record: What is recorded.
        threads: CPU threads of the pack.
        gpu_share: Share of a GPU's memory that the pack may take; 0 for a pack on CPUs.
        report_seconds: Least time between two results.
        checkpoint_seconds: Least time between two checkpoints.
        dataset_fingerprint: Of the images that the trials are about; not checked by default.
    """
    return {
        "pack_id": pack_id,
        "trials": [trial.model_dump(mode="json") for trial in trials],
        "trial_ids": list(trial_ids),
        "record": record.model_dump(),
        "threads": threads,
        "gpu_share": gpu_share,
        "report_seconds": report_seconds,
        "checkpoint_seconds": checkpoint_seconds,
        "dataset_fingerprint": dataset_fingerprint,
    }
