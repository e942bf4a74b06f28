from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.activity import (
    RULES,
    THRESHOLDS,
    active_counts,
    sensitivity_at_plateau,
    threshold_sensitivity,
)
from analysis.intrinsic_dimension import estimate_intrinsic_dimension
from study.tables import TRIALS, UNITS
from tests.analysis.tables import trials_of, units_of

COUNTS = [f"active_{rule}" for rule in RULES]
NO_UNITS = UNITS.empty_table().to_pandas()


def unit(trial_id: str, number: int, **statistics: Any) -> dict[str, Any]:
    known = {"mean_variance": 0.5, "kl": 1.0, "reconstruction_gain": 10.0}
    return {"trial_id": trial_id, "unit": number} | known | statistics


def counts_of(trials: pd.DataFrame, units: pd.DataFrame, **thresholds: float) -> list[Any]:
    """The counts of the only trial."""
    (row,) = active_counts(trials, units, **thresholds)[COUNTS].astype(object).to_numpy().tolist()
    return [None if value is pd.NA else value for value in row]


def test_the_three_rules_side_by_side() -> None:
    trials = trials_of([{"trial_id": "a", "beta": 2.0}])
    units = units_of(
        [
            unit("a", 0, mean_variance=0.9, kl=3.0, reconstruction_gain=6.1),  # all three
            unit("a", 1, mean_variance=0.9, kl=3.0, reconstruction_gain=5.9),  # gain < 2 · 3
            unit("a", 2, mean_variance=0.011, kl=0.09, reconstruction_gain=0.1),  # variance only
            unit("a", 3, mean_variance=0.009, kl=0.11, reconstruction_gain=0.2),  # kl only
        ]
    )
    assert counts_of(trials, units) == [3, 3, 1]


def test_a_unit_exactly_at_a_threshold_is_not_active() -> None:
    trials = trials_of([{"trial_id": "a"}])
    units = units_of([unit("a", 0, mean_variance=0.01, kl=0.1, reconstruction_gain=0.1)])
    assert counts_of(trials, units) == [0, 0, 0]
    assert counts_of(trials, units, variance=0.009, kl=0.09, least_gain=0.09) == [1, 1, 0]
    assert counts_of(trials, units.assign(reconstruction_gain=0.11)) == [0, 0, 1]
    assert counts_of(trials, units.assign(kl=0.05)) == [0, 0, 0]  # at least_gain


def test_chance_does_not_make_a_dead_unit_pay_for_itself() -> None:
    trials = trials_of([{"trial_id": "a"}])
    dead = {"mean_variance": 0.001, "kl": 0.0015, "reconstruction_gain": 0.0047}  # from real tiles
    units = units_of([unit("a", 0), unit("a", 1, **dead)])
    assert counts_of(trials, units) == [1, 1, 1]
    assert counts_of(trials, units, least_gain=0.0) == [1, 1, 2]  # the inequality alone


@pytest.mark.parametrize(
    "control", [{"objective": "quadratic_penalty"}, {"objective": "no_sampling"}, {"beta": 0.0}]
)
def test_without_the_variance_part_only_the_relative_gain_counts(control: dict[str, Any]) -> None:
    trials = trials_of([{"trial_id": "a"} | control])
    gains = [50.0, 49.0, 1.01, 0.99, -1.0]  # 1% of the positive ones is 1.01
    units = units_of(
        [
            unit("a", number, kl=9.0, reconstruction_gain=gain)  # Var μ and KL say "active"
            for number, gain in enumerate(gains)
        ]
    )
    assert counts_of(trials, units) == [None, None, 2]
    assert counts_of(trials, units, relative_gain=0.0099) == [None, None, 3]
    assert counts_of(trials, units, relative_gain=0.3) == [None, None, 2]
    nothing = units.assign(reconstruction_gain=-0.01)
    assert counts_of(trials, nothing) == [None, None, 0]


def test_what_is_not_known_is_null() -> None:
    trials = trials_of([{"trial_id": name} for name in ("gainless", "diverged", "unitless")])
    units = units_of(
        [
            unit("gainless", 0, reconstruction_gain=None),
            unit("gainless", 1, reconstruction_gain=None),
            unit("diverged", 0),
            unit("diverged", 1, mean_variance=np.nan, kl=np.nan),
        ]
    )
    found = active_counts(trials, units)
    assert found["trial_id"].tolist() == ["gainless", "diverged", "unitless"]
    assert found[COUNTS].dtypes.astype(str).tolist() == ["Int64"] * 3
    assert found.loc[0, ["active_variance", "active_kl"]].tolist() == [2, 2]
    assert found["active_gain"].isna().all()
    assert found.loc[1:, COUNTS].isna().all(axis=None)


def test_only_the_last_epoch_on_the_training_images_counts() -> None:
    trials = trials_of([{"trial_id": "a"}, {"trial_id": "b"}])
    units = units_of(
        [
            unit("a", 0, epoch=10),
            unit("a", 1, epoch=10),
            unit("a", 0, epoch=20),
            unit("a", 1, epoch=20, mean_variance=0.0, kl=0.0, reconstruction_gain=0.0),
            unit("a", 1, epoch=20, split="test"),
            unit("b", 0, epoch=5),
        ]
    )
    assert active_counts(trials, units)[COUNTS].to_numpy().tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_trial_of_two_studies_is_counted_once() -> None:
    once = trials_of([{"trial_id": "a"}]), units_of([unit("a", 0), unit("a", 1)])
    twice = [pd.concat([table, table.assign(study="other")]) for table in once]
    pd.testing.assert_frame_equal(active_counts(*twice), active_counts(*once))
    stranger = units_of([unit("stranger", 0)])
    pd.testing.assert_frame_equal(
        active_counts(once[0], pd.concat([stranger, once[1]])), active_counts(*once)
    )


def random_tables(seed: int, trials: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials of several groups and their units in random order, with nulls here and there."""
    random = np.random.default_rng(seed)
    rows = [
        {
            "beta": float(random.choice([0.0, 0.5, 2.0])),
            "objective": str(random.choice(["elbo", "elbo", "no_sampling"])),
            "decoder": str(random.choice(["bernoulli", "gaussian"])),
            "decoder_variance": 0.1,
            "status": str(random.choice(["completed", "completed", "completed", "diverged"])),
            "latent_dim": int(random.integers(1, 6)),
        }
        for _ in range(trials)
    ]
    table = trials_of(rows)
    units = [
        unit(
            trial_id,
            number,
            mean_variance=float(random.lognormal(-4, 2)),
            kl=float(random.lognormal(-2, 2)),
            reconstruction_gain=float(random.normal(0.2, 1)) if random.random() > 0.02 else None,
        )
        for trial_id, dim in zip(table["trial_id"], table["latent_dim"], strict=True)
        for number in range(dim)
    ]
    return table, units_of(units).sample(frac=1, random_state=seed)


def naive_count(trial: Any, units: pd.DataFrame, rule: str, threshold: float) -> int | None:
    """One trial's active units, one unit after the other."""
    control = trial.objective != "elbo" or trial.beta == 0
    rows = units[units["trial_id"] == trial.trial_id].to_dict("records")
    if control == (rule in ("variance", "kl", "gain")):
        return None
    total = sum(max(row["reconstruction_gain"] or 0, 0) for row in rows)
    count = 0
    for row in rows:
        gain = row["reconstruction_gain"]
        if rule in ("gain", "relative_gain") and (gain is None or np.isnan(gain)):
            return None
        count += {
            "variance": lambda row=row: row["mean_variance"] > threshold,
            "kl": lambda row=row: row["kl"] > threshold,
            "gain": lambda row=row: row["reconstruction_gain"] > threshold * trial.beta * row["kl"],
            "relative_gain": lambda row=row: row["reconstruction_gain"] > threshold * total,
        }[rule]() and not ("gain" in rule and gain <= 0.1)
    return count


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), trials=st.integers(1, 12))
def test_counts_are_those_of_a_plain_loop(seed: int, trials: int) -> None:
    table, units = random_tables(seed, trials)
    found = active_counts(table, units)
    for trial, row in zip(table.itertuples(), found.itertuples(), strict=True):
        gain = naive_count(trial, units, "gain", 1.0)
        expected = [
            naive_count(trial, units, "variance", 0.01),
            naive_count(trial, units, "kl", 0.1),
            naive_count(trial, units, "relative_gain", 0.01) if gain is None else gain,
        ]
        counts = [row.active_variance, row.active_kl, row.active_gain]
        assert [None if value is pd.NA else value for value in counts] == expected


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_sensitivity_is_that_of_a_plain_loop(seed: int) -> None:
    table, units = random_tables(seed, 15)
    found = threshold_sensitivity(table, units)
    keys = [name for name in found.columns if name not in ("active_units", "trials")]
    expected: dict[Any, list[int]] = {}
    for trial in table[table["status"] == "completed"].itertuples():
        for rule, values in THRESHOLDS.items():
            for threshold in values:
                count = naive_count(trial, units, rule, threshold)
                if count is not None:
                    variance = 0.1 if trial.decoder == "gaussian" else None
                    place = {"rule": rule, "threshold": threshold, "decoder_variance": variance}
                    point = [place.get(key, getattr(trial, key, None)) for key in keys]
                    expected.setdefault(tuple(point), []).append(count)
    rows = found.astype(object).where(found.notna(), None)
    means = {
        tuple(row[key] for key in keys): (row["active_units"], row["trials"])
        for row in rows.to_dict("records")
    }
    assert means == {
        point: (pytest.approx(np.mean(counts)), len(counts)) for point, counts in expected.items()
    }


def saturating() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three seeds at five latent_dims; five units matter, others are near the threshold."""
    random = np.random.default_rng(1)
    table = trials_of(
        [
            {"latent_dim": dim, "seed": seed, "active_units": min(dim, 5)}
            for dim in (2, 4, 8, 12, 16)
            for seed in range(3)
        ]
    )
    units = units_of(
        [
            unit(trial_id, number, mean_variance=0.9 if number < 5 else random.uniform(0, 0.02))
            for trial_id, dim in zip(table["trial_id"], table["latent_dim"], strict=True)
            for number in range(dim)
        ]
    )
    return table, units


def test_sensitivity_falls_with_the_threshold_and_agrees_with_the_counts() -> None:
    table, units = saturating()
    found = threshold_sensitivity(table, units)
    assert set(found["rule"]) == set(RULES)  # no control here
    for _, curve in found.groupby(["rule", "latent_dim"]):
        assert curve.sort_values("threshold")["active_units"].is_monotonic_decreasing
    counted = table.merge(active_counts(table, units), on="trial_id")
    by_dim = counted.groupby("latent_dim")["active_variance"].mean()
    at_default = found[(found["rule"] == "variance") & (found["threshold"] == 0.01)]
    assert at_default.set_index("latent_dim")["active_units"].to_dict() == by_dim.to_dict()
    assert by_dim[16] > 5  # else the test says nothing


@pytest.mark.parametrize("uneven", [False, True])
def test_sensitivity_at_the_plateau_is_the_mean_over_its_trials(uneven: bool) -> None:
    table, units = saturating()
    if uneven:  # one seed of latent_dim 16 is missing, one of 12 has no gain
        table = table.iloc[:-1]
        units = units.astype({"reconstruction_gain": float})
        units.loc[units["trial_id"] == table["trial_id"].iloc[-3], "reconstruction_gain"] = np.nan
    estimates = estimate_intrinsic_dimension(table)
    assert estimates["plateau_from"].tolist() == [8]
    found = sensitivity_at_plateau(threshold_sensitivity(table, units), estimates)
    counted = table[table["latent_dim"] >= 8].merge(active_counts(table, units), on="trial_id")
    for rule, threshold in (("variance", 0.01), ("kl", 0.1), ("gain", 1.0)):
        (row,) = found[(found["rule"] == rule) & (found["threshold"] == threshold)].itertuples()
        assert row.active_units == pytest.approx(counted[f"active_{rule}"].mean())
        assert row.trials == counted[f"active_{rule}"].notna().sum()
    assert (found["trials"].max(), found["trials"].min()) == ((8, 7) if uneven else (9, 9))


def test_groups_without_a_plateau_have_no_sensitivity_there() -> None:
    table, units = saturating()
    short = table[table["latent_dim"] <= 4]
    sensitivity = threshold_sensitivity(short, units)
    assert not sensitivity.empty
    assert sensitivity_at_plateau(sensitivity, estimate_intrinsic_dimension(short)).empty


def test_groups_whose_decoder_variance_is_null_keep_their_plateau() -> None:
    table, units = saturating()
    others = [
        table.assign(decoder="gaussian", decoder_variance=variance, trial_id=name + table.trial_id)
        for name, variance in (("g", 0.1), ("h", 1.0))
    ]
    trials = pd.concat([table, *others])
    names = ("", "g", "h")
    all_units = pd.concat([units.assign(trial_id=name + units["trial_id"]) for name in names])
    estimates = estimate_intrinsic_dimension(trials)
    found = sensitivity_at_plateau(threshold_sensitivity(trials, all_units), estimates)
    assert found["decoder_variance"].isna().sum() == len(found) / 3 > 0


def test_learned_decoder_variances_make_no_groups_of_sensitivity() -> None:
    table, units = saturating()
    learned = np.linspace(0.1, 0.2, len(table))
    table = table.assign(decoder="gaussian_learned", decoder_variance=learned)
    fixed = [
        table.assign(decoder="gaussian", decoder_variance=variance, trial_id=name + table.trial_id)
        for name, variance in (("g", 0.1), ("h", 1.0))
    ]
    found = threshold_sensitivity(pd.concat([table, *fixed]), units)
    assert found["decoder_variance"].isna().all()
    assert (found["trials"] == 3).all()


@pytest.mark.parametrize("kind", ["empty", "all failed", "no units"])
def test_nothing_to_count(kind: str) -> None:
    table, units = saturating()
    trials = {
        "empty": TRIALS.empty_table().to_pandas(),
        "all failed": table.assign(status="failed", active_units=None),
        "no units": table,
    }[kind]
    units = NO_UNITS if kind != "all failed" else units
    found = active_counts(trials, units)
    assert len(found) == len(trials)
    assert list(found.columns) == ["trial_id", *COUNTS]
    sensitivity = threshold_sensitivity(trials, units)
    assert sensitivity.empty
    assert {"rule", "threshold", "active_units", "latent_dim"} <= set(sensitivity.columns)
    assert sensitivity_at_plateau(sensitivity, estimate_intrinsic_dimension(trials)).empty


def test_the_tables_are_left_as_they_are() -> None:
    table, units = saturating()
    before = table.copy(deep=True), units.copy(deep=True)
    active_counts(table, units)
    threshold_sensitivity(table, units)
    pd.testing.assert_frame_equal(table, before[0])
    pd.testing.assert_frame_equal(units, before[1])
