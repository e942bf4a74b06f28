"""Rows of `samples` made by hand, and studies on storage that hold them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from search_spaces import load_spec, plan_trials
from study import ledger
from study.frozen_spec import freeze
from study.loading import Study, load_study
from study.plan_table import write_plan
from study.planned_trial import PlannedTrial
from study.storage import Folder
from study.tables import EPOCHS, SAMPLES, TRIALS, UNITS
from tests.analysis.tables import trials_of

Images = NDArray[np.float64]


def samples_of(
    trial_id: str,
    kind: str,
    images: Images,
    without: Images | None = None,
    originals: Images | None = None,
    labels: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Rows of `samples` of pixels in [0, 1], as the trainer writes them; shape (images, ...)."""
    without = images if without is None else without
    number = len(images)
    shape = (1, *images.shape[1:]) if images.ndim == 3 else images.shape[1:]

    def as_bytes(values: Images) -> list[bytes]:
        return [np.rint(255 * value).astype(np.uint8).tobytes() for value in values]

    difference = np.abs(images - without).reshape(number, -1).max(axis=1)
    return pd.DataFrame(
        {
            "study": "test",
            "trial_id": trial_id,
            "kind": kind,
            "image": np.arange(number),
            "label": [None] * number if labels is None else list(labels),
            "code": [np.zeros(2, np.float32)] * number,
            "shape": "x".join(map(str, shape)),
            "low": 0.0,
            "high": 1.0,
            "pixels": as_bytes(images),
            "without_inactive": as_bytes(without),
            "original": [None] * number if originals is None else as_bytes(originals),
            "largest_difference": difference,
        },
        columns=SAMPLES.names,
    )


def write_study(
    folder: Path, trials: list[dict[str, Any]], units: pd.DataFrame, samples: pd.DataFrame
) -> Study:
    """A study on storage with these trials, a pack each; what they do not say is filled in."""
    place = Folder.at(folder)
    place.create()
    axes = {"architecture": "linear", "latent_dim": 2}
    spec = load_spec({"study": folder.name, "dataset": "tiles", "axes": axes})
    freeze(place, spec, {"numerics_version": 1})
    ledger.create_tables(place, ["samples"])
    ids = [trial["trial_id"] for trial in trials]
    (point,) = plan_trials(spec)
    write_plan(place, [PlannedTrial(point, i, "f" * 16, spec.record) for i in ids])
    measured = {field.name: 1 for field in TRIALS if field.name.startswith(("train_", "test_"))}
    filled = measured | {
        "dataset_fingerprint": "f" * 16,
        "depth": 1,
        "widths": "16",
        "active_units_kl": 1,
        "variance_law_mean": 1.0,
        "variance_law_variance": 0.0,
        "parameters": 1,
        "attempt": 1,
        "version": "0.1.0",
        "numerics_version": 1,
    }
    rows = trials_of([filled | row for row in trials]).assign(study=folder.name)
    for number, trial_id in enumerate(ids):
        pack = f"pack-{number:03}"
        (own, own_units, own_samples) = (
            frame[frame["trial_id"] == trial_id].assign(study=folder.name)
            for frame in (rows, units, samples)
        )
        ledger.commit(
            place,
            pack,
            own.assign(pack_id=pack),
            own_units[UNITS.names],
            EPOCHS.empty_table().to_pandas(),
            {"samples": own_samples},
        )
    return load_study(folder)
