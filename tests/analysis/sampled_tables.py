"""Rows of `samples` made by hand, and studies on storage that hold them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from search_spaces import load_spec
from study import ledger
from study.frozen_spec import freeze
from study.loading import Study, load_study
from study.plan_table import write_plan
from study.storage import Folder
from study.tables import EPOCHS, SAMPLES, UNITS
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
    freeze(
        place,
        load_spec({"study": folder.name, "dataset": "tiles", "axes": axes}),
        {"numerics_version": 1},
    )
    ledger.create_tables(place, ["samples"])
    write_plan(place, [])
    filled = {"dataset_fingerprint": "f" * 16, "depth": 1, "widths": "16", "attempt": 1}
    filled |= {"version": "0.1.0", "numerics_version": 1, "active_units_kl": 1}
    rows = trials_of([filled | row for row in trials]).assign(study=folder.name)
    for number, trial_id in enumerate(rows["trial_id"]):
        pack = f"pack-{number:03}"
        mine = {
            "units": units[units["trial_id"] == trial_id][UNITS.names],
            "samples": samples[samples["trial_id"] == trial_id],
        }
        ledger.commit(
            place,
            pack,
            rows[rows["trial_id"] == trial_id].assign(pack_id=pack),
            mine["units"].assign(study=folder.name),
            EPOCHS.empty_table().to_pandas(),
            {"samples": mine["samples"].assign(study=folder.name)},
        )
    return load_study(folder)
