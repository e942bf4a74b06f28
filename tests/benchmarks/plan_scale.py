"""What a study's driver takes beside training, by number of trials: seconds and memory.

python -m tests.benchmarks.plan_scale --trials 1000 10000 100000 --json plan_scale.json
"""

import argparse
import io
import itertools
import json
import math
import multiprocessing
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from search_spaces import StudySpec, load_spec
from study import ledger
from study.dispatch import WorkerSearcher
from study.frozen_spec import freeze
from study.loading import load_study
from study.pack_callback import PackCallback
from study.packing import PackQueue, trial_costs
from study.plan_table import read_plan_ids, write_plan
from study.planning import PlannedTrial, check_trials, plan_study
from study.progress import Progress
from study.run import run_study
from study.storage import Folder
from study.tables import EPOCHS, UNITS
from study.workers import Workers
from trainables.datasets import load_dataset
from trainables.pack import NUMERICS_VERSION
from trainables.rows import PackRows
from trainables.tune_trainable import ROWS

GRID_POINTS = 100
PLANNING = "planning, in all"
COMMITTING = "commit packs"


@dataclass
class Clock:
    """Seconds by phase; a phase that comes again adds to its time."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass
class TuneTrial:
    """What the driver reads of a Tune trial whose pack ends well."""

    trial_id: str


def study_of(trials: int, strategy: str, pack_size: int) -> StudySpec:
    """A study of so many trials: a grid with many seeds, or many points drawn at random."""
    axes: dict[str, Any] = {"architecture": ["paper-dense-mnist", "dense-64"]}
    if strategy == "grid":
        axes |= {
            "latent_dim": [2, 4, 8, 16, 32],
            "beta": {"log_range": [0.1, 10.0], "count": 5},
            "learning_rate": [0.001, 0.003],
            "seed": {"range": [1, trials // GRID_POINTS]},
        }
        chosen: dict[str, Any] = {"name": "grid"}
    else:
        axes |= {
            "latent_dim": {"range": [1, 128]},
            "beta": {"log_range": [0.1, 10.0]},
            "learning_rate": {"log_range": [0.0001, 0.01]},
        }
        chosen = {"name": "random", "points": trials}
    return load_spec(
        {
            "study": f"scale-{trials}",
            "dataset": {"name": "tiles", "train_images": 1000, "test_images": 100},
            "axes": axes,
            "strategy": chosen,
            "resources": {"pack_size": pack_size},
        }
    )


def stub_rows(members: Sequence[PlannedTrial]) -> PackRows:
    """Rows as a worker leaves them: units of both splits after the last epoch, and all epochs."""
    rng = np.random.default_rng(0)
    ids = np.array([member.trial_id for member in members], dtype=object)
    trained = members[0].trial.epochs
    trials = pd.DataFrame({"trial_id": ids, "status": "completed"})
    trials = trials.assign(epochs_trained=trained, active_units=2, active_units_kl=2)
    measured = ["train_objective", "variance_law_mean", "variance_law_variance"]
    parts = ("elbo", "reconstruction", "kl", "mse")
    measured += [f"{split}_{part}" for split in ("train", "test") for part in parts]
    trials[measured] = rng.random((len(ids), len(measured)))
    trials = trials.assign(parameters=500_000, device="cpu", decoder_variance=None)
    trials = trials.assign(started_at=datetime.now(UTC), seconds=1.0, samples_per_second=20_000.0)

    widths = [member.trial.latent_dim for member in members]
    lanes = np.repeat(np.arange(len(ids)), [2 * width for width in widths])
    units = pd.DataFrame({"trial_id": ids[lanes], "epoch": trained, "step": 8 * trained})
    units["split"] = np.concatenate([np.repeat(["train", "test"], width) for width in widths])
    units["unit"] = np.concatenate([np.tile(np.arange(width), 2) for width in widths])
    statistics = [name for name in UNITS.names if UNITS.field(name).nullable]
    units[statistics] = rng.random((len(units), len(statistics)))
    units["active"] = units["mean_variance"] > 0.01

    epochs = pd.DataFrame({"trial_id": np.repeat(ids, trained)})
    epochs["epoch"] = np.tile(np.arange(1, trained + 1), len(ids))
    means = [name for name in EPOCHS.names if EPOCHS.field(name).nullable]
    epochs[means] = rng.random((len(epochs), len(means)))
    return PackRows(trials, units, epochs.assign(active_units=2))


def peak_memory() -> int:
    """Most bytes this process has held; `ru_maxrss` counts what its parent held, too."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


def measure_one(trials: int, strategy: str, pack_size: int, storage: Path) -> dict[str, Any]:
    """Take a study through the steps of `run_study`, with stubs for Ray and for training.

    Returns:
        trials, packs; phases (seconds by name); memory (peak in bytes after the imports, when the
        first pack could start, when all packs were committed, and at the end).
    """
    memory = {"imported": peak_memory()}
    clock = Clock()
    folder = Folder.at(storage / f"scale-{trials}")
    folder.create()
    with clock.phase("load_spec"):
        spec = study_of(trials, strategy, pack_size)
    queue, work = plan(spec, folder, clock)
    assert len(queue) == trials
    clock.seconds[PLANNING] = sum(clock.seconds.values())
    memory["planned"] = peak_memory()
    packs = commit_all(queue, work, spec, folder, clock)
    del queue, work  # a study is resumed by another process, without them
    memory["committed"] = peak_memory()
    resume_and_read(spec, folder, clock, trials)
    memory["end"] = peak_memory()
    return {"trials": trials, "packs": packs, "phases": clock.seconds, "memory": memory}


def plan(spec: StudySpec, folder: Folder, clock: Clock) -> tuple[PackQueue, dict[str, float]]:
    """Do all that comes before the first pack; return the queue and the work by trial_id."""
    with clock.phase("plan_study"):
        planned = plan_study(spec)
    with clock.phase("load and check data"):
        datasets = {dataset.label: load_dataset(dataset) for dataset in spec.dataset}
        check_trials(planned, datasets)
    with clock.phase("write_plan"):
        freeze(folder, spec, {"numerics_version": NUMERICS_VERSION})
        ledger.create_tables(folder)
        write_plan(folder, planned)
    with clock.phase("trial_costs"):
        costs = trial_costs(planned, datasets)
    with clock.phase("PackQueue"):
        pack_size = spec.resources.pack_size
        queue = PackQueue(planned, costs, pack_size=pack_size, workers=4, memory=2**33, gpu=False)
    return queue, {trial_id: cost.work for trial_id, cost in costs.items()}


def commit_all(
    queue: PackQueue, work: dict[str, float], spec: StudySpec, folder: Folder, clock: Clock
) -> int:
    """Hand out every pack and commit stub rows for it; return how many there were."""
    workers = Workers(1, 0.0, max_packs=4)
    searcher = WorkerSearcher(queue, workers)
    with Progress(Console(file=io.StringIO()), len(queue), 0, work) as progress:
        callback = PackCallback(folder, spec, searcher, workers, {}, progress)
        packs = 0
        while True:
            tune_trial: Any = TuneTrial(str(packs))
            with clock.phase("hand out packs"):
                searcher.suggest(tune_trial.trial_id)
                pack = searcher.take(tune_trial.trial_id, 2**33)
            if pack is None:
                return packs
            with clock.phase("stub trainer"):
                rows = stub_rows(pack.members)
            with clock.phase(COMMITTING):
                result = {
                    "epoch": spec.training.epochs,
                    "share_done": 1.0,
                    "share_before": 0.0,
                    "hostname": "here",
                }
                result[ROWS] = rows
                callback.on_trial_result(0, [], tune_trial, result)
            packs += 1


def resume_and_read(spec: StudySpec, folder: Folder, clock: Clock, trials: int) -> None:
    """Time what a resumed study starts with, and what a user who reads the results waits for."""
    with clock.phase("ledger.clean"):
        ledger.clean(folder)
    with clock.phase("ledger.committed"):
        assert ledger.committed(folder)["trial_id"].nunique() == trials
    with clock.phase("read_plan_ids"):
        assert len(read_plan_ids(folder)) == trials
    with clock.phase("run_study, all done"):
        run_study(spec, storage=str(folder.parent), console=Console(file=io.StringIO()))
    with clock.phase("Study.trials"):
        assert len(load_study(folder).trials) == trials


def measure(
    trials: Sequence[int] = (1_000, 10_000, 100_000),
    strategy: str = "grid",
    pack_size: int = 64,
    storage: Path | None = None,
) -> dict[str, Any]:
    """Measure each size in a process of its own, so that peak memory is that size's.

    Args:
        trials: Numbers of trials, ascending; multiples of 200 for a grid.
        strategy: "grid" or "random".
        pack_size: Trials per pack.
        storage: Where the studies are written for the time being; the temporary folder by default.

    Returns:
        strategy, pack_size; sizes (what `measure_one` returns for each); growth (its exponent by
        phase, for each pair of neighbouring sizes: 1 is linear, less where fixed costs matter).
    """
    sizes = []
    for number in trials:
        with (
            tempfile.TemporaryDirectory(prefix="plan-scale-", dir=storage) as place,
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process,
        ):
            arguments = (number, strategy, pack_size, Path(place))
            sizes.append(process.submit(measure_one, *arguments).result())
    return {
        "strategy": strategy,
        "pack_size": pack_size,
        "sizes": sizes,
        "growth": growth_exponents(sizes),
    }


def growth_exponents(sizes: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Log of the ratio of times over log of that of trials, by phase, for neighbouring sizes."""
    return {
        name: [
            math.log(b["phases"][name] / a["phases"][name]) / math.log(b["trials"] / a["trials"])
            for a, b in itertools.pairwise(sizes)
        ]
        for name in sizes[0]["phases"]
    }


def report(result: dict[str, Any]) -> str:
    """Write a result as a table: seconds, microseconds per trial, growth exponents, memory."""
    sizes = result["sizes"]

    def line(name: str, cells: Sequence[str], end: str = "") -> str:
        return f"{name:20}" + "".join(f"{cell:>22}" for cell in cells) + end

    lines = [
        f"strategy {result['strategy']}, packs of {result['pack_size']}",
        line("", [f"{size['trials']:,} trials" for size in sizes], "   growth exponent"),
    ]
    for name, exponents in result["growth"].items():
        seconds = [size["phases"][name] for size in sizes]
        cells = [
            f"{s:.3f} s {s / size['trials'] * 1e6:6.0f} µs"
            for s, size in zip(seconds, sizes, strict=True)
        ]
        lines.append(line(name, cells, "  " + "".join(f"{x:6.2f}" for x in exponents)))
    commits = [size["phases"][COMMITTING] / size["packs"] * 1e3 for size in sizes]
    lines.append(line("one commit", [f"{ms:.1f} ms" for ms in commits]))
    for name in sizes[0]["memory"]:
        cells = [f"{size['memory'][name] / 1e6:,.0f} MB" for size in sizes]
        lines.append(line(f"peak, {name}", cells))
    return "\n".join(lines)


def main() -> None:
    """Print the table, and write the data as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--strategy", choices=["grid", "random"], default="grid")
    parser.add_argument("--pack-size", type=int, default=64, help="trials per pack")
    parser.add_argument("--storage", type=Path, help="where to write; by default where TMPDIR says")
    parser.add_argument("--json", type=Path, help="file for the data")
    options = parser.parse_args()
    result = measure(options.trials, options.strategy, options.pack_size, options.storage)
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
