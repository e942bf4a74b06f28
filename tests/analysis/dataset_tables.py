"""Small `datasets` tables, and trials of linear VAEs on them, for the tests of analysis."""

from typing import Any

import pandas as pd

from study.tables import DATASETS, to_table
from tests.analysis.tables import Rows, trials_of

SPECTRUM = [8.0, 4.0, 2.0, 1.0, 0.5, 0.25]
"""Neighbours differ by a factor of 2, so that β·s half-way (in the logarithm) is sharp."""


def datasets_of(*rows: dict[str, Any], spectrum: list[float] | None = None) -> pd.DataFrame:
    """A `datasets` table: the spectrum of data "f" and further rows."""
    shared = {
        "dataset_fingerprint": "f",
        "dataset": "described",
        "shape": "6",
        "values_per_image": 6,
        "train_images": 1_000,
        "test_images": 10,
        "mean": 0.25,
        "quantity": "dimension",
        "component": 0,
        "sample_size": 500,
        "sample_seed": 0,
        "library": "scikit-dimension 0.5.0",
        "version": "0.1.0",
    }
    values = SPECTRUM if spectrum is None else spectrum
    eigenvalues: Rows = [
        {"quantity": "eigenvalue", "method": "covariance", "variant": "divided by N"}
        | {"component": place, "value": value, "sample_size": 1_000, "sample_seed": None}
        for place, value in enumerate(values, start=1)
    ]
    filled = [
        dict.fromkeys(DATASETS.names) | shared | {"total_variance": sum(values)} | row
        for row in (*eigenvalues[::-1], *rows)
    ]
    frame = pd.DataFrame(filled, columns=DATASETS.names)
    return to_table("datasets", frame).to_pandas()  # type: ignore[no-any-return]


TWONN = {"method": "TwoNN", "variant": "linear fit", "value": 4.5}
MLE = {"method": "MLE", "variant": "20 neighbours", "value": None, "note": "too few"}


def linear_trials(rows: Rows) -> pd.DataFrame:
    linear = {
        "dataset": "mine",
        "dataset_fingerprint": "f",
        "architecture": "linear",
        "family": "linear",
        "decoder": "gaussian",
        "decoder_variance": 1.5,
        "latent_dim": 5,
        "active_units": 2,
    }
    return trials_of([linear | row for row in rows])


def only(frame: pd.DataFrame) -> "pd.Series[Any]":
    assert len(frame) == 1
    return frame.iloc[0]
