"""Shares of variance against the classical ANOVA."""

import logging
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.importance import FEWEST_TRIALS, hyperparameter_importance
from analysis.paired_effects import paired_effects
from tests.analysis.grids import ARCHITECTURES, EMPTY, grid, spoilt
from tests.analysis.tables import Rows, trials_of


def anova(trials: pd.DataFrame, name: str, target: str = "active_units") -> float:
    """The share of a main effect, by its sum of squares; exact on a balanced grid."""
    values = trials[target].astype(float)
    of_level = values.groupby(trials[name]).transform("mean")
    return float(((of_level - values.mean()) ** 2).sum() / ((values - values.mean()) ** 2).sum())


@pytest.mark.parametrize("noise", [0.0, 0.7, 3.0])
def test_importance_is_the_classical_anova_on_a_grid(noise: float) -> None:
    trials = trials_of(grid(noise))
    found = hyperparameter_importance(trials).set_index("hyperparameter")
    assert set(found.index) == {"latent_dim", "beta", "architecture", "seed"}
    for name, row in found.iterrows():
        assert row["importance"] == pytest.approx(anova(trials, str(name)), abs=0.01)
        assert 0 <= row["low"] <= row["importance"] <= row["high"] <= 1
        assert row["values"] == trials[name].nunique()
    assert (found["importance"].diff().dropna() <= 0).all()
    assert (found["trials"] == 300).all()
    assert (found["of"] == 300).all()


def test_uneven_values_and_many_names_weigh_alike() -> None:
    """The forest must see neither distances (β = 100 would be all there is) nor bits of names."""
    names = [f"dense-{width}" for width in range(10, 18)]
    rows = [
        {"beta": beta, "architecture": name, "seed": seed, "active_units": 4 * low + 2 * odd}
        for (low, beta), (odd, name), seed in product(
            [(0, 0.1), (0, 0.2), (1, 0.3), (1, 100.0)],
            [(place % 2, name) for place, name in enumerate(names)],
            range(4),
        )
    ]
    found = hyperparameter_importance(trials_of(rows)).set_index("hyperparameter")["importance"]
    assert found["beta"] == pytest.approx(0.8, abs=0.02)
    assert found["architecture"] == pytest.approx(0.2, abs=0.02)


def test_what_has_no_effect_is_not_above_the_noise() -> None:
    above = 0
    for repetition in range(5):
        rng = np.random.default_rng(repetition)
        rows = [
            {"latent_dim": dim, "initialisation": name, "beta": beta, "seed": seed}
            | {"active_units": round(8 - 2 * np.log2(beta) + rng.normal(0, 1))}
            for dim, name, beta, seed in product(
                [16, 20, 24], ["glorot", "torch"], [0.5, 1.0, 2.0], range(4)
            )
        ]
        verdicts = hyperparameter_importance(trials_of(rows)).set_index("hyperparameter")["verdict"]
        assert verdicts["beta"] == "above the noise"
        assert verdicts["seed"] == "noise"
        above += int((verdicts[["latent_dim", "initialisation"]] == "above the noise").sum())
    assert above == 0


def test_one_seed_tells_nothing_of_the_noise() -> None:
    verdicts = hyperparameter_importance(trials_of(grid(seeds=1)))["verdict"]
    assert set(verdicts) == {"one seed only: the noise is not known"}


def test_the_larger_of_two_seeds_is_the_noise() -> None:
    rows = [
        {"seed": seed, "data_seed": order, "beta": beta, "active_units": 10 * order + beta}
        for seed, order, beta in product(range(3), range(4), [1.0, 2.0, 3.0])
    ]
    found = hyperparameter_importance(trials_of(rows)).set_index("hyperparameter")
    assert found.loc["beta", "low"] > found.loc["seed", "importance"]
    assert found.loc["beta", "verdict"] == "not above the noise"


def test_the_interval_is_as_wide_as_the_estimate_moves() -> None:
    """Over repeated studies of the same grid."""
    axes: dict[str, Any] = {"latent_dim": [4, 16], "architecture": ARCHITECTURES[:2]}
    studies = [
        hyperparameter_importance(trials_of(grid(2.0, seed, **axes))).set_index("hyperparameter")
        for seed in range(12)
    ]
    for name in ("beta", "latent_dim"):
        moved = np.std([study.loc[name, "importance"] for study in studies], ddof=1)
        above = np.mean(
            [study.loc[name, "high"] - study.loc[name, "importance"] for study in studies]
        )
        below = np.mean(
            [study.loc[name, "importance"] - study.loc[name, "low"] for study in studies]
        )
        assert 1.2 * moved < above < 3.2 * moved
        assert 0.7 * above < below <= above + 1e-12


def test_a_larger_share_than_the_seeds_is_not_enough() -> None:
    """Six values without effect seem to explain more than two seeds do; their intervals tell."""
    larger = 0
    for repetition in range(6):
        rng = np.random.default_rng(repetition)
        rows = [
            {"latent_dim": dim, "seed": seed, "active_units": int(rng.integers(4, 9))}
            for dim in (16, 20, 24, 28, 32, 36)
            for seed in (0, 1)
        ]
        found = hyperparameter_importance(trials_of(rows)).set_index("hyperparameter")
        larger += found.loc["latent_dim", "importance"] > found.loc["seed", "importance"]
        if found.loc["latent_dim", "low"] <= found.loc["seed", "importance"]:
            assert found.loc["latent_dim", "verdict"] == "not above the noise"
    assert larger > 3


def test_the_interval_narrows_with_trials() -> None:
    few, many = (
        hyperparameter_importance(
            trials_of(grid(2.0, seeds=seeds, architecture=ARCHITECTURES[:2]))
        ).set_index("hyperparameter")
        for seeds in (1, 6)
    )
    assert (many["high"] - many["low"])["beta"] < 0.7 * (few["high"] - few["low"])["beta"]


def test_large_studies_are_sampled_and_say_so() -> None:
    trials = trials_of(grid(seeds=12))
    found = hyperparameter_importance(trials, largest_sample=300).set_index("hyperparameter")
    assert (found["trials"] == 300).all()
    assert (found["of"] == 1200).all()
    for name in found.index:
        assert found.loc[name, "importance"] == pytest.approx(anova(trials, name), abs=0.02)


def test_the_same_trials_give_the_same_answer_in_any_order() -> None:
    trials = trials_of(grid(seeds=1))
    first = hyperparameter_importance(trials, largest_sample=80)
    shuffled = trials.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(first, hyperparameter_importance(shuffled, largest_sample=80))
    another = hyperparameter_importance(trials, largest_sample=80, seed=7)
    assert not first["importance"].equals(another["importance"])
    pd.testing.assert_frame_equal(
        paired_effects(trials), paired_effects(shuffled), check_exact=False
    )


def test_only_completed_trials_with_a_variance_part_count_and_each_once() -> None:
    rows = grid(seeds=2, architecture=ARCHITECTURES[:2], beta=[1.0, 2.0])
    expected = trials_of(rows)
    mixed = spoilt(rows)
    before = mixed.copy(deep=True)
    pd.testing.assert_frame_equal(
        hyperparameter_importance(mixed), hyperparameter_importance(expected)
    )
    pd.testing.assert_frame_equal(paired_effects(mixed), paired_effects(expected))
    pd.testing.assert_frame_equal(mixed, before)


def test_controls_count_for_what_is_meaningful_there() -> None:
    rows: Rows = [
        {"objective": objective, "seed": seed, "test_elbo": float(objective == "elbo") + seed / 50}
        for objective in ("elbo", "no_sampling")
        for seed in range(8)
    ]
    found = hyperparameter_importance(trials_of(rows), target="test_elbo")
    assert list(found["hyperparameter"]) == ["objective", "seed"]
    assert found["importance"].iloc[0] > 0.8


@pytest.mark.parametrize(
    ("trials", "hyperparameters"),
    [
        (EMPTY, 0),
        (trials_of([]), 0),
        (trials_of([{"active_units": 3}]), 0),
        (trials_of([{"active_units": 3}] * 30), 0),
        (trials_of([{"status": "failed", "seed": seed} for seed in range(20)]), 0),
        (trials_of(grid()[: FEWEST_TRIALS - 1]), 2),
        (trials_of([row | {"active_units": 4} for row in grid()]), 4),
    ],
    ids=[
        "empty",
        "no rows",
        "one",
        "nothing varies",
        "all failed",
        "too few",
        "nothing to explain",
    ],
)
def test_trials_that_support_no_number(trials: pd.DataFrame, hyperparameters: int) -> None:
    found = hyperparameter_importance(trials)
    assert list(found) == [
        "hyperparameter", "values", "importance", "low", "high", "trials", "of", "verdict",
    ]  # fmt: skip
    assert len(found) == hyperparameters
    assert found[["importance", "low", "high"]].isna().all(axis=None)
    assert (
        found["verdict"]
        .str.contains("too few trials: 9|nothing to explain: active_units is 4")
        .all()
    )
    effects = paired_effects(trials)
    assert {name: str(kind) for name, kind in effects.dtypes.items()} == {
        "hyperparameter": "str", "reference": "str", "value": "str", "difference": "float64",
        "low": "float64", "high": "float64", "pairs": "int64", "verdict": "str",
    }  # fmt: skip


def test_the_fewest_trials_are_enough() -> None:
    found = hyperparameter_importance(trials_of(grid()[:FEWEST_TRIALS]))
    assert found["importance"].notna().all()


def test_one_trial_unlike_the_others() -> None:
    """Most bootstrap samples then hold two values, some only one."""
    rows: Rows = [{"seed": seed, "active_units": 5 + (seed == 3)} for seed in range(12)]
    found = hyperparameter_importance(trials_of(rows))
    assert found["importance"].iloc[0] == pytest.approx(1)


def test_optuna_says_nothing_and_stays_as_it_was() -> None:
    import optuna

    said: list[logging.LogRecord] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record)

    listener, logger = Listener(), logging.getLogger("optuna")
    logger.addHandler(listener)
    try:
        optuna.logging.set_verbosity(optuna.logging.DEBUG)
        optuna.create_study()
        assert said  # it does talk
        said.clear()
        hyperparameter_importance(trials_of(grid(seeds=1)))
        assert not said
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)
        logger.removeHandler(listener)


def test_optuna_is_loaded_when_needed() -> None:
    code = "import sys, analysis; print({'optuna', 'sklearn'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.stdout.strip() == "set()"
