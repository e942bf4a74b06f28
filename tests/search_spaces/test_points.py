import math
import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import BadInput, Trial, load_spec, plan_trials, points, trial_id


def spec(strategy="grid", dataset="mnist", **axes):
    return load_spec(
        {
            "study": "s",
            "dataset": dataset,
            "axes": {"architecture": "linear", "latent_dim": 2, **axes},
            "strategy": strategy,
        }
    )


def distinct(values):
    return st.lists(values, min_size=1, max_size=3, unique=True)


GRIDS = st.fixed_dictionaries(
    {"latent_dim": distinct(st.integers(1, 9))},
    optional={
        "beta": distinct(st.sampled_from([0.0, 0.5, 1.0, 4.0])),
        "objective": distinct(st.sampled_from(["elbo", "quadratic_penalty", "no_sampling"])),
        "initialisation": distinct(st.sampled_from(["glorot", "torch"])),
        "learning_rate": distinct(st.sampled_from([0.001, 0.01])),
        "learning_rate_schedule": distinct(st.sampled_from(["cosine", "constant"])),
        "batch_size": distinct(st.integers(1, 9)),
        "epochs": distinct(st.integers(1, 9)),
        "precision": distinct(st.sampled_from(["float32", "float64", "mixed"])),
        "data_seed": distinct(st.integers(0, 9)),
        "seed": distinct(st.integers(0, 9)),
    },
)


@settings(max_examples=60, deadline=None)
@given(GRIDS)
def test_a_grid_is_the_product_of_its_axes(axes):
    planned = plan_trials(spec(**axes))
    expected = [
        Trial(dataset="mnist", architecture="linear", **dict(zip(axes, values, strict=True)))
        for values in product(*axes.values())
    ]
    assert len(planned) == len(set(planned)) == math.prod(map(len, axes.values()))
    assert set(planned) == set(expected)
    assert planned == plan_trials(spec(**axes))


def test_the_order_of_a_grid():
    trials = plan_trials(
        spec(
            dataset=["mnist", "tiles"],
            architecture=["linear", "paper-conv"],
            latent_dim=[8, 2],
            beta=[2, 1],
            epochs=[3, 4],
            data_seed=[0, 1],
            seed=[1, 0],
        )
    )
    assert [
        (
            trial.dataset.label,
            trial.architecture.name,
            trial.latent_dim,
            trial.beta,
            trial.epochs,
            trial.data_seed,
            trial.seed,
        )
        for trial in trials
    ] == list(
        product(
            ["mnist", "tiles"],
            ["linear", "paper-conv"],
            [8, 2],
            [2.0, 1.0],
            [3, 4],
            [0, 1],
            [1, 0],
        )
    )


def test_training_settings_and_defaults_reach_every_trial():
    study = load_spec(
        {
            "study": "s",
            "dataset": {"name": "tiles", "seed": 3},
            "axes": {"architecture": "linear", "latent_dim": [2, 3]},
            "training": {
                "epochs": 7,
                "batch_size": 9,
                "learning_rate": 0.5,
                "learning_rate_schedule": "constant",
                "precision": "float64",
            },
        }
    )
    assert plan_trials(study) == [
        Trial(
            dataset={"name": "tiles", "seed": 3},
            architecture="linear",
            latent_dim=latent_dim,
            epochs=7,
            batch_size=9,
            learning_rate=0.5,
            learning_rate_schedule="constant",
            precision="float64",
        )
        for latent_dim in (2, 3)
    ]


def test_only_the_gaussian_decoder_has_variances():
    trials = plan_trials(
        spec(decoder=["bernoulli", "gaussian", "gaussian_learned"], decoder_variance=[0.5, 2])
    )
    assert [(trial.decoder, trial.decoder_variance) for trial in trials] == [
        ("bernoulli", None),
        ("gaussian", 0.5),
        ("gaussian", 2.0),
        ("gaussian_learned", None),
    ]
    assert plan_trials(spec(decoder="gaussian"))[0].decoder_variance == 1.0


def test_depth_and_width_exist_only_in_their_family():
    trials = plan_trials(
        spec(architecture=["linear", {"family": "dense", "depth": [1, 2], "width": [8, 9]}])
    )
    assert [trial.architecture.name for trial in trials] == [
        "linear",
        "dense-8",
        "dense-9",
        "dense-8-8",
        "dense-9-9",
    ]


RANDOM_AXES = {
    "architecture": ["linear", {"family": "dense", "depth": [1, 2], "width": [8, 16]}],
    "latent_dim": {"range": [2, 5]},
    "beta": [0.5, 1, 2],
    "decoder": ["bernoulli", "gaussian"],
    "decoder_variance": [0.5, 2],
}
SPACE = 5 * 4 * 3 * 3


@settings(max_examples=30, deadline=None)
@given(st.integers(1, SPACE), st.integers(0, 2**63 - 1))
def test_random_points_are_different_reproducible_and_of_the_grid(number, seed):
    strategy = {"name": "random", "points": number, "seed": seed}
    drawn = plan_trials(spec(strategy, **RANDOM_AXES))
    assert len(drawn) == len(set(drawn)) == number
    assert drawn == plan_trials(spec(strategy, **RANDOM_AXES))
    assert set(drawn) <= set(plan_trials(spec(**RANDOM_AXES)))


def test_as_many_points_as_there_are_give_the_grid():
    strategy = {"name": "random", "points": SPACE}
    assert set(plan_trials(spec(strategy, **RANDOM_AXES))) == set(plan_trials(spec(**RANDOM_AXES)))


@given(st.integers(1, 40), st.integers(1, 40))
def test_more_points_keep_the_earlier_ones(first, second):
    fewer, more = sorted((first, second))
    axes = {**RANDOM_AXES, "beta": {"log_range": [0.1, 10]}}
    drawn = [plan_trials(spec({"name": "random", "points": n}, **axes)) for n in (fewer, more)]
    assert drawn[1][:fewer] == drawn[0]


def test_another_seed_draws_other_points():
    axes = {"beta": {"range": [0, 1]}}
    first, second = (
        plan_trials(spec({"name": "random", "points": 5, "seed": seed}, **axes)) for seed in (0, 1)
    )
    assert not set(first) & set(second)


def test_every_random_point_runs_with_every_seed():
    axes = {"beta": {"range": [0, 1]}, "data_seed": [0, 1], "seed": {"range": [3, 5]}}
    trials = plan_trials(spec({"name": "random", "points": 4}, **axes))
    assert len(trials) == 4 * 2 * 3
    groups = [trials[start : start + 6] for start in range(0, 24, 6)]
    for group in groups:
        assert len({trial.beta for trial in group}) == 1
        assert [(trial.data_seed, trial.seed) for trial in group] == list(
            product([0, 1], [3, 4, 5])
        )
    assert len({group[0].beta for group in groups}) == 4


def test_drawing_leaves_the_global_random_state_alone():
    random.seed(0)
    state = random.getstate()
    plan_trials(spec({"name": "random", "points": 3}, beta={"range": [0, 1]}))
    assert random.getstate() == state


def test_a_hundred_thousand_trials():
    trials = plan_trials(
        spec(
            architecture={"family": "dense", "depth": [1, 2], "width": {"range": [1, 10]}},
            latent_dim={"range": [1, 50]},
            beta={"log_range": [0.01, 100], "count": 10},
            seed={"range": [0, 9]},
        )
    )
    assert len(trials) == 2 * 10 * 50 * 10 * 10
    assert len({trial_id(trial, "abc", 1) for trial in trials}) == len(trials)


def refusal(**fields):
    with pytest.raises(BadInput) as caught:
        plan_trials(spec(**fields))
    return str(caught.value)


def test_repeats_that_are_not_in_a_row_do_not_wear_patience_out(monkeypatch):
    monkeypatch.setattr(points, "PATIENCE", 500)
    strategy = {"name": "random", "points": 200}
    assert len(plan_trials(spec(strategy, latent_dim={"range": [1, 200]}))) == 200


def test_more_points_than_there_are():
    message = refusal(strategy={"name": "random", "points": SPACE + 1}, **RANDOM_AXES)
    assert message.startswith(f"strategy.points: {SPACE + 1} is not allowed; the space has {SPACE}")


def test_seeds_are_no_points():
    message = refusal(strategy={"name": "random", "points": 2}, seed=[0, 1, 2])
    assert "the space has 1 different" in message


def test_an_interval_that_rounding_has_left_one_value(monkeypatch):
    monkeypatch.setattr(points, "PATIENCE", 1000)
    narrow = {"range": [1.0, 1.0 + 1e-14]}
    message = refusal(strategy={"name": "random", "points": 3}, beta=narrow)
    assert message == (
        "strategy.points: 3 is not allowed; 1,000 draws found no point beyond the first 1: "
        "give 1 or fewer"
    )


@pytest.mark.parametrize(
    "strategy", ["grid", {"name": "random", "points": 2_000_000}, {"name": "random", "points": 2}]
)
def test_too_many_trials(strategy):
    seeds = {"range": [0, 999_999]}
    message = refusal(strategy=strategy, beta=[1, 2], seed=seeds)
    assert "trials, and a study has at most 1,000,000" in message


def test_conv_nets_that_halve_an_image_too_often():
    stages = {"family": "conv", "depth": {"range": [1, 6]}, "width": 4}
    assert refusal(architecture=stages) == (
        "axes.architecture: on 'mnist', 'conv-4-4-4-4-4-4' halves the image 6 times, and images of "
        "28x28 pixels allow 5; give fewer channels"
    )


def test_conv_nets_on_vectors():
    message = refusal(
        dataset=["mnist", {"name": "manifold", "true_dimension": 5}],
        architecture="paper-conv",
        decoder="gaussian",
    )
    assert message.startswith("axes.architecture: on 'manifold-5', 'paper-conv' needs images")


def test_shapes_that_only_a_file_knows_are_checked_later():
    own = {"path": "faces.npz"}
    assert len(plan_trials(spec(dataset=own, architecture="paper-conv"))) == 1


def test_bernoulli_on_values_outside_the_unit_interval():
    manifold = {"name": "manifold", "true_dimension": 5}
    assert refusal(dataset=manifold).startswith("axes.decoder: 'bernoulli' is not allowed")
    assert plan_trials(spec(dataset=manifold, decoder="gaussian_learned"))
