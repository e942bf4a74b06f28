"""Searches without training: what a sampler and a pruner make of curves that were recorded.

python -m tests.benchmarks.adaptive_search --storage studies    # leaves studies behind
python -m tests.benchmarks.simulated_search studies --change '{"prune_on": "objective"}'

Proposals, packs in flight and pruning are those of real studies; a proposed point gets the curve of
one of the nearest trained points of its depth, drawn at random. So a hundred pairs of searches take
the time of one that trains, and a setting can be chosen on them before it is tried with seeds of
its own. What a simulation says is a prediction, and a rough one where recorded points are few.
"""

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from optuna.storages import InMemoryStorage

from search_spaces import RecordSettings, Trial, load_spec
from study import load_study
from study.adaptive.opening import open_search
from study.adaptive.proposals import ProposalQueue
from study.packing import PlannedPack, TrialCost
from study.planned_trial import PlannedTrial
from tests.benchmarks.adaptive_search import RANDOM, TPE, Options, spec_of
from tests.benchmarks.search_accounts import SHARE, Pair, compare

NEAREST = 3
"""Trained points of which one gives its curve to a proposal."""

BEGAN = pd.Timestamp("2026-01-01", tz="UTC")
Row = dict[str, Any]


class Landscape:
    """Points that were trained to their end, and their curves."""

    def __init__(self, trials: pd.DataFrame, epochs: pd.DataFrame) -> None:
        """Take rows of `trials` and `epochs`; those of pruned trials are left out."""
        ended = trials[trials["status"].isin(["completed", "diverged"])]
        self._rows: dict[str, Row] = {row["trial_id"]: row for row in ended.to_dict("records")}
        self._curves = {
            str(name): curve.sort_values("epoch").to_dict("records")
            for name, curve in epochs[epochs["trial_id"].isin(self._rows)].groupby("trial_id")
        }
        self._places = {
            int(depth): (
                points["trial_id"].tolist(),
                _place(points["beta"], points["learning_rate"]),
            )
            for depth, points in ended.groupby("depth")
        }

    @classmethod
    def load(cls, storage: Path) -> "Landscape":
        """Read all studies of a folder."""
        studies = [load_study(str(path.parent)) for path in sorted(storage.glob("*/study.yaml"))]
        trials = pd.concat([study.trials for study in studies]).drop_duplicates("trial_id")
        epochs = pd.concat([study.epochs for study in studies])
        return cls(trials, epochs.drop_duplicates(["trial_id", "epoch"]))

    def __len__(self) -> int:
        """Return how many points there are."""
        return len(self._rows)

    def draw(self, trial: Trial, rng: np.random.Generator) -> tuple[Row, list[Row]]:
        """Return the row, and the rows of `epochs`, that a point gets."""
        names, places = self._places[len(trial.architecture.widths)]
        place = _place(pd.Series([trial.beta]), pd.Series([trial.learning_rate]))
        nearest = np.argsort(((places - place) ** 2).sum(1))[:NEAREST]
        name = names[rng.choice(nearest)]
        return self._rows[name], self._curves.get(name, [])


def _place(beta: "pd.Series[float]", rate: "pd.Series[float]") -> np.ndarray:
    """Return where points are, in units of what the spec lets vary."""
    axes = spec_of(TPE, 0, Options())["axes"]
    ranges = [np.log(axes[name]["log_range"]) for name in ("beta", "learning_rate")]
    values = [np.log(beta.to_numpy(float)), np.log(rate.to_numpy(float))]
    return np.stack([v / (high - low) for v, (low, high) in zip(values, ranges, strict=True)], 1)


class _Pack:
    """A pack at work: an epoch of all its lanes takes a second for each of them."""

    def __init__(
        self, pack: PlannedPack, now: float, landscape: Landscape, rng: np.random.Generator
    ) -> None:
        self._id, self._began, self.now = pack.pack_id, now, now
        self._drawn = {m.trial_id: landscape.draw(m.trial, rng) for m in pack.members}
        self._pruned: dict[str, int] = {}
        self._epoch = 0

    @property
    def lanes(self) -> dict[str, Row]:
        """Rows of `epochs` of the lanes that go on, of the epoch before."""
        return {
            name: curve[self._epoch - 1]
            for name, (_, curve) in self._drawn.items()
            if name not in self._pruned and len(curve) >= self._epoch
        }

    @property
    def done(self) -> bool:
        return not self._left

    @property
    def _left(self) -> list[str]:
        lanes = self._drawn.items()
        return [n for n, (_, c) in lanes if n not in self._pruned and len(c) > self._epoch]

    def advance(self) -> None:
        self.now += len(self._left)
        self._epoch += 1

    def prune(self, hopeless: Sequence[str]) -> None:
        self._pruned |= dict.fromkeys(hopeless, self._epoch)

    def rows(self) -> list[Row]:
        """Return its rows of `trials`."""
        share = (self.now - self._began) / len(self._drawn)
        began = BEGAN + pd.Timedelta(seconds=self._began)
        shared = {"pack_id": self._id, "started_at": began, "seconds": share}
        rows = []
        for name, (row, curve) in self._drawn.items():
            own = row | shared | {"trial_id": name}
            if name in self._pruned and self._pruned[name] < len(curve):
                epoch = self._pruned[name]
                last = {key: curve[epoch - 1][key] for key in ("test_elbo", "active_units")}
                own |= last | {"status": "pruned", "epochs_trained": epoch}
            rows.append(own)
        return rows


def simulate(landscape: Landscape, spec: dict[str, Any], draws: int, cpus: int) -> pd.DataFrame:
    """Return the `trials` of a search.

    Args:
        landscape: What a point comes to.
        spec: Of the study.
        draws: Seed of the draws among the nearest.
        cpus: Packs at a time.
    """
    rng = np.random.default_rng(draws)
    parsed = load_spec(spec)

    def plan(trial: Trial) -> PlannedTrial:
        return PlannedTrial(trial, trial.model_dump_json(), "", RecordSettings())

    search = open_search(parsed, InMemoryStorage(), plan)
    queue = ProposalQueue(
        search,
        lambda planned: TrialCost(1.0, 1),
        committed=pd.DataFrame({"trial_id": []}),
        unfinished=(),
        resumed=(),
        pack_size=parsed.resources.pack_size,
        workers=cpus,
        memory=10**9,
        gpu=False,
    )
    running: list[_Pack] = []
    trials: list[Row] = []
    now = 0.0
    while True:
        while len(running) < cpus and (pack := queue.next_pack()):
            running.append(_Pack(pack, now, landscape, rng))
        if not running:
            return pd.DataFrame(trials)
        first = min(running, key=lambda pack: pack.now)
        if not first.done:
            first.advance()
            hopeless = queue.report(first.lanes) if queue.prunes else []
            first.prune(hopeless)
        if first.done:
            now = first.now
            running.remove(first)
            trials += first.rows()
            queue.finish(first.rows())


def pair(landscape: Landscape, options: Options, changes: Mapping[str, Any], seed: int) -> Pair:
    """Return a pair of simulated searches: a random one, and TPE with changes to its strategy."""
    random, other = (spec_of(side, seed, options) for side in (RANDOM, TPE))
    other["strategy"] |= changes
    found = [
        simulate(landscape, spec, 2 * seed + draws, options.cpus)
        for draws, spec in enumerate((random, other))
    ]
    return compare(found[0], found[1], options.most_active)


def report(pairs: Sequence[Pair]) -> str:
    """Return what pairs came to, as a line."""
    shares = sorted(p.share for p in pairs)
    within = statistics.mean(share <= SHARE for share in shares)
    never = statistics.mean(math.isinf(share) for share in shares)
    fives = np.random.default_rng(0).choice(shares, (10_000, 5))
    met = (np.median(fives, axis=1) <= SHARE).mean()
    return (
        f"median share {statistics.median_high(shares):.1%}, within {SHARE:.0%} {within:.0%}, "
        f"never {never:.0%}; the median of five within {SHARE:.0%}: {met:.0%}"
    )


def main() -> None:
    """Print a line for the strategy as it is, and for each change of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("storage", type=Path, help="folder of studies of the adaptive benchmark")
    parser.add_argument(
        "--change", action="append", default=[], type=json.loads, help="of the strategy, as JSON"
    )
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    landscape = Landscape.load(arguments.storage)
    print(f"{len(landscape)} trained points", flush=True)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.pairs)
    for changes in [{}, *arguments.change]:
        one = partial(pair, landscape, Options(), changes)
        with ProcessPoolExecutor(arguments.processes) as pool:
            pairs = list(pool.map(one, seeds))
        print(f"{json.dumps(changes):60} {report(pairs)}", flush=True)


if __name__ == "__main__":
    main()
