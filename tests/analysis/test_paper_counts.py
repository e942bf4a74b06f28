"""The paper's counts beside a study's, on tables whose answers can be read off."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.charts.paper_counts import paper_counts_chart
from analysis.paper import PAPER_NETS, paper_units
from analysis.paper_counts import (
    closest_settings,
    closest_with_own_beta,
    conv_against_dense,
    dense_pairs,
    epochs_words,
    paper_counts,
    setting_columns,
    setting_words,
)
from analysis.paper_table import beside_paper_table, trial_for_paper_table
from tests.analysis.tables import trials_of, units_of

DENSE, TILES = "dense-256-32-24", "dense-512-256-64-32"
NETS = {"table I": ("mnist", DENSE), "figure 7": ("mnist", "paper-conv")}
NETS |= {"table II": ("tiles", TILES), "figure 12": ("tiles", "paper-conv")}


def net(where: str, *counts: int, **more: Any) -> list[dict[str, Any]]:
    """A trial per count, which differ in their seeds."""
    dataset, architecture = NETS[where]
    of_net = {"dataset": dataset, "architecture": architecture, "latent_dim": 16}
    return [of_net | {"seed": s, "active_units": count} | more for s, count in enumerate(counts)]


def all_nets(counts: tuple[int, int, int, int], **more: Any) -> list[dict[str, Any]]:
    pairs = zip(NETS, counts, strict=True)
    return [row for where, count in pairs for row in net(where, count, **more)]


def test_what_the_paper_reports() -> None:
    assert [(n.where, n.active) for n in PAPER_NETS] == [
        ("table I", 8),
        ("figure 7", 13),
        ("table II", 8),
        ("figure 12", 12),
    ]
    units = paper_units()
    assert len(units) == 32
    for _, table in units.groupby("where"):
        assert list(table["unit"]) == list(range(16))
        assert (table["mean_variance"] > 0.01).sum() == 8


def test_means_and_ranges_over_seeds() -> None:
    trials = trials_of([*net("table I", 7, 8, 9), *net("table I", 4, 5, beta=2.0)])
    counts = paper_counts(trials)
    assert counts.columns.tolist() == [
        *("where", "dataset", "architecture", "beta", "epochs", "trials"),
        *("mean", "fewest", "most", "law_mean", "paper", "difference"),
    ]
    assert counts["beta"].tolist() == [1.0, 2.0]
    assert counts["trials"].tolist() == [3, 2]
    assert counts["mean"].tolist() == [8.0, 4.5]
    assert counts["fewest"].tolist() == [7, 4]
    assert counts["most"].tolist() == [9, 5]
    assert counts["difference"].tolist() == [0.0, -3.5]


@pytest.mark.parametrize(
    "change",
    [
        {"status": "diverged"},
        {"status": "failed", "active_units": None},
        {"objective": "quadratic_penalty"},
        {"beta": 0.0},
        {"latent_dim": 8},
        {"dataset": "fashion_mnist"},
        {"architecture": "dense-256-32"},
        {"epochs": 5},  # others of the setting were trained for longer
    ],
)
def test_what_does_not_count(change: dict[str, Any]) -> None:
    counting = net("table I", 7, 9)
    others = [row | change | {"seed": 7} for row in net("table I", 1)]
    with_others = paper_counts(trials_of([*counting, *others]))
    pd.testing.assert_frame_equal(with_others, paper_counts(trials_of(counting)))


def test_lengths_of_training_belong_to_their_nets() -> None:
    """Convolutional nets are trained for fewer epochs: that is no setting of its own."""
    trials = trials_of([*net("table I", 8, epochs=40), *net("figure 7", 13, epochs=15)])
    closest = closest_settings(paper_counts(trials))
    assert len(closest) == 1
    assert closest["farthest"].tolist() == [0.0]


def test_settings_are_what_varies_and_a_learned_variance_is_none() -> None:
    learned = [
        row | {"decoder": "gaussian_learned", "decoder_variance": 0.01 * row["seed"]}
        for row in net("table I", 7, 8)
    ]
    fixed = net("table I", 5, decoder="gaussian", decoder_variance=0.5)
    trials = trials_of([*learned, *fixed, *net("table I", 9, initialisation="torch")])
    names = ["beta", "decoder", "decoder_variance", "initialisation"]
    assert setting_columns(trials) == names
    counts = paper_counts(trials)
    assert sorted(counts["mean"]) == [5.0, 7.5, 9.0]
    assert set(setting_words(counts)) == {
        "β = 1, bernoulli, torch init",
        "β = 1, gaussian, decoder variance 0.5, glorot init",
        "β = 1, gaussian_learned, glorot init",
    }
    assert set(setting_words(counts[["beta"]], without="beta")) == {"as in the spec"}


def test_the_closest_setting_is_that_of_the_smallest_largest_difference() -> None:
    trials = trials_of(
        [
            *all_nets((8, 13, 8, 8), beta=0.5),  # off by 4 in one, 4 in all
            *all_nets((6, 11, 6, 10), beta=1.0),  # off by 2 in each, 8 in all
            *all_nets((7, 11, 6, 10), beta=2.0),  # the same, and 7 in all
            *all_nets((1, 1, 1, 1), beta=3.0),
            *net("table I", 8, beta=4.0),  # not tried with the other nets
        ]
    )
    closest = closest_settings(paper_counts(trials))
    assert closest["beta"].tolist() == [2.0, 1.0, 0.5, 3.0]
    assert closest["farthest"].tolist() == [2, 2, 4, 12]
    assert closest["total"].tolist() == [7, 8, 4, 37]
    assert closest.loc[0, list(NETS)].tolist() == [7, 11, 6, 10]


def test_the_closest_setting_where_each_net_may_have_its_own_beta() -> None:
    torch = {"initialisation": "torch", "beta": 1.0}
    trials = trials_of(
        [
            *all_nets((12, 13, 9, 16), beta=0.5, initialisation="glorot"),
            *all_nets((9, 8, 4, 13), beta=1.0, initialisation="glorot"),
            *all_nets((8, 8, 3, 15), beta=2.0, initialisation="glorot"),
            *all_nets((8, 13, 6, 12), **torch),
            *net("table I", 8, initialisation="other"),  # not tried with the other nets
        ]
    )
    closest = closest_with_own_beta(paper_counts(trials))
    assert closest["initialisation"].tolist() == ["glorot"] * 4 + ["torch"] * 4
    assert closest["where"].tolist() == list(NETS) * 2
    assert closest["beta"].tolist() == [2.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert closest["mean"].tolist() == [8, 13, 9, 13, 8, 13, 6, 12]
    assert closest["farthest"].tolist() == [1] * 4 + [2] * 4
    assert closest["total"].tolist() == [2] * 8
    alone = closest_with_own_beta(paper_counts(trials.query("initialisation == 'glorot'")))
    assert alone["mean"].tolist() == [8, 13, 9, 13]  # where nothing but β varies


def test_the_law_over_the_units_of_both_dense_nets() -> None:
    trials = trials_of(
        [
            *net("table I", 8, 8, 9, beta=0.5, variance_law_mean=0.98),
            *net("table I", 7, beta=1.0, variance_law_mean=0.99),
            *net("table I", 5, beta=2.0, variance_law_mean=1.0),
            *net("table II", 8, beta=0.25, variance_law_mean=1.06),
            *net("table II", 3, beta=0.5, variance_law_mean=1.0),
            *net("table I", 2, beta=2.0, epochs=120, variance_law_mean=1.0),
            *net("table II", 2, beta=2.0, epochs=120, variance_law_mean=1.0),
            *net("figure 7", 8, beta=0.5, variance_law_mean=9.0),
        ]
    )
    pairs = dense_pairs(trials)
    assert len(pairs) == 3 * 2 + 1
    assert pairs["epochs"].tolist().count(120) == 1
    near, others = pairs.head(2), pairs.tail(5)
    assert near["mnist_beta"].tolist() == [0.5, 1.0]
    assert near["tiles_beta"].tolist() == [0.25, 0.25]
    assert near["law_mean"].tolist() == pytest.approx([(3 * 0.98 + 1.06) / 4, (0.99 + 1.06) / 2])
    assert near["mnist_units"].tolist() == pytest.approx([25 / 3, 7])
    assert (near["farthest"] <= 1).all()
    assert others["farthest"].is_monotonic_increasing
    assert dense_pairs(trials.query("dataset == 'mnist'")).empty


def test_conv_against_dense_by_dataset_and_setting() -> None:
    trials = trials_of(
        [
            *all_nets((8, 13, 8, 5), beta=1.0),
            *all_nets((6, 6, 4, 9), beta=2.0),
            *net("figure 7", 16, beta=4.0),
        ]
    )
    both = conv_against_dense(paper_counts(trials))
    assert epochs_words(both, "dense") == epochs_words(both, "conv") == "20 epochs"
    assert both.set_index(["dataset", "beta"])["difference"].to_dict() == {
        ("mnist", 1.0): 5.0,
        ("mnist", 2.0): 0.0,
        ("tiles", 1.0): -3.0,
        ("tiles", 2.0): 5.0,
    }


def test_studies_without_the_papers_nets() -> None:
    for trials in (trials_of([]), trials_of([{"latent_dim": 2, "active_units": 1}])):
        counts = paper_counts(trials)
        assert counts.empty
        assert closest_settings(counts).empty
        assert conv_against_dense(counts).empty


def units(trial_id: str, second: float) -> list[dict[str, Any]]:
    """Two units: an active one, and one whose second moment is as given."""
    first = {"mean_variance": 0.9, "posterior_variance": 0.1, "second_moment": 0.9}
    other = {"mean_variance": 0.0, "posterior_variance": 0.9, "second_moment": second - 0.9}
    shared = {"trial_id": trial_id, "active": True, "kl": 1.0}
    return [shared | {"unit": 1} | first, shared | {"unit": 0} | other]


def test_the_trial_beside_a_table_has_its_count_and_has_converged_best() -> None:
    rows = net("table I", 8, 8, 8, 6)
    trials = trials_of([row | {"trial_id": name} for row, name in zip(rows, "abcd", strict=True)])
    table = units_of([*units("a", 1.2), *units("b", 0.95), *units("c", 1.06), *units("d", 1.0)])
    assert trial_for_paper_table(trials, table, "table I") == "b"
    assert trial_for_paper_table(trials, table, "table II") is None
    assert trial_for_paper_table(trials[trials["trial_id"] == "d"], table, "table I") == "d"
    assert trial_for_paper_table(trials, table.head(0), "table I") is None
    beside = beside_paper_table(table, "b", "table I")
    assert len(beside) == 16
    assert beside["rank"].tolist() == list(range(1, 17))
    assert beside["mean_variance"].tolist()[:2] == [0.9, 0.0]
    assert beside["mean_variance"].isna().sum() == 14
    assert beside["paper_mean_variance"].is_monotonic_decreasing
    np.testing.assert_allclose(beside["sum"].head(2), [1.0, 0.9])
    assert beside["paper_sum"].mean() == pytest.approx(0.995, abs=0.005)


def test_the_chart_has_a_panel_per_net_and_the_papers_line() -> None:
    trials = trials_of([*all_nets((8, 13, 8, 5)), *all_nets((6, 6, 4, 9), initialisation="torch")])
    chart = paper_counts_chart(paper_counts(trials)).to_dict()
    (rows,) = chart["datasets"].values()
    assert {(row["net"], row["paper"]) for row in rows} == {
        ("table I: dense-256-32-24 on mnist", 8),
        ("figure 7: paper-conv on mnist", 13),
        ("table II: dense-512-256-64-32 on tiles", 8),
        ("figure 12: paper-conv on tiles", 12),
    }
    assert {row["setting"] for row in rows} == {"glorot init", "torch init"}
