"""A pack as one Ray Tune trial: the one module here that imports Ray."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ray
import torch
from ray import tune

from search_spaces import RecordSettings, Trial
from trainables.datasets import ImageData, load_dataset
from trainables.device_data import DeviceData
from trainables.process import prepare_process
from trainables.training import PackTraining

__all__ = ["CheckpointStore", "PackTrainable", "pack_config"]

ROWS = "rows"
"""The last result's key for `PackRows`; whoever takes the rows removes it from the result."""


CHECKPOINT_FILE = "pack.safetensors"
METRICS = ("train_objective", "active_units", "variance_law_mean")


class CheckpointStore(Protocol):
    """Where checkpoints of packs in flight are kept, reachable from every worker."""

    def load(self, pack_id: str) -> bytes | None:
        """Return the pack's last checkpoint, if there is one."""

    def save(self, pack_id: str, checkpoint: bytes) -> None:
        """Replace the pack's checkpoint, whole or not at all."""


def pack_config(
    pack_id: str,
    trials: Sequence[Trial],
    trial_ids: Sequence[str],
    record: RecordSettings,
    *,
    threads: int = 1,
    report_seconds: float = 2.0,
    checkpoint_seconds: float = 60.0,
) -> dict[str, Any]:
    """Build the Tune config of a pack: plain values, readable in Tune's own logs.

    Args:
        pack_id: Name of the pack.
        trials: Its lanes, of one `stack_key`.
        trial_ids: Their ids, in the same order.
        record: What is recorded.
        threads: CPU threads of the pack.
        report_seconds: Least time between two results.
        checkpoint_seconds: Least time between two checkpoints.
    """
    return {
        "pack_id": pack_id,
        "trials": [trial.model_dump(mode="json") for trial in trials],
        "trial_ids": list(trial_ids),
        "record": record.model_dump(),
        "threads": threads,
        "report_seconds": report_seconds,
        "checkpoint_seconds": checkpoint_seconds,
    }


class PackTrainable(tune.Trainable):
    """Trains a pack; a result holds each lane's metrics and their summary over the lanes.

    Metrics are `active_units` and `variance_law_mean` on the test images and `train_objective`,
    as `lanes/<trial_id>/<metric>` and, over the lanes, `<metric>` (mean), `<metric>_min` and
    `<metric>_max`. A pack of one trial has plain scalars only. The last result holds the pack's
    rows under `rows`.

    The config is `pack_config`'s. With `tune.with_parameters`, `datasets` gives images by label
    (arrays, or Ray object references of `ImageData`), loaded anew where it does not, and
    `checkpoints` a store; without one the pack starts over after a failure. Actors can be reused:
    a dataset stays on the device from one pack to the next.
    """

    def setup(
        self,
        config: dict[str, Any],
        datasets: Mapping[str, ImageData | ray.ObjectRef[ImageData]] | None = None,
        checkpoints: CheckpointStore | None = None,
    ) -> None:
        """Start the first pack of this actor."""
        self._datasets = datasets or {}
        self._checkpoints = checkpoints
        self._data: dict[str, DeviceData] = {}
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next pack in the same process."""
        self._start(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch or more, for about `report_seconds`, and report."""
        until = time.monotonic() + self._report_seconds
        self._unsaved = True
        self._training.advance()
        while not self._training.done and time.monotonic() < until:
            self._training.advance()
        result = self._metrics()
        result["done"] = self._training.done
        result["epoch"] = self._training.pack.epoch
        if self._training.done:
            result[ROWS] = self._training.rows()
        elif time.monotonic() >= self._checkpoint_due:
            self._save_checkpoint()
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> Any:
        """Write the pack's state where Tune asks for it (a study asks a store instead)."""
        Path(checkpoint_dir, CHECKPOINT_FILE).write_bytes(self._training.checkpoint())
        return checkpoint_dir

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from what `save_checkpoint` wrote; `checkpoint` is its folder."""
        self._train(Path(checkpoint, CHECKPOINT_FILE).read_bytes())

    def cleanup(self) -> None:
        """Keep what an unfinished pack has learned, when it is stopped in good order."""
        if self._unsaved and not self._training.done:
            self._save_checkpoint()

    def _start(self, config: dict[str, Any]) -> None:
        prepare_process(config["threads"])
        self._pack_id: str = config["pack_id"]
        self._report_seconds: float = config["report_seconds"]
        self._checkpoint_seconds: float = config["checkpoint_seconds"]
        self._checkpoint_due = time.monotonic() + self._checkpoint_seconds
        self._unsaved = False
        self._trial_ids: list[str] = config["trial_ids"]
        self._trials = [Trial.model_validate(trial) for trial in config["trials"]]
        self._record = RecordSettings.model_validate(config["record"])
        self._train(self._checkpoints.load(self._pack_id) if self._checkpoints else None)

    def _train(self, checkpoint: bytes | None) -> None:
        data = self._device_data(self._trials[0])
        self._training = PackTraining(self._trials, self._trial_ids, data, self._record, checkpoint)

    def _device_data(self, trial: Trial) -> DeviceData:
        label = trial.dataset.label
        if label not in self._data:
            images = self._datasets.get(label) or load_dataset(trial.dataset)
            if isinstance(images, ray.ObjectRef):
                images = ray.get(images)
            self._data = {label: DeviceData.load(images, self._device)}  # one at a time
        return self._data[label]

    def _save_checkpoint(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.save(self._pack_id, self._training.checkpoint())
        self._checkpoint_due = time.monotonic() + self._checkpoint_seconds
        self._unsaved = False

    def _metrics(self) -> dict[str, Any]:
        latest = self._training.latest
        if latest.empty:  # every lane diverged in its first epoch
            return {}
        lanes = latest.set_index("trial_id")
        if len(lanes) == 1:
            return {metric: lanes[metric].iloc[0] for metric in METRICS}
        summary: dict[str, Any] = {}
        for metric in METRICS:
            values = lanes[metric]
            summary[metric] = values.mean()
            summary[f"{metric}_min"], summary[f"{metric}_max"] = values.min(), values.max()
        summary["lanes"] = lanes.to_dict("index")
        return summary
