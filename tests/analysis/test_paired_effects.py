"""Pairs against loops, intervals against scipy."""

from collections import defaultdict
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.importance import hyperparameter_importance
from analysis.paired_effects import MOST_NAMES, describe_effect, paired_effects, t_half_width
from tests.analysis.grids import ARCHITECTURES, grid
from tests.analysis.tables import Rows, trials_of


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


@settings(deadline=None)
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
