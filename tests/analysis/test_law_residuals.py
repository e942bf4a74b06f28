import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.law_residuals import residual_by
from analysis.law_units import SUMS
from tests.analysis.law_tables import at_law, random_study, tables

variances = st.floats(0, 2, allow_nan=False)
statistics = st.tuples(variances, variances, st.floats(-1, 1))  # σ², Var μ, mean of μ
tables_of_statistics = st.lists(st.lists(statistics, min_size=1, max_size=6), max_size=5)


def by_hand(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    residual = (frame["posterior_variance"] + frame["mean_variance"] - 1).groupby(frame[column])
    return pd.DataFrame(
        {
            "units": residual.size(),
            "mean": residual.mean(),
            "sd": residual.std(ddof=0),
            "q05": residual.quantile(0.05),
            "q25": residual.quantile(0.25),
            "median": residual.median(),
            "q75": residual.quantile(0.75),
            "q95": residual.quantile(0.95),
        }
    )


@pytest.mark.parametrize("column", ["beta", "latent_dim", "epochs_trained", "active"])
def test_residuals_by_value(column: str) -> None:
    trials, units = random_study()
    units.loc[::3, "mean_variance"] = 0.001
    units["active"] = units["mean_variance"] > 0.01
    found = residual_by(trials, units, column)
    of_trial = trials[["trial_id", "beta", "latent_dim", "epochs_trained"]]
    plain = by_hand(units.merge(of_trial, on="trial_id"), column)
    law = found[found["sum"] == SUMS["law"]]
    assert law[list(plain)].to_numpy() == pytest.approx(plain.to_numpy())
    assert set(law["by"]) == {column}
    if column == "active":
        assert law["label"].tolist() == ["inactive", "active"]
        assert law[["low", "middle", "high"]].isna().all(axis=None)
    else:
        for name in ("low", "middle", "high"):
            assert law[name].tolist() == plain.index.tolist()
        assert law["label"].tolist() == [f"{value:g}" for value in plain.index]


def test_both_sums_are_summarised() -> None:
    trials, units = random_study()
    found = residual_by(trials, units, "beta")
    assert found["sum"].tolist() == list(SUMS.values()) * 3
    swapped = units.assign(mean_variance=units["second_moment"])
    first = residual_by(trials, swapped, "beta")
    numbers = ["mean", "sd", "q05", "q95"]
    pd.testing.assert_frame_equal(
        found.loc[found["sum"] == SUMS["second"], numbers].reset_index(drop=True),
        first.loc[first["sum"] == SUMS["law"], numbers].reset_index(drop=True),
    )
    assert (found["mean"].iloc[1::2].to_numpy() > found["mean"].iloc[::2].to_numpy()).all()


@given(
    values=st.lists(st.floats(0, 5), min_size=1, max_size=80),
    bins=st.integers(1, 9),
)
@settings(max_examples=80, deadline=None)
def test_bins_part_the_units_in_order(values: list[float], bins: int) -> None:
    trials, units = tables([at_law(*np.linspace(-0.5, 0.5, len(values)))])
    units = units.assign(kl=values)
    found = residual_by(trials, units, "kl", bins)
    law = found[found["sum"] == SUMS["law"]].reset_index(drop=True)
    assert law["units"].sum() == len(values)
    assert len(law) <= bins
    if len(set(values)) <= bins:
        assert law["middle"].tolist() == sorted(set(values))
    assert (law["low"] <= law["middle"]).all()
    assert (law["middle"] <= law["high"]).all()
    assert (law["high"].iloc[:-1].to_numpy() < law["low"].iloc[1:].to_numpy()).all()
    for _, row in law.iterrows():
        within = units["kl"].between(row["low"], row["high"])
        residual = (units["posterior_variance"] + units["mean_variance"] - 1)[within]
        assert row["units"] == within.sum()
        assert row["mean"] == pytest.approx(residual.mean(), abs=1e-12)
        assert row["middle"] == pytest.approx(units["kl"][within].median())


def test_bins_hold_equal_counts() -> None:
    trials, units = tables([at_law(*[0.0] * 120)])
    units["kl"] = np.random.default_rng(0).permutation(120) / 40
    found = residual_by(trials, units, "kl")
    assert found["units"].tolist() == [6] * 40
    assert found["label"].iloc[0] == "0 to 0.125"


def test_residuals_along_training() -> None:
    trials, final = tables([at_law(0.0, 0.0)])
    early = final.assign(epoch=5, mean_variance=final["mean_variance"] + 0.3)
    test = final.assign(split="test", mean_variance=9.0)
    units = pd.concat([test, early, final])
    found = residual_by(trials, units, "epoch")
    law = found[found["sum"] == SUMS["law"]]
    assert law["middle"].tolist() == [5, 20]
    assert law["mean"].tolist() == pytest.approx([0.3, 0.0])
    assert residual_by(trials, units, "epochs_trained")["middle"].unique().tolist() == [20]


def test_residuals_by_text_and_by_null() -> None:
    rows = [{"architecture": name} for name in ("dense-16", "conv-4", "dense-16")]
    trials, units = tables([at_law(0.1), at_law(0.3), at_law(0.2)], rows)
    found = residual_by(trials, units, "architecture")
    assert found["label"].tolist() == ["conv-4", "conv-4", "dense-16", "dense-16"]
    assert found["mean"].tolist() == pytest.approx([0.3, 0.3, 0.15, 0.15])
    assert found["middle"].isna().all()
    units["kl"] = [0.5, None, 0.7]
    assert residual_by(trials, units, "kl")["units"].sum() == 4
    with pytest.raises(KeyError):
        residual_by(trials, units, "no such column")
