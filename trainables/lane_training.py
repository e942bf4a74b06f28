"""Lanes of a pack in training, from one epoch to the next: records, divergence, last rows."""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces import RecordSettings, Trial
from trainables.checkpoints import Part
from trainables.device_data import DeviceData
from trainables.encodings import Trajectory, final_encodings
from trainables.layers import layer_rows
from trainables.models import model_bytes
from trainables.pack import EpochMeans, Pack
from trainables.probes import probe_part
from trainables.rows import RowCollector, trial_row
from trainables.samples import sample_rows
from trainables.statistics import Evaluation, evaluate

__all__ = ["LaneTraining"]


@dataclass(frozen=True)
class _Moment:
    """The state before an epoch; `tensors` are copies."""

    pack: Pack
    trial_ids: list[str]
    tensors: dict[str, Tensor]
    epoch: int
    rows: dict[str, int]
    seconds: float
    samples: int


class LaneTraining:
    """Trains lanes together, epoch by epoch, and adds their rows to those of their pack.

    A lane whose numbers stop being finite goes back to its state before that epoch, is recorded
    as `diverged` with the statistics of that state, and leaves; the others go on. So they do
    where lanes are pruned.

    Attributes:
        pack: The lanes in training.
        trial_ids: Their ids; empty when all are finished.
        latest: One row per lane in training, after the last epoch: the row of `epochs` but for the
            seconds, and train_objective, the mean over the epoch of what is minimised.
        probe: The lanes that a probe goes on with, once they have finished; None if there are none.
    """

    def __init__(
        self,
        trials: Mapping[str, Trial],
        part: Part,
        data: DeviceData,
        record: RecordSettings,
        collector: RowCollector,
    ) -> None:
        """Go on from a state.

        Args:
            trials: Trials by id, those of the lanes among them.
            part: The lanes, as they were left; without tensors, they are drawn.
            data: The images, on the device that trains.
            record: What is recorded, and the thresholds of activity.
            collector: Takes the rows.

        Raises:
            BadInput: The trials do not fit the images.
        """
        self.record = record
        self.trial_ids = part.lanes
        self.latest = pd.DataFrame()
        self.probe: Part | None = None
        lanes = [trials[trial_id] for trial_id in part.lanes]
        self.epochs = lanes[0].epochs
        self.pack = Pack(lanes, data, part.latent_dim)
        self._collector = collector
        self._seconds, self._samples = part.seconds, part.samples
        if part.tensors:
            self.pack.restore(part.tensors, part.epoch)
        elif record.every:
            mark = collector.mark()
            try:
                self._record_epoch(None, np.ones(len(lanes), dtype=np.bool_), 0.0)
            except Exception:
                collector.return_to(mark)
                raise

    def part(self) -> Part:
        """Return what is needed to go on from here; its tensors change with the next epoch."""
        return Part(
            lanes=self.trial_ids,
            epoch=self.pack.epoch,
            latent_dim=self.pack.latent_dim,
            tensors=self.pack.tensors(),
            seconds=self._seconds,
            samples=self._samples,
        )

    def advance(self) -> None:
        """Train one epoch; after the last one, evaluate and finish every lane.

        Where that raises, for want of memory say, all is as it was before the epoch.
        """
        with self._undone_if_it_fails() as before:
            self._advance(before)

    def prune(self, trial_ids: Collection[str]) -> None:
        """Finish lanes where they are, as `pruned`, and go on without them.

        Where that raises, for want of memory say, all is as it was before.

        Args:
            trial_ids: Their ids; those of lanes that are not in training are passed over.
        """
        lanes = [lane for lane, trial_id in enumerate(self.trial_ids) if trial_id in trial_ids]
        if lanes:
            with self._undone_if_it_fails():
                pruned = [self.trial_ids[lane] for lane in lanes]
                self._finish(self.pack.subset(lanes), pruned, "pruned", {})
                self._go_on_without(lanes)

    @contextmanager
    def _undone_if_it_fails(self) -> Iterator[_Moment]:
        before = _Moment(
            pack=self.pack,
            trial_ids=self.trial_ids,
            tensors={name: tensor.clone() for name, tensor in self.pack.tensors().items()},
            epoch=self.pack.epoch,
            rows=self._collector.mark(),
            seconds=self._seconds,
            samples=self._samples,
        )
        try:
            yield before
        except Exception:
            self.pack, self.trial_ids = before.pack, before.trial_ids
            self.pack.restore(before.tensors, before.epoch)
            self._collector.return_to(before.rows)
            self._seconds, self._samples = before.seconds, before.samples
            raise

    def _advance(self, before: _Moment) -> None:
        start = time.perf_counter()
        trajectory = self._trajectory()
        means = self.pack.train_epoch(trajectory)
        finite = torch.isfinite(means.objective + means.kl).cpu().numpy()  # waits for the device
        training_seconds = time.perf_counter() - start
        evaluations = self._record_epoch(means, finite, training_seconds)
        if trajectory is not None:
            rows = trajectory.rows(self.trial_ids, np.flatnonzero(finite).tolist())
            self._collector.add("encodings", rows)
        self._seconds += (time.perf_counter() - start) / len(self.trial_ids)
        self._samples += self.pack.samples_per_epoch
        if not finite.all():
            self._drop_diverged(np.flatnonzero(~finite).tolist(), before.tensors)
            evaluations = {}
        if self.trial_ids and self.pack.epoch == self.epochs:
            train = self._finish(self.pack, self.trial_ids, "completed", evaluations)
            if self.record.probe is not None:
                self.probe = probe_part(self.part(), train, self.record)
            self.trial_ids = []

    def _trajectory(self) -> Trajectory | None:
        """Return who looks at the codes during the next epoch, if they are asked for."""
        settings = self.record.trajectory
        if settings is None or self.pack.epoch >= settings.epochs:
            return None
        return Trajectory(self.pack, settings)

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
        self._go_on_without(lanes)

    def _go_on_without(self, lanes: list[int]) -> None:
        rest = [lane for lane in range(len(self.trial_ids)) if lane not in lanes]
        self.trial_ids = [self.trial_ids[lane] for lane in rest]
        if rest:
            self.pack = self.pack.subset(rest)

    def _finish(
        self, pack: Pack, trial_ids: list[str], status: str, evaluations: dict[str, Evaluation]
    ) -> Evaluation:
        """Write the last rows of a pack, from its evaluations where they are known.

        Returns:
            The evaluation on the training images.
        """
        if not evaluations:
            evaluations = self._evaluate(pack, ("train", "test"))
            self._add_units(pack, trial_ids, list(range(len(trial_ids))), evaluations)
        for lane, trial_id in enumerate(trial_ids):
            row = trial_row(pack, lane, evaluations["train"], evaluations["test"], self.record)
            self._collector.add_trial(
                {
                    "trial_id": trial_id,
                    "status": status,
                    "error": _divergence(pack) if status == "diverged" else None,
                    **row,
                    "seconds": self._seconds,
                    # A lane may be pruned before its first epoch.
                    "samples_per_second": self._samples / self._seconds if self._samples else None,
                }
            )
            if self.record.models:
                self._collector.add_model(trial_id, model_bytes(pack, lane))
        record, train = self.record, evaluations["train"]
        if "samples" in record.further_tables:
            rows = sample_rows(pack, trial_ids, train.mean_variance, record)
            self._collector.add("samples", rows)
        if record.encodings:
            self._collector.add("encodings", final_encodings(pack, trial_ids, record))
        if record.layers:
            self._collector.add("layers", layer_rows(pack, trial_ids))
        return train


def _divergence(pack: Pack) -> str:
    return f"the loss was not finite in epoch {pack.epoch + 1}"
