"""A trial of a study as it is planned: the point, its id, and what is recorded of it."""

from dataclasses import dataclass

from search_spaces import RecordSettings, Trial

__all__ = ["PlannedTrial"]


@dataclass(frozen=True)
class PlannedTrial:
    """A trial of a study.

    Attributes:
        trial: Its hyperparameters.
        trial_id: Its id, the same in every study.
        dataset_fingerprint: The images it learns from.
        record: What is recorded of it.
        part: The part of the spec that it belongs to; empty where the spec has none.
    """

    trial: Trial
    trial_id: str
    dataset_fingerprint: str
    record: RecordSettings
    part: str = ""
