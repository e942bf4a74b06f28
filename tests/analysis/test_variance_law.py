"""The variance law against plain recomputation, the paper's own numbers and exact theory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.law_residuals import residual_by
from analysis.law_units import law_units
from analysis.variance_law import (
    expected_violation,
    law_by_group,
    law_by_trial,
    law_controls,
    law_overall,
)
from tests.analysis.law_tables import EMPTY, at_law, random_study, tables, unit
from tests.analysis.paper_tables import paper_tables
from tests.analysis.tables import trials_of, units_of

variances = st.floats(0, 2, allow_nan=False)
statistics = st.tuples(variances, variances, st.floats(-1, 1))  # σ², Var μ, mean of μ
tables_of_statistics = st.lists(st.lists(statistics, min_size=1, max_size=6), max_size=5)


# The paper


def test_the_papers_tables_give_the_papers_numbers() -> None:
    trials, units = paper_tables()
    (row,) = law_overall(trials, units).to_dict("records")
    assert (row["trials"], row["units"]) == (2, 32)
    assert f"{row['law_mean']:.3f}" == "0.997"
    assert f"{row['law_variance']:.5f}" == "0.00048"  # 0.00049 if divided by N - 1
    assert row["law_mean"] == pytest.approx(0.9968506719, abs=1e-10)
    assert row["law_variance"] == pytest.approx(0.00047875902, abs=1e-11)
    assert np.isnan(row["second_mean"])  # the paper does not report the means
    assert np.isnan(row["second_variance"])
    points = law_units(trials, units)
    assert points.groupby("trial_id")["active"].sum().tolist() == [8, 8]
    assert ((points["mean_variance"] > 0.01) == points["active"]).all()


def test_the_papers_tables_one_by_one() -> None:
    trials, units = paper_tables()
    by_trial = law_by_trial(trials, units)
    assert by_trial["law_mean"].tolist() == pytest.approx([0.9944157579, 0.9992855859], abs=1e-10)
    assert by_trial["law_variance"].tolist() == pytest.approx([0.00031309, 0.00063257], abs=1e-8)
    assert by_trial["units"].tolist() == [16, 16]
    assert by_trial["verdict"].tolist() == ["unknown", "unknown"]  # for want of a second moment
    by_group = law_by_group(trials, units)
    assert by_group["architecture"].tolist() == ["dense-256-32-24", "dense-512-256-64-32"]
    assert by_group["law_mean"].tolist() == by_trial["law_mean"].tolist()


# Exact theory


@settings(deadline=None)
@given(
    eigenvalues=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8),
    noise=st.floats(1e-3, 10),
    beta=st.floats(0.05, 20),
)
def test_a_linear_vae_fulfils_the_law_exactly(
    eigenvalues: list[float], noise: float, beta: float
) -> None:
    """Lucas et al. 2019: σ² = βs/λ and Var μ = 1 - βs/λ if λ > βs, else σ² = 1 and Var μ = 0."""
    ratios = [min(beta * noise / eigenvalue, 1.0) for eigenvalue in eigenvalues]
    trials, units = tables([[(ratio, 1 - ratio, 0.0) for ratio in ratios]], [{"beta": beta}])
    (row,) = law_by_trial(trials, units).to_dict("records")
    assert row["law_mean"] == pytest.approx(1, abs=1e-12)
    assert row["second_mean"] == pytest.approx(1, abs=1e-12)
    assert row["law_variance"] == pytest.approx(0, abs=1e-24)
    assert row["verdict"] == "converged"
    residuals = residual_by(trials, units, "latent_dim")
    assert residuals[["mean", "sd", "q05", "q95"]].to_numpy() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("beta", [0.25, 1.0, 3.0])
def test_probabilistic_pca_on_data_fulfils_the_law(beta: float) -> None:
    """Tipping and Bishop's posterior, worked out by linear algebra on a sample, unit by unit."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(500, 6)) * [3.0, 2.0, 1.5, 1.0, 0.6, 0.3] + 5
    centred = (images - images.mean(0)) @ np.linalg.qr(generator.normal(size=(6, 6)))[0]
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    threshold = beta * 0.7  # β·s: the noise that the KL's weight makes of s
    weights = (vectors * np.sqrt(np.maximum(eigenvalues - threshold, 0)))[:, ::-1][:, :4]
    precision = weights.T @ weights + threshold * np.eye(4)
    posterior_variance = threshold * np.diag(np.linalg.inv(precision))
    means = centred @ weights @ np.linalg.inv(precision)
    values = list(zip(posterior_variance, means.var(0), means.mean(0), strict=True))
    trials, units = tables([values], [{"beta": beta}])
    active = int((eigenvalues > threshold).sum())
    assert law_units(trials, units)["active"].sum() == min(active, 4)
    assert law_units(trials, units)["law"].to_numpy() == pytest.approx(1, abs=1e-12)
    assert law_by_trial(trials, units)["verdict"].tolist() == ["converged"]


# Sums, means and variances


@given(tables_of_statistics)
@settings(max_examples=60, deadline=None)
def test_sums_agree_with_plain_numpy(of_trials: list[Any]) -> None:
    trials, units = tables(of_trials)
    by_trial = law_by_trial(trials, units)
    assert by_trial["trial_id"].tolist() == trials["trial_id"].tolist()
    for values, (_, row) in zip(of_trials, by_trial.iterrows(), strict=True):
        posterior_variance, mean_variance, mean = np.array(values).T
        law = posterior_variance + mean_variance
        second = law + mean**2
        assert row["units"] == len(values)
        assert row["law_mean"] == pytest.approx(law.mean())
        assert row["law_variance"] == pytest.approx(law.var(), abs=1e-12)
        assert row["second_mean"] == pytest.approx(second.mean())
        assert row["second_variance"] == pytest.approx(second.var(), abs=1e-12)
        worst = np.abs(second - 1).max()
        assert abs(row["worst_residual"]) == pytest.approx(worst)
        assert second[row["worst_unit"]] - 1 == pytest.approx(row["worst_residual"])
    (overall,) = law_overall(trials, units).to_dict("records")
    pooled = np.array([s + v for values in of_trials for s, v, _ in values])
    assert overall["units"] == len(pooled)
    assert overall["trials"] == len(of_trials)
    if len(pooled):
        assert overall["law_mean"] == pytest.approx(pooled.mean())
        assert overall["law_variance"] == pytest.approx(pooled.var(), abs=1e-12)


def test_units_are_pooled_not_the_means_of_trials() -> None:
    trials, units = tables([at_law(0.4), at_law(0, 0, 0)])
    (row,) = law_overall(trials, units).to_dict("records")
    assert row["law_mean"] == pytest.approx(1.1)
    assert row["law_variance"] == pytest.approx(0.03)
    (grouped,) = law_by_group(trials, units).to_dict("records")
    assert {name: grouped[name] for name in row} == row


def test_groups_part_what_a_study_varies() -> None:
    rows = [
        {"beta": beta, "initialisation": name, "seed": seed}
        for beta in (0.5, 2.0)
        for name in ("glorot", "torch")
        for seed in (0, 1)
    ]
    of_trials = [at_law(0.01 * place, 0.03 * place) for place in range(len(rows))]
    trials, units = tables(of_trials, rows)
    shuffled = units.sample(frac=1, random_state=1)
    found = law_by_group(trials.iloc[::-1], shuffled)
    assert list(found)[:4] == ["dataset", "architecture", "beta", "initialisation"]
    joined = units.merge(trials, on="trial_id")
    joined["law"] = joined["posterior_variance"] + joined["mean_variance"]
    plain = joined.groupby(["beta", "initialisation"])["law"]
    assert found["trials"].tolist() == [2] * 4
    assert found["units"].tolist() == [4] * 4
    assert found["law_mean"].tolist() == pytest.approx(plain.mean().tolist())
    assert found["law_variance"].tolist() == pytest.approx(plain.var(ddof=0).tolist())


def test_fixed_decoder_variances_part_groups_and_learned_ones_do_not() -> None:
    fixed = [{"decoder": "gaussian", "decoder_variance": value} for value in (0.1, 1.0)]
    learned = [{"decoder": "gaussian_learned", "decoder_variance": value} for value in (0.2, 0.3)]
    trials, units = tables([at_law(0.1), at_law(0.2), at_law(0.3), at_law(0.5)], fixed + learned)
    found = law_by_group(trials, units)
    assert found["trials"].tolist() == [1, 1, 2]
    assert found["law_mean"].tolist() == pytest.approx([1.1, 1.2, 1.4])
    assert found["decoder_variance"].isna().tolist() == [False, False, True]


def test_the_second_sum_takes_the_mean_in() -> None:
    trials, units = tables([[(0.5, 0.25, 0.5), (0.25, 0.75, 0.0)]])
    (row,) = law_overall(trials, units).to_dict("records")
    assert (row["law_mean"], row["second_mean"]) == (0.875, 1.0)
    assert (row["law_variance"], row["second_variance"]) == (0.015625, 0.0)


# Which rows count


def test_the_last_epoch_of_the_training_images_counts() -> None:
    trials, units = tables([at_law(0.02)])
    others = units_of(
        [
            unit("0" * 16, 0, (5.0, 5.0, 1.0), epoch=10),
            unit("0" * 16, 0, (6.0, 6.0, 1.0), split="test"),
        ]
    )
    found = law_overall(trials, pd.concat([others, units]))
    pd.testing.assert_frame_equal(found, law_overall(trials, units))
    assert found["law_mean"].item() == pytest.approx(1.02)


@pytest.mark.parametrize("status", ["pruned", "diverged", "failed"])
def test_other_trials_have_sums_but_no_part_in_any_estimate(status: str) -> None:
    trials, units = tables([at_law(0.0), at_law(5.0)], [{}, {"status": status}])
    good, its_units = tables([at_law(0.0)])
    for estimate in (law_overall, law_by_group, law_units):
        pd.testing.assert_frame_equal(estimate(trials, units), estimate(good, its_units))
    assert law_controls(trials, units).empty
    by_active = residual_by(trials, units, "active")
    pd.testing.assert_frame_equal(by_active, residual_by(good, its_units, "active"))
    by_trial = law_by_trial(trials, units)
    assert by_trial["verdict"].tolist() == ["converged", "unknown"]
    assert by_trial["law_mean"].tolist() == pytest.approx([1.0, 6.0])


def test_a_trial_that_two_studies_hold_counts_once() -> None:
    trials, units = tables([at_law(0.3, 0.1), at_law(0.0)])
    both = pd.concat([trials, trials.iloc[[0]].assign(study="other")])
    more = pd.concat([units, units.iloc[:2].assign(study="other")])
    for estimate in (law_overall, law_by_group, law_units):
        pd.testing.assert_frame_equal(estimate(both, more), estimate(trials, units))
        pd.testing.assert_frame_equal(estimate(trials, more), estimate(trials, units))
    by_trial = law_by_trial(both, more)
    assert by_trial["units"].tolist() == [2, 1, 2]
    assert by_trial["law_mean"].tolist() == pytest.approx([1.2, 1.0, 1.2])
    failed_elsewhere = pd.concat([trials.iloc[[0]].assign(status="failed", study="x"), trials])
    assert law_overall(failed_elsewhere, units)["trials"].item() == 2


def test_units_of_other_trials_are_left_out() -> None:
    trials, units = tables([at_law(0.3), at_law(0.0)])
    assert law_overall(trials.iloc[1:], units)["law_mean"].item() == 1
    assert law_by_trial(trials.iloc[1:], units)["law_mean"].tolist() == [1]


# The verdict

TOLERANCES: dict[str, Any] = {"mean_tolerance": 0.02, "unit_tolerance": 0.1}


@pytest.mark.parametrize(
    ("residuals", "verdict"),
    [
        ((0.0, 0.0), "converged"),
        ((0.019, 0.02), "converged"),
        ((-0.019, -0.02), "converged"),
        ((0.021, 0.022), "train longer"),  # the mean is off
        ((-0.021, -0.022), "train longer"),
        ((0.09, -0.09), "converged"),
        ((0.11, -0.11), "train longer"),  # the mean is right, the units are not
        ((*[0.0] * 63, 0.11), "train longer"),  # one unit among many inactive ones
        ((*[0.0] * 63, -0.11), "train longer"),
        ((*[0.0] * 63, 0.09), "converged"),
    ],
)
def test_the_verdict_looks_at_the_mean_and_at_the_worst_unit(
    residuals: tuple[float, ...], verdict: str
) -> None:
    trials, units = tables([at_law(*residuals)])
    assert law_by_trial(trials, units, **TOLERANCES)["verdict"].tolist() == [verdict]


def test_tolerances_are_the_callers() -> None:
    trials, units = tables([at_law(0.05, 0.05), at_law(*[0.0] * 9, 0.15)])

    def verdicts(**tolerances: float) -> list[str]:
        return law_by_trial(trials, units, **TOLERANCES | tolerances)["verdict"].tolist()

    assert verdicts() == ["train longer", "train longer"]
    assert verdicts(mean_tolerance=0.06) == ["converged", "train longer"]
    assert verdicts(unit_tolerance=0.2) == ["train longer", "converged"]


def test_tolerances_that_are_not_given() -> None:
    """Wide enough for the paper's own tables, too narrow for what was seen to change."""
    cases = [0.044, -0.044], [0.079, 0.0], [0.081, 0.0], [-0.081, 0.0], [0.049] * 3, [0.051] * 3
    trials, units = tables([at_law(*residuals) for residuals in cases])
    settled = law_by_trial(trials, units)["verdict"] == "converged"
    assert settled.tolist() == [True, True, False, False, True, False]


def test_the_verdict_judges_the_second_sum() -> None:
    trials, units = tables([[(0.3, 0.7, 0.5)], [(0.3, 0.45, 0.5)]])
    found = law_by_trial(trials, units, **TOLERANCES)
    assert found["law_mean"].tolist() == pytest.approx([1.0, 0.75])
    assert found["verdict"].tolist() == ["train longer", "converged"]


@pytest.mark.parametrize("missing", ["posterior_variance", "mean_variance", "second_moment"])
def test_a_missing_statistic_leaves_the_verdict_open(missing: str) -> None:
    trials, units = tables([at_law(0.0, 0.0), at_law(0.0, 0.0)])
    units.loc[0, missing] = None
    found = law_by_trial(trials, units)
    assert found["verdict"].tolist() == [
        "converged" if missing == "mean_variance" else "unknown",
        "converged",
    ]
    assert found["units"].tolist() == [2 if missing == "second_moment" else 1, 2]


def test_trials_without_units() -> None:
    trials, units = tables([at_law(0.0), []])
    found = law_by_trial(trials, units)
    assert found["units"].tolist() == [1, 0]
    assert found["verdict"].tolist() == ["converged", "unknown"]
    assert found.loc[1, ["law_mean", "worst_unit", "worst_residual"]].isna().all()


def test_the_verdict_keeps_the_trials_index_and_order() -> None:
    trials, units = tables([at_law(0.0), at_law(0.5), at_law(-0.5)])
    trials = trials.set_axis([30, 10, 20]).iloc[[2, 0, 1]]
    found = law_by_trial(trials, units.sample(frac=1, random_state=0))
    assert found.index.tolist() == [20, 30, 10]
    assert found["trial_id"].tolist() == trials["trial_id"].tolist()
    assert found["law_mean"].tolist() == pytest.approx([0.5, 1.0, 1.5])


# Controls

CONTROLS = [
    ("elbo", 0.0),
    ("quadratic_penalty", 0.0),
    ("quadratic_penalty", 2.0),
    ("no_sampling", 0.0),
    ("no_sampling", 2.0),
]


def test_controls_are_apart() -> None:
    settings_of = [("elbo", 1.0), *CONTROLS]
    rows = [{"objective": objective, "beta": beta} for objective, beta in settings_of]
    values = [[(0.01 * place, 0.1 * place, 0.5)] * 2 for place in range(1, len(rows) + 1)]
    trials, units = tables(values, rows)
    assert law_overall(trials, units)["law_mean"].item() == pytest.approx(0.11)
    assert law_by_group(trials, units)["objective"].tolist() == ["elbo"]
    assert set(law_units(trials, units)["trial_id"]) == {trials["trial_id"][0]}
    assert residual_by(trials, units, "beta")["middle"].unique().tolist() == [1.0]
    found = law_controls(trials, units)
    assert list(zip(found["objective"], found["beta"], strict=True)) == sorted(
        CONTROLS, key=lambda setting: (setting[1], setting[0])
    )
    for _, row in found.iterrows():
        place = 1 + settings_of.index((row["objective"], row["beta"]))
        assert row["posterior_variance"] == pytest.approx(0.01 * place)
        assert row["mean_variance"] == pytest.approx(0.1 * place)
        assert row["law_mean"] == pytest.approx(0.11 * place)
        assert row["second_mean"] == pytest.approx(0.11 * place + 0.25)
        assert row["expected"] == expected_violation(row["objective"], row["beta"])
        assert (row["trials"], row["units"]) == (1, 2)
    verdicts = law_by_trial(trials, units)
    assert verdicts["predicted"].tolist() == [True] + [False] * 5
    assert verdicts["verdict"].tolist() == ["train longer"] + ["not predicted"] * 5
    control_units = law_units(trials, units, controls=True)
    assert set(control_units["trial_id"]) == set(trials["trial_id"][1:])


def test_the_objective_is_named_where_all_trials_are_controls() -> None:
    trials, units = tables([at_law(0.0)], [{"objective": "no_sampling"}])
    assert law_controls(trials, units)["objective"].tolist() == ["no_sampling"]
    assert law_overall(trials, units)["units"].item() == 0
    assert law_by_group(trials, units).empty


def test_the_expected_violation_is_that_of_the_objective() -> None:
    """As seen in training (manifold data, 40 epochs, β = 0, 1 and 8)."""
    words = {setting: expected_violation(*setting) for setting in CONTROLS}
    assert words["elbo", 0.0] == words["quadratic_penalty", 0.0]  # the same objective
    assert len(set(words.values())) == 4
    for (objective, beta), text in words.items():
        assert ("σ² falls to 0" in text) == (objective != "no_sampling")
        assert ("nothing holds the scale of μ" in text) == (beta == 0)
        assert ("the penalty draws μ" in text) == (beta > 0)
        assert ("below 1" in text) == ((objective, beta) == ("quadratic_penalty", 2.0))


# Everything


ESTIMATES: list[Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]] = [
    law_units,
    law_by_trial,
    law_by_group,
    law_overall,
    law_controls,
    lambda trials, units: residual_by(trials, units, "active"),
    lambda trials, units: residual_by(trials, units, "kl"),
    lambda trials, units: residual_by(trials, units, "beta"),
    lambda trials, units: residual_by(trials, units, "epoch"),
]


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_nothing_to_measure(
    estimate: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame],
) -> None:
    failed = trials_of([{"status": "failed"}] * 2)
    completed = trials_of([{}] * 2)
    filled = set(estimate(*random_study()))
    for trials in (EMPTY[0], failed, completed):
        found = estimate(trials, EMPTY[1])
        if "units" in found:
            assert (found["units"] == 0).all()
        assert set(found) == filled or estimate is ESTIMATES[4]  # which had none in the study


def test_an_empty_study_in_one_row() -> None:
    (row,) = law_overall(*EMPTY).to_dict("records")
    assert (row["trials"], row["units"]) == (0, 0)
    assert np.isnan(row["law_mean"])


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_the_tables_are_left_as_they_are_and_their_order_is_nothing(
    estimate: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame],
) -> None:
    trials, units = random_study()
    before = trials.copy(deep=True), units.copy(deep=True)
    found = estimate(trials, units)
    pd.testing.assert_frame_equal(trials, before[0])
    pd.testing.assert_frame_equal(units, before[1])
    mixed = estimate(trials, units.sample(frac=1, random_state=2))
    if estimate is law_units:
        mixed = mixed.sort_values(["trial_id", "unit"], ignore_index=True)
    pd.testing.assert_frame_equal(found, mixed)
