"""From a spec to planned trials: their ids, and the checks that need the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces import BadInput, StudySpec, Trial, check_shape, plan_trials, trial_id
from trainables.datasets import ImageData, dataset_fingerprint
from trainables.pack import NUMERICS_VERSION

__all__ = ["PlannedTrial", "check_trials", "plan_study"]


@dataclass(frozen=True)
class PlannedTrial:
    """A trial of a study.

    Attributes:
        trial: Its hyperparameters.
        trial_id: Its id, the same in every study.
        dataset_fingerprint: The images it learns from.
    """

    trial: Trial
    trial_id: str
    dataset_fingerprint: str


def plan_study(spec: StudySpec, data_dir: Path | None = None) -> list[PlannedTrial]:
    """List a study's trials in the planned order.

    Args:
        spec: The study.
        data_dir: Where to look for datasets first.

    Raises:
        BadInput: A point is there twice or impossible, or a dataset cannot be had.
    """
    fingerprints = {
        dataset.label: dataset_fingerprint(dataset, data_dir) for dataset in spec.dataset
    }
    planned = []
    for trial in plan_trials(spec):
        fingerprint = fingerprints[trial.dataset.label]
        name = trial_id(trial, fingerprint, NUMERICS_VERSION)
        planned.append(PlannedTrial(trial, name, fingerprint))
    return planned


def check_trials(planned: Sequence[PlannedTrial], datasets: Mapping[str, ImageData]) -> None:
    """Refuse trials that cannot learn from their images.

    Args:
        planned: The trials.
        datasets: Images by label.

    Raises:
        BadInput: An architecture cannot take the images, a Bernoulli decoder would see values
            outside [0, 1], or batch normalisation a single image.
    """
    for label, data in datasets.items():
        trials = [p.trial for p in planned if p.trial.dataset.label == label]
        low, high = data.value_range
        for architecture in sorted({t.architecture for t in trials}, key=lambda a: a.name):
            try:
                check_shape(architecture, data.shape)
            except BadInput as error:
                raise BadInput(f"axes.architecture: {error} (dataset {label!r})") from None
        for trial in trials:
            if trial.decoder == "bernoulli" and (low < 0 or high > 1):
                raise BadInput(
                    f"axes.decoder: 'bernoulli' needs values in [0, 1], and {label!r} has values "
                    f"from {low:g} to {high:g}; use a Gaussian decoder, or scale the data"
                )
            batch = min(trial.batch_size, len(data.train))
            if trial.architecture.family == "conv" and batch < 2:
                raise BadInput(
                    f"training.batch_size: {batch} image per step leaves batch normalisation "
                    f"({trial.architecture.name}) nothing to normalise; give 2 or more"
                )
