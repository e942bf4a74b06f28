"""Images per second of fused packs against plain PyTorch loops and the roofline, in one run.

python -m tests.benchmarks.trainer --images 6000 --repeats 3 --json trainer.json

Rates are summed over lanes; each is the median of the timed epochs. A thread is one process of one
thread with the machine otherwise idle, the machine one such process per core at the same time.
"""

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch

from search_spaces import NAMED, BadInput, Trial, load_spec
from search_spaces.trial import Precision
from tests.benchmarks.plain_vae import memory_batches, plain_epoch, plain_model
from tests.benchmarks.roofline import Peaks, floor_seconds, measure_peaks
from trainables.datasets import load_dataset
from trainables.device_data import DeviceData
from trainables.pack import Pack
from trainables.process import prepare_process

PLAIN = "plain loop"
CONVOLUTIONAL_SHARE = 8  # an epoch of the convolutional net has so many times fewer images


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        images: Training images per epoch.
        nets: Names of architectures.
        lanes: Sizes of packs.
        repeats: Timed epochs.
        trained: Epochs after which dense nets are measured again, since training slows down
            where weights of blank pixels decay; 0 leaves it out.
        mixed: Measure packs in mixed precision as well; the roofline stays that of float32.
        cores: Processes of the machine.
    """

    images: int = 6000
    nets: tuple[str, ...] = ("paper-dense-mnist", "paper-conv")
    lanes: tuple[int, ...] = (1, 2, 4, 8, 16, 64)
    repeats: int = 3
    trained: int = 40
    mixed: bool = False
    cores: int = os.cpu_count() or 1


def trial_of(net: str, images: int, seed: int = 0) -> Trial:
    """A trial of the paper's net on MNIST, or on tiles where MNIST is not at hand."""
    for dataset in ("mnist", "tiles"):
        spec = {
            "study": "benchmark",
            "dataset": {"name": dataset, "train_images": images, "test_images": 1},
            "axes": {"architecture": [net], "latent_dim": [16]},
        }
        trial = Trial(
            dataset=load_spec(spec).dataset[0],
            architecture=NAMED[net],
            latent_dim=16,
            seed=seed,
            initialisation="torch",
            learning_rate_schedule="constant",
        )
        try:
            load_dataset(trial.dataset)
        except BadInput:
            continue
        return trial
    raise BadInput("no dataset can be loaded")


def epoch_of(
    net: str, images: int, lanes: int, precision: Precision = "float32"
) -> Callable[[], int]:
    """Return an epoch of a pack, or of the plain loop for no lanes; it gives images trained on."""
    trial = trial_of(net, images).model_copy(update={"precision": precision})
    data = load_dataset(trial.dataset)
    if lanes:
        prepare_process(threads=1)
        trials = [trial.model_copy(update={"seed": seed}) for seed in range(lanes)]
        pack = Pack(trials, DeviceData.load(data, torch.device("cpu")))

        def epoch() -> int:
            pack.train_epoch()
            return lanes * pack.samples_per_epoch

        return epoch
    encoder, decoder = plain_model(trial.architecture, trial.latent_dim)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    tensor = torch.from_numpy(data.train)

    def plain() -> int:
        plain_epoch(encoder, decoder, optimizer, memory_batches(tensor, trial.batch_size))
        return len(tensor)

    return plain


def _measure_rate(
    net: str,
    images: int,
    lanes: int,
    precision: Precision,
    warm: int,
    repeats: int,
    start: Barrier,
    rates: "Queue[float]",
) -> None:
    torch.set_num_threads(1)
    epoch = epoch_of(net, images, lanes, precision)
    for _ in range(warm):
        epoch()
    start.wait()
    measured = []
    for _ in range(repeats):
        begun = time.perf_counter()
        measured.append(epoch() / (time.perf_counter() - begun))
    rates.put(statistics.median(measured))


def _measure_peaks(start: Barrier, results: "Queue[Peaks]") -> None:
    torch.set_num_threads(1)
    start.wait()
    results.put(measure_peaks())


def in_processes(count: int, target: Callable[..., None], *arguments: Any) -> list[Any]:
    """Run a function in processes that start to measure together; return what each put."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=target, args=(*arguments, start, results)) for _ in range(count)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=3600) for _ in processes]
    for process in processes:
        process.join()
    return found


def measure(options: Options, tell: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Measure all rows.

    Returns:
        `peaks` of a thread and the machine, and `rows`: net, how, warm-up epochs, images per
        second of a thread and of the machine, each against the plain loop and the roofline.
    """
    one = in_processes(1, _measure_peaks)[0]
    all_of_them = in_processes(options.cores, _measure_peaks)
    machine = Peaks(sum(p.flops for p in all_of_them), sum(p.bandwidth for p in all_of_them))
    tell(
        f"{one.flops / 1e9:.0f} GFLOP/s and {one.bandwidth / 1e9:.1f} GB/s on a thread, "
        f"{machine.flops / 1e9:.0f} and {machine.bandwidth / 1e9:.1f} on {options.cores}"
    )
    rows: list[dict[str, Any]] = []
    for net in options.nets:
        convolutional = NAMED[net].family == "conv"
        images = options.images // (CONVOLUTIONAL_SHARE if convolutional else 1)
        trial = trial_of(net, images)
        precisions: list[Precision] = ["float32", "mixed"] if options.mixed else ["float32"]
        kinds: list[tuple[int, Precision]] = [
            (0, "float32"),
            *itertools.product(options.lanes, precisions),
        ]
        cases = [(*case, 1) for case in kinds]
        if options.trained and not convolutional:
            cases += [(*case, options.trained) for case in kinds if case[0] <= 4]
        plain: dict[str, float] = {}
        for lanes, precision, warm in cases:
            arguments = (net, images, lanes, precision, warm, options.repeats)
            rates = {
                "thread": in_processes(1, _measure_rate, *arguments)[0],
                "machine": sum(in_processes(options.cores, _measure_rate, *arguments)),
            }
            if not lanes:
                plain = rates
            row: dict[str, Any] = {
                "net": net,
                "dataset": trial.dataset.name,
                "how": f"pack of {lanes}" if lanes else PLAIN,
                "precision": precision,
                "warm_up_epochs": warm,
            }
            for where, peaks in (("thread", one), ("machine", machine)):
                roofline = trial.batch_size / floor_seconds(trial, peaks)
                row[where] = rates[where]
                row[f"{where}_against_plain"] = rates[where] / plain[where]
                row[f"{where}_of_roofline"] = rates[where] / roofline
            rows.append(row)
            tell(line(row))
    peaks = {"thread": dataclasses.asdict(one), "machine": dataclasses.asdict(machine)}
    return {"options": dataclasses.asdict(options), "peaks": peaks, "rows": rows}


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    text = f"{row['net']:18} {row['how']:11} {row['precision']:7} after {row['warm_up_epochs']:2}"
    for where in ("thread", "machine"):
        text += (
            f" | {where} {row[where]:9,.0f}/s {row[f'{where}_against_plain']:5.2f}x plain"
            f" {row[f'{where}_of_roofline']:4.0%} of roofline"
        )
    return text


def report(result: dict[str, Any]) -> str:
    """Return the best packing of each net on the machine; `measure` tells the rows as they come."""
    lines = []
    for net in result["options"]["nets"]:
        packs = [r for r in result["rows"] if r["net"] == net and r["how"] != PLAIN]
        best = max(packs, key=lambda row: row["machine_against_plain"])
        lines.append(f"best against plain on all cores: {line(best)}")
    return "\n".join(lines)


def main() -> None:
    """Print a table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=Options.images)
    parser.add_argument("--nets", nargs="+", choices=NAMED, default=list(Options.nets))
    parser.add_argument("--repeats", type=int, default=Options.repeats)
    parser.add_argument("--lanes", type=int, nargs="+", default=list(Options.lanes))
    parser.add_argument("--trained", type=int, default=Options.trained)
    parser.add_argument("--mixed", action="store_true", help="packs in mixed precision as well")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    options = Options(
        given.images,
        tuple(given.nets),
        tuple(given.lanes),
        given.repeats,
        given.trained,
        given.mixed,
    )
    result = measure(options, lambda text: print(text, flush=True))
    print(report(result))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
