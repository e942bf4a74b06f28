"""Probes: experiments on lanes that have finished their training, and the rows of `probes`."""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from search_spaces import DeteriorationProbe, RecordSettings, Trial
from trainables.checkpoints import Part
from trainables.deterioration import ProbedLane, UnitState, go_on, next_epoch
from trainables.device_data import DeviceData
from trainables.objectives import Disturbance, kl_divergence
from trainables.pack import Pack
from trainables.rows import RowCollector
from trainables.statistics import CHUNK, Array, Evaluation, stacked_noise
from trainables.streams import blur

__all__ = ["ProbeTraining", "probe_part"]

MEASURED = (
    "reconstruction_gain",
    "kl",
    "mean_variance",
    "posterior_variance",
    "reconstruction",
)


def probe_part(part: Part, train: Evaluation, record: RecordSettings) -> Part | None:
    """Return the lanes that have an active unit, ready for the spec's probe; None without any.

    Args:
        part: Lanes at the end of their training.
        train: Their units on the training images.
        record: Which probe, and when a unit is active.
    """
    assert record.probe is not None
    active = train.mean_variance > record.active_variance  # (lanes, latent_dim)
    lanes = np.flatnonzero(active.any(1)).tolist()
    if not lanes:
        return None
    probe = []
    for lane in lanes:
        units = np.flatnonzero(active[lane])
        unit = _choose(units[np.argsort(train.kl[lane, units], kind="stable")], record.probe)
        probe.append(asdict(ProbedLane(unit, units.tolist())))
    return replace(
        part,
        lanes=[part.lanes[lane] for lane in lanes],
        tensors={name: tensor[lanes] for name, tensor in part.tensors.items()},
        probe=probe,
    )


def _choose(by_kl: np.ndarray[Any, Any], settings: DeteriorationProbe) -> int:
    place = {"smallest": 0, "median": len(by_kl) // 2, "largest": -1}[settings.unit]
    return int(by_kl[place])


class ProbeTraining:
    """Trains lanes on through their probe; used like `LaneTraining`.

    The optimiser goes on with its moments, and draws with those of the epochs that follow. Each
    lane has its own unit, noise and end.

    Attributes:
        pack: The lanes in their probe.
        trial_ids: Their ids; empty when all are through.
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
            part: What `probe_part` gave, or `part`.
            data: The images, on the device that trains.
            record: Which probe.
            collector: Takes the rows.
        """
        assert record.probe is not None
        self.trial_ids = part.lanes
        self._record, self._settings = record, record.probe
        self._collector = collector
        self._lanes = [ProbedLane(**lane) for lane in part.probe]
        self._part = part
        # A schedule that has come down to zero would let nothing happen.
        constant = {"learning_rate_schedule": "constant"}
        lanes = [trials[trial_id].model_copy(update=constant) for trial_id in part.lanes]
        self.pack = Pack(lanes, data, part.latent_dim)
        self.pack.restore(part.tensors, part.epoch)

    def part(self) -> Part:
        """Return what is needed to go on from here; its tensors change with the next epoch."""
        return replace(
            self._part,
            lanes=self.trial_ids,
            epoch=self.pack.epoch,
            tensors=self.pack.tensors(),
            probe=[asdict(lane) for lane in self._lanes],
        )

    def advance(self) -> None:
        """Train one epoch of each probe and record it; before the first, record the start.

        Where that raises, for want of memory say, all is as it was before the epoch.
        """
        pack, trial_ids, lanes = self.pack, self.trial_ids, self._lanes
        tensors = {name: tensor.clone() for name, tensor in pack.tensors().items()}
        epoch, rows = pack.epoch, self._collector.mark()
        try:
            self._advance()
        except Exception:
            self.pack, self.trial_ids, self._lanes = pack, trial_ids, lanes
            pack.restore(tensors, epoch)
            self._collector.return_to(rows)
            raise

    def _advance(self) -> None:
        start = time.perf_counter()
        if self._lanes[0].epoch == 0:  # of all lanes, since they started together
            start = self._record_epoch(start)
            if not self.trial_ids:
                return
        self._lanes = [next_epoch(lane, self._settings) for lane in self._lanes]
        self.pack.train_epoch(disturbance=self._disturbance(self.pack.epoch))
        self._record_epoch(start)

    def _record_epoch(self, start: float) -> float:
        """Measure and record all lanes, and let those go that are through; return the time."""
        measured = self._measure()
        now = time.perf_counter()
        going: list[int] = []
        lanes: list[ProbedLane] = []
        rows = []
        for number, lane in enumerate(self._lanes):
            values = {name: float(measured[name][number]) for name in MEASURED}
            finite = bool(np.isfinite(list(values.values())).all())
            rows.append(
                {
                    "trial_id": self.trial_ids[number],
                    "probe": self._settings.name,
                    "epoch": lane.epoch,
                    "phase": lane.phase if lane.epoch else "start",
                    "unit": lane.unit,
                    "noise": lane.noise,
                    **{name: value if finite else None for name, value in values.items()},
                    "seconds": (now - start) / len(self._lanes),
                }
            )
            cost = self.pack.trials[number].beta * values["kl"]
            unit = UnitState(values["reconstruction_gain"], cost, values["posterior_variance"])
            following = go_on(lane, unit, self._settings) if finite else None
            if following is not None:
                going.append(number)
                lanes.append(following)
        numbers = {name: "float64" for name in MEASURED}
        self._collector.add("probes", pd.DataFrame(rows).astype(numbers))
        if len(going) < len(self._lanes):
            self.trial_ids = [self.trial_ids[number] for number in going]
            if going:
                self.pack = self.pack.subset(going)
        self._lanes = lanes
        return now

    def _disturbance(self, epoch: int | None) -> Disturbance:
        """Return what happens to the codes in an epoch, or in an evaluation."""
        images = self.pack.data.images("train")
        kept, unit = np.zeros((2, len(self._lanes), 1, self.pack.latent_dim))
        added = torch.zeros(len(self._lanes), images, 1)
        for number, (lane, trial) in enumerate(zip(self._lanes, self.pack.trials, strict=True)):
            kept[number, 0, lane.active] = 1
            unit[number, 0, lane.unit] = 1
            if lane.noise:
                added[number, :, 0] = lane.noise * blur(images, trial.seed, epoch)
        return Disturbance(*(self._tensor(value) for value in (kept, unit, added)))

    @torch.no_grad()
    def _measure(self) -> dict[str, Array]:
        """Return what the unit of each lane does, with its noise, each (lanes,).

        Everything is over the first training images that the reconstruction gain is computed on.
        """
        pack = self.pack
        images = min(self._record.reconstruction_gain_images, pack.data.images("train"))
        noise, disturbance = stacked_noise(pack, "train"), self._disturbance(None)
        totals = torch.zeros(6, len(self._lanes), dtype=torch.float64, device=pack.device)
        for start in range(0, images, CHUNK):
            rows = slice(start, min(start + CHUNK, images))
            batch = pack.data.batch("train", rows, pack.dtype)
            mean, log_variance = pack.engine.encode(batch)
            codes = pack.objectives.codes(mean, log_variance, noise[:, rows])
            codes = disturbance.rows(rows).apply(codes)
            own_mean = (disturbance.unit * mean).sum(2, dtype=torch.float64)  # (lanes, images)
            own_log_variance = (disturbance.unit * log_variance).sum(2, dtype=torch.float64)
            loss = pack.engine.losses(codes, batch)[0].double()
            without = pack.engine.losses(codes * (1 - disturbance.unit), batch)[0].double()
            totals += torch.stack(
                [
                    without - loss,
                    kl_divergence(own_mean, own_log_variance).sum(1),
                    own_log_variance.exp().sum(1),
                    loss,
                    own_mean.sum(1),
                    (own_mean**2).sum(1),
                ]
            )
        gain, kl, posterior_variance, reconstruction, first, second = (
            (totals / images).cpu().numpy()
        )
        return {
            "reconstruction_gain": gain,
            "kl": kl,
            "mean_variance": np.maximum(second - first**2, 0.0),
            "posterior_variance": posterior_variance,
            "reconstruction": reconstruction,
        }

    def _tensor(self, values: Tensor | np.ndarray[Any, Any]) -> Tensor:
        return torch.as_tensor(values).to(self.pack.device, self.pack.dtype)
