"""Rows of the tables from a pack's evaluations; column names as in the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from search_spaces import RecordSettings
from trainables.pack import EpochMeans, Pack
from trainables.statistics import Array, Evaluation

__all__ = ["ROW_TABLES", "PackRows", "RowCollector", "last_epochs", "trial_row", "variance_law"]

ROW_TABLES = ("trials", "units", "epochs", "samples", "encodings", "probes", "layers")
"""The tables that a pack has rows of, the latter four if they are asked for."""


@dataclass(repr=False)  # Tune formats every result for its log, wanted or not: 20 ms of frames
class PackRows:
    """What a pack leaves behind.

    Attributes:
        trials: One row per finished trial: status and measured columns, no hyperparameters.
        units: One row per trial, recorded epoch, split and unit.
        epochs: One row per trial and epoch.
        samples: One row per trial and image, where asked for.
        encodings: One row per trial, recorded step, image and unit, likewise.
        probes: One row per trial and epoch of its probe, likewise.
        layers: One row per trial and layer, likewise.
        models: trial_id to a model in safetensors format, where asked for.
    """

    trials: pd.DataFrame
    units: pd.DataFrame
    epochs: pd.DataFrame
    samples: pd.DataFrame = field(default_factory=pd.DataFrame)
    encodings: pd.DataFrame = field(default_factory=pd.DataFrame)
    probes: pd.DataFrame = field(default_factory=pd.DataFrame)
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    models: dict[str, bytes] = field(default_factory=dict)


def last_epochs(epochs: pd.DataFrame) -> pd.DataFrame:
    """Return what each trial's last row of `epochs` says, as `RowCollector.add_epoch` does.

    What was minimised is not recorded, and not a number here.
    """
    if epochs.empty:
        return pd.DataFrame()
    last = epochs.drop_duplicates("trial_id", keep="last", ignore_index=True)
    return last.drop(columns="seconds").assign(train_objective=np.nan)


def variance_law(evaluation: Evaluation, lane: int, latent_dim: int) -> Array:
    """Return mean σ² + Var μ of each of a lane's units (the paper, equation 13)."""
    law: Array = (evaluation.posterior_variance + evaluation.mean_variance)[lane, :latent_dim]
    return law


def trial_row(
    pack: Pack, lane: int, train: Evaluation, test: Evaluation, record: RecordSettings
) -> dict[str, Any]:
    """Return the measured columns of one lane's row in `trials`."""
    trial = pack.trials[lane]
    law = variance_law(train, lane, trial.latent_dim)
    row: dict[str, Any] = {
        "epochs_trained": pack.epoch,
        "active_units": _active_units(train, lane, trial.latent_dim, record),
        "active_units_kl": int((train.kl[lane, : trial.latent_dim] > record.active_kl).sum()),
        "train_objective": train.objective[lane],
        "variance_law_mean": law.mean(),
        "variance_law_variance": law.var(),
        "parameters": sum(shape.numel for shape in pack.parameter_shapes(trial.latent_dim)),
        "device": _device_name(pack.device),
        "decoder_variance": (
            pack.log_decoder_variance[lane].exp().item()
            if trial.decoder == "gaussian_learned"
            else trial.decoder_variance  # as set: a rounded one would be another setting
        ),
    }
    for split, evaluation in (("train", train), ("test", test)):
        row[f"{split}_elbo"] = evaluation.elbo[lane]
        row[f"{split}_reconstruction"] = evaluation.reconstruction[lane]
        row[f"{split}_kl"] = evaluation.kl[lane].sum()
        row[f"{split}_mse"] = evaluation.mse[lane]
    return row


class RowCollector:
    """Gathers the rows of a pack as it trains."""

    def __init__(self, rows: PackRows | None = None) -> None:
        """Start empty, or from the rows of a checkpoint."""
        self._frames: dict[str, list[pd.DataFrame]] = {table: [] for table in ROW_TABLES}
        self._models: dict[str, bytes] = {}
        if rows is not None:
            for table, frames in self._frames.items():
                frame = getattr(rows, table)
                if len(frame):
                    frames.append(frame)
            self._models = dict(rows.models)

    def rows(self) -> PackRows:
        """Return all rows so far; a unit recorded twice at an epoch counts once, the last."""
        frames = {
            table: pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
            for table, frames in self._frames.items()
        }
        if len(frames["units"]):
            key = ["trial_id", "epoch", "split", "unit"]
            units = frames["units"].drop_duplicates(key, keep="last", ignore_index=True)
            frames["units"] = units
        return PackRows(**frames, models=dict(self._models))

    def trials(self) -> pd.DataFrame:
        """Return the rows of `trials` so far."""
        frames = self._frames["trials"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def mark(self) -> dict[str, int]:
        """Return where the rows so far end, for `return_to`."""
        return {table: len(frames) for table, frames in self._frames.items()}

    def return_to(self, mark: Mapping[str, int]) -> None:
        """Forget the rows added since a mark; a model is written again, with the same weights."""
        for table, frames in self._frames.items():
            del frames[mark[table] :]

    def add_failure(self, row: Mapping[str, Any]) -> None:
        """Add a trial that failed, which leaves no other rows, not even of a finished training."""
        for table, frames in self._frames.items():
            self._frames[table] = [
                kept for frame in frames if len(kept := frame[frame["trial_id"] != row["trial_id"]])
            ]
        self._models.pop(row["trial_id"], None)
        self.add_trial(row)

    def add_trial(self, row: Mapping[str, Any]) -> None:
        """Add a finished trial."""
        self._frames["trials"].append(pd.DataFrame([row]))

    def add(self, table: str, rows: pd.DataFrame) -> None:
        """Add rows of a table that was asked for."""
        if len(rows):
            self._frames[table].append(rows)

    def add_model(self, trial_id: str, model: bytes) -> None:
        """Add a finished trial's weights."""
        self._models[trial_id] = model

    def add_epoch(
        self,
        pack: Pack,
        trial_ids: Sequence[str],
        lanes: Sequence[int],
        means: EpochMeans | None,
        test: Evaluation,
        record: RecordSettings,
        seconds: float,
    ) -> pd.DataFrame:
        """Add an epoch of some lanes; return what it says of each (see `LaneTraining.latest`).

        Args:
            pack: The lanes in training.
            trial_ids: Their ids.
            lanes: Which of them to record.
            means: Running means of the epoch; None before training.
            test: Statistics on the test images after the epoch.
            record: Thresholds of activity.
            seconds: Time the pack trained for, of which each lane gets its share.
        """
        rows, objectives = [], []
        for lane in lanes:
            latent_dim = pack.trials[lane].latent_dim
            rows.append(
                {
                    "trial_id": trial_ids[lane],
                    "epoch": pack.epoch,
                    "train_elbo": None if means is None else means.elbo[lane].item(),
                    "train_reconstruction": (
                        None if means is None else means.reconstruction[lane].item()
                    ),
                    "train_kl": None if means is None else means.kl[lane].item(),
                    "test_elbo": test.elbo[lane],
                    "active_units": _active_units(test, lane, latent_dim, record),
                    "variance_law_mean": variance_law(test, lane, latent_dim).mean(),
                    "seconds": seconds / len(trial_ids),
                }
            )
            objectives.append(np.nan if means is None else means.objective[lane].item())
        if not rows:
            return pd.DataFrame()
        frame = pd.DataFrame(rows).astype(
            {name: "float64" for name in ("train_elbo", "train_reconstruction", "train_kl")}
        )
        self._frames["epochs"].append(frame)
        return frame.drop(columns="seconds").assign(train_objective=objectives)

    def add_units(
        self,
        pack: Pack,
        trial_ids: Sequence[str],
        lanes: Sequence[int],
        split: str,
        evaluation: Evaluation,
        record: RecordSettings,
    ) -> None:
        """Add the units of some lanes at the pack's epoch, padding left out."""
        for lane in lanes:
            latent_dim = pack.trials[lane].latent_dim
            gain = evaluation.reconstruction_gain
            self._frames["units"].append(
                pd.DataFrame(
                    {
                        "trial_id": trial_ids[lane],
                        "epoch": pack.epoch,
                        "step": pack.epoch * pack.steps_per_epoch,
                        "split": split,
                        "unit": np.arange(latent_dim),
                        "mean": evaluation.mean[lane, :latent_dim],
                        "mean_variance": evaluation.mean_variance[lane, :latent_dim],
                        "posterior_variance": evaluation.posterior_variance[lane, :latent_dim],
                        "second_moment": evaluation.second_moment[lane, :latent_dim],
                        "kl": evaluation.kl[lane, :latent_dim],
                        "reconstruction_gain": (
                            np.full(latent_dim, np.nan) if gain is None else gain[lane, :latent_dim]
                        ),
                        "active": evaluation.mean_variance[lane, :latent_dim]
                        > record.active_variance,
                    }
                )
            )


def _active_units(
    evaluation: Evaluation, lane: int, latent_dim: int, record: RecordSettings
) -> int:
    return int((evaluation.mean_variance[lane, :latent_dim] > record.active_variance).sum())


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
