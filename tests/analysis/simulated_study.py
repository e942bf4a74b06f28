"""A study's folder as the service leaves it, with simulated results: 100,000 trials in a minute.

python -m tests.analysis.simulated_study --trials 100000 --folder /tmp/simulated

The results are made up, but not noise: the active units stop at a known dimension, the variance
law nearly holds, the KL is equation 6 of the statistics beside it, and the columns of `trials`
follow from the rows of `units`. A few trials diverge, a few fail. Not simulated: the models, the
table `datasets`, and controls without the KL's variance part.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search_spaces import StudySpec, load_spec, plan_trials, trial_id
from study import ledger
from study.frozen_spec import freeze
from study.plan_table import PLAN_FILE, write_plan
from study.planned_trial import PlannedTrial
from study.storage import Folder
from study.tables import KEYS, TRIALS, to_table

__all__ = [
    "DIMENSION_AT_BETA_1",
    "random_spec",
    "simulated_spec",
    "true_dimension",
    "write_simulated_study",
]

Array = NDArray[Any]

DIMENSION_AT_BETA_1 = {
    "dense-256-32-24": 10.0,
    "conv-16-32": 13.0,
    "dense-256-64-16": 9.5,
    "dense-512-256": 11.5,
    "dense-512-256-64-32": 8.0,
    "dense-128": 12.0,
    "dense-64-32": 7.0,
    "dense-32": 6.0,
    "conv-8-16": 11.0,
    "conv-16-32-64": 14.0,
}
"""Intrinsic dimension by architecture, for weights that start by Glorot's rule."""

TORCH_LOSES = 2
"""Units that PyTorch's own initialisation leaves dead beyond those."""

MANY = 10_000
"""From so many trials on, the grid has 2,000 points and no longer 40."""

SEVERAL_EPOCHS = 5
"""Trials of the first seed have their units recorded each so many epochs, the others at the end.

A real study treats all trials alike; this way the tables hold both, and stay at their size.
"""

TRAINED_EPOCHS, STEPS_PER_EPOCH = 20, 469
VARIANCE_AT_START = 0.3  # Var μ before training
BATCH = 6_400  # trials simulated at a time: 200,000 unit rows
FINGERPRINT = "f" * 16
FAILED, DIVERGED = 0.005, 0.01
ERRORS = ("out of memory: 2.1 GB asked for, 1.4 GB free", "the node was lost", "killed by signal 9")


def simulated_spec(trials: int, study: str) -> StudySpec:
    """Return the spec of a grid with so many trials, 15.2 latent variables each on average.

    Raises:
        ValueError: The number is no multiple of the points: 40, or 2,000 from `MANY` trials on.
    """
    axes: dict[str, Any] = {
        "architecture": list(DIMENSION_AT_BETA_1),
        "latent_dim": [2, 4, 6, 8, 10, 14, 18, 24, 30, 36],
        "beta": [0.02, 0.1, 0.25, 0.5, 0.7, 1, 1.4, 2, 4, 8],
    }
    if trials < MANY:
        axes["architecture"] = axes["architecture"][:2]
        axes |= {"latent_dim": [4, 8, 16, 20, 28], "beta": [0.5, 2]}
    axes["initialisation"] = ["glorot", "torch"]
    points = int(np.prod([len(values) for values in axes.values()]))
    if trials < points or trials % points:
        raise ValueError(f"{trials} trials are not a multiple of the grid's {points} points")
    axes["seed"] = list(range(trials // points))
    settings = {"training": {"epochs": TRAINED_EPOCHS}, "record": {"every": SEVERAL_EPOCHS}}
    return load_spec({"study": study, "dataset": "mnist", "axes": axes, **settings})


def random_spec(points: int, study: str, seeds: int = 1, **axes: Any) -> StudySpec:
    """Return the spec of a random search: β, latent_dim and learning rate differ in every point.

    Args:
        points: How many are drawn.
        study: Its name.
        seeds: Trials per point.
        **axes: Other axes than these.
    """
    drawn = {
        "architecture": list(DIMENSION_AT_BETA_1)[:2],
        "latent_dim": {"range": [2, 40]},
        "beta": {"log_range": [0.2, 5.0]},
        "learning_rate": {"log_range": [1e-4, 1e-2]},
        "seed": list(range(seeds)),
    }
    search = {"strategy": {"name": "random", "points": points}, "axes": drawn | axes}
    settings: dict[str, Any] = {"record": {"every": SEVERAL_EPOCHS}}
    if "epochs" not in axes:
        settings["training"] = {"epochs": TRAINED_EPOCHS}
    return load_spec({"study": study, "dataset": "mnist", **search, **settings})


def true_dimension(trials: pd.DataFrame) -> "pd.Series[int]":
    """Return the units that each trial would have active if its latent_dim were large enough.

    Args:
        trials: Rows with architecture, beta and initialisation.
    """
    glorot = trials["architecture"].map(DIMENSION_AT_BETA_1) * trials["beta"] ** -0.25
    dimension = glorot.round() - TORCH_LOSES * (trials["initialisation"] == "torch")
    return dimension.clip(lower=1).astype("int64")


def write_simulated_study(
    location: str | Path | Folder,
    trials: int = 100_000,
    seed: int = 0,
    pack_size: int = 64,
    spec: StudySpec | None = None,
) -> Folder:
    """Write a study in which every planned trial is committed.

    Args:
        location: Its folder, whose name is the study's; local, and not there yet.
        trials: How many; see `simulated_spec`. 100,000 have 3.3 million rows in `units`.
        seed: Of all that is drawn.
        pack_size: Trials per pack, and so per file.
        spec: In place of the grid of so many trials: any of the architectures that are simulated.

    Returns:
        The folder.
    """
    folder = Folder.at(location)
    folder.create()
    spec = spec or simulated_spec(trials, folder.name)
    freeze(folder, spec, {"vae-study": "simulated", "numerics_version": 1})
    ledger.create_tables(folder)
    planned = [
        PlannedTrial(point, trial_id(point, FINGERPRINT, 1), FINGERPRINT, spec.record)
        for point in plan_trials(spec)
    ]
    write_plan(folder, planned)
    del planned
    rng = np.random.default_rng(seed)
    for batch in _batches(pd.read_parquet(folder.full(PLAN_FILE)), folder.name, pack_size):
        _write_packs(folder, *_simulate(batch, rng))
    return folder


def _batches(plan: pd.DataFrame, study: str, pack_size: int) -> Iterator[pd.DataFrame]:
    """Yield what is known of trials before they run, some whole packs at a time.

    Packs are cut as `study.packing` does: from one stack group, in the order of latent_dim.
    """
    plan = plan.sort_values(["stack_group", "latent_dim", "position"], ignore_index=True)
    place = plan.groupby("stack_group").cumcount()
    pack = plan.groupby(["stack_group", place // pack_size]).ngroup()
    known = plan.drop(columns=["position", "stack_group"]).assign(
        study=study,
        pack_id="pack-" + pack.astype("str").str.zfill(16),
        dataset_fingerprint=FINGERPRINT,
        node="host-" + (pack % 4).astype("str"),
        device="cpu",
        started_at=pd.Timestamp("2026-01-02T03:04:05Z"),
        version="simulated",
        numerics_version=1,
    )
    for _, batch in known.groupby(pack // max(1, BATCH // pack_size)):
        yield batch


def _simulate(
    batch: pd.DataFrame, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the rows of trials, units and epochs of a batch."""
    shares = [FAILED, DIVERGED, 1 - FAILED - DIVERGED]
    status = rng.choice(["failed", "diverged", "completed"], len(batch), p=shares)
    batch = batch.assign(status=status, attempt=1 + rng.binomial(2, 0.01, len(batch)))
    failed = batch[batch["status"] == "failed"]
    failed = failed.assign(error=rng.choice(ERRORS, len(failed)))
    done = batch[batch["status"] != "failed"]
    diverged = done["status"] == "diverged"
    trained = done["epochs"].where(~diverged, rng.integers(0, done["epochs"]))
    error = "the loss was not finite in epoch " + (trained + 1).astype("str")
    done = done.assign(epochs_trained=trained, error=error.where(diverged))
    units = _simulate_units(done, rng)
    done = _measured(done, units, rng)
    trials = pd.concat([done, failed]).reindex(columns=TRIALS.names)
    return trials, units, _simulate_epochs(done)


def _simulate_units(trials: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the rows of `units` of trials that did not fail."""
    widths = trials["latent_dim"].to_numpy()
    variance, of_mean, gain_per_kl = _final_statistics(trials, rng)

    lane, epoch = _recorded_epochs(trials)
    is_train = np.tile([False, True], len(lane))
    record, unit = _ragged(np.repeat(widths[lane], 2))  # one entry per row of the table
    lane, epoch, is_train = lane[record // 2], epoch[record // 2], is_train[record]
    final = (np.cumsum(widths) - widths)[lane] + unit  # the unit's place in the arrays above

    progress = _progress(epoch)
    jitter = np.where(is_train, 1.0, rng.lognormal(0, 0.01, len(lane)))
    posterior_variance = (1 - progress * (1 - variance[final])) * jitter
    mean_variance = (progress * of_mean[final] + VARIANCE_AT_START * (1 - progress)) * jitter
    mean = 0.05 * np.sqrt(mean_variance) * rng.standard_normal(len(lane))
    second_moment = mean**2 + mean_variance
    # Equation 6, as if the posterior variance were the same for all images.
    kl = 0.5 * (second_moment + posterior_variance - np.log(posterior_variance) - 1)
    return pd.DataFrame(
        {
            "study": trials["study"].array[lane],
            "trial_id": trials["trial_id"].array[lane],
            "epoch": epoch,
            "step": epoch * STEPS_PER_EPOCH,
            "split": np.where(is_train, "train", "test"),
            "unit": unit,
            "mean": mean,
            "mean_variance": mean_variance,
            "posterior_variance": posterior_variance,
            "second_moment": second_moment,
            "kl": kl,
            "reconstruction_gain": gain_per_kl[final] * kl,
            "active": mean_variance > 0.01,
        }
    )


def _final_statistics(trials: pd.DataFrame, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return σ², Var μ and gain/KL of each trial's units, had it been trained to the end."""
    dimension = true_dimension(trials).to_numpy()
    latent_dim = trials["latent_dim"].to_numpy()
    noise = np.rint(rng.normal(0, 0.35, len(trials)))
    active_units = np.maximum(np.minimum(latent_dim, dimension) + noise, 1)
    lane, unit = _ragged(latent_dim)
    beta, units = trials["beta"].to_numpy()[lane], len(lane)
    rank = np.empty_like(unit)  # of the unit's usefulness, 0 for the most useful
    rank[np.lexsort((rng.random(units), lane))] = unit
    active = rank < active_units[lane]

    # From 0.004 for the most useful unit to 0.5 for the last.
    variance = 0.004 * 125 ** ((rank + 0.5) / dimension[lane]) * rng.lognormal(0, 0.3, units)
    variance = np.where(active, variance.clip(0.001, 0.9), 1 - 1e-3 * rng.random(units))
    residual = rng.normal(0.013, 0.02, units) / np.sqrt(beta)  # of the variance law
    of_mean = (1 - variance + residual).clip(0.02)
    of_mean = np.where(active, of_mean, 1e-4 * rng.lognormal(0, 0.5, units))
    gain = np.where(active, 1.3 + rng.exponential(1, units), rng.normal(0, 0.2, units))
    return variance, of_mean, gain * beta


def _measured(trials: pd.DataFrame, units: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the trials with their measured columns, taken from their units at the end."""
    trials = trials.set_axis(trials["trial_id"].array)  # what follows is by trial_id
    law = units["posterior_variance"] + units["mean_variance"]
    units = units.assign(law=law, active_kl=units["kl"] > 0.1)
    units = units[units["epoch"] == units["trial_id"].map(trials["epochs_trained"])]
    floor = 70 + trials["architecture"].map(DIMENSION_AT_BETA_1)
    for split, offset in (("train", 0.0), ("test", 1.5)):
        kl = units[units["split"] == split].groupby("trial_id")["kl"].sum()
        noise = rng.normal(offset, 0.3, len(trials))
        trials[f"{split}_reconstruction"] = floor + 110 * np.exp(-kl / 12) + noise
        trials[f"{split}_kl"] = kl
        trials[f"{split}_elbo"] = -(trials[f"{split}_reconstruction"] + kl)
        trials[f"{split}_mse"] = trials[f"{split}_reconstruction"] / 7_840
    train = units[units["split"] == "train"].groupby("trial_id")
    seconds = trials["epochs_trained"] * (1 + 0.01 * trials["latent_dim"]) + 0.5
    return trials.assign(
        active_units=train["active"].sum(),
        active_units_kl=train["active_kl"].sum(),
        variance_law_mean=train["law"].mean(),
        variance_law_variance=train["law"].var(ddof=0),
        train_objective=trials["train_reconstruction"] + trials["beta"] * trials["train_kl"],
        parameters=400_000 + 100 * trials["latent_dim"],
        seconds=seconds,
        samples_per_second=60_000 * trials["epochs_trained"] / seconds,
    )


def _simulate_epochs(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `epochs` of trials that did not fail."""
    first = np.where(_recorded_several_times(trials), 0, 1)
    lane, place = _ragged(trials["epochs_trained"].to_numpy() + 1 - first)
    trial = trials.take(lane).reset_index(drop=True)
    epoch = pd.Series(place + first[lane])
    rest = 1 - _progress(epoch)
    reconstruction = trial["train_reconstruction"] + 80 * rest
    kl = trial["train_kl"] * (1 - rest)
    dead = (trial["latent_dim"] - trial["active_units"]) * (1 - np.sqrt(rest))
    return pd.DataFrame(
        {
            "study": trial["study"],
            "trial_id": trial["trial_id"],
            "epoch": epoch,
            "train_elbo": -(reconstruction + kl).where(epoch > 0),
            "train_reconstruction": reconstruction.where(epoch > 0),
            "train_kl": kl.where(epoch > 0),
            "test_elbo": trial["test_elbo"] - 80 * rest,
            "active_units": (trial["latent_dim"] - dead).round().astype("int64"),
            "variance_law_mean": trial["variance_law_mean"] + VARIANCE_AT_START * rest,
            "seconds": 1 + 0.01 * trial["latent_dim"],
        }
    )


def _recorded_several_times(trials: pd.DataFrame) -> Array:
    return (trials["seed"] == 0).to_numpy()


def _recorded_epochs(trials: pd.DataFrame) -> tuple[Array, Array]:
    """Return the trials' places and epochs at which units are recorded, one entry for each."""
    trained = trials["epochs_trained"].to_numpy()
    before = np.where(_recorded_several_times(trials), -(-trained // SEVERAL_EPOCHS), 0)
    lane, place = _ragged(before + 1)
    return lane, np.where(place < before[lane], place * SEVERAL_EPOCHS, trained[lane])


def _progress(epoch: Any) -> Any:
    """Return how far training has come at an epoch: 0 at its start, 1 at its planned end."""
    return (1 - np.exp(-epoch / 5)) / (1 - np.exp(-TRAINED_EPOCHS / 5))


def _ragged(lengths: Array) -> tuple[Array, Array]:
    """Return for each item of groups of these lengths its group and its place therein."""
    group = np.repeat(np.arange(len(lengths)), lengths)
    return group, np.arange(len(group)) - (np.cumsum(lengths) - lengths)[group]


def _write_packs(
    folder: Folder, trials: pd.DataFrame, units: pd.DataFrame, epochs: pd.DataFrame
) -> None:
    """Write the files that `ledger.commit` would, pack by pack, without waiting for the disk."""
    packs = trials.set_index("trial_id")["pack_id"]
    failed = trials["status"] == "failed"
    for name, rows in (("units", units), ("epochs", epochs), ("trials", trials[~failed])):
        rows = rows.assign(pack=rows["trial_id"].map(packs)).sort_values(["pack", *KEYS[name]])
        table = to_table(name, rows.drop(columns="pack"))
        start = 0
        for pack_id, size in rows.groupby("pack").size().items():
            _write(folder, f"{name}/{pack_id}", table.slice(start, size))
            start += size
    table = to_table("trials", trials[failed])
    for place, failed_id in enumerate(trials.loc[failed, "trial_id"]):
        _write(folder, f"trials/failed-{failed_id}", table.slice(place, 1))


def _write(folder: Folder, stem: str, rows: pa.Table) -> None:
    pq.write_table(rows, folder.full(f"{stem}.parquet"), **ledger.PARQUET)


def main() -> None:
    """Write a study where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pack-size", type=int, default=64, help="trials per file")
    options = parser.parse_args()
    write_simulated_study(options.folder, options.trials, options.seed, options.pack_size)


if __name__ == "__main__":
    main()
