from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from tests.benchmarks.plan_scale import PLANNING, growth_exponents, measure_one, report


@pytest.mark.parametrize("strategy", ["grid", "random"])
def test_a_small_study_goes_through_all_phases(strategy: str, tmp_path: Path) -> None:
    """Its rows are those that the tables ask for, and every trial has them."""
    measured = measure_one(200, strategy, 64, tmp_path)
    assert measured["packs"] == 4  # about 100 trials of each architecture, 64 at a time
    assert min(measured["phases"].values()) > 0
    for earlier, later in pairwise(measured["memory"].values()):
        assert later > 0.99 * earlier  # a peak never falls; the kernel keeps it by the 100 kB
    trials, units, epochs = (
        pd.read_parquet(tmp_path / "scale-200" / table) for table in ("trials", "units", "epochs")
    )
    assert len(trials) == trials["trial_id"].nunique() == 200
    assert set(trials["status"]) == {"completed"}
    assert len(units) == 2 * trials["latent_dim"].sum()
    assert len(epochs) == trials["epochs"].sum()
    result = {"strategy": strategy, "pack_size": 64, "sizes": [measured], "growth": {PLANNING: []}}
    assert "200 trials" in report(result)


def test_growth_is_one_where_time_goes_with_size() -> None:
    sizes = [{"trials": n, "phases": {"line": 3 * n, "square": n**2}} for n in (10, 100, 1000)]
    assert growth_exponents(sizes) == {
        "line": pytest.approx([1, 1]),
        "square": pytest.approx([2, 2]),
    }
