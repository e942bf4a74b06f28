"""Grids of trials whose effects are known, for the tests of what drives sparsity."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from study.tables import TRIALS
from tests.analysis.tables import Rows, trials_of

ARCHITECTURES = ["conv-4", "conv-8", "dense-16", "dense-32", "dense-64"]
EMPTY = TRIALS.empty_table().to_pandas()


def grid(noise: float = 0.5, seed: int = 0, seeds: int = 3, **axes: list[Any]) -> Rows:
    """A full grid in which latent_dim, β and the architecture act, alone and together."""
    axes = {
        "latent_dim": [2, 4, 8, 16, 32],
        "beta": [0.25, 0.5, 1.0, 8.0],
        "architecture": ARCHITECTURES,
        "seed": list(range(seeds)),
    } | axes
    rng = np.random.default_rng(seed)
    rows = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    for row in rows:
        dimension = 8 + 1.5 * ARCHITECTURES.index(row["architecture"]) - 2 * np.log2(row["beta"])
        row["active_units"] = round(min(row["latent_dim"], dimension) + rng.normal(0, noise))
    return rows


def spoilt(rows: Rows) -> pd.DataFrame:
    """The trials of these rows, among others that must not count."""
    bad = [row | {"active_units": 90, "seed": 7} for row in rows]
    others = [row | {"status": status} for row in bad for status in ("diverged", "pruned")]
    others += [row | {"status": "failed", "active_units": None} for row in bad]
    others += [row | {"objective": name} for row in bad for name in ("no_sampling", "x")]
    others += [row | {"beta": 0.0} for row in bad]
    kept = trials_of(rows)
    there_twice = kept.assign(study="other", active_units=kept["active_units"] + 1)
    return pd.concat([kept, trials_of(others).assign(trial_id="bad"), there_twice.tail(5)])
