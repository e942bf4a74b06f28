"""Pairs against loops, intervals against scipy, and what is not to be compared."""

import dataclasses
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.comparison import ALL, MEASURES, Comparison, compare_trials
from study.tables import TRIALS
from tests.analysis.tables import Rows, trials_of

EMPTY = TRIALS.empty_table().to_pandas()
START = pd.Timestamp("2026-01-01T00:00:00Z")
AXES: dict[str, list[Any]] = {
    "dataset": ["tiles", "mnist"],
    "architecture": ["dense-16", "conv-4"],
    "beta": [1.0],
    "latent_dim": [4, 8],
    "seed": [0, 1, 2],
}


def study(prefix: str = "", draw: int = 0, **axes: Any) -> pd.DataFrame:
    """A grid with random results; trial_ids are the prefix and the point."""
    rng = np.random.default_rng(draw)
    names = AXES | axes
    rows: Rows = []
    for values in product(*names.values()):
        point = dict(zip(names, values, strict=True))
        rows.append(
            point
            | {"trial_id": prefix + "/".join(map(str, values)), "started_at": START}
            | {"dataset_fingerprint": point["dataset"], "numerics_version": 1, "device": "cpu"}
            | {"active_units": int(rng.integers(2, 8))}
            | {name: rng.normal(0, 1) for name in MEASURES if name != "active_units"}
        )
    return trials_of(rows)


def row(found: Comparison, measure: str = "active_units", group: str = ALL) -> "pd.Series[Any]":
    table = found.differences
    (chosen,) = table.index[(table["measure"] == measure) & (table["group"] == group)]
    return table.loc[chosen]


def unmatched_ids(found: Comparison, side: str) -> set[str]:
    return set(found.unmatched.loc[found.unmatched["side"] == side, "trial_id"])


def test_trials_of_equal_id_are_compared_with_themselves() -> None:
    left, right = study(draw=1), study(draw=2)
    found = compare_trials(left, right.sample(frac=1, random_state=0))
    assert set(found.pairs["matched_by"]) == {"trial_id"}
    assert (found.pairs["left_id"] == found.pairs["right_id"]).all()
    assert found.unmatched.empty
    expected = left.set_index("trial_id"), right.set_index("trial_id")
    for measure in MEASURES:
        ours = found.pairs.set_index("left_id")
        difference = (expected[1][measure] - expected[0][measure]).astype(float)
        assert (ours[measure] - difference).abs().max() < 1e-12
        interval = stats.ttest_rel(
            expected[1][measure].astype(float), expected[0][measure].astype(float)
        ).confidence_interval(0.95)
        line = row(found, measure)
        assert (line["low"], line["high"]) == pytest.approx(tuple(interval))
        assert line["difference"] == pytest.approx(difference.mean())
        assert line["left"] == pytest.approx(expected[0][measure].astype(float).mean())
        assert line["right"] == pytest.approx(expected[1][measure].astype(float).mean())
        assert list(line[["left_trials", "right_trials", "pairs"]]) == [24, 24, 24]


def test_reproducibility_names_the_largest_difference() -> None:
    left = study()
    right = left.assign(started_at=START + pd.Timedelta(hours=1))
    right.loc[3, "test_elbo"] -= 0.25
    right.loc[5, "test_elbo"] += 0.125
    found = compare_trials(left, right)
    table = found.reproducibility.set_index("measure")
    assert list(table.index) == list(MEASURES)
    assert (table["trials"] == 24).all()
    assert table.loc["test_elbo", "equal"] == 22
    assert table.loc["test_elbo", "largest"] == pytest.approx(0.25)
    assert table.loc["test_elbo", "trial_id"] == left.loc[3, "trial_id"]
    assert table.loc["test_elbo", "left"] == left.loc[3, "test_elbo"]
    assert (table.drop("test_elbo")["largest"] == 0).all()
    assert (table.drop("test_elbo")["equal"] == 24).all()
    assert found.summary[-1] == (
        "equal ids: test_elbo differs in 2 of 24 trials, by 0.25 at most "
        f"(trial {left.loc[3, 'trial_id']})"
    )
    assert not found.pairs["one_run"].any()


def test_a_study_against_itself_is_one_run() -> None:
    trials = study()
    found = compare_trials(trials, trials)
    assert (found.differences["difference"] == 0).all()
    assert found.summary[-2:] == [
        "24 of the pairs with equal ids are one run, there twice",
        "trials with equal ids have exactly equal results",
    ]


def test_points_match_where_ids_do_not() -> None:
    """numerics_version is in the id, so the same points have other ids in an older study."""
    left, right = study("old-"), study("new-", draw=1).assign(numerics_version=2)
    found = compare_trials(left, right.sample(frac=1, random_state=3))
    assert set(found.pairs["matched_by"]) == {"point"}
    assert (found.pairs["left_id"].str[4:] == found.pairs["right_id"].str[4:]).all()
    assert len(found.pairs) == 24
    assert found.unmatched.empty
    assert found.reproducibility.empty
    assert "they differ in numerics_version: 1 against 2" in found.summary
    assert "24 pairs of points that are equal in all hyperparameters" in found.summary
    assert not found.pairs["one_run"].any()  # though both packs started at the same time


def test_ids_come_first_and_points_are_for_the_rest() -> None:
    left = study()
    right = study(draw=1)
    renamed = right["latent_dim"] == 8
    right["trial_id"] = right["trial_id"].where(~renamed, "new-" + right["trial_id"])
    found = compare_trials(left, right)
    assert found.pairs["matched_by"].value_counts().to_dict() == {"trial_id": 12, "point": 12}
    assert set(found.pairs.loc[found.pairs["matched_by"] == "point", "latent_dim"]) == {8}
    overall = found.differences[found.differences["group"] == ALL]
    assert set(overall["matched_by"]) == {"trial_id", "point"}
    assert (found.reproducibility["trials"] == 12).all()
    assert found.unmatched.empty


def test_each_way_to_match_alone() -> None:
    left, right = study(), study(draw=1)
    renamed = right["latent_dim"] == 8
    right["trial_id"] = right["trial_id"].where(~renamed, "new-" + right["trial_id"])
    by_id = compare_trials(left, right, "trial_id")
    assert by_id.pairs["matched_by"].value_counts().to_dict() == {"trial_id": 12}
    assert len(by_id.unmatched) == 24
    by_point = compare_trials(left, right, "point")
    assert by_point.pairs["matched_by"].value_counts().to_dict() == {"point": 24}
    assert by_point.unmatched.empty


def test_what_tells_the_sides_apart_does_not_part_the_pairs() -> None:
    left, right = study(beta=[1.0]), study(beta=[4.0], draw=9)
    found = compare_trials(left, right)
    assert len(found.pairs) == 24
    assert "beta" not in found.pairs
    assert found.summary[2:4] == [
        "they differ in beta: 1 against 4",
        "24 pairs of points that are equal in all but beta",
    ]
    by_point = {
        (t["dataset"], t["architecture"], t["latent_dim"], t["seed"]): t["active_units"]
        for t in right.to_dict("records")
    }
    differences = [
        by_point[t["dataset"], t["architecture"], t["latent_dim"], t["seed"]] - t["active_units"]
        for t in left.to_dict("records")
    ]
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    line = row(found)
    assert (line["difference"], line["low"], line["high"]) == pytest.approx(
        (np.mean(differences), low, high)
    )


def test_groups_are_compared_too() -> None:
    left, right = study(beta=[1.0]), study(beta=[4.0], draw=9)
    found = compare_trials(left, right)
    groups = list(found.differences["group"].unique())
    assert groups[0] == ALL
    assert sorted(groups[1:]) == [
        "conv-4 on mnist", "conv-4 on tiles", "dense-16 on mnist", "dense-16 on tiles",
    ]  # fmt: skip
    for group in groups[1:]:
        architecture, _, dataset = group.partition(" on ")
        of_sides = [
            t[(t["architecture"] == architecture) & (t["dataset"] == dataset)]
            for t in (left, right)
        ]
        interval = stats.ttest_rel(
            *(side["test_kl"].astype(float) for side in reversed(of_sides))
        ).confidence_interval(0.95)
        line = row(found, "test_kl", group)
        assert (line["low"], line["high"]) == pytest.approx(tuple(interval))
        assert line["pairs"] == 6


def test_a_single_group_is_not_told_twice() -> None:
    axes = {"dataset": ["tiles"], "architecture": ["dense-16"]}
    found = compare_trials(study(**axes), study("x", draw=1, **axes))
    assert list(found.differences["group"]) == [ALL] * len(MEASURES)
    assert list(found.differences["measure"]) == list(MEASURES)


def test_equal_group_sizes_hide_no_group() -> None:
    found = compare_trials(study(), study(draw=1), "group")
    assert found.differences["group"].nunique() == 5


def test_a_group_of_one_side_alone_is_in_all_only() -> None:
    left = study(dataset=["tiles"], architecture=["dense-16"], seed=[0, 1])
    right = study("x", dataset=["tiles"], latent_dim=[16], seed=[5, 6])
    found = compare_trials(left, right, "group")
    assert set(found.differences["group"]) == {ALL, "dense-16 on tiles, β = 1"}


@pytest.mark.parametrize("match", ["auto", "group"])
def test_seeds_that_differ(match: str) -> None:
    """Means over each side's seeds are paired; nothing pairs one seed with another."""
    left, right = study(seed=[0, 1]), study("x", seed=[5, 6, 7])
    rng = np.random.default_rng(0)
    left["active_units"], right["active_units"] = (
        rng.integers(2, 9, len(side)) for side in (left, right)
    )
    found = compare_trials(left, right, match)  # type: ignore[arg-type]
    keys = ["dataset", "architecture", "latent_dim"]
    if match == "auto":
        means = [side.groupby(keys)["active_units"].mean() for side in (left, right)]
        interval = stats.ttest_rel(means[1], means[0]).confidence_interval(0.95)
        assert list(row(found)[["left_trials", "right_trials", "pairs"]]) == [16, 24, 8]
        assert (
            "8 pairs of points that are equal in all but seed (means of 16 and 24 trials)"
            in found.summary
        )
        assert found.unmatched.empty
    else:
        interval = stats.ttest_ind(
            right["active_units"], left["active_units"], equal_var=False
        ).confidence_interval(0.95)
        assert row(found)["pairs"] == 0
        assert len(found.unmatched) == 40
    assert (row(found)["low"], row(found)["high"]) == pytest.approx(tuple(interval))


def test_one_setting_with_other_seeds_is_compared_in_the_mean() -> None:
    axes = {"dataset": ["tiles"], "architecture": ["dense-16"], "latent_dim": [8]}
    left, right = study(draw=0, **axes), study("x", draw=1, **axes)
    right["seed"] += 10
    found = compare_trials(left, right)
    assert set(found.differences["matched_by"]) == {"group"}
    interval = stats.ttest_ind(
        right["test_kl"].astype(float), left["test_kl"].astype(float), equal_var=False
    ).confidence_interval(0.95)
    line = row(found, "test_kl")
    assert (line["low"], line["high"]) == pytest.approx(tuple(interval))
    assert any(words.startswith("no pairs: means of all trials") for words in found.summary)


def test_one_trial_and_its_partner_are_a_pair() -> None:
    trials = study()
    found = compare_trials(trials.head(1), study("x", draw=4))
    assert len(found.pairs) == 1
    assert np.isnan(row(found)["low"])
    assert len(unmatched_ids(found, "right")) == 23


def test_without_any_pair_means_are_compared() -> None:
    """Two random searches share no point."""
    rng = np.random.default_rng(0)
    sides = [
        trials_of(
            [
                {"trial_id": f"{side}{place}", "beta": rng.uniform(0.1, 4), "seed": place % 2}
                | {"latent_dim": dim, "learning_rate": rate, "active_units": int(rng.integers(9))}
                | {name: rng.normal() for name in MEASURES if name != "active_units"}
                for place, (dim, rate) in enumerate(
                    zip(dims, (1e-3, 2e-3, 3e-3, 4e-3), strict=True)
                )
            ]
        )
        for side, dims in (("a", (2, 4, 6, 8)), ("b", (4, 2, 8, 6)))
    ]
    found = compare_trials(*sides)
    assert found.pairs.empty
    assert set(found.differences["matched_by"]) == {"group"}
    assert set(found.unmatched["reason"]) == {"no partner"}
    only_points = compare_trials(*sides, match="point")
    assert only_points.differences.empty


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_pairs_and_unmatched_are_all_there_is(seed: int, first: float, second: float) -> None:
    rng = np.random.default_rng(seed)
    left, right = study(draw=1), study(draw=2)
    renamed = rng.random(len(right)) < 0.5
    right["trial_id"] = right["trial_id"].where(~renamed, "x" + right["trial_id"])
    left, right = (
        trials[rng.random(len(trials)) < share]
        for trials, share in ((left, first), (right, second))
    )
    found = compare_trials(left, right)
    if found.pairs.empty:
        assert len(found.unmatched) == len(left) + len(right)
        return
    shared = [name for name in AXES if name in found.pairs]
    assert {"latent_dim", "seed"} - set(shared) <= {
        name for name in AXES if not set(left[name]) & set(right[name])
    }
    right_points = {tuple(t[name] for name in shared): t for t in right.to_dict("records")}
    alone, paired_ids = set(), set(left["trial_id"]) & set(right["trial_id"])
    if len(shared) == len(AXES):
        for trial in left.to_dict("records"):
            partner = right_points.get(tuple(trial[name] for name in shared))
            if partner is None:
                alone.add(trial["trial_id"])
        assert unmatched_ids(found, "left") == alone
    by_id = found.pairs[found.pairs["matched_by"] == "trial_id"]
    assert set(by_id["left_id"]) == paired_ids
    for side, trials in (("left", left), ("right", right)):
        assert found.pairs[f"{side}_trials"].sum() + len(unmatched_ids(found, side)) == len(trials)


def test_a_point_with_two_ids_is_paired_once() -> None:
    """By its id; another trial at its point finds no partner, rather than one that is taken."""
    left, right = study(), study()
    again = right.head(1).assign(trial_id="again", numerics_version=2)
    found = compare_trials(left, pd.concat([right, again]))
    assert len(found.pairs) == 24
    assert unmatched_ids(found, "right") == {"again"}


def test_trials_that_did_not_complete_are_listed_with_their_fate() -> None:
    left, right = study(), study()
    left.loc[0, "status"] = "diverged"
    right.loc[1, "status"] = "failed"
    right.loc[1, list(MEASURES)] = np.nan
    right = right.drop(index=2)
    found = compare_trials(left, right, names=("A", "B"))
    reasons = {(t["side"], t["trial_id"]): t["reason"] for t in found.unmatched.to_dict("records")}
    ids = list(left["trial_id"])
    assert reasons == {
        ("left", ids[0]): "diverged",
        ("right", ids[0]): "diverged on the other side",
        ("left", ids[1]): "failed on the other side",
        ("right", ids[1]): "failed",
        ("left", ids[2]): "no partner",
    }
    assert len(found.pairs) == 21
    assert found.summary[:2] == [
        "A: 23 of 24 trials completed, 1 diverged",
        "B: 22 of 23 trials completed, 1 failed",
    ]
    assert "without partner: 3 trials of A, 2 of B" in found.summary


def test_controls_have_no_active_units_to_compare() -> None:
    left = study(latent_dim=[4])
    right = study("x", latent_dim=[4]).assign(objective="no_sampling")
    found = compare_trials(left, right)
    assert set(found.differences["measure"]) == {"test_elbo", "test_kl", "test_reconstruction"}
    assert "they differ in objective: elbo against no_sampling" in found.summary
    assert not any("active units" in words for words in found.summary)


def test_a_learned_variance_is_a_result_and_a_set_one_part_of_the_decoder() -> None:
    learned = study().assign(decoder="gaussian_learned")
    learned["decoder_variance"] = np.linspace(0.1, 1, len(learned))
    other = learned.assign(trial_id="x" + learned["trial_id"])
    other["decoder_variance"] *= 2
    assert len(compare_trials(learned, other).pairs) == 24
    fixed = study("y").assign(decoder="gaussian", decoder_variance=0.5)
    both = compare_trials(pd.concat([fixed, study("z")]), learned)
    assert len(both.pairs) == 24  # each with the mean of a Gaussian and a Bernoulli decoder
    assert (
        "they differ in decoder: bernoulli, gaussian 0.5 against gaussian_learned" in both.summary
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"decoder": "gaussian", "decoder_variance": 1.0}, "likelihood"),
        ({"dataset": "other"}, "dataset"),
        ({"beta": 3.0}, ""),
    ],
)
def test_nats_of_another_kind_are_not_compared(change: dict[str, Any], why: str) -> None:
    left = study(dataset=["tiles"])
    right = left.assign(trial_id="x" + left["trial_id"], **change)
    for match in ("auto", "group"):
        found = compare_trials(left, right, match=match)
        measured = set(found.differences["measure"])
        assert "active_units" in measured
        assert ({"test_elbo", "test_reconstruction"} & measured == set()) == bool(why)
        told = [line for line in found.summary if "are not compared" in line]
        assert told == (
            [
                "test ELBO and reconstruction are not compared: "
                f"nats of one {why} are not those of another"
            ]
            if why
            else []
        )


def test_other_images_under_the_same_name_are_told() -> None:
    other = study("x").assign(dataset_fingerprint="other")
    found = compare_trials(study(dataset=["tiles"]), other[other["dataset"] == "tiles"])
    assert "they differ in dataset: tiles (tiles) against tiles (other)" in found.summary


def test_the_summary_in_words() -> None:
    left = study(dataset=["tiles"], architecture=["dense-16"], latent_dim=[8])
    right = left.assign(trial_id="x" + left["trial_id"], beta=2.0)
    left["active_units"], right["active_units"] = [5, 6, 7], [4, 4, 5]
    left["test_elbo"], right["test_elbo"] = -90.0, -91.0
    found = compare_trials(left, right, names=("A", "B"))
    low, high = stats.ttest_1samp([-1, -2, -2], 0).confidence_interval(0.95)
    assert found.summary == [
        "A: 3 of 3 trials completed",
        "B: 3 of 3 trials completed",
        "they differ in beta: 1 against 2",
        "3 pairs of points that are equal in all but beta",
        "without partner: 0 trials of A, 0 of B",
        f"active units: 6.00 in A, 4.33 in B, difference -1.67 (95% CI {low:.2f} to {high:.2f}, "
        "3 pairs of equal point)",
        "test ELBO (nats per image): -90.00 in A, -91.00 in B, difference -1.00 "
        "(95% CI -1.00 to -1.00, 3 pairs of equal point)",
    ]


def test_means_without_spread_have_an_interval_of_no_width() -> None:
    left = study(latent_dim=[4], architecture=["dense-16"]).assign(test_kl=1.0)
    right = study("x", latent_dim=[4], architecture=["dense-16"]).assign(test_kl=3.0)
    line = row(compare_trials(left, right, "group"), "test_kl")
    assert line["low"] == line["high"] == line["difference"] == 2


def test_several_measures_missing_on_one_side() -> None:
    left, right = study(), study("x", draw=1)
    right.loc[:5, "test_kl"] = np.nan
    found = compare_trials(left, right)
    assert row(found, "test_kl")["pairs"] == 18
    assert row(found)["pairs"] == 24


@pytest.mark.parametrize("match", ["auto", "trial_id", "point", "group"])
@pytest.mark.parametrize(
    "left",
    [EMPTY, trials_of([]), study().assign(status="failed"), study().head(1)],
    ids=["empty", "no rows", "all failed", "one"],
)
def test_little_to_compare(left: pd.DataFrame, match: Any) -> None:
    for right in (EMPTY, study(), study("x").head(1)):
        for sides in ((left, right), (right, left)):
            found = compare_trials(*sides, match=match)
            assert found.summary[0].startswith("left: ")
            assert len(found.differences.columns) == 11
            if min((side["status"] == "completed").sum() for side in sides) == 0:
                assert found.differences.empty
                assert len(found.unmatched) == sum(map(len, sides))


def test_a_way_to_match_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="'hash' is none of auto"):
        compare_trials(study(), study(), match="hash")  # type: ignore[arg-type]


def test_the_tables_are_left_as_they_are() -> None:
    left, right = study(), study(draw=1)
    before = left.copy(deep=True), right.copy(deep=True)
    compare_trials(left, right)
    pd.testing.assert_frame_equal(left, before[0])
    pd.testing.assert_frame_equal(right, before[1])
    assert dataclasses.is_dataclass(Comparison)


def test_swapping_the_sides_changes_the_sign() -> None:
    left, right = study(beta=[1.0]), study(beta=[2.0], draw=3)
    for match in ("auto", "group"):
        there, back = (
            compare_trials(*sides, match=match).differences  # type: ignore[arg-type]
            for sides in ((left, right), (right, left))
        )
        assert there["difference"].to_numpy() == pytest.approx(-back["difference"].to_numpy())
        assert there["low"].to_numpy() == pytest.approx(-back["high"].to_numpy())
