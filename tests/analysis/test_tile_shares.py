"""Shares of images by their tiles: against plain sums, and against SciPy's comparison of means."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.counting import RULE, tile_counts
from analysis.tile_shares import (
    SHARES,
    conv_against_dense_tiles,
    mean_difference,
    tile_shares,
)
from tests.analysis.tables import trials_of

CONV = {"architecture": "conv-8", "family": "conv"}


def study(*rows: dict[str, Any]) -> pd.DataFrame:
    return trials_of([{"latent_dim": 8, "seed": seed} | row for seed, row in enumerate(rows)])


def counts_of(trials: pd.DataFrame, *by_tiles: dict[int, int], **more: Any) -> pd.DataFrame:
    """Rows of `tile_counts`: of each trial, how many images have so many tiles."""
    rows = [
        {"trial_id": trial_id, "images_of": "generated", "tiles": tiles, "images": images}
        | {"threshold": RULE.threshold, "smallest": RULE.smallest, "tile_like": 0, "as_given": 0}
        | more
        for trial_id, of_trial in zip(trials["trial_id"], by_tiles, strict=True)
        for tiles, images in of_trial.items()
    ]
    return pd.DataFrame(rows)


def over(*shares: float, images: int = 1000) -> list[dict[int, int]]:
    """Counts of trials with these shares of images with more than three tiles."""
    return [{2: images - round(images * s), 4: round(images * s)} for s in shares]


def test_shares_are_means_over_trials() -> None:
    trials = study({}, {}, {"beta": 2.0})
    counts = counts_of(trials, {0: 1, 1: 2, 2: 3, 3: 1, 4: 2, 5: 1}, {3: 10, 9: 10}, {2: 4})
    found = tile_shares(trials, counts.sample(frac=1, random_state=0))
    assert found["beta"].tolist() == [1.0, 2.0]
    assert found["trials"].tolist() == [2, 1]
    assert found["images"].tolist() == [30, 4]
    first = found.iloc[0]
    assert first[list(SHARES)].tolist() == pytest.approx([0.05, 0.1, 0.15, 0.3, 0.1, 0.3])
    assert first[["over_three", "over_three_least", "over_three_most"]].tolist() == pytest.approx(
        [0.4, 0.3, 0.5]
    )
    assert np.isnan(first["as_given"])
    assert found.loc[1, "two"] == 1


def test_what_could_be_a_training_image() -> None:
    trials = study({})
    counts = counts_of(trials, {0: 10, 1: 10, 3: 10, 4: 10}, tile_like=5, as_given=7)
    assert tile_shares(trials, counts)["like_training"].tolist() == [0.25]
    kept = tile_shares(trials, counts.assign(images_of="reconstruction"))
    assert kept["as_given"].tolist() == [0.7]


def test_the_longest_trained_with_the_largest_latent_dim_count() -> None:
    long = {"epochs": 40}
    trials = study({}, long, long | {"latent_dim": 4}, {"beta": 2.0}, CONV)
    counts = counts_of(trials, {0: 1}, {1: 1}, {2: 1}, {3: 1}, {4: 1})
    found = tile_shares(trials, counts)
    assert found["architecture"].tolist() == ["conv-8", "dense-16", "dense-16"]
    assert found[["over_three", "one", "three"]].to_numpy().tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
    ]
    assert found["epochs"].tolist() == [20, 40, 20]


def test_long_training_goes_before_many_units() -> None:
    trials = study({"epochs": 40, "latent_dim": 4}, {"epochs": 20, "latent_dim": 16})
    found = tile_shares(trials, counts_of(trials, {1: 1}, {2: 1}))
    assert found[["epochs", "latent_dim", "one"]].to_numpy().tolist() == [[40, 4, 1]]


def test_only_the_rule_that_is_asked_for() -> None:
    trials = study({})
    others = [{"threshold": 0.3}, {"smallest": 1}]
    parts = [counts_of(trials, {5: 1}, **other) for other in others]
    counts = pd.concat([counts_of(trials, {2: 1}), *parts])
    assert tile_shares(trials, counts)["two"].tolist() == [1]


def test_beta_that_was_drawn_at_random_is_in_ranges() -> None:
    betas = np.random.default_rng(0).uniform(0.2, 5, 40)
    trials = study(*({"beta": beta, "learning_rate": beta / 1e3} for beta in betas))
    counts = counts_of(trials, *[{2: 1}] * 40)
    found = tile_shares(trials, counts)
    assert {"beta_from", "beta_to"} <= set(found.columns)
    assert found["trials"].sum() == 40
    assert len(found) < 8


def test_conv_against_dense_under_common_settings() -> None:
    beta = {"beta": 2.0}
    trials = study({}, {}, CONV, CONV, beta, CONV | beta, CONV | {"beta": 0.5})
    counts = counts_of(trials, *over(0.1, 0.2, 0.4, 0.6, 0.3, 0.2, 0.9))
    both = conv_against_dense_tiles(trials, counts)
    assert both["beta"].tolist() == [1.0, 2.0]
    assert both["dense"].tolist() == pytest.approx([0.15, 0.3])
    assert both["conv"].tolist() == pytest.approx([0.5, 0.2])
    assert both["difference"].tolist() == pytest.approx([0.35, -0.1])
    assert both[["dense_trials", "conv_trials"]].to_numpy().tolist() == [[2, 2], [1, 1]]
    assert both["dense_spread"].tolist() == pytest.approx([0.005, 0])
    assert mean_difference(both)[0] == pytest.approx(0.125)
    one_kind = conv_against_dense_tiles(trials[:2], counts)
    assert one_kind.empty


def test_the_interval_is_welchs_where_there_is_one_setting() -> None:
    dense, conv = [0.1, 0.2, 0.12], [0.4, 0.5, 0.41, 0.39]
    trials = study(*[{}] * 3, *[CONV] * 4)
    both = conv_against_dense_tiles(trials, counts_of(trials, *over(*dense, *conv)))
    welch = stats.ttest_ind(conv, dense, equal_var=False).confidence_interval()
    assert mean_difference(both) == pytest.approx((0.425 - 0.14, welch.low, welch.high))


def test_the_interval_covers_the_truth() -> None:
    """Three settings, few trials of each: 95% hold the true mean difference, give or take."""
    generator, held = np.random.default_rng(0), 0
    rows = [{"beta": b} | net for b in (1.0, 2.0, 4.0) for net in ({}, {}, {}, CONV, CONV)]
    trials = study(*rows)
    true = [0.3 if "family" in row else 0.2 for row in rows]
    for _ in range(150):
        shares = np.clip(generator.normal(true, 0.05), 0, 1)
        both = conv_against_dense_tiles(trials, counts_of(trials, *over(*shares)))
        _, low, high = mean_difference(both)
        held += low <= 0.1 <= high
    assert 134 <= held <= 149


def test_no_interval_without_repetition_and_none_beyond_all() -> None:
    trials = study({}, CONV)
    mean, low, high = mean_difference(
        conv_against_dense_tiles(trials, counts_of(trials, *over(0.1, 0.3)))
    )
    assert mean == pytest.approx(0.2)
    assert np.isnan([low, high]).all()
    trials = study({}, {}, CONV, CONV)
    both = conv_against_dense_tiles(trials, counts_of(trials, *over(0, 1, 0, 1)))
    assert mean_difference(both) == pytest.approx((0, -1, 1))
    alike = conv_against_dense_tiles(trials, counts_of(trials, *over(0.1, 0.1, 0.3, 0.3)))
    assert mean_difference(alike) == pytest.approx((0.2, 0.2, 0.2))


def test_nothing_counted() -> None:
    nothing = tile_counts(pd.DataFrame({"kind": [], "shape": []}))
    assert tile_shares(study({}), nothing).empty
    assert conv_against_dense_tiles(study({}), nothing).empty
