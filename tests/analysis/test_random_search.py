"""Groups where nearly every trial has values of its own: which those are, and what is made of them.

    python -m tests.analysis.test_random_search

prints how often intervals hold the truth in simulated random searches, cell by cell.
"""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.active_units import active_units_table
from analysis.comparison import compare_trials
from analysis.dimension_by_beta import beta_of_drops, dimension_by_beta
from analysis.group_words import describe_group, setting_labels
from analysis.groups import (
    group_columns,
    into_ranges,
    scattered_columns,
    varied_columns,
    with_group_values,
)
from analysis.intrinsic_dimension import describe_estimate, estimate_intrinsic_dimension
from analysis.report.answer import trials_query
from search_spaces import plan_trials
from tests.analysis.simulated_study import random_spec
from tests.analysis.tables import TRIAL, Rows, trials_of

BETAS = [round(0.1 * 1.2**power, 3) for power in range(30)]


def drawn(points: int = 120, seeds: int = 1, **axes: Any) -> pd.DataFrame:
    """The trials of a random search as it is planned, with min(latent_dim, 8/√β) active units."""
    planned = plan_trials(random_spec(points, "s", seeds, **axes))
    rows = [trial.hyperparameters() for trial in planned]
    for row in rows:
        row["active_units"] = round(min(row["latent_dim"], 8 * (row["beta"] or 1) ** -0.5))
    return trials_of(rows)


def grid(**axes: list[Any]) -> pd.DataFrame:
    names = {"architecture": ["dense-16", "dense-8"], "latent_dim": [4, 8, 16], "beta": BETAS}
    index = pd.MultiIndex.from_product((names | axes).values(), names=names | axes)
    rows = index.to_frame(index=False).to_dict("records")
    return trials_of([row | {"active_units": 3} for row in rows])  # type: ignore[misc]


# What is scattered


def test_a_random_search_scatters_what_is_continuous() -> None:
    assert scattered_columns(drawn()) == ["beta", "learning_rate"]
    assert scattered_columns(drawn(40, seeds=5)) == ["beta", "learning_rate"]
    epochs = drawn(epochs={"range": [5, 90]}, batch_size={"range": [16, 512]}, beta=1)
    assert scattered_columns(epochs) == ["learning_rate", "batch_size", "epochs"]
    listed = drawn(beta=[0.5, 1, 2], learning_rate=[1e-4, 1e-3])
    assert scattered_columns(listed) == []
    assert group_columns(listed) == ["dataset", "architecture", "beta", "learning_rate"]


def test_a_few_values_are_groups_however_they_were_drawn() -> None:
    assert scattered_columns(drawn(8)) == []
    assert group_columns(drawn(8)) == ["dataset", "architecture", "beta", "learning_rate"]
    assert scattered_columns(drawn(16)) == ["beta", "learning_rate"]
    eight = [0.2, 0.5, 0.7, 1, 1.5, 2, 3, 5]
    assert scattered_columns(drawn(20, beta=eight)) == ["learning_rate"]


def test_values_that_hardly_meet_a_latent_dim_are_scattered_though_they_repeat() -> None:
    counted = drawn(200, beta={"log_range": [0.1, 10], "count": 40}, learning_rate=1e-3)
    assert counted["beta"].nunique() == 40
    assert scattered_columns(counted) == ["beta"]
    often = drawn(180, beta={"log_range": [0.1, 10], "count": 12}, learning_rate=1e-3)
    assert scattered_columns(often) == [], "six or seven of 39 latent_dims may do"


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"latent_dim": [4, 8]},
        {"latent_dim": [8]},
        {"architecture": ["dense-16"], "latent_dim": [4]},
        {"learning_rate": [1e-3 * 1.1**power for power in range(20)], "beta": [1.0, 2.0]},
        {"architecture": [f"dense-{width}" for width in range(1, 30)], "beta": [1.0]},
        {"epochs": list(range(1, 20)), "beta": [1.0]},
        {"seed": list(range(30)), "data_seed": list(range(12)), "beta": [1.0]},
    ],
)
def test_a_grid_scatters_nothing_however_many_values_it_has(axes: dict[str, Any]) -> None:
    trials = grid(**axes)
    assert scattered_columns(trials) == []
    assert group_columns(trials) == varied_columns(trials)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0.01, 1), lost=st.floats(0, 0.2))
def test_a_grid_that_still_runs_scatters_nothing(share: float, lost: float) -> None:
    """Trials run in the planned order; some of them fail."""
    trials = grid().head(int(180 * share))
    fails = np.random.default_rng(0).random(len(trials)) < lost * 0.5
    trials = trials.assign(status=np.where(fails, "failed", "completed"))
    assume(not fails.all())
    at_first = trials["latent_dim"].nunique() == 2 and len(trials) < 40
    assert scattered_columns(trials) == [] or at_first


def test_a_grid_whose_latent_dims_belong_to_architectures_scatters_nothing() -> None:
    each = [
        grid(architecture=[f"dense-{width}"], latent_dim=[width, width + 1])
        for width in range(2, 40)
    ]
    assert scattered_columns(pd.concat(each)) == []


def test_only_completed_trials_decide() -> None:
    trials = grid(latent_dim=[4, 8, 16], beta=BETAS[:4])
    failed = drawn().assign(status="failed")
    both = pd.concat([trials, failed.assign(trial_id="f" + failed["trial_id"])])
    assert scattered_columns(both) == []
    assert scattered_columns(failed) == ["beta", "learning_rate"]
    assert scattered_columns(trials.head(0)) == []


def test_architectures_that_hardly_repeat_are_taken_by_family() -> None:
    width = {"family": "dense", "depth": 2, "width": {"range": [16, 512]}}
    trials = drawn(architecture=[width, "conv-8", "linear"])
    assert scattered_columns(trials) == ["architecture", "beta", "learning_rate"]
    groups = with_group_values(trials)["architecture"]
    assert set(groups) == {"any dense", "conv-8", "linear"}
    assert (groups[trials["family"] == "dense"] == "any dense").all()


def test_architectures_of_several_points_are_groups_however_many_they_are() -> None:
    listed = {"family": "dense", "widths": [[width] for width in range(10, 22)]}
    trials = drawn(40, architecture=listed)
    assert trials["architecture"].nunique() == 12
    assert scattered_columns(trials) == ["beta", "learning_rate"]


# What is made of it


def test_ranges_hold_their_values_and_end_where_people_end_them() -> None:
    trials = drawn(300)
    valued = with_group_values(trials)
    low, high = valued["beta_from"], valued["beta_to"]
    assert ((low <= trials["beta"]) & (trials["beta"] < high)).all()
    assert set(zip(low, high, strict=True)) == {(0.2, 0.5), (0.5, 1), (1, 2), (2, 5)}
    np.testing.assert_allclose(valued["beta"], np.sqrt(low * high))
    assert valued["learning_rate"].isna().all()
    few = with_group_values(trials.head(40))
    assert set(zip(few["beta_from"], few["beta_to"], strict=True)) == {(0.1, 1), (1, 10)}


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(1e-9, 1e9) | st.just(0.0), min_size=1, max_size=20),
    steps=st.sampled_from([(1,), (1, 2, 5)]),
)
def test_ranges_of_any_values(values: list[float], steps: tuple[int, ...]) -> None:
    assume(any(values))
    ranged = into_ranges(pd.DataFrame({"x": [*values, np.nan]}), "x", steps)
    *found, null = ranged[["x", "x_from", "x_to"]].itertuples(index=False, name=None)
    assert np.isnan(null).all()
    for value, (middle, low, high) in zip(values, found, strict=True):
        if value == 0:
            assert (middle, low, high) == (0, 0, 0)
            continue
        assert low <= value < high
        assert low < middle < high
        for end in (low, high):
            assert int(f"{end:.10e}"[0]) in steps
            assert float(f"{end:.0e}") == end
        assert high / low == pytest.approx(10 if len(steps) == 1 else 2, rel=0.3)


def test_zero_is_a_group_of_its_own() -> None:
    trials = drawn(150)
    trials.loc[::5, "beta"] = 0.0
    zero = with_group_values(trials).loc[::5]
    assert (zero[["beta", "beta_from", "beta_to"]] == 0).all(axis=None)
    words = describe_group(zero.iloc[0])
    assert words.endswith("on mnist, β = 0")


def test_a_variance_that_users_set_is_ranged_and_a_learned_one_is_not() -> None:
    fixed = {"decoder": "gaussian", "decoder_variance": {"log_range": [0.01, 1]}, "beta": 1}
    trials = drawn(150, **fixed)
    assert scattered_columns(trials) == ["decoder_variance", "learning_rate"]
    columns = group_columns(trials)
    assert columns[3:] == ["decoder_variance", "decoder_variance_from", "decoder_variance_to"]
    labels = set(setting_labels(with_group_values(trials)[columns]))
    assert "conv-16-32, decoder variance 0.05 to 0.1" in labels
    learned = trials.assign(decoder="gaussian_learned")
    assert scattered_columns(learned) == ["learning_rate"]


def test_group_values_of_group_values_are_themselves() -> None:
    trials = drawn(seeds=2)
    once = with_group_values(trials)
    pd.testing.assert_frame_equal(with_group_values(once), once)
    assert group_columns(once) == group_columns(trials)


def test_queries_choose_the_trials_of_the_groups() -> None:
    width = {"family": "dense", "depth": 1, "width": {"range": [16, 512]}}
    trials = drawn(150, decoder="gaussian", decoder_variance={"log_range": [0.01, 1]})
    trials.loc[::7, "beta"] = 1.0  # where a range ends and the next begins
    learned = drawn(60, architecture=[width, "conv-8"]).assign(decoder="gaussian_learned")
    learned["decoder_variance"] = np.random.default_rng(0).random(len(learned))
    for table in (trials, pd.concat([trials, learned], ignore_index=True)):
        table = table.assign(trial_id=[f"{place:016x}" for place in range(len(table))])
        columns = group_columns(table)
        groups = with_group_values(table).groupby(columns, dropna=False)
        assert 4 < groups.ngroups < 90
        for _, members in groups:
            chosen = table.query(trials_query(members.iloc[0][columns]))
            assert sorted(chosen["trial_id"]) == sorted(members["trial_id"])


def test_words_for_a_group_of_ranges() -> None:
    found = estimate_intrinsic_dimension(drawn(300))
    assert describe_group(found.iloc[0]) == "conv-16-32 on mnist, β 0.2 to 0.5"
    assert list(found.columns[:5]) == ["dataset", "architecture", "beta", "beta_from", "beta_to"]
    assert found["beta_from"].tolist() == [0.2, 0.5, 1, 2] * 2


def test_seeds_of_one_point_are_no_further_evidence_of_the_space() -> None:
    """Were they, repeating each trial would narrow the interval of what is a mean over points."""
    once = drawn(150)
    thrice = pd.concat(
        [once.assign(seed=seed, trial_id=f"{seed}-" + once["trial_id"]) for seed in range(3)]
    )
    one, three = estimate_intrinsic_dimension(once), estimate_intrinsic_dimension(thrice)
    assert (one["verdict"] == "saturated").all()
    numbers = ["estimate", "lower", "upper", "seed_sd", "plateau_from", "rise"]
    pd.testing.assert_frame_equal(three[numbers], one[numbers])
    assert (three["trials"] == 3 * one["trials"]).all()
    assert (three["plateau_trials"] == 3 * one["plateau_trials"]).all()


def test_the_estimate_is_the_mean_over_the_plateaus_trials_also_where_seeds_failed() -> None:
    trials = drawn(150, seeds=3)
    noise = np.random.default_rng(0).integers(-1, 2, len(trials))
    trials["active_units"] = (trials["active_units"] + noise).clip(lower=0)
    trials = trials[np.random.default_rng(1).random(len(trials)) < 0.8]
    for _, row in estimate_intrinsic_dimension(trials).iterrows():
        assert row["verdict"] == "saturated"
        members = trials.query(trials_query(row))
        plateau = members.query(f"latent_dim >= {row['plateau_from']}")
        assert row["estimate"] == pytest.approx(plateau["active_units"].mean())
        assert row["plateau_trials"] == len(plateau)
        assert row["lower"] < row["estimate"] < row["upper"]


def test_two_latent_dims_that_stand_for_one_another_say_little_of_the_spread() -> None:
    counts = {dim: min(dim, 10) for dim in (*range(1, 11), 12, 13)}
    rows: Rows = [{"latent_dim": dim, "active_units": count} for dim, count in counts.items()]
    assert estimate_intrinsic_dimension(trials_of(rows))["verdict"].tolist() == ["too few trials"]
    rows.append({"latent_dim": 15, "active_units": 10})
    assert estimate_intrinsic_dimension(trials_of(rows))["verdict"].tolist() == ["saturated"]


def test_counts_that_rise_with_latent_dim_have_no_spread_of_their_own() -> None:
    rows: Rows = [{"latent_dim": dim, "active_units": dim} for dim in range(16, 61, 2)]
    (row,) = estimate_intrinsic_dimension(trials_of(rows)).to_dict("records")
    assert (row["verdict"], row["at_least"], row["seed_sd"]) == ("not saturated", 60, 0)


def test_the_interval_is_around_the_estimate_though_a_point_has_most_of_the_trials() -> None:
    trials = drawn(60, architecture="dense-16", beta={"log_range": [1.0, 2.0]})
    trials["active_units"] = trials["latent_dim"].clip(upper=8)
    heavy = trials[trials["latent_dim"] == trials["latent_dim"].max()].iloc[[0] * 200]
    ids = [f"h{seed}" for seed in range(1, 201)]
    heavy = heavy.assign(trial_id=ids, seed=range(1, 201), active_units=10)
    (_, row), *_ = estimate_intrinsic_dimension(pd.concat([trials, heavy])).iterrows()
    assert row["estimate"] > 9
    assert row["lower"] < row["estimate"] < row["upper"]


def test_an_unstable_range_does_not_blame_the_seeds() -> None:
    trials = drawn(200)
    wild = np.random.default_rng(0).integers(0, 20, len(trials))
    found = estimate_intrinsic_dimension(trials.assign(active_units=wild))
    unstable = found[found["verdict"] == "unstable"]
    assert len(unstable)
    for _, row in unstable.iterrows():
        assert "trials differ by" in describe_estimate(row)


def test_the_beta_of_drops_lies_between_ranges() -> None:
    estimates = estimate_intrinsic_dimension(drawn(600))
    curve = dimension_by_beta(estimates)
    assert {"beta_from", "beta_to"} <= set(curve.columns)
    drops = beta_of_drops(estimates).dropna(subset="beta")
    assert len(drops) > 6
    for row in drops.itertuples():
        # round(8/√β) falls from n to n − 1 where 8/√β is n − ½.
        truth = (8 / (row.from_dimension - 0.5)) ** 2
        assert np.isnan(row.lower) or row.lower <= truth
        assert np.isnan(row.upper) or truth <= row.upper
        assert {row.lower, row.upper} <= {0.2, 0.5, 1, 2, 5} or np.isnan(
            [row.lower, row.upper]
        ).any()


def test_many_latent_dims_share_columns() -> None:
    trials = drawn(300)
    table = active_units_table(trials)
    assert list(table.columns) == ["2 to 3", "4 to 7", "8 to 15", "16 to 31", "32 to 63"]
    names = ["dataset", "architecture", "beta_from", "beta_to"]
    assert table.index.names == names
    cell = trials.query("family == 'conv' and 1 <= beta < 2 and 8 <= latent_dim < 16")
    counts = cell["active_units"]
    shown = table.loc[("mnist", "conv-16-32", 1, 2), "8 to 15"]
    assert shown == f"{counts.mean():.1f} ({counts.min()}-{counts.max()})"


def test_comparing_makes_no_group_of_every_trial() -> None:
    left, right = drawn(100), drawn(100).assign(initialisation="torch")
    right["trial_id"] = "r" + right["trial_id"]
    differences = compare_trials(left, right).differences
    assert set(differences["group"]) == {"all", "conv-16-32 on mnist", "dense-256-32-24 on mnist"}
    assert (differences["matched_by"] == "point").all()
    assert differences.loc[differences["group"] == "all", "pairs"].max() == 100


# Intervals


def searches(cell: "tuple[int, float, int, int, float]", top: int, studies: int) -> pd.DataFrame:
    """Random searches in which dimension·β^-slope units are active, β from 1 to 2.

    The architecture tells the study, so each study is a group.
    """
    dimension, noise, points, seeds, slope = cell
    random = np.random.default_rng([4, dimension, points, seeds, int(10 * noise)])
    drawn = studies * points
    beta = np.exp(random.uniform(0, np.log(2), drawn))
    latent_dim, rate = random.integers(2, top + 1, drawn), random.random(drawn)
    at = np.repeat(np.arange(drawn), seeds)
    active = np.minimum(latent_dim, dimension * beta**-slope)[at]
    active = np.rint(active + random.normal(0, noise, len(at))).clip(0, latent_dim[at])
    own = {
        "trial_id": np.arange(len(at)).astype(str),
        "architecture": "dense-" + pd.Series(at // points).astype("str"),
        "latent_dim": latent_dim[at],
        "beta": beta[at],
        "learning_rate": rate[at],
        "seed": np.tile(np.arange(seeds), drawn),
        "active_units": active.astype(int),
    }
    shared = {name: value for name, value in TRIAL.items() if name not in own}
    return pd.DataFrame(own).assign(**shared)


CELLS = [
    (dimension, noise, points, seeds, slope)
    for dimension in (5, 10, 20)
    for noise in (0.3, 0.7, 1.5)
    for points, seeds in ((20, 1), (40, 1), (15, 3))
    for slope in (0.0, 0.25)
]


def score(cell: tuple[int, float, int, int, float], top: int, studies: int) -> dict[str, Any]:
    dimension, *_, slope = cell
    truth = dimension * np.mean(2 ** (-slope * np.linspace(0, 1, 1001)))  # over log β
    found = estimate_intrinsic_dimension(searches(cell, top, studies))
    assert len(found) == studies, "one range, one group"
    known = found.dropna(subset="lower")
    covered = ((known["lower"] <= truth) & (truth <= known["upper"])).mean()
    return found["verdict"].value_counts(normalize=True).to_dict() | {"covered": covered}


@pytest.mark.parametrize("cell", CELLS)
def test_intervals_cover_the_mean_over_the_range(cell: tuple[int, float, int, int, float]) -> None:
    scores = score(cell, 2 * cell[0] + 8, 200)
    assert scores["covered"] >= 0.9
    assert scores["saturated"] >= 0.95


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell[4] == 0])
def test_searches_below_the_dimension_are_not_saturated(
    cell: tuple[int, float, int, int, float],
) -> None:
    scores = score(cell, cell[0] - 1, 200)
    assert scores.get("saturated", 0) <= 0.02
    assert scores["not saturated"] >= 0.8  # the rest: too few trials near the end to say so


def rows_of_cells() -> Rows:
    return [
        {"cell": cell} | score(cell, top, 200)
        for cell in CELLS
        for top in (2 * cell[0] + 8, cell[0] - 1)
        if top > cell[0] or cell[4] == 0
    ]


if __name__ == "__main__":
    print(pd.DataFrame(rows_of_cells()).round(3).to_string())
