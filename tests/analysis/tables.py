"""Small tables for the tests of analysis: only the columns a test is about need to be given."""

from typing import Any

import pandas as pd

from study.tables import EPOCHS, TRIALS, UNITS

TRIAL = {
    "study": "test",
    "status": "completed",
    "dataset": "tiles",
    "architecture": "dense-16",
    "family": "dense",
    "beta": 1.0,
    "objective": "elbo",
    "decoder": "bernoulli",
    "decoder_variance": None,
    "initialisation": "glorot",
    "learning_rate": 1e-3,
    "learning_rate_schedule": "cosine",
    "batch_size": 128,
    "epochs": 20,
    "epochs_trained": 20,
    "data_seed": 0,
    "seed": 0,
    "precision": "float32",
}
UNIT = {"study": "test", "epoch": 20, "step": 2000, "split": "train"}
EPOCH = {"study": "test"}

Rows = list[dict[str, Any]]


def trials_of(rows: Rows) -> pd.DataFrame:
    """The `trials` table with these rows; trial_id is the row's number where it is not given."""
    filled = [
        dict.fromkeys(TRIALS.names) | TRIAL | {"trial_id": f"{place:016x}"} | row
        for place, row in enumerate(rows)
    ]
    return pd.DataFrame(filled, columns=TRIALS.names)


def units_of(rows: Rows) -> pd.DataFrame:
    """The `units` table with these rows."""
    return pd.DataFrame([dict.fromkeys(UNITS.names) | UNIT | row for row in rows])


def epochs_of(rows: Rows) -> pd.DataFrame:
    """The `epochs` table with these rows."""
    return pd.DataFrame([dict.fromkeys(EPOCHS.names) | EPOCH | row for row in rows])
