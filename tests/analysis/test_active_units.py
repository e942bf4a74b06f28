import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import active_units_table
from study.tables import TRIALS
from tests.analysis.tables import trials_of


def grid(**more: Any) -> list[dict[str, Any]]:
    return [
        {
            "architecture": name,
            "beta": beta,
            "latent_dim": dim,
            "seed": seed,
            "active_units": active,
        }
        | more
        for name, offset in (("dense-16", 0), ("conv-4", 1))
        for beta in (0.5, 2.0)
        for dim in (2, 10)
        for seed, active in ((0, offset + dim // 2), (1, offset + dim // 2 + (beta == 2)))
    ]


EMPTY = TRIALS.empty_table().to_pandas()
FAILED = trials_of([row | {"status": "failed", "active_units": None} for row in grid()])


def test_a_cell_holds_mean_and_range() -> None:
    trials = trials_of(grid())
    table = active_units_table(trials)
    assert list(table.index.names) == ["dataset", "architecture", "beta"]
    assert list(table.columns) == [2, 10]  # as numbers: 2 before 10
    groups = trials.groupby(["dataset", "architecture", "beta", "latent_dim"])["active_units"]
    for (*group, dim), counts in groups:
        low, high = counts.min(), counts.max()
        expected = f"{low}" if low == high else f"{counts.mean():.1f} ({low}-{high})"
        assert table.loc[tuple(group), dim] == expected
    assert table.loc[("tiles", "conv-4", 2.0), 10] == "6.5 (6-7)"
    assert table.loc[("tiles", "dense-16", 0.5), 2] == "1"


def test_points_that_are_not_there_stay_empty() -> None:
    rows = [row for row in grid() if (row["architecture"], row["latent_dim"]) != ("conv-4", 10)]
    table = active_units_table(trials_of(rows))
    assert table.loc[("tiles", "conv-4", 0.5), 10] == ""
    assert table.loc[("tiles", "dense-16", 0.5), 10] == "5"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("objective", ["elbo", "no_sampling"]),
        ("initialisation", ["glorot", "torch"]),
        ("epochs", [10, 20]),
        ("learning_rate", [1e-3, 1e-4]),
        ("precision", ["float32", "float64"]),
        ("decoder", ["bernoulli", "gaussian"]),
    ],
)
def test_what_varies_gets_rows_of_its_own(name: str, values: list[Any]) -> None:
    rows = [*grid(**{name: values[0]}), *grid(**{name: values[1]})]
    table = active_units_table(trials_of(rows))
    assert list(table.index.names) == ["dataset", "architecture", "beta", name]
    assert len(table) == 8
    assert set(table.index.get_level_values(name)) == set(values)


@pytest.mark.parametrize(
    "control", [{"objective": "no_sampling"}, {"objective": "quadratic_penalty"}, {"beta": 0.0}]
)
def test_controls_have_no_counts(control: dict[str, Any]) -> None:
    """By Var μ they have some, which mean nothing where the latent space has no scale."""
    table = active_units_table(trials_of([*grid(), *grid(**control)]))
    (name, value), *_ = control.items()
    is_control = table.index.get_level_values(name) == value
    assert (table[is_control] == "–").all(axis=None)
    assert not (table[~is_control] == "–").any(axis=None)


def test_two_fixed_decoder_variances_are_not_averaged() -> None:
    """They weigh the KL as beta does, so their active units differ for good."""
    rows = [
        *grid(decoder="gaussian", decoder_variance=0.1),
        *grid(decoder="gaussian", decoder_variance=1.0),
    ]
    table = active_units_table(trials_of(rows))
    assert table.index.names[-1] == "decoder_variance"
    assert len(table) == 8
    beside_bernoulli = active_units_table(trials_of([*rows, *grid()]))
    assert list(beside_bernoulli.index.names[-2:]) == ["decoder", "decoder_variance"]
    assert len(beside_bernoulli) == 12
    assert (beside_bernoulli != "").all(axis=None)


def test_learned_decoder_variances_are_no_groups() -> None:
    rows = [
        row | {"decoder_variance": 0.01 * number}
        for number, row in enumerate(grid(decoder="gaussian_learned"))
    ]
    assert len(active_units_table(trials_of(rows))) == 4


def test_only_completed_trials_count() -> None:
    spoilt = [
        row | {"active_units": 100, "status": status, "seed": 7}
        for row in grid()
        for status in ("diverged", "pruned")
    ]
    mixed = pd.concat([trials_of([*grid(), *spoilt]), FAILED])
    pd.testing.assert_frame_equal(active_units_table(mixed), active_units_table(trials_of(grid())))


@pytest.mark.parametrize("trials", [EMPTY, FAILED], ids=["empty", "all failed"])
def test_without_completed_trials(trials: pd.DataFrame) -> None:
    assert active_units_table(trials).empty


def test_the_trials_are_left_as_they_are() -> None:
    trials = trials_of(grid())
    before = trials.copy(deep=True)
    active_units_table(trials)
    pd.testing.assert_frame_equal(trials, before)


def test_analysis_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys, analysis; "
        "print(sorted({'torch', 'ray', 'study', 'trainables', 'search_spaces'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.stdout.strip() == "[]"
