"""A study run as a command, by `vae-study` or plainly for Ray Tune, and where its time went."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from search_spaces.trial import Precision
from tests.end_to_end.command import VAE_STUDY, environment, write_spec

STUDY = "whole-study"
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Options:
    """What is run, and how often.

    Attributes:
        dataset: mnist, fashion_mnist, kmnist or tiles.
        images: Training images.
        test_images: Test images.
        epochs: Epochs of every trial.
        latent_dims: An axis of the study, with `betas` and `seeds`.
        betas: Weights of the KL term.
        seeds: How many seeds, from 0.
        repeats: Runs of each side; the median counts.
        overhead_epochs: Epochs of the run of ours that gives the overhead; 0 leaves it out.
        skip_dataloader: Leave out the plain side with a `DataLoader`.
        mixed: Run ours in mixed precision as well; the plain sides stay in float32.
        cpus: Cores that each side may use.
    """

    dataset: str = "mnist"
    images: int = 60_000
    test_images: int = 10_000
    epochs: int = 3
    latent_dims: tuple[int, ...] = (4, 8, 12, 16)
    betas: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    seeds: int = 4
    repeats: int = 3
    overhead_epochs: int = 10
    skip_dataloader: bool = False
    mixed: bool = False
    cpus: int = field(default_factory=lambda: os.cpu_count() or 1)


@dataclass(frozen=True)
class Share:
    """A part of the cores' time.

    Attributes:
        worker_seconds: Seconds, summed over the workers.
        share: The same as a part of wall time x cores.
    """

    worker_seconds: float
    share: float


@dataclass(frozen=True)
class Run:
    """One command from start to exit, and what it wrote.

    Attributes:
        seconds: Wall time.
        trials: Trials that it completed.
        epoch_rows: Epochs that it recorded, summed over the trials.
        unit_rows: Units that it measured, summed over trials and splits.
        mean_active_units: Over the trials, on the training images.
        median_active_units: Likewise.
        mean_test_elbo: Over the trials, nats per image.
        breakdown: Where the cores' time went; of ours only.
    """

    seconds: float
    trials: int
    epoch_rows: int
    unit_rows: int
    mean_active_units: float
    median_active_units: float
    mean_test_elbo: float
    breakdown: dict[str, Share] | None = None

    @property
    def work(self) -> tuple[int, int, int]:
        """What two sides must have in common."""
        return self.trials, self.epoch_rows, self.unit_rows


def run_ours(options: Options, epochs: int, precision: Precision = "float32") -> Run:
    """Run the study by our command line, into a storage of its own.

    Args:
        options: What to run, save for the epochs.
        epochs: Epochs of every trial.
        precision: Of every trial.

    Raises:
        RuntimeError: The command failed, or not all trials were completed.
    """
    spec = {
        "study": STUDY,
        "dataset": {
            "name": options.dataset,
            "train_images": options.images,
            "test_images": options.test_images,
        },
        "axes": {
            "architecture": "paper-dense-mnist",
            "latent_dim": list(options.latent_dims),
            "beta": list(options.betas),
            "initialisation": "torch",  # what the layers of torch.nn start from
            "seed": list(range(options.seeds)),
            "precision": precision,
        },
        "training": {
            "epochs": epochs,
            "batch_size": 128,
            "learning_rate": 1e-3,
            "learning_rate_schedule": "constant",  # as Adam alone has it
        },
    }
    with tempfile.TemporaryDirectory(prefix="whole-study-") as name:
        folder = Path(name)
        path = write_spec(folder, spec)
        cpus = str(options.cpus)
        command = [VAE_STUDY, "run", str(path), "--storage", name, "--cpus", cpus]
        command.append("--no-report")  # the plain variants write none
        started, ended = _timed(command, folder / "output.txt")
        trials, epoch_rows, units = (
            pd.read_parquet(folder / STUDY / table) for table in ("trials", "epochs", "units")
        )
    if not (trials["status"] == "completed").all():
        raise RuntimeError(f"not all trials were completed\n{trials['error'].dropna()}")
    parts = breakdown(trials, epoch_rows, started, ended, options.cpus)
    return _run(ended - started, trials, len(epoch_rows), len(units), parts)


def run_plain(options: Options, loader: str) -> Run:
    """Run the study as `plain_tune.py` writes it, its loader `memory` or `dataloader`.

    Raises:
        RuntimeError: The command failed.
    """
    with tempfile.TemporaryDirectory(prefix="whole-study-") as folder:
        out = Path(folder) / "plain.parquet"
        command = [sys.executable, "-m", "tests.benchmarks.plain_tune", "--dataset"]
        command += [options.dataset, "--images", str(options.images)]
        command += ["--test-images", str(options.test_images), "--epochs", str(options.epochs)]
        command += ["--latent-dims", *map(str, options.latent_dims)]
        command += ["--betas", *map(str, options.betas), "--seeds", str(options.seeds)]
        command += ["--loader", loader, "--cpus", str(options.cpus), "--out", str(out)]
        started, ended = _timed(command, Path(folder) / "output.txt")
        trials = pd.read_parquet(out)
    epoch_rows, unit_rows = (int(trials[rows].map(len).sum()) for rows in ("epochs", "units"))
    return _run(ended - started, trials, epoch_rows, unit_rows)


def breakdown(
    trials: pd.DataFrame, epochs: pd.DataFrame, started: float, ended: float, workers: int
) -> dict[str, Share]:
    """Say from the tables where the time of a run's workers went; the shares sum to 1.

    `training` and `evaluation` (and the making of records) are what the tables hold as seconds.
    `start_up` lasts until the first pack begins, `shut_down` from the end of the last one, its
    commit included. `waiting_at_end` is when fewer packs run than there are workers because none
    are left, and `gaps` is the rest: between packs, and within them between results.

    Args:
        trials: The table.
        epochs: The table.
        started: When the command started, seconds since 1970.
        ended: When it exited.
        workers: Packs that run at a time, of one core each.
    """
    packs = trials.groupby("pack_id").agg(start=("started_at", "min"), seconds=("seconds", "sum"))
    starts = (packs["start"] - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy()
    # A pack does nothing but train, evaluate and record, save for reports in between.
    finishes = starts + packs["seconds"].to_numpy()
    last_start, last_finish = starts.max(), finishes.max()
    busy_at_end = (finishes - last_start).clip(0).sum()
    training, busy = epochs["seconds"].sum(), trials["seconds"].sum()
    seconds = {
        "training": training,
        "evaluation": busy - training,
        "start_up": workers * (starts.min() - started),
        "waiting_at_end": workers * (last_finish - last_start) - busy_at_end,
        "shut_down": workers * (ended - last_finish),
    }
    whole = workers * (ended - started)
    seconds["gaps"] = whole - sum(seconds.values())
    return {name: Share(float(part), float(part / whole)) for name, part in seconds.items()}


def _run(
    seconds: float,
    trials: pd.DataFrame,
    epoch_rows: int,
    unit_rows: int,
    breakdown: dict[str, Share] | None = None,
) -> Run:
    return Run(
        seconds,
        len(trials),
        epoch_rows,
        unit_rows,
        float(trials["active_units"].mean()),
        float(trials["active_units"].median()),
        float(trials["test_elbo"].mean()),
        breakdown,
    )


def _timed(command: list[str], output: Path) -> tuple[float, float]:
    """Run a command; return when it started and when it exited, seconds since 1970."""
    # Whoever imports `study` has Tune's settings of ours, which the plain side must not get.
    env = {name: value for name, value in environment().items() if not name.startswith("TUNE_")}
    with output.open("w") as file:  # a pipe would stay open until Ray's last daemon is gone
        started = time.time()
        done = subprocess.run(
            command, cwd=REPOSITORY, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
        ended = time.time()
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)}: exit code {done.returncode}\n" + output.read_text()[-2000:]
        )
    return started, ended
