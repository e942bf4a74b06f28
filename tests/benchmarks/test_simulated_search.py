"""Simulated searches are real ones in all but the training."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from search_spaces import Architecture, Trial, load_spec
from tests.analysis.tables import epochs_of, trials_of
from tests.benchmarks.adaptive_search import RANDOM, TPE, Options, spec_of
from tests.benchmarks.search_accounts import Pair
from tests.benchmarks.simulated_search import Landscape, pair, report, simulate

OPTIONS = Options(points=40, adaptive_points=24, epochs=6)
BETAS, RATES = np.geomspace(0.25, 8, 6), np.geomspace(1e-4, 1e-2, 6)


def landscape() -> Landscape:
    """Points on a grid: -test_elbo falls with the rate, rises with beta, and units fall asleep."""
    grid = [(d, b, r) for d in (1, 2, 3) for b in BETAS for r in RATES]
    trials, epochs = [], []
    for depth, beta, rate in grid:
        name = f"{depth} {beta:.3f} {rate:.6f}"
        loss, units = 100 + 20 * beta + depth - 1000 * rate, int(16 - 1.5 * beta)
        trials.append(
            {
                "trial_id": name,
                "depth": depth,
                "beta": beta,
                "learning_rate": rate,
                "epochs": OPTIONS.epochs,
                "epochs_trained": OPTIONS.epochs,
                "test_elbo": -loss,
                "active_units": units,
            }
        )
        for epoch in range(1, OPTIONS.epochs + 1):
            left = OPTIONS.epochs - epoch
            told = {"test_elbo": -loss - 10 * left, "active_units": min(16, units + left)}
            epochs.append({"trial_id": name, "epoch": epoch, **told})
    return Landscape(trials_of(trials), epochs_of(epochs))


def trial(depth: int, beta: float, rate: float) -> Trial:
    dataset = load_spec(spec_of(TPE, 0, OPTIONS)).dataset[0]
    net = Architecture.dense([128] * depth)
    return Trial(dataset=dataset, architecture=net, latent_dim=16, beta=beta, learning_rate=rate)


def test_a_point_gets_the_curve_of_a_near_one_of_its_depth() -> None:
    land, rng = landscape(), np.random.default_rng(0)
    assert len(land) == 3 * 36
    drawn = [land.draw(trial(2, BETAS[2], RATES[3]), rng) for _ in range(50)]
    names = {row["trial_id"] for row, _ in drawn}
    assert len(names) == 3
    assert f"2 {BETAS[2]:.3f} {RATES[3]:.6f}" in names
    assert {row["depth"] for row, _ in drawn} == {2}
    # The others are one step away, in either direction: a step is as far in both.
    steps = {(row["beta"] / BETAS[2], row["learning_rate"] / RATES[3]) for row, _ in drawn}
    ratios = BETAS[1] / BETAS[0], RATES[1] / RATES[0]
    for beta, rate in steps:
        away = abs(np.log(beta) / np.log(ratios[0])) + abs(np.log(rate) / np.log(ratios[1]))
        assert away == pytest.approx(0, abs=1e-9) or away == pytest.approx(1)
    for row, curve in drawn:
        assert [told["epoch"] for told in curve] == list(range(1, OPTIONS.epochs + 1))
        assert curve[-1]["test_elbo"] == row["test_elbo"]


def test_pruned_points_are_no_part_of_the_landscape() -> None:
    shared = {"depth": 1, "beta": 1.0, "learning_rate": 1e-3}
    rows: list[dict[str, Any]] = [{**shared, "status": s} for s in ("completed", "pruned")]
    assert len(Landscape(trials_of(rows), epochs_of([{"trial_id": "0", "epoch": 1}]))) == 1


def test_a_random_search_trains_every_point_to_its_end() -> None:
    found = simulate(landscape(), spec_of(RANDOM, 0, OPTIONS), 0, cpus=2)
    assert len(found) == OPTIONS.points
    assert found["trial_id"].is_unique
    assert set(found["status"]) == {"completed"}
    assert found["epochs_trained"].sum() == OPTIONS.points * OPTIONS.epochs
    assert found.groupby("pack_id").size().max() == 2


def test_a_pruner_gives_up_and_the_clock_knows() -> None:
    spec = spec_of(TPE, 0, OPTIONS)
    spec["strategy"]["prune_on"] = "objective"
    found = simulate(landscape(), spec, 0, cpus=2)
    pruned = found[found["status"] == "pruned"]
    assert 0 < len(pruned) < len(found) == OPTIONS.adaptive_points
    assert set(pruned["epochs_trained"]) == {3}  # min_resource; the next rung is beyond the end
    whole = found[found["status"] == "completed"]
    assert set(whole["epochs_trained"]) == {OPTIONS.epochs}
    # What a pruned point is told of is what it had come to by then: 30 below its end.
    best = 100 + 20 * BETAS[0] + 1 - 1000 * RATES[-1]
    assert pruned["test_elbo"].max() <= -best - 30
    # Two packs at a time, each epoch of a lane takes a second.
    packs = found.groupby("pack_id").agg(
        began=("started_at", "min"), seconds=("seconds", "sum"), epochs=("epochs_trained", "sum")
    )
    assert (packs["seconds"] == packs["epochs"]).all()
    ends = packs["began"] + pd.to_timedelta(packs["seconds"], unit="s")
    overlapping = [((packs["began"] <= t) & (ends > t)).sum() for t in packs["began"]]
    assert max(overlapping) == 2


def test_a_pair_is_the_same_again_and_others_differ() -> None:
    land = landscape()
    first = pair(land, OPTIONS, {}, 7)
    assert first == pair(land, OPTIONS, {}, 7)
    assert first != pair(land, OPTIONS, {}, 8)
    assert first.epochs == OPTIONS.points * OPTIONS.epochs
    assert first.pruned > 0
    assert pair(land, OPTIONS, {"pruner": None}, 7).pruned == 0


def test_the_line_says_how_often_a_quarter_was_enough() -> None:
    def within(epochs: float) -> Pair:
        return Pair(100.0, 20, 1000, 100.0, epochs, 300, 40, 12)

    line = report([within(100), within(200), within(300), within(float("inf"))])
    assert line.startswith("median share 30.0%, within 25% 50%, never 25%;")
    assert report([within(100)] * 4).endswith("the median of five within 25%: 100%")
