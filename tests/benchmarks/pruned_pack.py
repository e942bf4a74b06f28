"""A pack whose lanes are pruned by halves: what an epoch takes, and that nobody else notices.

python -m tests.benchmarks.pruned_pack --lanes 32 --images 6000 --json pruned_pack.json

The better half goes on after every few epochs, as with successive halving. An epoch is one of
`PackTraining`, evaluation on the test images included, in this process and on one thread; and on
the GPU, where there is one.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from search_spaces import RecordSettings, Trial
from tests.benchmarks.trainer import trial_of
from trainables.datasets import load_dataset
from trainables.device_data import DeviceData
from trainables.process import prepare_process
from trainables.rows import PackRows
from trainables.training import PackTraining

NET = "paper-dense-mnist"
NUMBERS = ["train_elbo", "train_reconstruction", "train_kl", "test_elbo", "active_units"]
NUMBERS += ["variance_law_mean"]
TOLERANCE = {"cpu": 0.0, "cuda": 1e-6}
"""Greatest relative difference allowed: on CPUs a lane that is not padded has the numbers of its
trial alone bit for bit. On GPUs the order of sums depends on the pack's shape, which training
amplifies; there the numbers are compared in float64, and the time is that of float32."""


@dataclass(frozen=True)
class Options:
    """What is run.

    Attributes:
        lanes: Lanes at the start; halved until one is left.
        images: Training images.
        test_images: Test images.
        epochs: Epochs between two halvings, 2 or more; the first warms up and is not timed.
        devices: "cpu", "cuda"; those there are by default.
    """

    lanes: int = 32
    images: int = 6_000
    test_images: int = 1_000
    epochs: int = 4
    devices: tuple[str, ...] = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@dataclass(frozen=True)
class Level:
    """Epochs with so many lanes left.

    Attributes:
        lanes: How many.
        seconds: Per epoch, the median.
        time_share: The same as part of what it was with all lanes.
        lanes_share: Lanes as part of all.
    """

    lanes: int
    seconds: float
    time_share: float
    lanes_share: float


@dataclass(frozen=True)
class Halving:
    """A pack halved to its last lane, on one device.

    Attributes:
        device: Its name.
        levels: From all lanes to one.
        compared: Lanes that were trained again without those that were pruned before them.
        difference: Greatest relative difference of their numbers, over all their epochs.
        tolerance: What it may be.
        precision: In which they were compared.
    """

    device: str
    levels: list[Level]
    compared: int
    difference: float
    tolerance: float
    precision: str


def measure(options: Options) -> list[Halving]:
    """Measure on every device.

    Raises:
        RuntimeError: The survivors' numbers depend on who was pruned.
    """
    return [measure_on(device, options) for device in options.devices]


def measure_on(device: str, options: Options) -> Halving:
    """Halve a pack to its last lane, and train those of its survivors again by themselves.

    Raises:
        RuntimeError: Their numbers are not the same.
    """
    prepare_process(threads=1)
    trials = trials_of(options)
    data = DeviceData.load(load_dataset(trials[0].dataset), torch.device(device))
    rows, seconds, leaving = halve(trials, data, options)
    precision = "float32" if device == "cpu" else "float64"
    if precision != "float32":
        trials = [trial.model_copy(update={"precision": precision}) for trial in trials]
        rows, _, _ = halve(trials, data, options, leaving)
    survivors = [trial for trial in trials if name_of(trial) not in set().union(*leaving[:2])]
    alone, _, _ = halve(survivors, data, options, leaving)
    difference = greatest_difference(rows, alone)
    if not difference <= TOLERANCE[device]:
        raise RuntimeError(
            f"{device}: lanes that were left differ by {difference:.2g} from the same without "
            f"those that were pruned, and {TOLERANCE[device]:g} is allowed"
        )
    return Halving(
        device="cpu" if device == "cpu" else torch.cuda.get_device_name(),
        levels=levels_of(seconds),
        compared=len(survivors),
        difference=difference,
        tolerance=TOLERANCE[device],
        precision=precision,
    )


def trials_of(options: Options) -> list[Trial]:
    """Return trials that differ in beta, learning rate and seed."""
    halvings = options.lanes.bit_length() - 1
    if options.lanes != 2**halvings or halvings < 2:
        raise ValueError(f"lanes: {options.lanes} cannot be halved twice to one; give 4, 8, 16, …")
    if options.epochs < 2:
        raise ValueError(f"epochs: {options.epochs}, and the first is not timed; give 2 or more")
    trial = trial_of(NET, options.images)
    shared = {
        "dataset": trial.dataset.model_copy(update={"test_images": options.test_images}),
        "epochs": (halvings + 1) * options.epochs + 1,  # the last one ends with what is not timed
    }
    return [
        trial.model_copy(
            update=shared
            | {
                "seed": lane,
                "beta": 0.5 * 4 ** (lane / options.lanes),
                "learning_rate": 1e-4 * 10 ** (1.5 * (lane % 8) / 8),
            }
        )
        for lane in range(options.lanes)
    ]


def name_of(trial: Trial) -> str:
    """Return a trial's id, which is its own in every pack."""
    return f"{trial.seed:020x}"


def halve(
    trials: Sequence[Trial],
    data: DeviceData,
    options: Options,
    leaving: Sequence[set[str]] | None = None,
) -> tuple[PackRows, dict[int, list[float]], list[set[str]]]:
    """Train trials to their end, pruning lanes after every few epochs.

    Args:
        trials: The lanes.
        data: The images.
        options: Epochs between two prunings.
        leaving: Who leaves at each of them; by default the half with the lower test_elbo.

    Returns:
        The rows; seconds of the epochs that are timed by lanes left; who left at each pruning.
    """
    training = PackTraining(trials, [name_of(t) for t in trials], data, RecordSettings())
    seconds: dict[int, list[float]] = {}
    left: list[set[str]] = []
    while not training.done:
        for epoch in range(options.epochs):
            start = time.perf_counter()
            training.advance()  # waits for the device
            if epoch:
                taken = time.perf_counter() - start
                seconds.setdefault(len(training.trial_ids), []).append(taken)
        if leaving is None and len(training.trial_ids) > 1:
            best_last = training.latest.sort_values("test_elbo")["trial_id"].tolist()
            left.append(set(best_last[: len(best_last) // 2]))
        elif leaving is not None and len(left) < len(leaving):
            left.append(leaving[len(left)])
        else:
            training.advance()  # the last epoch
            break
        training.prune(left[-1])
    return training.rows(), seconds, left


def greatest_difference(rows: PackRows, others: PackRows) -> float:
    """Return the greatest relative difference of the epochs of the second pack's lanes.

    Raises:
        RuntimeError: The first pack does not have the same epochs of them.
    """
    keys = ["trial_id", "epoch"]
    ours, theirs = (r.epochs.set_index(keys)[NUMBERS].astype(float) for r in (rows, others))
    ids = set(others.trials["trial_id"])
    ours = ours[ours.index.get_level_values("trial_id").isin(ids)].sort_index()
    theirs = theirs.sort_index()
    if not ours.index.equals(theirs.index) or not len(ours):
        raise RuntimeError("a lane was trained for other epochs than by itself")
    return float(((ours - theirs).abs() / theirs.abs().clip(lower=1e-12)).max(axis=None))


def levels_of(seconds: dict[int, list[float]]) -> list[Level]:
    """Return medians, and shares of the first level's."""
    lanes = max(seconds)
    whole = statistics.median(seconds[lanes])
    medians = {count: statistics.median(taken) for count, taken in seconds.items()}
    return [Level(n, m, m / whole, n / lanes) for n, m in sorted(medians.items(), reverse=True)]


def report(result: Sequence[Halving]) -> str:
    """Return a table for every device."""
    lines = []
    for halving in result:
        lines += [
            halving.device,
            f"{'lanes left':>12}{'s per epoch':>14}{'share of time':>16}{'share of lanes':>16}",
        ]
        for level in halving.levels:
            lines.append(
                f"{level.lanes:>12}{level.seconds:>14.4f}{level.time_share:>16.1%}"
                f"{level.lanes_share:>16.1%}"
            )
        lines.append(
            f"{halving.compared} lanes that were left, against the same without the others, "
            f"{halving.precision}: relative difference at most {halving.difference:.2g} "
            f"({halving.tolerance:g} allowed)"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the tables, and write the data as JSON where asked."""
    default = Options()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lanes", type=int, default=default.lanes, help="a power of two")
    parser.add_argument("--images", type=int, default=default.images, help="training images")
    parser.add_argument("--test-images", type=int, default=default.test_images)
    parser.add_argument(
        "--epochs", type=int, default=default.epochs, help="between two halvings, one not timed"
    )
    parser.add_argument("--devices", nargs="+", choices=list(TOLERANCE), default=default.devices)
    parser.add_argument("--json", type=Path)
    arguments: dict[str, Any] = vars(parser.parse_args())
    file = arguments.pop("json")
    arguments["devices"] = tuple(arguments["devices"])
    options = Options(**arguments)
    result = measure(options)
    print(report(result))
    if file:
        halvings = [dataclasses.asdict(halving) for halving in result]
        file.write_text(
            json.dumps({"options": dataclasses.asdict(options), "devices": halvings}, indent=2)
        )


if __name__ == "__main__":
    main()
