"""A pack as one Ray Tune trial: the one module here that imports Ray."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
import torch
from ray import tune

from search_spaces import RecordSettings, Trial
from trainables.datasets import ImageData, load_dataset
from trainables.device_data import DeviceData
from trainables.pack import NUMERICS_VERSION
from trainables.process import prepare_process
from trainables.training import PackTraining

__all__ = ["CheckpointStore", "PackTrainable", "Worker", "pack_config", "versions"]

ROWS = "rows"
"""The last result's key for `PackRows`; whoever takes the rows removes it from the result."""

WORKER = "worker"
"""The key of `Worker` in the result of a trainable that waits for its pack."""

CHECKPOINT_PROBLEM = "checkpoint_problem"
"""The key of what kept a checkpoint from being saved, if anything did; training goes on."""

CHECKPOINT_FILE = "pack.safetensors"
PACK = "pack_id"
METRICS = ("train_objective", "test_elbo", "active_units", "variance_law_mean")


@dataclass(frozen=True)
class Worker:
    """Where a trainable runs, for whoever cuts its pack.

    Attributes:
        host: Name of the machine.
        node_id: Ray's id of the node.
        reserved_gpu: Whether Ray has reserved a GPU, or a share of one.
        device: `cpu`, or the GPU's name.
        gpu_memory: Bytes of the whole GPU; None on a CPU.
        versions: What `versions` returns there.
    """

    host: str
    node_id: str
    reserved_gpu: bool
    device: str
    gpu_memory: int | None
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Return the versions of what must be equal on all machines of a study."""
    return {
        "Python": platform.python_version(),
        "Ray": ray.__version__,
        # A build for another device (2.13.0+cu126) is the same release.
        "PyTorch": torch.__version__.partition("+")[0],
        "numerics": str(NUMERICS_VERSION),
    }


class CheckpointStore(Protocol):
    """Where checkpoints of packs in flight are kept, reachable from every worker."""

    def load(self, pack_id: str) -> bytes | None:
        """Return the pack's last checkpoint, if there is one."""

    def save(self, pack_id: str, checkpoint: bytes) -> str | None:
        """Replace the pack's checkpoint, whole or not at all; return what kept it from that."""


def pack_config(
    pack_id: str,
    trials: Sequence[Trial],
    trial_ids: Sequence[str],
    record: RecordSettings,
    *,
    threads: int = 1,
    gpu_share: float = 1.0,
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
        gpu_share: Share of the GPU's memory that the pack may take, where it is on one.
        report_seconds: Least time between two results.
        checkpoint_seconds: Least time between two checkpoints.
    """
    return {
        "pack_id": pack_id,
        "trials": [trial.model_dump(mode="json") for trial in trials],
        "trial_ids": list(trial_ids),
        "record": record.model_dump(),
        "threads": threads,
        "gpu_share": gpu_share,
        "report_seconds": report_seconds,
        "checkpoint_seconds": checkpoint_seconds,
    }


class PackTrainable(tune.Trainable):
    """Trains a pack; a result holds each lane's metrics and their summary over the lanes.

    Metrics are `train_objective`, and on the test images `test_elbo`, `active_units` and
    `variance_law_mean`: their mean over the lanes as `<metric>`, and `<metric>_min` and
    `<metric>_max`, which a pack of one trial does not need. `lanes/<trial_id>/` holds each lane's
    own, and the other columns of its last row of `epochs`. The last result holds the pack's rows
    under `rows`.

    The config is `pack_config`'s, or empty: then the first result says where this runs, under
    `worker`, and whoever started it assigns a pack that suits. With `tune.with_parameters`,
    `datasets` gives images by label (arrays, or Ray object references of `ImageData`), loaded
    anew where it does not, and `checkpoints` a store; without one the pack starts over after a
    failure. Actors can be reused: a dataset stays on the device from one pack to the next.
    """

    def setup(
        self,
        config: dict[str, Any],
        datasets: Mapping[str, ImageData | ray.ObjectRef[ImageData]] | None = None,
        checkpoints: CheckpointStore | None = None,
    ) -> None:
        """Take the first pack of this actor."""
        self._datasets = datasets or {}
        self._checkpoints = checkpoints
        self._data: dict[str, DeviceData] = {}
        # Not whether there is one: a pack that reserved none shall leave it alone.
        self._reserved_gpu = bool(ray.get_gpu_ids())
        gpu = self._reserved_gpu and torch.cuda.is_available()
        self._device = torch.device("cuda" if gpu else "cpu")
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next pack in the same process."""
        self._training: PackTraining | None = None
        self._assigned: dict[str, Any] | None = new_config if PACK in new_config else None
        return True

    def assign(self, config: dict[str, Any]) -> None:
        """Take a pack that waited for a worker; an empty config says that there is none.

        It is set up in the next step, so that what goes wrong is an error of the pack's.
        """
        self._assigned = config

    def prune(self, trial_ids: Sequence[str]) -> None:
        """Finish lanes of the pack before their last epoch, recorded as `pruned`."""
        if self._training is not None:
            self._training.prune(trial_ids)

    def step(self) -> dict[str, Any]:
        """Train one epoch or more, for about `report_seconds`, and report."""
        if self._assigned is None:
            return {WORKER: self._describe()}
        if not self._assigned:
            return {"done": True}
        training = self._training
        if training is None:
            training = self._start(self._assigned)
        until = time.monotonic() + self._report_seconds
        self._unsaved = True
        while not training.done:
            training.advance()
            if time.monotonic() >= until:
                break
        result = self._metrics(training)
        result["done"] = training.done
        result["epoch"] = training.epochs_done
        result["share_done"] = training.share_done
        if training.done:
            result[ROWS] = training.rows()
        elif time.monotonic() >= self._checkpoint_due:
            result[CHECKPOINT_PROBLEM] = self._save_checkpoint(training)
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> Any:
        """Write the pack's state where Tune asks for it (a study asks a store instead)."""
        if self._training is not None:
            Path(checkpoint_dir, CHECKPOINT_FILE).write_bytes(self._training.checkpoint())
        return checkpoint_dir

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from what `save_checkpoint` wrote; `checkpoint` is its folder."""
        file = Path(checkpoint, CHECKPOINT_FILE)
        if self._assigned and file.exists():
            self._start(self._assigned, file.read_bytes())

    def cleanup(self) -> None:
        """Keep what an unfinished pack has learned, when it is stopped in good order."""
        if self._training is not None and self._unsaved and not self._training.done:
            self._save_checkpoint(self._training)

    def _describe(self) -> Worker:
        gpu = self._device.type == "cuda"
        return Worker(
            host=platform.node(),
            node_id=ray.get_runtime_context().get_node_id(),
            reserved_gpu=self._reserved_gpu,
            device=torch.cuda.get_device_name() if gpu else "cpu",
            gpu_memory=torch.cuda.get_device_properties().total_memory if gpu else None,
            versions=versions(),
        )

    def _start(self, config: dict[str, Any], checkpoint: bytes | None = None) -> PackTraining:
        prepare_process(config["threads"])
        if self._device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(config["gpu_share"])
        self._pack_id: str = config["pack_id"]
        self._report_seconds: float = config["report_seconds"]
        self._checkpoint_seconds: float = config["checkpoint_seconds"]
        self._checkpoint_due = time.monotonic() + self._checkpoint_seconds
        self._unsaved = False
        trials = [Trial.model_validate(trial) for trial in config["trials"]]
        record = RecordSettings.model_validate(config["record"])
        if checkpoint is None and self._checkpoints is not None:
            checkpoint = self._checkpoints.load(self._pack_id)
        data = self._device_data(trials[0])
        self._training = PackTraining(trials, config["trial_ids"], data, record, checkpoint)
        return self._training

    def _device_data(self, trial: Trial) -> DeviceData:
        label = trial.dataset.label
        if label not in self._data:
            images = self._datasets.get(label) or load_dataset(trial.dataset)
            if isinstance(images, ray.ObjectRef):
                images = ray.get(images)
            self._data = {label: DeviceData.load(images, self._device)}  # one at a time
        return self._data[label]

    def _save_checkpoint(self, training: PackTraining) -> str | None:
        problem = None
        if self._checkpoints is not None:
            problem = self._checkpoints.save(self._pack_id, training.checkpoint())
        self._checkpoint_due = time.monotonic() + self._checkpoint_seconds
        self._unsaved = problem is not None
        return problem

    def _metrics(self, training: PackTraining) -> dict[str, Any]:
        latest = training.latest
        if latest.empty:  # every lane diverged in its first epoch
            return {}
        lanes = latest.set_index("trial_id")
        summary: dict[str, Any] = {"lanes": lanes.to_dict("index")}
        for metric in METRICS:
            values = lanes[metric]
            summary[metric] = values.mean()
            if len(lanes) > 1:
                summary[f"{metric}_min"], summary[f"{metric}_max"] = values.min(), values.max()
        return summary
