"""From a spec to planned trials: their ids, and the checks that need the data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from search_spaces import (
    BadInput,
    RecordSettings,
    StudySpec,
    Trial,
    check_shape,
    plan_parts,
    trial_id,
)
from study.planned_trial import PlannedTrial
from trainables.datasets import ImageData, dataset_fingerprint
from trainables.pack import NUMERICS_VERSION

__all__ = ["PlannedTrial", "check_trials", "plan_study", "planned_trial"]


def plan_study(spec: StudySpec, data_dir: Path | None = None) -> list[PlannedTrial]:
    """List a study's trials in the planned order.

    Args:
        spec: The study.
        data_dir: Where to look for datasets first.

    Raises:
        BadInput: A point is there twice or impossible, two datasets are the same, or one cannot
            be had.
    """
    fingerprints = {
        dataset.label: dataset_fingerprint(dataset, data_dir) for dataset in spec.datasets
    }
    labels: dict[str, str] = {}
    for label, fingerprint in fingerprints.items():
        if (other := labels.setdefault(fingerprint, label)) != label:
            raise BadInput(
                f"dataset: {other!r} and {label!r} hold the same images, so that trials would be "
                "equal; remove one"
            )
    planned = []
    for part, trials in plan_parts(spec).items():
        record = spec.all_parts[part].record
        for trial in trials:
            fingerprint = fingerprints[trial.dataset.label]
            planned.append(planned_trial(trial, fingerprint, record, part))
    return planned


def planned_trial(
    trial: Trial, fingerprint: str, record: RecordSettings, part: str = ""
) -> PlannedTrial:
    """Return a trial with its id.

    Args:
        trial: The point.
        fingerprint: Of its dataset.
        record: What is recorded of it.
        part: The part of the spec that it belongs to.
    """
    name = trial_id(trial, fingerprint, NUMERICS_VERSION)
    return PlannedTrial(trial, name, fingerprint, record, part)


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
        on_it = [p for p in planned if p.trial.dataset.label == label]
        low, high = data.value_range
        parts = {p.trial.architecture: p.part for p in reversed(on_it)}
        for architecture in sorted(parts, key=lambda a: a.name):
            try:
                check_shape(architecture, data.shape)
            except BadInput as error:
                field = _field(parts[architecture], "axes.architecture")
                raise BadInput(f"{field}: {error} (dataset {label!r})") from None
        for p in on_it:
            trial = p.trial
            if trial.decoder == "bernoulli" and (low < 0 or high > 1):
                field = _field(p.part, "axes.decoder")
                raise BadInput(
                    f"{field}: 'bernoulli' needs values in [0, 1], and {label!r} has values "
                    f"from {low:g} to {high:g}; use a Gaussian decoder, or scale the data"
                )
            batch = min(trial.batch_size, len(data.train))
            if trial.architecture.family == "conv" and batch < 2:
                field = _field(p.part, "training.batch_size")
                raise BadInput(
                    f"{field}: {batch} image per step leaves batch normalisation "
                    f"({trial.architecture.name}) nothing to normalise; give 2 or more"
                )


def _field(part: str, path: str) -> str:
    return f"parts.{part}.{path}" if part else path
