"""Starting Ray, and one Tune run over the packs of a study."""

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

# Read when ray.tune is imported. Results go to tables, so Tune's own CSV, JSON and TensorBoard
# logs would be written for nobody; state for Tuner.restore is of no use for the same reason.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray import tune

from search_spaces import ResourceSettings
from study.dispatch import PackCallback, PackSearcher
from study.pack_checkpoints import FolderCheckpoints
from trainables.datasets import ImageData
from trainables.tune_trainable import PackTrainable

__all__ = ["Workers", "count_workers", "ray_session", "tune_packs"]


@dataclass(frozen=True)
class Workers:
    """What the cluster offers to packs.

    Attributes:
        count: Packs that run at a time.
        cpus: CPUs reserved for each.
        gpus: GPUs, or the share of one, reserved for each.
        memory: Bytes that each may use.
    """

    count: int
    cpus: int
    gpus: float
    memory: int


@contextmanager
def ray_session(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """Use the Ray that is there, or start one on this machine and stop it afterwards.

    Args:
        address: A cluster's address; by default RAY_ADDRESS, else a Ray of our own.
        cpus: CPUs to use on this machine; all by default. Not for a cluster.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        ray.init(
            address=address,
            num_cpus=cpus if address == "local" else None,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"RAY_CHDIR_TO_TRIAL_DIR": "0"}},
        )
    try:
        yield
    finally:
        ray.shutdown()


def count_workers(resources: ResourceSettings) -> Workers:
    """Return how many packs the cluster holds at a time, with what each has."""
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = resources.gpus_per_pack
    if gpus == "auto":
        gpus = 1.0 if there.get("GPU", 0) >= 1 else 0.0
    count = int(there.get("CPU", 1) // resources.cpus_per_pack)
    if gpus:
        count = min(count, int(there.get("GPU", 0) / gpus))
    count = max(1, count)
    memory = int(0.8 * there.get("memory", 2**30) / count)
    return Workers(count, resources.cpus_per_pack, gpus, memory)


def tune_packs(
    searcher: PackSearcher,
    callback: PackCallback,
    workers: Workers,
    datasets: Mapping[str, ImageData],
    checkpoints: FolderCheckpoints,
    max_failures: int,
) -> None:
    """Run all packs of the searcher to their end.

    Returns early when the user interrupts; packs then leave a checkpoint.

    Args:
        searcher: Gives packs.
        callback: Takes results.
        workers: Resources of a pack.
        datasets: Images by label.
        checkpoints: Where packs keep their state.
        max_failures: How often a pack is started again after its worker died.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the callback tells of failures
    references = {label: ray.put(data) for label, data in datasets.items()}
    trainable = tune.with_resources(
        tune.with_parameters(PackTrainable, datasets=references, checkpoints=checkpoints),
        tune.PlacementGroupFactory([{"CPU": workers.cpus, "GPU": workers.gpus}]),
    )
    with tempfile.TemporaryDirectory(prefix="vae-study-tune-") as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_pack_id,
                trial_dirname_creator=_pack_id,
            ),
            run_config=tune.RunConfig(
                name="packs",
                storage_path=scratch,
                callbacks=[callback],
                failure_config=tune.FailureConfig(max_failures=max_failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )
        tuner.fit()


def _pack_id(trial: "tune.experiment.Trial") -> str:
    return str(trial.config["pack_id"])
