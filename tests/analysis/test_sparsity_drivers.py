"""Shares of variance against the classical ANOVA, pairs against loops, intervals against scipy."""

import logging
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.sparsity_drivers import (
    FEWEST_TRIALS,
    MOST_NAMES,
    describe_effect,
    design_points,
    hyperparameter_importance,
    paired_effects,
    t_half_width,
)
from study.tables import TRIALS
from tests.analysis.tables import Rows, trials_of

ARCHITECTURES = ["conv-4", "conv-8", "dense-16", "dense-32", "dense-64"]
EMPTY = TRIALS.empty_table().to_pandas()


def grid(noise: float = 0.5, seed: int = 0, seeds: int = 3, **axes: list[Any]) -> Rows:
    """A full grid in which latent_dim, β and the architecture act, alone and together."""
    axes = {
        "latent_dim": [2, 4, 8, 16, 32],
        "beta": [0.25, 0.5, 1.0, 8.0],
        "architecture": ARCHITECTURES,
        "seed": list(range(seeds)),
    } | axes
    rng = np.random.default_rng(seed)
    rows = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    for row in rows:
        dimension = 8 + 1.5 * ARCHITECTURES.index(row["architecture"]) - 2 * np.log2(row["beta"])
        row["active_units"] = round(min(row["latent_dim"], dimension) + rng.normal(0, noise))
    return rows


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


def spoilt(rows: Rows) -> pd.DataFrame:
    """The trials of these rows, among others that must not count."""
    bad = [row | {"active_units": 90, "seed": 7} for row in rows]
    others = [row | {"status": status} for row in bad for status in ("diverged", "pruned")]
    others += [row | {"status": "failed", "active_units": None} for row in bad]
    others += [row | {"objective": name} for row in bad for name in ("no_sampling", "x")]
    others += [row | {"beta": 0.0} for row in bad]
    kept = trials_of(rows)
    there_twice = kept.assign(study="other", active_units=kept["active_units"] + 1)
    return pd.concat([kept, trials_of(others).assign(trial_id="bad"), there_twice.tail(5)])


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
    code = "import sys, analysis.sparsity_drivers; print({'optuna', 'sklearn'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.stdout.strip() == "set()"


def pairs_by_loops(
    trials: pd.DataFrame, name: str, ordered: bool
) -> dict[tuple[Any, Any], list[float]]:
    """Differences by value pair: for each context a dictionary, and no pandas in the pairing."""
    axes = ["latent_dim", "beta", "architecture", "seed"]
    contexts: dict[Any, dict[Any, float]] = defaultdict(dict)
    tried: dict[Any, set[Any]] = defaultdict(set)
    for row in trials.to_dict("records"):
        context = tuple(row[axis] for axis in axes if axis != name)
        setting = tuple(row[axis] for axis in axes if axis not in (name, "seed"))
        contexts[context, setting][row[name]] = row["active_units"]
        tried[setting].add(row[name])
    found: dict[tuple[Any, Any], list[float]] = defaultdict(list)
    for (_, setting), units in contexts.items():
        values = sorted(tried[setting])
        steps = list(pairwise(values))
        if not ordered:
            steps = [(a, b) for a in values for b in values if a < b]
        for reference, value in steps:
            if reference in units and value in units:
                found[reference, value].append(units[value] - units[reference])
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 1))
def test_pairs_are_those_that_loops_find(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    rows = grid(
        1.0, seed, architecture=ARCHITECTURES[:3], latent_dim=[2, 8, 16], beta=[0.5, 1.0, 2.0]
    )
    trials = trials_of([row for row in rows if rng.random() < share])
    effects = paired_effects(trials)
    for name, ordered in (("latent_dim", True), ("beta", True), ("architecture", False)):
        if trials[name].nunique() < 2:
            assert name not in set(effects["hyperparameter"])
            continue
        expected = pairs_by_loops(trials, name, ordered)
        rows_of = effects[effects["hyperparameter"] == name]
        if not expected:
            assert list(rows_of["verdict"]) == [f"no pairs: no two trials differ in {name} alone"]
            continue
        assert len(rows_of) == len(expected)
        texts = {tuple(f"{x:g}" if ordered else x for x in key): key for key in expected}
        for _, row in rows_of.iterrows():
            differences = expected[texts[row["reference"], row["value"]]]
            assert row["pairs"] == len(differences)
            assert row["difference"] == pytest.approx(np.mean(differences))
            if len(differences) > 1 and np.std(differences) > 0:
                interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
                assert (row["low"], row["high"]) == pytest.approx(tuple(interval))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30).filter(lambda x: np.std(x) > 1e-6))
def test_the_interval_is_students(values: list[float]) -> None:
    half = t_half_width(np.std(values, ddof=1), len(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=0, scale=stats.sem(values))
    assert (-half, half) == pytest.approx((low, high))


def test_no_interval_of_one_value() -> None:
    assert np.isnan(t_half_width([3.0, 3.0], [0, 1])).all()


def test_dense_against_conv_paired_by_seed() -> None:
    """Seeds and latent_dims far apart hide nothing: only pairs are compared."""
    rows: Rows = [
        {"architecture": name, "latent_dim": dim, "seed": seed, "family": name[:4]}
        | {"active_units": dim + 10 * seed + gain + (seed if name == "conv-4" else 0)}
        for name, gain in (("dense-16", 0), ("conv-4", 2))
        for dim in (4, 8, 16)
        for seed in (0, 1)
    ]
    effects = paired_effects(trials_of(rows))
    row = effects[effects["hyperparameter"] == "architecture"].iloc[0]
    assert (row["reference"], row["value"]) == ("conv-4", "dense-16")
    assert row["difference"] == -2.5
    assert row["pairs"] == 6
    assert row["verdict"] == "fewer units"
    assert describe_effect(row) == (
        "dense-16 keeps 2.5 fewer units than conv-4, 95% CI 1.9 to 3.1, 6 pairs"
    )
    assert set(effects["hyperparameter"]) == {"architecture", "latent_dim"}  # nothing of families


def test_families_of_several_architectures() -> None:
    rows: Rows = [
        {
            "architecture": name,
            "family": name.partition("-")[0],
            "seed": seed,
            "active_units": units,
        }
        for name, units in (("dense-16", 4), ("dense-32", 8), ("conv-4", 9))
        for seed in (0, 1)
    ]
    effects = paired_effects(trials_of(rows)).set_index("hyperparameter")
    family = effects.loc["family"]
    assert (family["reference"], family["value"], family["pairs"]) == ("conv", "dense", 2)
    assert family["difference"] == -3
    assert len(effects.loc["architecture"]) == 3


def test_settings_with_values_of_their_own_are_compared_within() -> None:
    """No setting has 2 beside 3, but each has neighbours of its own."""
    values = {"dense-16": [2, 4, 8], "conv-4": [3, 6]}
    rows: Rows = [
        {"architecture": name, "latent_dim": dim, "seed": seed, "active_units": dim}
        for name, dims in values.items()
        for dim in dims
        for seed in (0, 1)
    ]
    effects = paired_effects(trials_of(rows))
    steps = effects[effects["hyperparameter"] == "latent_dim"]
    assert list(zip(steps["reference"], steps["value"], steps["pairs"], strict=True)) == [
        ("2", "4", 2), ("3", "6", 2), ("4", "8", 2),
    ]  # fmt: skip


def test_a_value_that_failed_for_one_seed_is_not_leapt_over() -> None:
    rows: Rows = [
        {"latent_dim": dim, "seed": seed, "active_units": dim}
        for dim in (2, 4, 8)
        for seed in (0, 1)
        if (dim, seed) != (4, 1)
    ]
    effects = paired_effects(trials_of(rows))
    assert list(zip(effects["reference"], effects["value"], effects["pairs"], strict=True)) == [
        ("2", "4", 1), ("4", "8", 1),
    ]  # fmt: skip
    assert set(effects["verdict"]) == {"one pair: no interval"}
    assert effects[["low", "high"]].isna().all(axis=None)
    assert describe_effect(effects.iloc[0]) == (
        "latent_dim 4 keeps 2.0 more units than latent_dim 2, one pair: no interval"
    )


def test_a_random_search_has_no_pairs_and_says_so() -> None:
    rng = np.random.default_rng(0)
    rows: Rows = []
    for _ in range(40):
        point = {"beta": rng.uniform(0.1, 4), "learning_rate": rng.uniform(1e-4, 1e-2)}
        rows += [point | {"seed": seed, "active_units": int(rng.integers(9))} for seed in (0, 1)]
    trials = trials_of(rows)
    effects = paired_effects(trials)
    assert list(effects["hyperparameter"]) == ["beta", "learning_rate"]
    assert list(effects["pairs"]) == [0, 0]
    assert effects[["reference", "value", "difference", "low", "high"]].isna().all(axis=None)
    assert describe_effect(effects.iloc[1]) == (
        "learning_rate: no pairs: no two trials differ in learning_rate alone"
    )
    assert hyperparameter_importance(trials)["importance"].notna().all()


def test_what_changes_together_has_no_pairs() -> None:
    rows = [
        row | {"initialisation": "torch" if row["beta"] < 1 else "glorot"}
        for row in grid(beta=[0.5, 2.0])
    ]
    effects = paired_effects(trials_of(rows)).set_index("hyperparameter")
    assert effects.loc["beta", "pairs"] == effects.loc["initialisation", "pairs"] == 0
    assert (effects.loc["latent_dim", "pairs"] > 0).all()


def test_only_the_most_frequent_names_are_paired() -> None:
    rows: Rows = [
        {"architecture": f"dense-{width}", "seed": seed, "active_units": width}
        for width in range(100, 101 + MOST_NAMES)
        for seed in range(1 if width == 105 else 2)
    ]
    effects = paired_effects(trials_of(rows))
    assert len(effects) == MOST_NAMES * (MOST_NAMES - 1) // 2
    assert "dense-105" not in set(effects["reference"]) | set(effects["value"])


def test_differences_that_are_all_equal() -> None:
    rows: Rows = [
        {"latent_dim": dim, "beta": beta, "seed": seed, "active_units": dim}
        for dim, beta, seed in product((2, 4), (1.0, 2.0), range(3))
    ]
    effects = paired_effects(trials_of(rows)).set_index("hyperparameter")
    assert describe_effect(effects.reset_index().iloc[0]) == (
        "beta 2 keeps as many units as beta 1, in each of 6 pairs"
    )
    dims = effects.loc["latent_dim"]
    assert dims["low"] == dims["high"] == dims["difference"] == 2
    assert dims["verdict"] == "more units"
    assert effects.loc["beta", "verdict"] == "no difference shown"


def test_words_for_an_open_difference() -> None:
    rows: Rows = [
        {"initialisation": name, "seed": seed, "active_units": 5 + (name == "torch") * change}
        for name in ("glorot", "torch")
        for seed, change in enumerate((-1, 0, 2))
    ]
    (row,) = [row for _, row in paired_effects(trials_of(rows)).iterrows()]
    low, high = stats.ttest_1samp([-1, 0, 2], 0).confidence_interval(0.95)
    assert describe_effect(row) == (
        f"torch keeps 0.3 more units than glorot, 95% CI {low:.1f} to {high:.1f}, 3 pairs: "
        "no difference shown"
    )


def test_a_decoder_has_its_variance_beside_it() -> None:
    rows: Rows = [
        {"decoder": decoder, "decoder_variance": variance, "seed": seed}
        | {"active_units": units + seed}
        for decoder, variance, units in (
            ("bernoulli", None, 4), ("gaussian", 0.1, 6), ("gaussian", 1.0, 2),
        )
        for seed in range(4)
    ]  # fmt: skip
    rows += [
        {"decoder": "gaussian_learned", "decoder_variance": 0.5 + seed, "seed": seed}
        | {"active_units": 7 + seed}
        for seed in range(4)
    ]
    trials = trials_of(rows)
    effects = paired_effects(trials)
    assert set(effects["hyperparameter"]) == {"decoder"}
    found = {(row.reference, row.value): row.difference for row in effects.itertuples()}
    assert found == {
        ("bernoulli", "gaussian 0.1"): 2,
        ("bernoulli", "gaussian 1.0"): -2,
        ("bernoulli", "gaussian_learned"): 3,
        ("gaussian 0.1", "gaussian 1.0"): -4,
        ("gaussian 0.1", "gaussian_learned"): 1,
        ("gaussian 1.0", "gaussian_learned"): 5,
    }
    assert set(hyperparameter_importance(trials)["hyperparameter"]) == {"decoder", "seed"}
    fixed = paired_effects(trials[trials["decoder"] == "gaussian"])
    assert list(fixed["hyperparameter"]) == ["decoder_variance"]
    assert list(fixed["reference"] + " " + fixed["value"]) == ["0.1 1"]


def test_points_that_are_equal_compare_equal() -> None:
    trials = trials_of([{"beta": 0.5}, {"beta": 0.5000000000000001}, {"beta": 0.500001}])
    points = design_points(trials)
    assert points["beta"].nunique() == 2
    assert list(points.index) == list(trials.index)


def test_datasets_of_one_name_and_other_images_are_told_apart() -> None:
    rows: Rows = [
        {"dataset": dataset, "dataset_fingerprint": print_, "seed": seed, "active_units": units}
        for dataset, print_, units in (
            ("tiles", "aaaa", 3),
            ("tiles", "bbbb", 5),
            ("mnist", "c", 9),
        )
        for seed in (0, 1)
    ]
    trials = trials_of(rows)
    assert set(design_points(trials)["dataset"]) == {"tiles (aaaa)", "tiles (bbbb)", "mnist"}
    found = {
        (row.reference, row.value): row.difference for row in paired_effects(trials).itertuples()
    }
    assert found["tiles (aaaa)", "tiles (bbbb)"] == 2
