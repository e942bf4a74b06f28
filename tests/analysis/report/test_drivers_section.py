"""What the report says of importances, where points are a grid and where they are none."""

from dataclasses import replace
from itertools import product

import pandas as pd
import pytest

from analysis.report.content import Figure
from analysis.report.drivers_section import drivers_section
from analysis.study_tables import StudyTables
from study.commands.reporting import study_tables
from tests.analysis.report.reported import only, simulated
from tests.analysis.tables import trials_of


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> StudyTables:
    return study_tables(simulated(tmp_path_factory.mktemp("studies"), trials=40))


def grid() -> pd.DataFrame:
    return trials_of(
        [
            {"architecture": name, "beta": beta, "seed": seed, "active_units": int(8 / beta) + seed}
            for name, beta, seed in product(("dense-8", "conv-4"), (0.5, 1.0, 2.0), (0, 1, 2))
        ]
    )


def caption(tables: StudyTables, trials: pd.DataFrame) -> str:
    section = drivers_section(replace(only(tables, trials), trials=trials))
    assert section is not None
    (figure,) = (b for b in section.blocks if isinstance(b, Figure) and b.name == "importance")
    return figure.caption


def test_the_seed_is_noise_in_a_grid_only(tables: StudyTables) -> None:
    trials = grid()
    assert caption(tables, trials).endswith("and so is all that does not exceed it.")
    failed = trials.assign(status=["failed", *["completed"] * 17])
    assert "noise" in caption(tables, failed)  # it was planned as one
    apart = trials[(trials["seed"] == 0) | (trials["architecture"] == "dense-8")]
    assert "no full grid" in caption(tables, apart)
    assert "is noise" not in caption(tables, apart)
