"""What pruning spared, and how far points got, against plain counting."""

import numpy as np
import pandas as pd
import pytest

from analysis import Goal, points_by_epoch, pruning_savings, search_points, values_by_epoch
from analysis.points_to_follow import improvements, points_to_follow, spread_over
from tests.analysis.searched_tables import ELBO, EPOCHS, epochs_of_search, searched
from tests.analysis.tables import trials_of


def test_what_was_spared_is_what_pruned_trials_did_not_train() -> None:
    rows = [
        {"status": "completed", "epochs": 10, "epochs_trained": 10, "seconds": 20.0},
        {"status": "pruned", "epochs": 10, "epochs_trained": 2, "seconds": 6.0},
        {"status": "pruned", "epochs": 40, "epochs_trained": 30, "seconds": 30.0},
        {"status": "diverged", "epochs": 10, "epochs_trained": 4, "seconds": 8.0},
        {"status": "failed", "epochs": 10, "epochs_trained": None, "seconds": None},
    ]
    found = pruning_savings(trials_of(rows)).to_dict()
    assert found == {
        "trials": 5,
        "pruned": 2,
        "epochs_trained": 46,
        "epochs_saved": 18,
        "epochs_without": 64,
        "share": pytest.approx(18 / 64),
        "seconds": 64.0,
        "seconds_saved": 8 * 3.0 + 10 * 1.0,
    }


def test_without_pruning_nothing_is_spared() -> None:
    found = pruning_savings(searched(20, outcomes={"completed": 0.7, "diverged": 0.3}))
    assert found["epochs_saved"] == found["share"] == found["seconds_saved"] == 0
    assert np.isnan(pruning_savings(searched(1).head(0))["share"])


@pytest.mark.parametrize("random", range(5))
def test_points_are_counted_epoch_by_epoch(random: int) -> None:
    points = search_points(searched(60, random=random), [ELBO])
    counted = points_by_epoch(points)
    assert list(counted["epoch"]) == list(range(1, EPOCHS + 1))
    for _, row in counted.iterrows():
        trained = points["reached"] >= row["epoch"]
        assert row["points"] == trained.sum()
        assert row["without"] == (trained | (points["outcome"] == "pruned")).sum()
    saved = 2 * (counted["without"] - counted["points"]).sum()
    assert saved == pruning_savings(searched(60, random=random))["epochs_saved"]


def test_no_points_reach_no_epoch() -> None:
    assert points_by_epoch(search_points(searched(2).head(0), [ELBO])).empty
    failed = search_points(searched(3, outcomes={"failed": 1.0}), [ELBO])
    assert points_by_epoch(failed).empty


@pytest.mark.parametrize("goal", [ELBO, Goal("test_elbo", "target", -110.0)])
def test_a_points_value_is_the_mean_over_the_seeds_that_all_got_there(goal: Goal) -> None:
    trials = searched(30, seeds=3)
    epochs = epochs_of_search(trials)
    short = (epochs["trial_id"] == trials["trial_id"][0]) & (epochs["epoch"] > 1)
    epochs = epochs[~short].sample(frac=1, random_state=0)  # rows may come in any order
    points = search_points(trials, [goal])
    found = values_by_epoch(points, epochs, goal).set_index(["point", "epoch"])["value"]
    expected = {}
    for _, point in points.iterrows():
        own = epochs[epochs["trial_id"].isin(point["trial_ids"])]
        for epoch in range(1, EPOCHS + 1):
            values = own.loc[own["epoch"] == epoch, "test_elbo"].dropna()
            if len(values) == 3:
                mean = values.mean() if goal.target is None else abs(values.mean() + 110)
                expected[point["point"], epoch] = mean
    assert found.to_dict() == pytest.approx(expected)


def test_points_to_draw_are_those_to_keep_and_some_of_all_the_search() -> None:
    points = pd.DataFrame({"n": range(1000)})
    keep = points["n"].isin([3, 500, 501])
    shown = spread_over(points, keep, 50)
    assert len(shown) == 50
    assert shown["n"].is_monotonic_increasing
    assert shown["n"].is_unique
    assert {0, 3, 500, 501, 999} <= set(shown["n"])
    assert shown["n"].diff().max() < 30
    assert spread_over(points, keep, 1000) is points
    later = spread_over(points[points["n"] >= 400], keep, 50)  # told of more than these
    assert {400, 500, 501, 999} <= set(later["n"])
    assert list(spread_over(points, points["n"] > 900, 5)["n"]) == [995, 996, 997, 998, 999]


@pytest.mark.parametrize(("epochs", "curves"), [(6, 200), (120, 50), (6000, 20)])
def test_long_training_draws_fewer_curves(epochs: int, curves: int) -> None:
    trials = searched(400, seeds=1)
    trials["epochs_trained"] = trials["epochs_trained"] * (epochs // EPOCHS)
    points = search_points(trials, [ELBO])
    shown = points_to_follow(points, ELBO)
    assert len(shown) == curves
    better = points[improvements(points, ELBO)]
    assert set(better["point"].tail(20)) <= set(shown["point"])
    assert better["test_elbo"].is_monotonic_increasing
