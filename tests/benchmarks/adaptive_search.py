"""TPE with pruning against a random search: what each finds, and for how many epochs of training.

python -m tests.benchmarks.adaptive_search --json adaptive_search.json
python -m tests.benchmarks.adaptive_search --also tpe tpe-objective --storage studies

Sought are beta, learning rate and depth of a dense net with the least -test_elbo among those with
few active units. Both sides are studies with `strategy: optuna`, on Ray, and all that is compared
is read from their tables. One search's results depend on its draws: each pair of studies has seeds
of its own, and the median pair counts. With `--storage`, a run that was interrupted goes on.
"""

import argparse
import dataclasses
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from study import run_study
from tests.benchmarks.search_accounts import SHARE, WITHIN, Comparison, Pair, compare, feasible

RANDOM, TPE = "random", "tpe-pruned"
PRUNER = {"name": "successive_halving", "min_resource": 3, "reduction_factor": 3}
SAMPLER = {"name": "tpe", "multivariate": True, "group": True, "constant_liar": True}
SAMPLER |= {"n_startup_trials": 5}  # of 10, a sixth of the epochs that there are would be random
SIDES: dict[str, dict[str, Any]] = {
    RANDOM: {"sampler": "random"},
    TPE: {"sampler": SAMPLER, "pruner": PRUNER},
    "tpe": {"sampler": SAMPLER},
    "tpe-objective": {"sampler": SAMPLER, "pruner": PRUNER, "prune_on": "objective"},
    "tpe-constraints": {"sampler": SAMPLER, "pruner": PRUNER, "prune_on": "constraints_first"},
}
"""What differs between the studies: `tpe` is never pruned, `tpe-objective` as if there were no
constraint, `tpe-constraints` by these first."""


@dataclass(frozen=True)
class Options:
    """What is run.

    Attributes:
        points: Points of a random study.
        adaptive_points: Points of the others, so many that they use their epochs up.
        seeds: Pairs of studies.
        first_seed: Seed of the first pair.
        epochs: Epochs of a trial that is not pruned.
        images: Training images.
        test_images: Test images.
        most_active: Active units that a feasible trial has at most.
        cpus: Packs that train at a time.
        also: Sides to compare with random beside TPE with pruning.
        storage: Where the studies are kept; None to delete them.
    """

    points: int = 256
    adaptive_points: int = 128
    seeds: int = 5
    first_seed: int = 0
    epochs: int = 12
    images: int = 6_000
    test_images: int = 1_000
    most_active: int = 8
    cpus: int = 2
    also: tuple[str, ...] = ()
    storage: str | None = None


QUICK = Options(points=12, adaptive_points=8, seeds=1, epochs=4, images=600, test_images=200)


def spec_of(side: str, seed: int, options: Options) -> dict[str, Any]:
    """Return the spec of a study; no two have a stream of random numbers in common."""
    return {
        "study": f"{side}-{seed}",
        "dataset": {
            "name": "mnist",
            "train_images": options.images,
            "test_images": options.test_images,
        },
        "axes": {
            "architecture": {"family": "dense", "depth": [1, 2, 3], "width": 128},
            "latent_dim": 16,
            "beta": {"log_range": [0.25, 8.0]},
            "learning_rate": {"log_range": [1e-4, 1e-2]},
        },
        "training": {"epochs": options.epochs, "batch_size": 64},
        "resources": {"pack_size": 2},  # the fewer train unknown, the more each proposal knows
        "strategy": {
            "name": "optuna",
            "points": options.points if side == RANDOM else options.adaptive_points,
            "objectives": {"maximise": "test_elbo"},
            "constraints": [f"active_units <= {options.most_active}"],
            "seed": 1_000 * list(SIDES).index(side) + seed,
            **SIDES[side],
        },
    }


def measure(
    options: Options, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Comparison]:
    """Run all studies.

    Args:
        options: What to run.
        tell: Is given a line after every study.

    Returns:
        By side.
    """
    pairs: dict[str, list[Pair]] = {side: [] for side in (TPE, *options.also)}
    with tempfile.TemporaryDirectory(prefix="adaptive-search-") as scratch:
        storage = options.storage or scratch

        def run(side: str, seed: int) -> pd.DataFrame:
            spec = spec_of(side, seed, options)
            quiet = Console(quiet=True)
            trials = run_study(spec, storage=storage, cpus=options.cpus, console=quiet).trials
            fulfil = feasible(trials, options.most_active).sum()
            tell(
                f"{spec['study']}: {len(trials)} trials, {fulfil} of them feasible, "
                f"{trials['epochs_trained'].sum():,} epochs"
            )
            return trials

        for seed in range(options.first_seed, options.first_seed + options.seeds):
            random = run(RANDOM, seed)
            for side, compared in pairs.items():
                compared.append(compare(random, run(side, seed), options.most_active))
    return {side: Comparison.of(compared) for side, compared in pairs.items()}


def report(options: Options, result: dict[str, Comparison]) -> str:
    """Return the result as tables of text."""
    columns = ("seed", "random's best", "feasible", "epochs", f"best at {SHARE:.0%}", "gap")
    columns += (f"within {WITHIN:.0%} after", "share", "trials", "pruned")
    lines = [
        f"-test_elbo with active_units <= {options.most_active}, MNIST, {options.images:,} images, "
        f"{options.epochs} epochs; random: {options.points} points",
        "an epoch counts from when its pack is started, and those of all packs do",
    ]
    for side, comparison in result.items():
        lines += ["", side, "".join(f"{column:>16}" for column in columns)]
        for seed, pair in enumerate(comparison.pairs, options.first_seed):
            cells = (f"{pair.best:.2f}", f"{pair.feasible}", f"{pair.epochs:,}")
            cells += (f"{pair.reached:.2f}", f"{pair.gap:+.2%}", f"{pair.within_after:,.0f}")
            cells += (f"{pair.share:.1%}", f"{pair.trials}", f"{pair.pruned}")
            lines.append("".join(f"{cell:>16}" for cell in (str(seed), *cells)))
        median = ("median", "", "", "", "", f"{comparison.gap:+.2%}", "", f"{comparison.share:.1%}")
        lines.append("".join(f"{cell:>16}" for cell in median))
        met = "met" if comparison.met else "NOT met"
        lines.append(
            f"{side} within {WITHIN:.0%} of random's best with at most {SHARE:.0%} of its epochs, "
            f"in the median of {len(comparison.pairs)}: {met}"
        )
    return "\n".join(lines)


def as_json(options: Options, result: dict[str, Comparison]) -> dict[str, Any]:
    """Return options and result as plain values, null for what is infinite."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        return None if isinstance(value, float) and math.isinf(value) else value

    sides = {side: dataclasses.asdict(comparison) for side, comparison in result.items()}
    for side, comparison in result.items():
        for values, pair in zip(sides[side]["pairs"], comparison.pairs, strict=True):
            values |= {"gap": pair.gap, "share": pair.share}
    settings = {"options": dataclasses.asdict(options), "strategies": SIDES}
    return dict(plain(settings | {"sides": sides}))


def main() -> None:
    """Print tables, and write the result as JSON where asked."""
    default = Options()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, help="of a random study")
    parser.add_argument("--adaptive-points", type=int, help="of the others")
    parser.add_argument("--seeds", type=int, help="pairs of studies")
    parser.add_argument("--first-seed", type=int, help="of the first pair")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int, help="training images")
    parser.add_argument("--test-images", type=int)
    parser.add_argument("--most-active", type=int, help="units of a feasible trial")
    parser.add_argument("--cpus", type=int)
    others = [side for side in SIDES if side not in (RANDOM, TPE)]
    parser.add_argument("--also", nargs="+", choices=others)
    parser.add_argument("--storage", help="folder that keeps the studies")
    parser.add_argument("--quick", action="store_true", help="a minute, to see that it works")
    parser.add_argument("--json", type=Path)
    given: dict[str, Any] = vars(parser.parse_args())
    base, file = QUICK if given.pop("quick") else default, given.pop("json")
    changes = {name: value for name, value in given.items() if value is not None}
    if "also" in changes:
        changes["also"] = tuple(changes["also"])
    options = dataclasses.replace(base, **changes)
    result = measure(options, lambda line: print(line, flush=True))
    print(f"\n{report(options, result)}")
    if file:
        file.write_text(json.dumps(as_json(options, result), indent=2))


if __name__ == "__main__":
    main()
