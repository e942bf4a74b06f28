"""Controls beside their partners: pairs that differ in the objective alone, counted by gain."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import sparsity_of_controls, units_in_use
from tests.analysis.tables import trials_of, units_of

PENALTY = "quadratic_penalty"


def with_gains(trials: pd.DataFrame, gains: dict[int, list[float | None]]) -> pd.DataFrame:
    return units_of(
        [
            {"trial_id": trials["trial_id"].iloc[place], "unit": unit, "reconstruction_gain": gain}
            for place, row in gains.items()
            for unit, gain in enumerate(row)
        ]
    )


def test_a_control_is_paired_with_its_equal_and_no_other() -> None:
    trials = trials_of(
        [
            {"objective": PENALTY, "latent_dim": 4, "beta": 2.0, "seed": 1},
            {"latent_dim": 4, "beta": 2.0, "seed": 1},
            {"latent_dim": 4, "beta": 2.0, "seed": 2},
            {"latent_dim": 4, "beta": 1.0, "seed": 1},
            {"latent_dim": 4, "beta": 2.0, "seed": 1, "epochs": 99},
            {"latent_dim": 4, "beta": 2.0, "seed": 1, "decoder": "gaussian"},
            {"objective": "no_sampling", "latent_dim": 4, "beta": 2.0, "seed": 1},
            {"objective": PENALTY, "latent_dim": 4, "beta": 2.0, "seed": 3},
        ]
    )
    gains = {place: [5.0, 5.0, 5.0, 0.0] for place in range(8)} | {1: [9.0, 0.2, 0.05, -0.1]}
    pairs = sparsity_of_controls(trials, with_gains(trials, gains))
    (pair,) = pairs.to_dict("records")
    ids = trials["trial_id"]
    assert (pair["trial_id"], pair["elbo_trial_id"]) == (ids[0], ids[1])
    assert (pair["in_use"], pair["elbo_in_use"], pair["difference"]) == (3, 2, 1)
    assert (pair["beta"], pair["seed"], pair["latent_dim"]) == (2.0, 1, 4)


@pytest.mark.parametrize("missing", ["status", "gain", "units", "partner"])
def test_no_pair_where_a_side_is_missing(missing: str) -> None:
    trials = trials_of([{"objective": PENALTY, "latent_dim": 2}, {"latent_dim": 2}])
    units = with_gains(trials, {0: [1.0, 2.0], 1: [1.0, None if missing == "gain" else 2.0]})
    if missing == "status":
        trials.loc[1, "status"] = "diverged"
    if missing == "units":
        units = units[units["trial_id"] != trials["trial_id"][0]]
    if missing == "partner":
        trials = trials.iloc[:1]
    assert sparsity_of_controls(trials, units).empty


def test_a_beta_of_zero_is_no_partner() -> None:
    trials = trials_of(
        [{"objective": PENALTY, "latent_dim": 1, "beta": 0.0}, {"latent_dim": 1, "beta": 0.0}]
    )
    assert sparsity_of_controls(trials, with_gains(trials, {0: [1.0], 1: [1.0]})).empty


@given(st.lists(st.floats(-1, 100), min_size=1, max_size=8), st.floats(0.0, 0.5))
def test_units_in_use_against_a_loop(gains: list[float], share: float) -> None:
    trials = trials_of([{"latent_dim": len(gains)}])
    counted = units_in_use(with_gains(trials, {0: list(gains)}), share, 0.1)
    total = np.maximum(gains, 0).sum()
    assert counted.tolist() == [sum(g > 0.1 and g > share * total for g in gains)]
