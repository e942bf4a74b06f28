"""A pack as one Ray Tune trial: the one module here that imports Ray."""

import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
import torch
from ray import tune
from ray.tune.result import SHOULD_CHECKPOINT

from search_spaces import BadInput, RecordSettings, Trial
from trainables.checkpoints import unpack
from trainables.datasets import ImageData, load_dataset
from trainables.device_data import DeviceData
from trainables.mixed_precision import require_mixed_precision
from trainables.pack import NUMERICS_VERSION
from trainables.process import prepare_process
from trainables.rows import PackRows
from trainables.training import PackTraining

__all__ = [
    "CheckpointStore",
    "PackTrainable",
    "Worker",
    "read_checkpoint",
    "versions",
]

ROWS = "rows"
"""The last result's key for `PackRows`; whoever takes the rows removes it from the result."""

ENDED = "trials"
"""The key of the rows of `trials` of lanes that have ended, where Tune keeps the checkpoints.

A tuple, which Tune writes to its JSON as it stands. Of a dict it would follow every number of every
lane through the results, and of another object keep a pickle.
"""

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
        lacks_mixed: Why it cannot train in mixed precision; None if it can.
    """

    host: str
    node_id: str
    reserved_gpu: bool
    device: str
    gpu_memory: int | None
    versions: dict[str, str]
    lacks_mixed: str | None


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


def read_checkpoint(folder: str | Path, trial_ids: Sequence[str]) -> PackRows:
    """Return the rows in a checkpoint of Tune's: all there are, if the pack was done.

    Args:
        folder: The checkpoint's folder.
        trial_ids: The pack's trials, in the order of its config.

    Raises:
        FileNotFoundError: There is no pack in it.
        ValueError: It is damaged, or of other trials or another numerics version.
    """
    return unpack(Path(folder, CHECKPOINT_FILE).read_bytes(), list(trial_ids)).rows


class PackTrainable(tune.Trainable):
    """Trains a pack; a result holds each lane's metrics and their summary over the lanes.

    Metrics are `train_objective`, and on the test images `test_elbo`, `active_units` and
    `variance_law_mean`: their mean over the lanes as `<metric>`, and `<metric>_min` and
    `<metric>_max`, which a pack of one trial does not need. `lanes/<trial_id>/` holds each lane's
    own, and the other columns of its last row of `epochs`.

    The config is `pack_config`'s, as `study.PackSearcher` gives it, or empty: then the first result
    says where this runs, under `worker`, and whoever started it assigns a pack that suits. With
    `tune.with_parameters`, `datasets` gives images by label (arrays, or Ray object references of
    `ImageData`), loaded anew where it does not. Actors can be reused: a dataset stays on the device
    from one pack to the next.

    By itself it asks Tune for a checkpoint every `checkpoint_seconds`, and for a last one when the
    pack is done, which holds all its rows (`study.pack_rows` reads them); results hold the rows of
    `trials` of lanes that have ended, under `trials`. A study gives a store, `checkpoints`, for its
    own checkpoints; Tune keeps none then, and the last result holds all rows under `rows`.
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
        result["share_before"] = self._share_before
        if self._checkpoints is None:
            result[ENDED] = tuple(training.trials().to_dict("records"))
            result[SHOULD_CHECKPOINT] = training.done or time.monotonic() >= self._checkpoint_due
        elif training.done:
            result[ROWS] = training.rows()
        elif time.monotonic() >= self._checkpoint_due:
            result[CHECKPOINT_PROBLEM] = self._save_checkpoint(training)
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> Any:
        """Write the pack's state where Tune asks for it (a study asks a store instead)."""
        if self._training is not None:
            Path(checkpoint_dir, CHECKPOINT_FILE).write_bytes(self._training.checkpoint())
            self._checkpoint_due = time.monotonic() + self._checkpoint_seconds
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
        lacks_mixed = None
        try:
            require_mixed_precision(self._device)
        except BadInput as error:
            lacks_mixed = str(error)
        return Worker(
            host=platform.node(),
            node_id=ray.get_runtime_context().get_node_id(),
            reserved_gpu=self._reserved_gpu,
            device=torch.cuda.get_device_name() if gpu else "cpu",
            gpu_memory=torch.cuda.get_device_properties().total_memory if gpu else None,
            versions=versions(),
            lacks_mixed=lacks_mixed,
        )

    def _start(self, config: dict[str, Any], checkpoint: bytes | None = None) -> PackTraining:
        prepare_process(config["threads"])
        self._check_device(config["gpu_share"])
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
        data = self._device_data(trials[0], config["dataset_fingerprint"])
        self._training = PackTraining(trials, config["trial_ids"], data, record, checkpoint)
        self._share_before = self._training.share_done
        return self._training

    def _check_device(self, gpu_share: float) -> None:
        """Refuse a pack that was cut for another device: it would be far too large, or small."""
        if (gpu_share > 0) != (self._device.type == "cuda"):
            cut_for, got = ("a GPU", "none") if gpu_share else ("CPUs", "a GPU")
            raise BadInput(
                f"resources: this pack was cut for {cut_for}, and it has {got}; give PackSearcher "
                "the same resources as tune.with_resources"
            )

    def _device_data(self, trial: Trial, fingerprint: str | None) -> DeviceData:
        label = trial.dataset.label
        if label not in self._data:
            images = self._datasets.get(label) or load_dataset(trial.dataset)
            if isinstance(images, ray.ObjectRef):
                images = ray.get(images)
            if fingerprint not in (None, images.fingerprint):
                raise BadInput(
                    f"dataset: {label!r} holds other images on {platform.node()} than where the "
                    "search was planned; pass them on, with "
                    "tune.with_parameters(PackTrainable, datasets=searcher.datasets)"
                )
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
        if latest.empty:  # every lane diverged in its first epoch; Tune may insist on a metric
            return {"lanes": {}, **dict.fromkeys(METRICS, math.nan)}
        lanes = latest.set_index("trial_id")
        summary: dict[str, Any] = {"lanes": lanes.to_dict("index")}
        for metric in METRICS:
            values = lanes[metric]
            summary[metric] = float(values.mean())
            if len(lanes) > 1:
                low, high = values.min(), values.max()
                summary[f"{metric}_min"], summary[f"{metric}_max"] = low.item(), high.item()
        return summary
