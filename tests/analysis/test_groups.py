import pandas as pd
import pytest

from analysis.final_units import final_units
from analysis.group_words import (
    describe_group,
    in_natural_order,
    naturally,
    setting_labels,
    without_common,
)
from analysis.groups import group_columns, has_variance_part, with_group_values
from study.tables import TRIALS, UNITS
from tests.analysis.tables import trials_of, units_of


def test_latent_dim_and_seeds_do_not_part_groups() -> None:
    rows = [{"latent_dim": dim, "seed": dim, "data_seed": dim, "family": "x"} for dim in (2, 4)]
    assert group_columns(trials_of(rows)) == ["dataset", "architecture", "beta"]


@pytest.mark.parametrize(
    ("name", "values"),
    [("initialisation", ("glorot", "torch")), ("epochs", (1, 2)), ("objective", ("elbo", "x"))],
)
def test_what_varies_parts_groups(name: str, values: tuple[object, ...]) -> None:
    trials = trials_of([{name: value} for value in values])
    assert group_columns(trials) == ["dataset", "architecture", "beta", name]


def test_a_learned_variance_is_a_result_and_parts_nothing() -> None:
    learned = [{"decoder": "gaussian_learned", "decoder_variance": v} for v in (0.1, 0.2)]
    assert "decoder_variance" not in group_columns(trials_of(learned))
    fixed = [{"decoder": "gaussian", "decoder_variance": v} for v in (0.1, 0.2)]
    assert "decoder_variance" in group_columns(trials_of(fixed))
    both = with_group_values(trials_of([*learned, *fixed]))
    assert both["decoder_variance"].isna().tolist() == [True, True, False, False]


def test_what_groups_have_in_common_is_said_once() -> None:
    groups = pd.DataFrame(
        {
            "architecture": ["a", "a"],
            "decoder": ["bernoulli", "bernoulli"],
            "decoder_variance": [float("nan")] * 2,
            "epochs": [40, 40],
            "initialisation": ["glorot", "torch"],
        }
    )
    apart, common = without_common(groups)
    assert common == "bernoulli, 40 epochs"
    assert list(apart) == ["architecture", "decoder_variance", "initialisation"]
    for alone in (groups.head(1), groups.head(0), groups.assign(beta_from=1.0, epochs_from=1.0)):
        kept, nothing = without_common(alone)
        assert (kept is alone, nothing) == (True, "")


def test_groups_in_words() -> None:
    rows = [
        {"beta": 0.5, "learning_rate": 1e-3},
        {"beta": 0.5, "learning_rate": 0.25, "decoder": "gaussian", "decoder_variance": 0.5},
    ]
    trials = trials_of(rows)
    groups = trials[group_columns(trials)]
    assert describe_group(groups.iloc[0]) == (
        "dense-16, bernoulli, learning rate 0.001 on tiles, β = 0.5"
    )
    assert setting_labels(groups).tolist() == [
        "dense-16, bernoulli, learning rate 0.001",
        "dense-16, gaussian, learning rate 0.25",
    ]


def test_labels_keep_the_index_and_do_without_rows() -> None:
    trials = trials_of([{"architecture": name} for name in "aba"]).set_axis([7, 5, 9])
    trials = trials[group_columns(trials)]
    labels = setting_labels(trials)
    assert labels.to_dict() == {7: "a", 5: "b", 9: "a"}
    assert setting_labels(trials.iloc[:0]).tolist() == []
    assert group_columns(TRIALS.empty_table().to_pandas()) == ["dataset", "architecture", "beta"]


def test_only_an_elbo_with_weight_has_the_variance_part() -> None:
    rows = [("elbo", 1.0), ("elbo", 0.0), ("quadratic_penalty", 1.0), ("no_sampling", 1.0)]
    trials = trials_of([{"objective": objective, "beta": beta} for objective, beta in rows])
    assert has_variance_part(trials).tolist() == [True, False, False, False]


def test_final_units_are_each_trials_last_epoch_of_the_split() -> None:
    units = units_of(
        [
            {"trial_id": trial, "epoch": epoch, "split": split, "unit": unit}
            for trial, epochs in (("a", (0, 5)), ("b", (0, 2, 3)))
            for epoch in epochs
            for split in ("train", "test")
            for unit in (0, 1)
        ]
    )
    for split in ("train", "test"):
        final = final_units(units, split)
        assert set(final["split"]) == {split}
        assert final[["trial_id", "epoch", "unit"]].to_numpy().tolist() == [
            ["a", 5, 0],
            ["a", 5, 1],
            ["b", 3, 0],
            ["b", 3, 1],
        ]
        pd.testing.assert_frame_equal(final_units(final, split), final)
    assert final_units(UNITS.empty_table().to_pandas()).empty


def test_numbers_in_names_sort_as_numbers() -> None:
    names = ["manifold-10", "manifold-2", "conv-4", "manifold", "10-a", "9"]
    frame = pd.DataFrame({"name": names, "beta": [2.0, 1.0, 0.5, 3.0, 4.0, 5.0]})
    ordered = frame.sort_values("name", key=naturally)["name"].tolist()
    assert ordered == ["9", "10-a", "conv-4", "manifold", "manifold-2", "manifold-10"]
    assert frame.sort_values("beta", key=naturally)["beta"].is_monotonic_increasing
    assert frame.iloc[:0].sort_values(["name", "beta"], key=naturally).empty


def test_numbers_in_labels_sort_by_their_value() -> None:
    rates = [f"learning rate {rate:g}" for rate in (1e-5, 5e-5, 0.0005, 0.001, 0.01, 0.5, 2, 10)]
    assert in_natural_order(rates[::-1]) == rates
    assert in_natural_order(["x²", "x", "x", "x1"]) == ["x", "x1", "x²"]
    assert in_natural_order(["dense-256-32-24", "dense-64", "dense-256-4"]) == [
        "dense-64",
        "dense-256-4",
        "dense-256-32-24",
    ]
