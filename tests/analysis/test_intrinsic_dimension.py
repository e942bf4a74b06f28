import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.activity import RULES
from analysis.groups import group_columns
from analysis.intrinsic_dimension import (
    VERDICTS,
    Criteria,
    describe_estimate,
    estimate_by_rule,
    estimate_intrinsic_dimension,
)
from study.tables import TRIALS, UNITS
from tests.analysis.simulated_counts import LONG_ENOUGH, TOO_SHORT, score, worst
from tests.analysis.tables import trials_of, units_of

NUMBERS = ["estimate", "lower", "upper", "at_least"]
REAL = {
    2: [2, 2, 2],
    4: [4, 4, 4],
    8: [7, 7, 8],
    12: [8, 7, 8],
    16: [8, 8, 8],
    24: [8, 9, 8],
    32: [8, 8, 8],
}
"""As a dense network on MNIST has it: the knee is smooth, seeds differ a little."""

Counts = Mapping[int, Sequence[int | None]]


def sweep(counts: Counts, **more: Any) -> pd.DataFrame:
    """The trials of one group: counts by latent_dim, a seed each."""
    rows = [
        {"latent_dim": dim, "seed": seed, "active_units": count} | more
        for dim, values in counts.items()
        for seed, count in enumerate(values)
    ]
    return trials_of(rows)


def answer(counts: Counts, criteria: Criteria | None = None, **more: Any) -> pd.Series:
    found = estimate_intrinsic_dimension(sweep(counts, **more), criteria=criteria or Criteria())
    assert len(found) == 1
    return found.iloc[0]


def same(counts: Mapping[int, int], seeds: int = 3) -> dict[int, list[int]]:
    return {dim: [count] * seeds for dim, count in counts.items()}


# Simulated studies of a known dimension: the promise. Every number is over 200 studies per
# cell; `python -m tests.analysis.simulated_counts --cells` prints them all.

OTHER_GRIDS = [("doubling", False), ("every", False), ("just", False), ("every", True)]
GRIDS = [("usual", False), *(pytest.param(*grid, marks=pytest.mark.slow) for grid in OTHER_GRIDS)]


@pytest.mark.parametrize(("grid", "clipped"), GRIDS)
def test_intervals_cover_the_true_dimension(grid: str, clipped: bool) -> None:
    cells = score(LONG_ENOUGH[grid], clipped=clipped)
    print(f"\n{grid}\n{worst(cells).round(3).to_string()}")
    assert len(cells) == 3 * 2 * 28
    assert cells["covered"].min() >= 0.9
    assert cells.loc[:0.7, "saturated"].min() >= 0.95
    # Were intervals refused where they are hard to give, covering would be cheap.
    assert cells["saturated"].min() >= 0.9
    # Were they wide, too: Student's interval for two latent_dims, with counts rounded twice over.
    for (noise, seeds), width in cells.groupby(["noise", "seeds"])["width"].mean().items():
        error = math.sqrt((noise**2 + 2 / 12) / (2 * seeds))
        assert width < 1.05 * 2 * scipy.stats.t.ppf(0.975, 2 * seeds - 2) * error


@pytest.mark.parametrize(("grid", "clipped"), GRIDS)
def test_sweeps_below_the_true_dimension_are_not_saturated(grid: str, clipped: bool) -> None:
    cells = score(TOO_SHORT[grid], clipped=clipped)
    print(f"\n{grid}\n{worst(cells).round(3).to_string()}")
    assert len(cells) == 3 * 2 * 28
    assert cells["not saturated"].min() >= 0.95
    assert cells.loc[:0.7, "saturated"].max() == 0


# One group at a time.


def test_a_saturated_sweep_as_real_ones_are() -> None:
    row = answer(REAL)
    assert row["verdict"] == "saturated"
    assert row["plateau_from"] == 12
    on_plateau = [count for dim, counts in REAL.items() if dim >= 12 for count in counts]
    assert row["estimate"] == pytest.approx(np.mean(on_plateau)) == 8.0
    assert 7.5 < row["lower"] < 8.0 < row["upper"] < 8.5
    assert row["trials"] == 21
    assert row["plateau_trials"] == 12
    assert row["latent_dims"] == 7
    assert row["largest_latent_dim"] == 32
    assert row["trials_without_count"] == 0
    assert pd.isna(row["at_least"])
    cells = [np.var(REAL[dim], ddof=1) for dim in (12, 16, 24, 32)]
    assert row["seed_sd"] == pytest.approx(math.sqrt(np.mean(cells)))
    assert describe_estimate(row) == "8 units, 95% CI 7.7 to 8.3, saturated from latent_dim 12"


def naive_knee(counts: Counts) -> float:
    """The D on a fine grid that fits min(latent_dim, D) best."""
    dims = np.array([dim for dim, values in counts.items() for _ in values])
    active = np.array([count for values in counts.values() for count in values])
    tried = np.arange(0, max(dims) + 0.0005, 0.001)
    costs = ((active - np.minimum(dims, tried[:, None])) ** 2).sum(axis=1)
    return float(tried[costs.argmin()])


SWEEPS = st.dictionaries(
    st.integers(1, 40), st.lists(st.integers(0, 20), min_size=1, max_size=4), min_size=1, max_size=7
)
LENIENT = Criteria(largest_rise=math.inf, spread_units=math.inf)
"""Every group with a plateau and enough trials is saturated: for looking at the numbers."""


@settings(max_examples=150, deadline=None)
@given(counts=SWEEPS)
def test_the_plateau_is_above_the_best_fit_and_the_estimate_is_its_mean(
    counts: dict[int, list[int]],
) -> None:
    row = answer(counts, LENIENT)
    start = naive_knee(counts) + LENIENT.margin
    plateau = {dim: values for dim, values in sorted(counts.items()) if dim > start}
    if min((abs(dim - start) for dim in counts), default=1) < 0.002:
        return  # on the very border, where the fine grid cannot tell
    repeated = [values for values in plateau.values() if len(values) > 1]
    if len(plateau) < 2 or len(repeated) < 2:
        assert row[NUMBERS[:3]].isna().all()
        assert row["verdict"] in ("not saturated", "too few trials")
        return
    active = [count for values in plateau.values() for count in values]
    assert row["verdict"] == "saturated"
    assert row["plateau_from"] == min(plateau)
    assert row["estimate"] == pytest.approx(np.mean(active))
    assert row["lower"] <= row["estimate"] <= row["upper"]
    assert row["plateau_trials"] == len(active)
    assert row["latent_dims"] == len(counts)
    within = [(np.array(values) - np.mean(values)) ** 2 for values in plateau.values()]
    freedom = len(active) - len(plateau)
    assert row["seed_sd"] == pytest.approx(math.sqrt(sum(map(sum, within)) / freedom))
    dims = np.repeat(list(plateau), [len(values) for values in plateau.values()])
    slope = np.polyfit(np.log(dims), active, 1)[0]
    length = math.log(max(plateau) / min(plateau))
    assert row["rise"] == pytest.approx(slope * length, abs=1e-6)


@pytest.mark.parametrize(
    "plateau",
    [[[8, 8, 8], [8, 8, 8]], [[7, 9, 8], [8, 10, 8]], [[30, 33], [31, 29, 30], [30, 31, 32, 33]]],
)
def test_the_interval_is_a_stretched_smoothed_bootstrap(plateau: list[list[int]]) -> None:
    """Against a bootstrap written the long way, with other random numbers."""
    row = answer(dict(zip((40, 50, 60), plateau, strict=False)))
    active = np.concatenate(plateau)
    n, k = len(active), len(plateau)
    random = np.random.default_rng(0)
    drawn = random.choice(active, size=(200_000, n)) + random.uniform(-0.5, 0.5, (200_000, n))
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    stretch = math.sqrt(n / (n - 1)) * scipy.stats.t.ppf(0.975, n - k) / scipy.stats.norm.ppf(0.975)
    mean = active.mean()
    half = stretch * (high - low) / 2
    assert row["lower"] == pytest.approx(mean - stretch * (mean - low), abs=0.1 * half)
    assert row["upper"] == pytest.approx(mean + stretch * (high - mean), abs=0.1 * half)


def test_the_interval_does_not_reach_below_zero() -> None:
    row = answer(same({8: 0, 16: 0, 32: 0}))
    assert (row["verdict"], row["estimate"], row["lower"]) == ("saturated", 0.0, 0.0)
    assert row["upper"] > 0
    assert row["plateau_from"] == 8


@pytest.mark.parametrize(
    ("counts", "at_least", "note"),
    [
        (same({2: 2, 4: 4, 8: 8, 12: 12, 16: 16}), 16, "all units active"),
        (same({2: 2, 4: 4, 8: 8, 12: 8}), 8, "one latent_dim above the knee"),
        (same({16: 8}), 8, "one latent_dim"),
        (same({8: 8, 9: 8}), 8, "two within the margin"),
        (same({1: 1}), 1, "one unit"),
        (same({4: 4, 8: 6, 16: 8, 32: 10, 64: 12}), 12, "still rising"),
        (same({16: 8, 32: 9}), 9, "rising by one whole unit, surely"),
    ],
)
def test_not_saturated_and_what_is_sure(counts: Counts, at_least: int, note: str) -> None:
    row = answer(counts)
    assert row["verdict"] == "not saturated"
    assert row["at_least"] == at_least
    assert row[["estimate", "lower", "upper", "plateau_from"]].isna().all()
    assert row["largest_latent_dim"] == max(counts)
    assert pd.notna(row["rise"]) == ("rising" in note)
    units = "1 unit" if at_least == 1 else f"{at_least} units"
    expected = f"not saturated: at least {units} at latent_dim {max(counts)}"
    assert describe_estimate(row) == expected


@settings(max_examples=60, deadline=None)
@given(
    second=st.lists(st.integers(33, 36), min_size=1, max_size=4),
    last=st.lists(st.integers(33, 37), min_size=1, max_size=4),
)
def test_at_least_is_students_lower_bound(second: list[int], last: list[int]) -> None:
    row = answer({33: second, 34: last})  # no plateau
    freedom = len(second) + len(last) - 2
    if max(len(second), len(last)) < 2:
        assert row["verdict"] == "too few trials"
        return
    squares = sum(((np.array(values) - np.mean(values)) ** 2).sum() for values in (second, last))
    spread = math.sqrt(squares / freedom)
    assert row["seed_sd"] == pytest.approx(spread)
    bound = np.mean(last) - scipy.stats.t.ppf(0.95, freedom) * spread / math.sqrt(len(last))
    if row["verdict"] == "not saturated":
        assert row["at_least"] == min(max(0, math.floor(bound + 1e-6)), 34)
    else:
        assert row["verdict"] == "unstable"
        assert spread > 3


def test_at_least_is_no_more_than_latent_dim_and_no_less_than_zero() -> None:
    assert answer({8: [10, 10, 10]})["at_least"] == 8
    assert answer({1: [0, 4, 0], 2: [2]})["at_least"] == 0


@pytest.mark.parametrize(
    "counts",
    [
        {2: [2], 4: [4], 8: [8], 12: [8], 16: [8], 24: [8]},  # one seed only
        {16: [8]},
        {8: [8] * 3, 12: [8], 16: [8]},  # no second seed where the plateau is
        {8: [8] * 3, 12: [8] * 3, 16: [8]},  # at one latent_dim of it only
        {4: [4] * 3, 15: [15], 16: [16]},  # no plateau, and no second seed near the end
    ],
)
def test_too_few_trials(counts: Counts) -> None:
    row = answer(counts)
    assert row["verdict"] == "too few trials"
    assert row[[*NUMBERS, "plateau_from"]].isna().all()
    trials = sum(map(len, counts.values()))
    assert describe_estimate(row) == f"too few trials: {trials} at {len(counts)} latent_dims"


def test_seeds_may_differ_in_number() -> None:
    row = answer({4: [4], 8: [7, 8], 12: [8, 8], 16: [8, 9, 8, 8], 20: [8]})
    assert row["verdict"] == "saturated"
    assert row["plateau_trials"] == 7
    assert row["estimate"] == pytest.approx(57 / 7)


def test_two_latent_dims_suffice_above_a_small_dimension() -> None:
    row = answer(same({8: 3, 16: 3}))
    assert (row["verdict"], row["estimate"], row["plateau_from"]) == ("saturated", 3.0, 8)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (
            {4: [4, 4, 4], 8: [8, 0, 8], 16: [8, 0, 8], 32: [0, 8, 8]},  # some seeds collapse
            "seeds differ by a standard deviation of 4.6 units",
        ),
        ({8: [8, 8, 8], 16: [4, 10, 16]}, "seeds differ by a standard deviation of 4.2 units"),
        (
            same({4: 4, 8: 8, 16: 9, 32: 7, 64: 5}),  # too large to be trained in the time
            "the count falls by 4 units as latent_dim grows",
        ),
    ],
)
def test_unstable(counts: Counts, reason: str) -> None:
    row = answer(counts)
    assert row["verdict"] == "unstable"
    assert row[[*NUMBERS, "plateau_from"]].isna().all()
    assert describe_estimate(row) == f"unstable: {reason}"


def test_a_spread_that_is_large_at_eight_is_small_at_sixty() -> None:
    spread = [-4, 0, 4, 0, -4, 4, 0]  # standard deviation 3.3
    small = {dim: [8 + more for more in spread] for dim in (16, 24, 32)}
    large = {dim: [60 + more for more in spread] for dim in (96, 128, 160)}
    assert answer(small)["verdict"] == "unstable"
    assert answer(large)["verdict"] == "saturated"
    assert answer(small, Criteria(spread_units=3.5))["verdict"] == "saturated"
    assert answer(large, Criteria(spread_share=0.05))["verdict"] == "unstable"


def test_a_change_needs_size_and_significance_to_count() -> None:
    clear_but_small = {16: [8] * 20, 32: [8] * 10 + [9] * 10}
    assert answer(clear_but_small)["verdict"] == "saturated"
    assert answer(clear_but_small, Criteria(largest_rise=0.4))["verdict"] == "not saturated"
    large_but_unclear = {16: [7, 8, 10], 32: [8, 10, 11]}
    assert answer(large_but_unclear)["rise"] == pytest.approx(4 / 3)
    assert answer(large_but_unclear)["verdict"] == "saturated"
    assert answer(large_but_unclear, Criteria(significance=0.3))["verdict"] == "not saturated"
    falling = {dim: [18 - count for count in counts] for dim, counts in large_but_unclear.items()}
    assert answer(falling)["verdict"] == "saturated"
    assert answer(falling, Criteria(significance=0.3))["verdict"] == "unstable"


@settings(max_examples=60, deadline=None)
@given(
    first=st.lists(st.integers(7, 9), min_size=2, max_size=6),
    second=st.lists(st.integers(10, 12), min_size=2, max_size=6),
    third=st.lists(st.integers(10, 13), min_size=0, max_size=3),
)
def test_a_rise_is_told_by_students_test(
    first: list[int], second: list[int], third: list[int]
) -> None:
    """Against scipy's test of the slope, at levels just above and just below its p-value."""
    counts = {dim: values for dim, values in ((20, first), (40, second), (60, third)) if values}
    dims = np.repeat(list(counts), [len(values) for values in counts.values()])
    fit = scipy.stats.linregress(np.log(dims), np.concatenate(list(counts.values())))
    rise = fit.slope * math.log(max(counts) / 20)
    p = fit.pvalue / 2
    if rise < 1 or p < 1e-9:
        return
    for level, verdict in ((p * 0.999, "saturated"), (p * 1.001, "not saturated")):
        row = answer(counts, Criteria(spread_units=math.inf, significance=level))
        assert row["verdict"] == verdict
        assert row["rise"] == pytest.approx(rise)


# Which trials count.


def test_only_completed_trials_count_each_once_and_nulls_are_told() -> None:
    clean = sweep(REAL)
    spoilt = [
        sweep(same({dim: 30 for dim in REAL}), status=status)
        for status in ("diverged", "failed", "pruned")
    ]
    nulls = sweep({16: [None, None], 64: [None]})
    tables = [clean, *spoilt, nulls]
    for number, table in enumerate(tables[1:]):
        table["trial_id"] = f"{number}-" + table["trial_id"]
    other_study = clean.assign(study="other")  # the same trials, taken from there
    found = estimate_intrinsic_dimension(pd.concat([*tables, other_study]))
    assert found["trials_without_count"].tolist() == [3]
    expected = estimate_intrinsic_dimension(clean)
    pd.testing.assert_frame_equal(found.assign(trials_without_count=0), expected, check_dtype=False)


def test_groups_that_did_not_complete_get_a_row() -> None:
    failed = sweep(REAL, status="failed", beta=4.0).assign(active_units=None)
    failed["trial_id"] = "f" + failed["trial_id"]
    found = estimate_intrinsic_dimension(pd.concat([failed, sweep(REAL)]))
    assert found["beta"].tolist() == [1.0, 4.0]
    assert found["verdict"].tolist() == ["saturated", "too few trials"]
    assert found.loc[1, ["trials", "plateau_trials", "trials_without_count"]].tolist() == [0, 0, 0]
    assert describe_estimate(found.iloc[1]) == "too few trials: 0 at 0 latent_dims"


@pytest.mark.parametrize("trials", [TRIALS.empty_table().to_pandas(), trials_of([])])
def test_an_empty_table_gives_an_empty_answer(trials: pd.DataFrame) -> None:
    found = estimate_intrinsic_dimension(trials)
    assert found.empty
    assert {*group_columns(trials), "verdict", *NUMBERS} <= set(found.columns)
    rules = estimate_by_rule(trials, UNITS.empty_table().to_pandas())
    assert rules.empty
    assert "rule" in rules


@pytest.mark.parametrize(
    "control", [{"objective": "no_sampling"}, {"objective": "quadratic_penalty"}, {"beta": 0.0}]
)
@pytest.mark.parametrize("counts", ["active_units", "active_units_kl"])
def test_thresholds_mean_nothing_without_the_variance_part(
    control: dict[str, Any], counts: str
) -> None:
    trials = sweep(REAL, **control)
    trials["active_units_kl"] = trials["active_units"]
    (row,) = (row for _, row in estimate_intrinsic_dimension(trials, counts).iterrows())
    assert row["verdict"] == "too few trials"
    assert row["trials_without_count"] == len(trials)
    assert describe_estimate(row) == (
        "no count of 21 trials means anything, without the KL's variance part"
    )
    trials["active_gain"] = trials["active_units"]
    found = estimate_intrinsic_dimension(trials, "active_gain")
    assert found["verdict"].tolist() == ["saturated"]


def several_groups() -> pd.DataFrame:
    random = np.random.default_rng(5)
    rows = [
        {
            "architecture": f"dense-{width}",
            "beta": beta,
            "decoder": "gaussian" if variance else "bernoulli",
            "decoder_variance": variance,
            "latent_dim": dim,
            "seed": seed,
            "active_units": int(min(dim, width / beta) + random.integers(0, 2)),
        }
        for width in (6, 20)
        for beta in (1.0, 2.0)
        for variance in (None, 0.1, 1.0)
        for dim in (4, 8, 16, 32)
        for seed in range(3)
    ]
    return trials_of(rows)


def test_each_group_is_answered_as_if_it_were_alone() -> None:
    trials = several_groups()
    found = estimate_intrinsic_dimension(trials)
    columns = group_columns(trials)
    assert columns == ["dataset", "architecture", "beta", "decoder", "decoder_variance"]
    assert len(found) == 12
    assert found["decoder_variance"].isna().sum() == 4
    assert found["verdict"].nunique() > 1
    for _, row in found.iterrows():
        members = trials[
            (trials["architecture"] == row["architecture"])
            & (trials["beta"] == row["beta"])
            & (trials["decoder_variance"].fillna(0) == np.nan_to_num(row["decoder_variance"]))
        ]
        (alone,) = (row for _, row in estimate_intrinsic_dimension(members).iterrows())
        measured = [name for name in found.columns if name not in columns]
        pd.testing.assert_series_equal(row[measured], alone[measured], check_names=False)


def test_learned_decoder_variances_make_no_groups() -> None:
    trials = sweep(REAL, decoder="gaussian_learned")
    learned = trials.assign(decoder_variance=np.linspace(0.1, 0.2, len(trials)))
    fixed = [
        trials.assign(decoder="gaussian", decoder_variance=value, trial_id=name + trials.trial_id)
        for name, value in (("a", 0.1), ("b", 1.0))
    ]
    found = estimate_intrinsic_dimension(pd.concat([learned, *fixed]))
    assert found["trials"].tolist() == [21, 21, 21]


def test_neither_order_nor_repetition_changes_the_answer() -> None:
    trials = several_groups()
    shuffled = trials.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(
        estimate_intrinsic_dimension(shuffled), estimate_intrinsic_dimension(trials)
    )
    one = estimate_intrinsic_dimension(trials, criteria=Criteria(seed=1))
    other = estimate_intrinsic_dimension(trials, criteria=Criteria(seed=2))
    assert (one["lower"] != other["lower"]).any()


def test_many_trials_give_the_same_interval_as_the_closed_form() -> None:
    """Beyond a thousand trials the bootstrap is drawn in several blocks."""
    random = np.random.default_rng(0)
    counts = {dim: random.integers(7, 10, 5_000).tolist() for dim in (16, 24, 32)}
    row = answer(counts)
    active = np.concatenate(list(counts.values()))
    half = 1.96 * math.sqrt((active.var() + 1 / 12) / len(active))
    assert row["upper"] - row["estimate"] == pytest.approx(half, rel=0.05)
    assert row["estimate"] - row["lower"] == pytest.approx(half, rel=0.05)


@settings(max_examples=100, deadline=None)
@given(groups=st.lists(SWEEPS, min_size=1, max_size=4))
def test_there_is_a_number_exactly_where_the_verdict_allows_one(groups: list[Counts]) -> None:
    tables = [sweep(counts, beta=number + 1.0) for number, counts in enumerate(groups)]
    trials = pd.concat(tables)
    found = estimate_intrinsic_dimension(trials.assign(trial_id=np.arange(len(trials))))
    assert len(found) == len(groups)
    assert set(found["verdict"]) <= set(VERDICTS)
    saturated = found["verdict"] == "saturated"
    for name in ("estimate", "lower", "upper", "plateau_from"):
        assert (found[name].notna() == saturated).all()
    assert (found["at_least"].notna() == (found["verdict"] == "not saturated")).all()
    assert (
        found["at_least"].dropna() <= found["largest_latent_dim"][found["at_least"].notna()]
    ).all()
    for _, row in found.iterrows():
        words = describe_estimate(row)
        assert "nan" not in words.lower()
        assert "<NA>" not in words


def test_the_table_is_left_as_it_is() -> None:
    trials = several_groups()
    before = trials.copy(deep=True)
    estimate_intrinsic_dimension(trials)
    pd.testing.assert_frame_equal(trials, before)


# The three rules side by side.


def units_for(trials: pd.DataFrame) -> pd.DataFrame:
    """Five units that matter by Var μ, four by KL, three by gain; the same for controls."""
    return units_of(
        [
            {
                "trial_id": trial.trial_id,
                "unit": number,
                "mean_variance": 0.9 * (number < 5),
                "kl": 2.0 * (number < 4),
                "reconstruction_gain": 9.0 * (number < 3),
            }
            for trial in trials.itertuples()
            for number in range(trial.latent_dim)
        ]
    )


def test_the_rules_are_answered_side_by_side() -> None:
    trials = sweep(same({2: 2, 4: 4, 8: 5, 12: 5, 16: 5}))
    found = estimate_by_rule(trials, units_for(trials))
    assert found["rule"].tolist() == list(RULES)
    assert found["estimate"].tolist() == [5.0, 4.0, 3.0]
    strict = estimate_by_rule(trials, units_for(trials), variance=0.95, kl=2.5)
    assert strict["estimate"].tolist() == [0.0, 0.0, 3.0]
    lax = estimate_by_rule(trials, units_for(trials), Criteria(margin=20.0))
    assert (lax["verdict"] == "not saturated").all()


@pytest.mark.parametrize("mixed", [False, True])
def test_controls_are_answered_by_gain_only(mixed: bool) -> None:
    trials = sweep(same({2: 2, 4: 4, 8: 5, 12: 5}), objective="no_sampling")
    if mixed:
        others = trials.assign(objective="elbo", trial_id="e" + trials["trial_id"])
        trials = pd.concat([trials, others])
    found = estimate_by_rule(trials, units_for(trials))
    if not mixed:
        assert found["rule"].tolist() == ["gain"]
        assert found["estimate"].tolist() == [3.0]
        return
    rules = found.groupby("objective")["rule"].apply(list).to_dict()
    assert rules == {"elbo": list(RULES), "no_sampling": ["gain"]}


def test_a_bound_of_no_units_is_not_printed_as_one() -> None:
    rows = [
        {"latent_dim": dim, "seed": seed, "active_units": units}
        for dim, counts in ((2, (1, 2)), (8, (0, 5)))
        for seed, units in enumerate(counts)
    ]
    (row,) = estimate_intrinsic_dimension(trials_of(rows)).to_dict("records")
    assert (row["verdict"], row["at_least"]) == ("not saturated", 0)
    words = describe_estimate(pd.Series(row))
    assert words == "not saturated: no plateau at 2 latent_dims up to 8"
