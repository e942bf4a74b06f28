from analysis.design_points import design_points
from analysis.importance import hyperparameter_importance
from analysis.paired_effects import paired_effects
from tests.analysis.tables import Rows, trials_of


def test_a_decoder_has_its_variance_beside_it() -> None:
    rows: Rows = [
        {"decoder": decoder, "decoder_variance": variance, "seed": seed}
        | {"active_units": units + seed}
        for decoder, variance, units in (
            ("bernoulli", None, 4), ("gaussian", 0.1, 6), ("gaussian", 1.0, 2),
        )
        for seed in range(4)
    ]  # fmt: skip
    rows += [
        {"decoder": "gaussian_learned", "decoder_variance": 0.5 + seed, "seed": seed}
        | {"active_units": 7 + seed}
        for seed in range(4)
    ]
    trials = trials_of(rows)
    effects = paired_effects(trials)
    assert set(effects["hyperparameter"]) == {"decoder"}
    found = {(row.reference, row.value): row.difference for row in effects.itertuples()}
    assert found == {
        ("bernoulli", "gaussian 0.1"): 2,
        ("bernoulli", "gaussian 1.0"): -2,
        ("bernoulli", "gaussian_learned"): 3,
        ("gaussian 0.1", "gaussian 1.0"): -4,
        ("gaussian 0.1", "gaussian_learned"): 1,
        ("gaussian 1.0", "gaussian_learned"): 5,
    }
    assert set(hyperparameter_importance(trials)["hyperparameter"]) == {"decoder", "seed"}
    fixed = paired_effects(trials[trials["decoder"] == "gaussian"])
    assert list(fixed["hyperparameter"]) == ["decoder_variance"]
    assert list(fixed["reference"] + " " + fixed["value"]) == ["0.1 1"]


def test_points_that_are_equal_compare_equal() -> None:
    trials = trials_of([{"beta": 0.5}, {"beta": 0.5000000000000001}, {"beta": 0.500001}])
    points = design_points(trials)
    assert points["beta"].nunique() == 2
    assert list(points.index) == list(trials.index)


def test_datasets_of_one_name_and_other_images_are_told_apart() -> None:
    rows: Rows = [
        {"dataset": dataset, "dataset_fingerprint": print_, "seed": seed, "active_units": units}
        for dataset, print_, units in (
            ("tiles", "aaaa", 3),
            ("tiles", "bbbb", 5),
            ("mnist", "c", 9),
        )
        for seed in (0, 1)
    ]
    trials = trials_of(rows)
    assert set(design_points(trials)["dataset"]) == {"tiles (aaaa)", "tiles (bbbb)", "mnist"}
    found = {
        (row.reference, row.value): row.difference for row in paired_effects(trials).itertuples()
    }
    assert found["tiles (aaaa)", "tiles (bbbb)"] == 2
