import pytest

from analysis.group_words import describe_group
from analysis.law_units import law_units
from analysis.variance_law import (
    law_by_group,
)
from tests.analysis.law_tables import at_law, random_study, tables


def test_points_carry_what_a_tooltip_needs() -> None:
    trials, units = random_study()
    points = law_units(trials, units)
    expected = units.merge(trials, on="trial_id")
    assert points["law"].tolist() == pytest.approx(
        (expected["posterior_variance"] + expected["mean_variance"]).tolist()
    )
    assert points["second"].tolist() == pytest.approx(
        (expected["posterior_variance"] + expected["second_moment"]).tolist()
    )
    for name in ("trial_id", "unit", "kl", "active", "posterior_variance", "mean_variance"):
        assert points[name].tolist() == units[name].tolist()
    for name in ("latent_dim", "beta"):
        assert points[name].tolist() == expected[name].tolist()
    group = expected[["dataset", "architecture", "beta"]]
    assert points["group"].tolist() == [describe_group(row) for _, row in group.iterrows()]
    betas = [name.partition("β = ")[2] for name in points["group"].cat.categories]
    assert betas == ["0.5", "1", "4"]


def test_groups_that_rounding_names_alike_share_a_name() -> None:
    trials, units = tables([at_law(0.0), at_law(0.0)], [{"beta": 1.0}, {"beta": 1.0 + 1e-9}])
    assert law_units(trials, units)["group"].nunique() == 1
    assert len(law_by_group(trials, units)) == 2
