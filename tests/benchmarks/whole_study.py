"""A whole study by `vae-study run` against the same study written plainly for Ray Tune.

python -m tests.benchmarks.whole_study --repeats 3 --json whole_study.json

Both are commands in processes of their own, timed from start to exit, in turns on one machine. The
plain side is `plain_tune.py`, with images in memory and with a `DataLoader`. Where the time of
`vae-study run` goes is read from its tables alone.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.trial import Precision
from tests.benchmarks.timed_runs import Options, Run, run_ours, run_plain

OURS = "vae-study"
MIXED = "vae-study, mixed precision"
MEMORY = "plain Tune, images in memory"
DATALOADER = "plain Tune, DataLoader"
LOADERS = {MEMORY: "memory", DATALOADER: "dataloader"}
ACTIVE_UNITS_APART = 1.0  # medians over the trials that still agree


@dataclass(frozen=True)
class Side:
    """The repeats of one side.

    Attributes:
        seconds: Wall time of each repeat.
        median: The repeat of median wall time.
        trials_per_hour: By that repeat.
        times_ours: Its wall time, divided by that of ours.
        active_units_agree: Whether its median of active units is within one of ours.
    """

    seconds: list[float]
    median: Run
    trials_per_hour: float
    times_ours: float
    active_units_agree: bool


@dataclass(frozen=True)
class Overhead:
    """Part of the cores' time in which a longer study of ours does not train.

    Attributes:
        epochs: Epochs of every trial.
        seconds: Wall time of each repeat.
        overheads: 1 - training / (wall time x cores) of each repeat.
        median: Their median.
    """

    epochs: int
    seconds: list[float]
    overheads: list[float]
    median: float


@dataclass(frozen=True)
class Result:
    """All that was measured; `dataclasses.asdict` makes it JSON.

    Attributes:
        options: What was asked for.
        sides: By name, ours first.
        overhead: None where it was not asked for.
    """

    options: Options
    sides: dict[str, Side]
    overhead: Overhead | None


def measure(options: Options, tell: Callable[[str], None] = lambda line: None) -> Result:
    """Run all sides in turns.

    Args:
        options: What to run.
        tell: Is given a line after every run.

    Raises:
        RuntimeError: A command failed, or two runs did not do the same work.
    """
    sides = [OURS, *[MIXED] * options.mixed, MEMORY, *[DATALOADER] * (not options.skip_dataloader)]
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    longer: list[Run] = []
    for repeat in range(1, options.repeats + 1):
        told = f"{repeat}/{options.repeats}"
        for name, repeats in runs.items():
            if name in LOADERS:
                run = run_plain(options, LOADERS[name])
            else:
                precision: Precision = "mixed" if name == MIXED else "float32"
                run = run_ours(options, options.epochs, precision)
            tell(f"{told} {name}: {run.seconds:.1f} s")
            repeats.append(run)
            if run.work != runs[OURS][0].work:
                raise RuntimeError(
                    "trials, rows of epochs and rows of units differ: "
                    f"{runs[OURS][0].work} by {OURS}, {run.work} by {name}"
                )
        if options.overhead_epochs:
            run = run_ours(options, options.overhead_epochs)
            tell(f"{told} {OURS}, {options.overhead_epochs} epochs: {run.seconds:.1f} s")
            longer.append(run)
    median = _median_run(runs[OURS])
    return Result(
        options,
        {name: _side(repeats, median) for name, repeats in runs.items()},
        _overhead(options.overhead_epochs, longer) if longer else None,
    )


def report(result: Result) -> str:
    """Return the result as tables of text."""
    options = result.options
    ours = result.sides[OURS].median
    lines = [
        f"{ours.trials} trials of {options.epochs} epochs, {options.dataset}, "
        f"{options.images:,} training images, {options.cpus} cores; "
        f"wall time, median of {options.repeats}",
        "",
        f"{'':30}{'seconds':>9}{'x ours':>8}{'trials/hour':>13}"
        f"{'active units':>16}{'test ELBO':>11}",
        f"{'':30}{'':30}{'mean  median':>16}{'mean':>11}",
    ]
    for name, side in result.sides.items():
        run = side.median
        active = f"{run.mean_active_units:.2f}  {run.median_active_units:6.1f}"
        lines.append(
            f"{name:30}{run.seconds:9.1f}{side.times_ours:8.2f}{side.trials_per_hour:13,.0f}"
            f"{active:>16}{run.mean_test_elbo:11.2f}"
        )
    lines += [
        f"{name}: median active units differ from ours by more than {ACTIVE_UNITS_APART:g}"
        for name, side in result.sides.items()
        if not side.active_units_agree
    ]
    lines += ["", f"{'where the time of ours goes':30}{'worker-seconds':>16}{'share':>8}"]
    lines += [
        f"{name.replace('_', ' '):30}{part.worker_seconds:16.1f}{part.share:8.1%}"
        for name, part in (ours.breakdown or {}).items()
    ]
    if result.overhead:
        each = ", ".join(f"{overhead:.1%}" for overhead in result.overhead.overheads)
        lines += [
            "",
            f"overhead of ours at {result.overhead.epochs} epochs, "
            f"1 - training / (wall time x cores): {result.overhead.median:.1%} (of {each})",
        ]
    return "\n".join(lines)


def _side(runs: list[Run], ours: Run) -> Side:
    median = _median_run(runs)
    apart = abs(median.median_active_units - ours.median_active_units)
    return Side(
        seconds=[run.seconds for run in runs],
        median=median,
        trials_per_hour=3600 * median.trials / median.seconds,
        times_ours=median.seconds / ours.seconds,
        active_units_agree=apart <= ACTIVE_UNITS_APART,
    )


def _median_run(runs: list[Run]) -> Run:
    """The run of median wall time, the faster of the middle two where their number is even."""
    return sorted(runs, key=lambda run: run.seconds)[(len(runs) - 1) // 2]


def _overhead(epochs: int, runs: list[Run]) -> Overhead:
    overheads = [1 - run.breakdown["training"].share for run in runs if run.breakdown]
    seconds = [run.seconds for run in runs]
    return Overhead(epochs, seconds, overheads, statistics.median(overheads))


def main() -> None:
    """Print tables, and write the result as JSON where asked."""
    default = Options()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default=default.dataset)
    parser.add_argument("--images", type=int, default=default.images, help="training images")
    parser.add_argument("--test-images", type=int, default=default.test_images)
    parser.add_argument("--epochs", type=int, default=default.epochs)
    parser.add_argument("--latent-dims", type=int, nargs="+", default=default.latent_dims)
    parser.add_argument("--betas", type=float, nargs="+", default=default.betas)
    parser.add_argument("--seeds", type=int, default=default.seeds, help="how many, from 0")
    parser.add_argument("--repeats", type=int, default=default.repeats, help="the median counts")
    parser.add_argument(
        "--overhead-epochs",
        type=int,
        default=default.overhead_epochs,
        help="epochs of the run that gives the overhead; 0 leaves it out",
    )
    parser.add_argument("--skip-dataloader", action="store_true")
    parser.add_argument("--mixed", action="store_true", help="ours in mixed precision as well")
    parser.add_argument("--cpus", type=int, default=default.cpus, help="of each side")
    parser.add_argument("--json", type=Path)
    arguments: dict[str, Any] = vars(parser.parse_args())
    file = arguments.pop("json")
    for axis in ("latent_dims", "betas"):
        arguments[axis] = tuple(arguments[axis])
    result = measure(Options(**arguments), lambda line: print(line, flush=True))
    print(f"\n{report(result)}")
    if file:
        file.write_text(json.dumps(dataclasses.asdict(result), indent=2))


if __name__ == "__main__":
    main()
