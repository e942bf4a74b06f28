from typing import Any

import pandas as pd

from analysis.shown_images import MOST_SHEETS, trials_to_show
from tests.analysis.tables import trials_of

TRIAL = {"active_units": 4, "latent_dim": 8, "test_elbo": -100.0, "epochs": 10}


def shown(*rows: dict[str, Any], kind: str = "generated", without: tuple[int, ...] = ()) -> Any:
    """The places of the trials that are shown."""
    trials = trials_of([TRIAL | row for row in rows])
    there = trials["trial_id"].drop(list(without))
    differences = pd.DataFrame({"trial_id": there, "kind": kind})
    chosen = trials_to_show(trials, differences)["trial_id"]
    return [int(trial_id, 16) for trial_id in chosen]


def test_the_longest_trained_then_those_with_both_kinds_of_units_then_the_highest_elbo() -> None:
    assert shown({"test_elbo": -90}, {"epochs": 20, "test_elbo": -95}, {"test_elbo": -80}) == [1]
    assert shown({"test_elbo": -90}, {}, {"test_elbo": -80}) == [2]
    for count in (8, 0):
        assert shown({"test_elbo": -10, "active_units": count}, {}) == [1]
        assert shown({"active_units": count}, {"active_units": count, "test_elbo": -9}) == [1]
    assert shown({}, {}) == [0]
    assert shown({"test_elbo": None}, {}) == [1]


def test_elbos_of_other_likelihoods_do_not_count() -> None:
    gaussian = {"decoder": "gaussian", "test_elbo": 500.0, "epochs": 99}
    assert shown({}, gaussian, {"test_elbo": -99}) == [2]
    assert shown(gaussian, {}, gaussian) == [0]


def test_one_of_each_dataset_architecture_and_objective() -> None:
    rows = [
        {"dataset": dataset, "architecture": architecture, "objective": objective}
        for dataset in ("tiles", "mnist")
        for architecture in ("dense-16", "dense-8")
        for objective in ("elbo", "no_sampling")
    ]
    assert shown(*rows, *rows) == [6, 7, 4, 5, 2, 3, 0, 1]
    many = [{"architecture": f"dense-{8 + i}"} for i in range(MOST_SHEETS + 3)]
    assert shown(*many, many[-1]) == [*range(MOST_SHEETS - 1), MOST_SHEETS + 2]


def test_only_completed_trials_with_such_images() -> None:
    assert shown({"test_elbo": -9, "status": "diverged"}, {}) == [1]
    assert shown({"test_elbo": -9}, {}, without=(0,)) == [1]
    assert shown({}, kind="reconstruction") == [0]
    assert shown({}, kind="grid") == []
