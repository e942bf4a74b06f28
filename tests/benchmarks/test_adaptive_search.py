"""The accounts of the comparison are right on tables written by hand, and both sides really run."""

import dataclasses
import json
import math
from typing import Any

import pandas as pd
import pytest

from search_spaces import load_spec
from study.adaptive.opening import check_strategy
from tests.analysis.tables import trials_of
from tests.benchmarks import adaptive_search
from tests.benchmarks.adaptive_search import (
    QUICK,
    RANDOM,
    SIDES,
    TPE,
    Options,
    as_json,
    measure,
    report,
    spec_of,
)
from tests.benchmarks.search_accounts import Comparison, Pair, compare, progress, relative_gap

BEGAN = pd.Timestamp("2026-01-01", tz="UTC")


def table(packs: dict[str, tuple[float, list[dict[str, Any]]]]) -> pd.DataFrame:
    """A `trials` table of packs, each with when it began and its lanes."""
    shared = {"active_units": 5, "epochs_trained": 10, "seconds": 1.0}
    return trials_of(
        [
            {**shared, "pack_id": pack, "started_at": BEGAN + pd.Timedelta(seconds=start), **lane}
            for pack, (start, lanes) in packs.items()
            for lane in lanes
        ]
    )


def test_epochs_count_from_the_start_of_their_pack_and_those_of_all_trials_do() -> None:
    """Two workers: a from 0 to 10 s, b from 1 to 5 s, c from 6 to 9 s, d from 9.5 to 20 s."""
    trials = table(
        {
            "d": (9.5, [{"seconds": 10.5, "test_elbo": -80.0}]),
            "a": (
                0.0,
                [
                    {"seconds": 4.0, "test_elbo": -90.0},
                    {"seconds": 6.0, "status": "pruned", "epochs_trained": 3, "test_elbo": -50.0},
                ],
            ),
            "b": (
                1.0,
                [
                    {"seconds": 2.0, "test_elbo": -60.0, "active_units": 9},
                    {"seconds": 2.0, "test_elbo": -100.0, "active_units": 8},
                ],
            ),
            "c": (6.0, [{"seconds": 3.0, "status": "diverged", "epochs_trained": 4}]),
        }
    )
    found = progress(trials, most_active=8)
    assert found["best"].tolist() == [100.0, 100.0, 90.0, 80.0]
    # b knows of a in full; then c, with the epoch that it diverged in; a is done after d began.
    assert found["epochs"].tolist() == [33, 38, 48, 48]
    nothing = progress(trials, most_active=4)
    assert nothing["best"].tolist() == [math.inf] * 4


def test_failures_are_not_compared() -> None:
    trials = table({"a": (0.0, [{"status": "failed", "epochs_trained": None, "error": "oh"}])})
    with pytest.raises(RuntimeError, match="1 trials failed"):
        progress(trials, 8)


def one_by_one(values: list[float], epochs: int = 10, **lane: Any) -> pd.DataFrame:
    """Trials one after the other, of given -test_elbo."""
    return table(
        {
            f"{place:03}": (2.0 * place, [{"test_elbo": -v, "epochs_trained": epochs, **lane}])
            for place, v in enumerate(values)
        }
    )


def test_a_pair_is_compared_at_a_quarter_of_randoms_epochs() -> None:
    random = one_by_one([130.0, 120.0, 100.0, 110.0] * 4)  # 160 epochs
    other = one_by_one([140.0, 100.9, 104.0, 99.0], epochs=13)
    pair = compare(random, other, most_active=8)
    assert (pair.best, pair.feasible, pair.epochs) == (100.0, 16, 160)
    assert (pair.reached, pair.within_after) == (100.9, 26)  # the fourth would be at 52
    assert pair.gap == pytest.approx(0.009)
    assert pair.share == 26 / 160
    assert (pair.trained, pair.trials, pair.pruned) == (52, 4, 0)
    late = compare(random, one_by_one([140.0, 130.0, 101.0], epochs=14), most_active=8)
    assert (late.reached, late.within_after) == (130.0, 42)
    exactly = compare(random, one_by_one([140.0, 101.0], epochs=20), most_active=8)
    assert (exactly.reached, exactly.within_after) == (101.0, 40)
    never = compare(random, one_by_one([101.1]), most_active=8)
    assert (never.reached, never.within_after) == (101.1, math.inf)
    costly = compare(random, one_by_one([90.0], epochs=41), most_active=8)
    assert (costly.reached, costly.within_after) == (math.inf, 41)


def test_what_is_pruned_or_not_feasible_reaches_nothing() -> None:
    random = one_by_one([100.0] * 8)
    for lane in ({"status": "pruned"}, {"active_units": 9}, {"status": "diverged"}):
        pair = compare(random, one_by_one([90.0], **lane), most_active=8)
        assert (pair.reached, pair.within_after, pair.gap) == (math.inf, math.inf, math.inf)
    pair = compare(one_by_one([100.0] * 8, active_units=9), one_by_one([200.0]), most_active=8)
    assert (pair.best, pair.feasible, pair.gap) == (math.inf, 0, -math.inf)
    assert pair.within_after == 10


@pytest.mark.parametrize(
    ("value", "best", "gap"),
    [(101.0, 100.0, 0.01), (99.0, 100.0, -0.01), (-99.0, -100.0, 0.01), (-101.0, -100.0, -0.01)],
)
def test_the_gap_is_relative_whatever_the_sign(value: float, best: float, gap: float) -> None:
    assert relative_gap(value, best) == pytest.approx(gap)


def pair(reached: float, within_after: float) -> Pair:
    return Pair(100.0, 20, 1000, reached, within_after, 300, 40, 12)


def test_the_median_pair_decides() -> None:
    near, far, never = pair(100.5, 200.0), pair(103.0, 400.0), pair(math.inf, math.inf)
    good = Comparison.of([near, never, near, far, near])
    assert good.met
    assert (good.gap, good.share) == (pytest.approx(0.005), 0.2)
    bad = Comparison.of([near, far, near, never, far])
    assert not bad.met
    assert (bad.gap, bad.share) == (pytest.approx(0.03), 0.4)
    two = Comparison.of([near, far])  # the worse of them counts
    assert (two.gap, two.share, two.met) == (pytest.approx(0.03), 0.4, False)
    assert not Comparison.of([never, never, near]).met


def test_the_table_and_the_json_say_it_plainly() -> None:
    near, never = pair(100.5, 200.0), pair(math.inf, math.inf)
    result = {TPE: Comparison.of([near, never, near]), "tpe": Comparison.of([never])}
    text = report(Options(seeds=3), result)
    assert "tpe-pruned within 1% of random's best with at most 25%" in text
    assert text.count(": met") == 1
    assert text.count(": NOT met") == 1
    rows = [line.split() for line in text.splitlines()]
    assert ["0", "100.00", "20", "1,000", "100.50", "+0.50%", "200", "20.0%", "40", "12"] in rows
    assert ["1", "100.00", "20", "1,000", "inf", "+inf%", "inf", "inf%", "40", "12"] in rows
    assert ["median", "+0.50%", "20.0%"] in rows
    data = json.loads(json.dumps(as_json(Options(), result), allow_nan=False))
    assert data["sides"][TPE]["met"] is True
    assert data["sides"][TPE]["pairs"][0]["share"] == 0.2
    assert data["sides"][TPE]["pairs"][1]["reached"] is None
    assert data["options"]["points"] == 256


def test_every_study_has_draws_of_its_own() -> None:
    specs = [spec_of(side, seed, Options()) for side in SIDES for seed in range(5)]
    assert len({spec["study"] for spec in specs}) == len(specs)
    assert len({spec["strategy"]["seed"] for spec in specs}) == len(specs)
    for spec in specs:
        check_strategy(load_spec(spec).all_parts[""])
    same = [{**spec, "study": "", "strategy": {}} for spec in specs]
    assert all(spec == same[0] for spec in same)
    assert specs[0]["strategy"]["points"] == 256
    assert "pruner" not in specs[0]["strategy"]


def test_pairs_are_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    class Ran:
        def __init__(self, values: list[float]) -> None:
            self.trials = one_by_one(values)

    def run_study(spec: dict[str, Any], **options: Any) -> Ran:
        ran.append(spec["study"])
        return Ran([100.0] * 8 if RANDOM in spec["study"] else [100.0 + len(ran)] * 2)

    monkeypatch.setattr(adaptive_search, "run_study", run_study)
    result = measure(Options(seeds=2, also=("tpe",)))
    assert ran == ["random-0", "tpe-pruned-0", "tpe-0", "random-1", "tpe-pruned-1", "tpe-1"]
    assert [p.reached for p in result[TPE].pairs] == [102.0, 105.0]
    assert [p.reached for p in result["tpe"].pairs] == [103.0, 106.0]


@pytest.mark.slow
def test_both_sides_really_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        adaptive_search,
        "spec_of",
        lambda *given: spec_of(*given) | {"dataset": {"name": "tiles", "train_images": 300}},
    )
    options = dataclasses.replace(QUICK, images=300, most_active=16)
    (found,) = measure(options)[TPE].pairs
    assert found.feasible == options.points
    assert found.epochs == options.points * options.epochs
    assert found.trials == options.adaptive_points
    assert found.pruned > 0
    assert found.trained == options.adaptive_points * options.epochs - found.pruned  # after 3 of 4
    assert found.best < math.inf
