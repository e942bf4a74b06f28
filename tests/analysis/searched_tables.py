"""Studies in which Optuna chose, made up: points with seeds, outcomes, values and their epochs."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.search_goals import Constraint, Goal, Search
from analysis.study_tables import StudyTables
from tests.analysis.latent_tables import study_of
from tests.analysis.tables import EPOCH, trials_of

EPOCHS = 6
ELBO = Goal("test_elbo", "maximise")
UNITS = Goal("active_units", "minimise")
FEW_UNITS = Constraint("active_units", "<=", 8.0)
OUTCOMES = {"completed": 0.6, "pruned": 0.25, "failed": 0.05, "diverged": 0.1}


def searched(
    points: int = 40,
    *,
    seeds: int = 2,
    outcomes: dict[str, float] | None = None,
    datasets: tuple[str, ...] = ("mnist",),
    random: int = 0,
) -> pd.DataFrame:
    """The trials of so many points, four to a pack; the ELBO is best near β = 1.

    Pruned points stop after the same epoch with all seeds; a failed one has trained nothing.
    """
    rng = np.random.default_rng(random)
    shares = outcomes or OUTCOMES
    rows = []
    for point in range(points):
        outcome = str(rng.choice(list(shares), p=list(shares.values())))
        dataset = str(rng.choice(datasets))
        trained = {"completed": EPOCHS, "failed": None}.get(outcome, int(rng.integers(1, EPOCHS)))
        beta, rate = (float(10 ** rng.uniform(*ends)) for ends in ((-1, 1), (-4, -2)))
        shared = {
            "pack_id": f"pack-{point // 4:016x}",
            "started_at": pd.Timestamp("2026-01-02", tz="UTC") + pd.Timedelta(point // 4, "min"),
            "dataset": dataset,
            "dataset_fingerprint": dataset.ljust(16, "f"),
            "architecture": str(rng.choice(["dense-16", "dense-16-16"])),
            "latent_dim": 16,
            "beta": beta,
            "learning_rate": rate,
            "epochs": EPOCHS,
        }
        for seed in range(seeds):
            row = shared | {"trial_id": f"{point:08x}{seed:08x}", "seed": seed, "status": outcome}
            row |= {"epochs_trained": trained}
            if outcome != "failed":
                elbo = -100 - 20 * abs(np.log(beta)) - rng.exponential(2) - 50 / trained
                units = int(np.clip(round(9 - 3 * np.log(beta) + rng.normal()), 0, 16))
                row |= {"test_elbo": elbo, "active_units": units, "test_kl": 2.0 * units}
                row |= {"test_reconstruction": -elbo - 2.0 * units, "seconds": 0.5 * trained}
                row |= {"variance_law_mean": 1.0, "variance_law_variance": 0.0}
            if outcome in ("failed", "diverged"):
                row["error"] = "made up"
            rows.append(row)
    return trials_of(rows)


def epochs_of_search(trials: pd.DataFrame) -> pd.DataFrame:
    """The `epochs` rows of these trials, which end at their values; epoch 0 is among them."""
    rows: list[dict[str, Any]] = []
    for trial in trials.to_dict("records"):
        if not pd.isna(trial["epochs_trained"]):
            last = int(trial["epochs_trained"])
            rows += [
                EPOCH
                | {"trial_id": trial["trial_id"], "epoch": epoch}
                | {"test_elbo": trial["test_elbo"] - 10.0 * (last - epoch)}
                | {"active_units": trial["active_units"]}
                for epoch in range(last + 1)
            ]
    return pd.DataFrame(rows, columns=[*EPOCH, "trial_id", "epoch", "test_elbo", "active_units"])


def search_tables_of(
    trials: pd.DataFrame,
    goals: tuple[Goal, ...] = (ELBO,),
    constraints: tuple[Constraint, ...] = (),
    *,
    seeds: int = 2,
    pruner: str | None = "median",
) -> StudyTables:
    """A study of these trials that sought this."""
    search = Search(goals, constraints, points=50, seeds=seeds, pruner=pruner)
    followed = epochs_of_search(trials) if len(goals) == 1 else pd.DataFrame()
    tables = study_of(trials, [])
    return StudyTables(**{**vars(tables), "search": search, "search_epochs": followed})
