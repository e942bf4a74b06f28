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
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from study import run_study

RANDOM, TPE = "random", "tpe-pruned"
WITHIN, SHARE = 0.01, 0.25
"""What is to be reached: random's best value within 1%, with a quarter of its epochs."""

PRUNER = {"name": "successive_halving", "min_resource": 3, "reduction_factor": 3}
SIDES: dict[str, dict[str, Any]] = {
    RANDOM: {"sampler": "random"},
    TPE: {"pruner": PRUNER},
    "tpe": {},
    "tpe-objective": {"pruner": PRUNER, "prune_on": "objective"},
}
"""What differs between the studies, whose sampler is TPE by default: `tpe` is never pruned,
`tpe-objective` as if there were no constraint."""


@dataclass(frozen=True)
class Options:
    """What is run.

    Attributes:
        points: Points of a random study.
        adaptive_points: Points of the others, so many that they use their epochs up.
        seeds: Pairs of studies.
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
    epochs: int = 12
    images: int = 6_000
    test_images: int = 1_000
    most_active: int = 8
    cpus: int = 2
    also: tuple[str, ...] = ()
    storage: str | None = None


QUICK = Options(points=12, adaptive_points=8, seeds=1, epochs=4, images=600, test_images=200)


@dataclass(frozen=True)
class Pair:
    """A random study and another one. Values are -test_elbo; infinite where nothing is feasible.

    Attributes:
        best: Least value of random's feasible trials.
        feasible: How many of its trials are.
        epochs: Epochs that it trained.
        reached: Least value of the other study within a quarter of these.
        within_after: Epochs after which it was first within 1% of random's best; infinite where it
            never was.
        trained: Epochs that it trained until its end.
        trials: Its trials.
        pruned: How many of these were pruned.
    """

    best: float
    feasible: int
    epochs: int
    reached: float
    within_after: float
    trained: int
    trials: int
    pruned: int

    @property
    def gap(self) -> float:
        """By what part of random's best the value that was reached is worse."""
        return relative_gap(self.reached, self.best)

    @property
    def share(self) -> float:
        """Part of random's epochs after which the other study was within 1%."""
        return self.within_after / self.epochs


@dataclass(frozen=True)
class Comparison:
    """All pairs of random and another side, and their medians.

    Attributes:
        pairs: In the order of the seeds.
        gap: The median gap; of an even number, the worse of the middle two, as below.
        share: The median share of epochs.
        met: Whether the median pair was within 1% with a quarter of the epochs.
    """

    pairs: list[Pair]
    gap: float
    share: float
    met: bool

    @classmethod
    def of(cls, pairs: list[Pair]) -> "Comparison":
        """Compare pairs."""
        gap = statistics.median_high(pair.gap for pair in pairs)
        share = statistics.median_high(pair.share for pair in pairs)
        return cls(pairs, gap, share, gap <= WITHIN and share <= SHARE)


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


def progress(trials: pd.DataFrame, most_active: int) -> pd.DataFrame:
    """Return what a study had found, and what it had spent, whenever a pack was finished.

    A pack counts with all of its epochs from when it is started, those of the packs that train at
    the same time included: what is known when one is finished was not to be had for less.

    Args:
        trials: The table.
        most_active: Active units that a feasible trial has at most.

    Returns:
        One row per pack in the order of finishing: epochs (trained in all packs started by then,
        whatever became of their trials) and best (-test_elbo of the best feasible trial so far,
        infinite where there is none).
    """
    failed = trials["status"] == "failed"
    if failed.any():
        raise RuntimeError(f"{failed.sum()} trials failed\n{trials.loc[failed, 'error']}")
    spent = trials["epochs_trained"] + (trials["status"] == "diverged")  # in a last epoch, lost
    value = (-trials["test_elbo"]).where(_feasible(trials, most_active), math.inf)
    packs = (
        trials.assign(spent=spent, value=value)
        .groupby("pack_id")
        .agg(
            start=("started_at", "min"),
            seconds=("seconds", "sum"),  # a pack's, in equal shares
            spent=("spent", "sum"),
            value=("value", "min"),
        )
    )
    packs["finish"] = packs["start"] + pd.to_timedelta(packs["seconds"], unit="s")
    packs = packs.sort_values("finish", ignore_index=True)
    started = [packs.loc[packs["start"] <= finish, "spent"].sum() for finish in packs["finish"]]
    return pd.DataFrame({"epochs": started, "best": packs["value"].cummin()}).astype(
        {"epochs": int, "best": float}
    )


def compare(random: pd.DataFrame, other: pd.DataFrame, most_active: int) -> Pair:
    """Compare the `trials` of a random study with those of another one."""
    whole, ours = progress(random, most_active), progress(other, most_active)
    best, epochs = whole["best"].iloc[-1], int(whole["epochs"].max())
    affordable = ours.loc[ours["epochs"] <= SHARE * epochs, "best"]
    near = [relative_gap(value, best) <= WITHIN for value in ours["best"]]
    return Pair(
        best=float(best),
        feasible=int(_feasible(random, most_active).sum()),
        epochs=epochs,
        reached=float(affordable.min()) if len(affordable) else math.inf,
        within_after=float(ours.loc[near, "epochs"].min()) if any(near) else math.inf,
        trained=int(ours["epochs"].max()),
        trials=len(other),
        pruned=int((other["status"] == "pruned").sum()),
    )


def relative_gap(value: float, best: float) -> float:
    """Return by what part of the best a value is worse; negative where it is better."""
    if math.isinf(value):
        return math.inf
    return -math.inf if math.isinf(best) else (value - best) / abs(best)


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
            feasible = _feasible(trials, options.most_active)
            tell(
                f"{spec['study']}: {len(trials)} trials, {feasible.sum()} of them feasible, "
                f"{trials['epochs_trained'].sum():,} epochs"
            )
            return trials

        for seed in range(options.seeds):
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
        for seed, pair in enumerate(comparison.pairs):
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


def _feasible(trials: pd.DataFrame, most_active: int) -> "pd.Series[bool]":
    return (trials["status"] == "completed") & (trials["active_units"] <= most_active)


def main() -> None:
    """Print tables, and write the result as JSON where asked."""
    default = Options()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, help="of a random study")
    parser.add_argument("--adaptive-points", type=int, help="of the others")
    parser.add_argument("--seeds", type=int, help="pairs of studies")
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
