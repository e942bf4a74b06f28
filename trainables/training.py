"""The training of a pack from its first epoch to its rows: records, divergence, checkpoints."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from search_spaces import RecordSettings, Trial
from trainables import checkpoints
from trainables.device_data import DeviceData
from trainables.models import model_bytes
from trainables.pack import EpochMeans, Pack
from trainables.rows import PackRows, RowCollector, trial_row
from trainables.statistics import Evaluation, evaluate

__all__ = ["PackTraining"]


class PackTraining:
    """Trains a pack epoch by epoch and collects its rows.

    A lane whose numbers stop being finite goes back to its state before that epoch, is recorded
    as `diverged` with the statistics of that state, and leaves the pack; the others go on.

    Attributes:
        pack: The lanes in training.
        trial_ids: Their ids; empty when all are finished.
        latest: One row per lane in training: trial_id, train_objective, active_units and
            variance_law_mean after the last epoch, the latter two on the test images.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        trial_ids: Sequence[str],
        data: DeviceData,
        record: RecordSettings,
        checkpoint: bytes | None = None,
    ) -> None:
        """Start, or go on from a checkpoint of the same trials.

        Args:
            trials: The lanes' trials, of one `stack_key`.
            trial_ids: Their ids, in the same order.
            data: The images, on the device that trains.
            record: What is recorded, and the thresholds of activity.
            checkpoint: What `checkpoint()` gave; None to start.

        Raises:
            BadInput: The trials do not fit the images.
            ValueError: The checkpoint belongs to other trials or another numerics version.
        """
        self.record = record
        self.epochs = trials[0].epochs
        self.latest = pd.DataFrame()
        self._members = dict(zip(trial_ids, trials, strict=True))
        if checkpoint is None:
            self.trial_ids = list(trial_ids)
            self.pack = Pack(trials, data)
            self._collector = RowCollector()
            self._started_at = datetime.now(UTC)
            self._seconds, self._samples = 0.0, 0  # each lane's equal share, and its images
            if record.every:
                self._record_epoch(None, np.ones(len(trials), dtype=np.bool_), 0.0)
        else:
            saved = checkpoints.unpack(checkpoint, list(trial_ids))
            self.trial_ids = saved.lanes
            lanes = [self._members[trial_id] for trial_id in saved.lanes]
            self.pack = Pack(lanes, data, saved.latent_dim)
            self.pack.restore(saved.tensors, saved.epoch)
            self._collector = RowCollector(saved.rows)
            self._started_at = datetime.fromisoformat(saved.started_at)
            self._seconds, self._samples = saved.seconds, saved.samples

    @property
    def done(self) -> bool:
        """Whether every lane has its row in `trials`."""
        return not self.trial_ids

    def advance(self) -> None:
        """Train one epoch; after the last one, evaluate and finish every lane."""
        before = {name: tensor.clone() for name, tensor in self.pack.tensors().items()}
        start = time.perf_counter()
        means = self.pack.train_epoch()
        finite = torch.isfinite(means.objective + means.kl).cpu().numpy()  # waits for the device
        training_seconds = time.perf_counter() - start
        evaluations = self._record_epoch(means, finite, training_seconds)
        self._seconds += (time.perf_counter() - start) / len(self.trial_ids)
        self._samples += self.pack.samples_per_epoch
        if not finite.all():
            self._drop_diverged(np.flatnonzero(~finite).tolist(), before)
            evaluations = {}
        if self.trial_ids and self.pack.epoch == self.epochs:
            self._finish(self.pack, self.trial_ids, "completed", evaluations)
            self.trial_ids = []

    def rows(self) -> PackRows:
        """Return the rows of the finished lanes, and the units and epochs so far of all."""
        return self._collector.rows()

    def checkpoint(self) -> bytes:
        """Return all that is needed to go on from here, as a safetensors file."""
        return checkpoints.pack_up(
            checkpoints.Checkpoint(
                members=list(self._members),
                lanes=self.trial_ids,
                epoch=self.pack.epoch,
                latent_dim=self.pack.latent_dim,
                tensors=self.pack.tensors(),
                rows=self.rows(),
                seconds=self._seconds,
                samples=self._samples,
                started_at=self._started_at.isoformat(),
            )
        )

    def _record_epoch(
        self, means: EpochMeans | None, finite: NDArray[np.bool_], seconds: float
    ) -> dict[str, Evaluation]:
        """Evaluate and record the epoch of all lanes that are finite, marking others in `finite`.

        Returns:
            By split; `train` only where the units are due.
        """
        last = self.pack.epoch == self.epochs
        due = last or (self.record.every and self.pack.epoch % self.record.every == 0)
        evaluations = self._evaluate(self.pack, ("train", "test") if due else ("test",))
        for evaluation in evaluations.values():
            finite &= np.isfinite(evaluation.elbo + evaluation.objective)
        lanes = np.flatnonzero(finite).tolist()
        self.latest = self._collector.add_epoch(
            self.pack, self.trial_ids, lanes, means, evaluations["test"], self.record, seconds
        )
        if due:
            self._add_units(self.pack, self.trial_ids, lanes, evaluations)
        return evaluations

    def _evaluate(self, pack: Pack, splits: tuple[str, ...]) -> dict[str, Evaluation]:
        """Evaluate splits; all statistics where the units are to be recorded."""
        gain_images = self.record.reconstruction_gain_images if len(splits) > 1 else 0
        return {split: evaluate(pack, split, gain_images) for split in splits}

    def _add_units(
        self,
        pack: Pack,
        trial_ids: list[str],
        lanes: list[int],
        evaluations: dict[str, Evaluation],
    ) -> None:
        for split, evaluation in evaluations.items():
            self._collector.add_units(pack, trial_ids, lanes, split, evaluation, self.record)

    def _drop_diverged(self, lanes: list[int], before: dict[str, torch.Tensor]) -> None:
        """Finish the lanes as they were before the epoch, and go on without them."""
        lost = self.pack.subset(lanes)
        lost.restore({name: t[lanes] for name, t in before.items()}, self.pack.epoch - 1)
        self._finish(lost, [self.trial_ids[lane] for lane in lanes], "diverged", {})
        rest = [lane for lane in range(len(self.trial_ids)) if lane not in lanes]
        self.trial_ids = [self.trial_ids[lane] for lane in rest]
        if rest:
            self.pack = self.pack.subset(rest)

    def _finish(
        self, pack: Pack, trial_ids: list[str], status: str, evaluations: dict[str, Evaluation]
    ) -> None:
        """Write the last rows of a pack, from its evaluations where they are known."""
        if not evaluations:
            evaluations = self._evaluate(pack, ("train", "test"))
            self._add_units(pack, trial_ids, list(range(len(trial_ids))), evaluations)
        for lane, trial_id in enumerate(trial_ids):
            row = trial_row(pack, lane, evaluations["train"], evaluations["test"], self.record)
            self._collector.add_trial(
                {
                    "trial_id": trial_id,
                    "status": status,
                    **row,
                    "started_at": self._started_at,
                    "seconds": self._seconds,
                    "samples_per_second": self._samples / self._seconds,
                }
            )
            if self.record.models:
                self._collector.add_model(trial_id, model_bytes(pack, lane))
