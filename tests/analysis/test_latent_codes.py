"""Statistics of codes by trial, pairs with and without sampling, and which trials are shown."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.latent_codes import (
    STATISTICS,
    code_statistics,
    code_table,
    latent_points,
    pair_columns,
    sampling_pairs,
    trials_to_show,
    widest_units,
)
from analysis.normality import henze_zirkler, mardia_kurtosis, prior_covered, prior_kl
from study.tables import ENCODINGS
from tests.analysis.latent_tables import (
    codes_of,
    gaussian_codes,
    star_codes,
    trials_with_and_without,
)
from tests.analysis.tables import trials_of

TRIALS = trials_with_and_without()


def statistics_of(codes: pd.DataFrame, trials: pd.DataFrame = TRIALS) -> "pd.Series":
    (row,) = [row for _, row in code_statistics(trials, codes).iterrows()]
    return row


def test_the_numbers_are_those_of_the_matrix_of_means() -> None:
    mean = gaussian_codes(3).astype(np.float32).astype(np.float64)
    found = statistics_of(codes_of("with-0", mean, 0.25))
    assert found["trial_id"] == "with-0"
    assert (found["images"], found["left_out"], found["units"]) == (200, 0, 3)
    assert found["henze_zirkler"] == pytest.approx(henze_zirkler(mean).statistic)
    assert found["kurtosis"] == pytest.approx(mardia_kurtosis(mean).statistic / 15)
    assert found["prior_covered"] == prior_covered(mean)
    assert found["spread"] == pytest.approx(np.sqrt(mean.var(0).mean()))
    assert found["prior_kl"] == pytest.approx(prior_kl(mean, np.full_like(mean, 0.25)))


def test_variances_count_only_where_training_samples() -> None:
    mean = gaussian_codes(3)
    for trial_id, variance in (("without-0", 5.0), ("without-0", np.nan), ("with-0", 0.0)):
        found = statistics_of(codes_of(trial_id, mean, variance))
        single = mean.astype(np.float32).astype(np.float64)
        assert found["prior_kl"] == pytest.approx(prior_kl(single))
        assert found["left_out"] == 0
    assert statistics_of(codes_of("with-0", mean, np.nan))["left_out"] == 200


def test_only_test_codes_of_the_last_step_of_completed_trials_count() -> None:
    mean = gaussian_codes(2)
    expected = statistics_of(codes_of("with-0", mean))
    codes = pd.concat(
        [
            codes_of("with-0", star_codes(2), step=10),
            codes_of("with-0", mean),
            codes_of("with-0", star_codes(2), split="train", step=2_000),
            codes_of("with-1", mean, split="train"),
            codes_of("with-2", mean),
            codes_of("another study's", mean),
        ]
    )
    trials = TRIALS.assign(status=TRIALS["status"].where(TRIALS["seed"] < 2, "diverged"))
    pd.testing.assert_series_equal(statistics_of(codes, trials), expected)
    assert statistics_of(codes, pd.concat([trials, trials])).equals(expected)


def test_images_whose_codes_are_not_numbers_are_left_out_and_counted() -> None:
    mean = gaussian_codes(2)
    broken = mean.copy()
    broken[[3, 50], [0, 1]] = np.nan
    found = statistics_of(codes_of("with-0", broken))
    kept = statistics_of(codes_of("with-0", np.delete(mean, [3, 50], axis=0)))
    assert (found["images"], found["left_out"]) == (198, 2)
    assert found[list(STATISTICS)].tolist() == pytest.approx(kept[list(STATISTICS)].tolist())
    none = statistics_of(codes_of("with-0", np.full((5, 2), np.nan)))
    assert (none["images"], none["left_out"], none["units"]) == (0, 5, 0)
    assert none[list(STATISTICS)].isna().all()


def test_units_that_are_switched_off_are_no_part_of_the_shape() -> None:
    mean = gaussian_codes(3)
    off = np.concatenate([mean, 0.05 * gaussian_codes(2, seed=1), np.full((200, 1), 0.3)], axis=1)
    found, expected = (statistics_of(codes_of("with-0", codes)) for codes in (off, mean))
    assert found["units"] == 3
    assert found[list(STATISTICS)].tolist() == pytest.approx(expected[list(STATISTICS)].tolist())
    small = statistics_of(codes_of("without-0", 1e-3 * mean))  # no absolute threshold
    assert small["units"] == 3


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(random) -> None:
    codes = pd.concat([codes_of("with-0", star_codes(2)), codes_of("without-1", star_codes(3))])
    order = list(range(len(codes)))
    random.shuffle(order)
    pd.testing.assert_frame_equal(
        code_statistics(TRIALS, codes.iloc[order]), code_statistics(TRIALS, codes)
    )


def test_no_rows_give_no_rows() -> None:
    none = code_statistics(TRIALS, ENCODINGS.empty_table().to_pandas())
    assert none.empty
    assert sampling_pairs(TRIALS, none).empty
    assert code_table(TRIALS, none).empty
    assert none.dtypes.equals(statistics_frame().dtypes)


def statistics_frame(images: int = 100) -> pd.DataFrame:
    codes = [
        codes_of(trial_id, (star_codes if "out" in trial_id else gaussian_codes)(3, images, seed))
        for seed, trial_id in enumerate(TRIALS["trial_id"])
    ]
    return code_statistics(TRIALS, pd.concat(codes))


def test_pairs_are_equal_in_all_but_sampling() -> None:
    statistics = statistics_frame()
    pairs = sampling_pairs(TRIALS, statistics)
    assert pairs["seed"].tolist() == [0, 1, 2]
    by_id = statistics.set_index("trial_id")
    for row in pairs.to_dict("records"):
        for name in STATISTICS:
            for word in ("with", "without"):
                assert row[f"{name}_{word}"] == by_id.loc[f"{word}-{row['seed']}", name]
    assert pair_columns(pairs) == ["dataset", "architecture", "latent_dim", "beta"]
    other_rate = TRIALS["learning_rate"].where(TRIALS["trial_id"] != "with-1", 0.01)
    fewer = sampling_pairs(TRIALS.assign(learning_rate=other_rate), statistics)
    assert fewer["seed"].tolist() == [0, 2]
    shorter = statistics.assign(images=statistics["images"] - (statistics["trial_id"] == "with-2"))
    assert sampling_pairs(TRIALS, shorter)["seed"].tolist() == [0, 1]
    both = TRIALS.assign(learning_rate=np.where(TRIALS["seed"] < 2, 0.01, 0.1))
    assert pair_columns(sampling_pairs(both, statistics))[4:] == ["learning_rate"]


def test_the_table_has_what_differs() -> None:
    table = code_table(TRIALS.sample(frac=1, random_state=0), statistics_frame())
    assert list(table.columns) == ["objective", "seed", *STATISTICS]
    assert table["seed"].tolist() == [0, 1, 2, 0, 1, 2]
    assert table["objective"].tolist() == ["elbo"] * 3 + ["no_sampling"] * 3
    mixed = TRIALS.assign(precision=np.where(TRIALS["seed"] < 2, "float32", "mixed"))
    named = ["objective", "precision", "seed", *STATISTICS]
    assert list(code_table(mixed, statistics_frame()).columns) == named


def test_the_choice_of_trials() -> None:
    rows = [
        {"trial_id": "one unit", "latent_dim": 1},
        {"trial_id": "seed 2", "latent_dim": 3, "seed": 2, "beta": 0.5},
        {"trial_id": "beta 4", "latent_dim": 3, "beta": 4.0},
        {"trial_id": "chosen", "latent_dim": 3, "seed": 1, "beta": 0.5},
        {"trial_id": "beta 0.2", "latent_dim": 3, "beta": 0.2},
        {"trial_id": "beta 0", "latent_dim": 3, "beta": 0.0},
        {"trial_id": "control", "latent_dim": 3, "objective": "no_sampling", "beta": 0.5},
        {"trial_id": "diverged", "latent_dim": 2, "status": "diverged"},
        {"trial_id": "no rows", "latent_dim": 2},
        {"trial_id": "small", "latent_dim": 2, "beta": 8.0},
        {"trial_id": "large", "latent_dim": 16},
        {"trial_id": "larger", "latent_dim": 32},
    ]
    trials = trials_of([{"beta": 1.0} | row for row in rows])
    there = set(trials["trial_id"]) - {"no rows"}
    shown = trials_to_show(trials, there)
    assert shown["trial_id"].tolist() == ["small", "chosen", "control", "large"]
    assert shown["shown_group"].tolist() == [0, 1, 1, 2]
    everything = trials_to_show(trials, there, most=9)
    assert everything["trial_id"].tolist()[-2:] == ["larger", "one unit"]
    again = trials_to_show(trials, set(shown["trial_id"]))
    assert again["trial_id"].tolist() == shown["trial_id"].tolist()
    assert trials_to_show(trials, []).empty
    assert trials_to_show(trials.head(0), there).empty


def test_units_and_points() -> None:
    mean = np.array([[0.0, 5, 1], [1, 5, -1], [np.nan, 5, 0]])
    rows = pd.concat([codes_of("a", 9 * gaussian_codes(3, 3), step=1), codes_of("a", mean, 0.5)])
    assert widest_units(rows, 2) == [0, 2]
    assert widest_units(rows, 9) == [0, 1, 2]
    points = latent_points(rows[rows["step"] == 1_000], [0, 2])
    assert points["image"].tolist() == [0, 1]
    assert points[["unit_0", "unit_2"]].to_numpy().tolist() == [[0, 1], [1, -1]]
    assert points["label"].tolist() == ["0", "1"]
    assert points["variance"].tolist() == [0.5, 0.5]
    assert latent_points(codes_of("a", mean, labels=False), [0, 2])["label"].isna().all()
    uneven = codes_of("a", mean[:2], np.array([1.0, 100.0, 3.0]))
    assert latent_points(uneven, [0, 2])["variance"].tolist() == [2.0, 2.0]
