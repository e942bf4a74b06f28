"""How fast GPUs train packs, from what was measured: never from a data sheet.

A pack's minibatch takes a GPU nearly as long for one lane as for several, and in proportion to
the lanes beyond that, so a measurement is a time per operation of one lane at a number of lanes.
Between two of these numbers it is interpolated; below the smallest the time is taken to stay as it
is, and above the largest to grow with the lanes, which errs on the slow side.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import median

import numpy as np
import pandas as pd
import torch

from search_spaces import BadInput, Shape, named_architecture
from study import ledger
from study.frozen_spec import SPEC_FILE
from study.packing import PlannedPack
from study.planning import PlannedTrial
from study.storage import Folder
from study.tables import DONE
from trainables.architectures import build_network
from trainables.costs import lane_epochs
from trainables.datasets import ImageData
from trainables.device_data import DeviceData
from trainables.pack import Pack
from trainables.process import prepare_process

__all__ = ["Throughput", "find_throughput", "samples_per_second"]

MINIBATCHES = 8
LIKE_MNIST = ("mnist", "fashion_mnist", "kmnist", "tiles")
LIKE_MNIST_SHAPE = (1, 28, 28)
LANES = (1, 8, 64)
COLUMNS = ["architecture", "family", "latent_dim", "dataset", "device", "status", "pack_id"]
COLUMNS += ["samples_per_second", "trial_id", "attempt"]

Points = Mapping[int, float]  # lanes to seconds per operation of one lane


@dataclass(frozen=True)
class Throughput:
    """What packs take on a GPU.

    Attributes:
        basis: What it is based on, for the user.
        points: Measurements by name of an architecture, and by family for those not measured.
        flat: Images per second of any pack, where a user says so; then there are no points.
    """

    basis: str
    points: Mapping[str, Points] = field(default_factory=dict)
    flat: float | None = None

    def seconds(self, pack: PlannedPack, work: float, images: int) -> float:
        """Return what a pack takes.

        Args:
            pack: The pack.
            work: Floating-point operations of the whole training of its costliest lane.
            images: Training images.
        """
        first, lanes = pack.members[0], len(pack.members)
        if self.flat is not None:
            return lanes * images * lane_epochs(first.trial, first.record) / self.flat
        architecture = first.trial.architecture
        points = self.points.get(architecture.name) or self.points[architecture.family]
        known = sorted(points)
        cost = float(np.interp(lanes, known, [points[n] for n in known]))
        return work * cost * max(1.0, lanes / known[-1])


def find_throughput(
    studies: Folder,
    planned: Sequence[PlannedTrial],
    datasets: Mapping[str, ImageData],
    given: float | None = None,
) -> Throughput:
    """Look for measurements on a GPU: what the user says, finished trials, this machine's GPU.

    Args:
        studies: The folder of studies, whose finished trials count.
        planned: What is to be estimated.
        datasets: Images by label.
        given: Images per second that a GPU trains, if the user knows.

    Raises:
        BadInput: There is none for some of the trials.
    """
    if given is not None:
        return Throughput(f"{given:,.0f} images per second and pack, as given", flat=given)
    families = {p.trial.architecture.family for p in planned}
    shapes = {label: data.shape for label, data in datasets.items()}
    trials = _finished_on_gpus(studies, shapes)
    if not trials.empty:
        device = trials["device"].value_counts().index[0]
        trials = trials[trials["device"] == device]
        if families <= set(trials["family"]):
            names = ", ".join(sorted(trials["study"].unique()))
            basis = f"{len(trials)} finished trials on {device} (studies: {names})"
            return Throughput(basis, _points_of(trials, shapes))
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        basis = f"{MINIBATCHES} minibatches of each architecture on this machine's {name}, "
        basis += "evaluation apart"
        return Throughput(basis, _measure(planned, datasets))
    measured = ", ".join(sorted(set(trials["family"]))) or "nothing"
    raise BadInput(
        f"--gpus: nothing tells how fast a GPU trains these trials ({', '.join(sorted(families))}):"
        f" there is no GPU here, and finished trials in {studies} measured {measured} on one; run a"
        " small study with these architectures on such a GPU and plan with --storage where it"
        " lies, plan on a machine with a GPU, or give --samples-per-second"
    )


def samples_per_second(
    members: Sequence[PlannedTrial], data: ImageData, device: torch.device, threads: int = 1
) -> float:
    """Train a pack on a few minibatches, on CPU threads or a GPU; return images per second."""
    prepare_process(threads)
    images = MINIBATCHES * members[0].trial.batch_size
    few = replace(data, train=data.train[:images], test=data.test[:1])
    pack = Pack([m.trial for m in members], DeviceData.load(few, device))
    pack.train_epoch()  # the first one allocates and warms up
    _synchronize(device)
    start = time.perf_counter()
    pack.train_epoch()
    _synchronize(device)
    return len(members) * pack.samples_per_epoch / (time.perf_counter() - start)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _measure(
    planned: Sequence[PlannedTrial], datasets: Mapping[str, ImageData]
) -> dict[str, Points]:
    """Time each architecture on this machine's GPU, alone and with many lanes."""
    device = torch.device("cuda")
    points: dict[str, dict[int, float]] = {}
    for trial in {p.trial.architecture.name: p for p in planned}.values():
        data = datasets[trial.trial.dataset.label]
        flops = _flops(trial.trial.architecture.name, trial.trial.latent_dim, data.shape)
        own = points.setdefault(trial.trial.architecture.name, {})
        for lanes in LANES:
            rate = samples_per_second([trial] * lanes, data, device)
            own[lanes] = lanes / (rate * flops)
    return dict(points)


def _finished_on_gpus(studies: Folder, shapes: Mapping[str, Shape]) -> pd.DataFrame:
    """Return the trials that finished on GPUs, on images of shapes that are known, by study."""
    found = []
    for name in studies.folders():
        folder = studies.child(name)
        if folder.exists(SPEC_FILE):
            rows = ledger.read_trials(folder, COLUMNS)
            rows = rows[rows["status"].isin(DONE) & rows["device"].notna()]
            rows = rows[(rows["device"] != "cpu") & rows["dataset"].isin(_shapes(shapes))]
            found.append(rows.assign(study=name))
    if not found:
        return pd.DataFrame(columns=[*COLUMNS, "study"])
    trials = pd.concat(found, ignore_index=True)
    # A trial that another study took over has the rate of the pack that it was trained in.
    lanes = trials.groupby(["study", "pack_id"])["trial_id"].transform("size")
    largest_first = lanes.sort_values(ascending=False, kind="stable").index
    return trials.loc[largest_first].drop_duplicates("trial_id")


def _points_of(trials: pd.DataFrame, shapes: Mapping[str, Shape]) -> dict[str, Points]:
    """Return the median over packs, by architecture and by family."""
    known = _shapes(shapes)
    costs: list[tuple[str, int, float]] = []
    for _, pack in trials.groupby(["study", "pack_id"]):
        first, lanes = pack.iloc[0], len(pack)
        shape = known[first["dataset"]]
        flops = _flops(first["architecture"], int(pack["latent_dim"].max()), shape)
        cost = lanes / (pack["samples_per_second"].median() * flops)
        costs += [(first["architecture"], lanes, cost), (first["family"], lanes, cost)]
    points: dict[str, dict[int, float]] = {}
    for (name, lanes), packs in itertools.groupby(sorted(costs), lambda cost: cost[:2]):
        points.setdefault(name, {})[lanes] = median(cost for _, _, cost in packs)
    return dict(points)


def _shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of images by label, those of the package's own data sets included."""
    return {**dict.fromkeys(LIKE_MNIST, LIKE_MNIST_SHAPE), **shapes}


@lru_cache
def _flops(architecture: str, latent_dim: int, shape: Shape) -> float:
    return build_network(named_architecture(architecture), shape).flops(latent_dim)
