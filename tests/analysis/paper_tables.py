"""Tables I and II of the paper as a study's tables: two trials of 16 latent variables each."""

import pandas as pd

from analysis.paper import paper_units
from tests.analysis.tables import trials_of, units_of

ACTIVE = 0.01  # Burda, Grosse, Salakhutdinov 2015


def paper_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """`trials` and `units` with the two trials of the paper. It reports no mean of μ, nor of μ²."""
    trials = trials_of(
        [
            {"dataset": "mnist", "architecture": "dense-256-32-24", "latent_dim": 16},
            {"dataset": "tiles", "architecture": "dense-512-256-64-32", "latent_dim": 16},
        ]
    )
    tables = paper_units()
    units = units_of(
        [
            {
                "trial_id": trial_id,
                "unit": row.unit,
                "mean_variance": row.mean_variance,
                "posterior_variance": row.posterior_variance,
                "active": row.mean_variance > ACTIVE,
            }
            for trial_id, where in zip(trials["trial_id"], ("table I", "table II"), strict=True)
            for row in tables[tables["where"] == where].itertuples()
        ]
    )
    return trials, units
