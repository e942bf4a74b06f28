"""Axes as Optuna's parameters: what it may propose, and that points go there and back."""

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search_spaces import Part, Trial, load_spec
from study.adaptive.space import SearchSpace

EQUAL = {"family": "dense", "depth": {"range": [1, 3]}, "width": [16, 64]}


def part(dataset: object = "mnist", training: object = None, **axes: object) -> Part:
    raw = {
        "study": "s",
        "dataset": dataset,
        "axes": {"architecture": "linear", "latent_dim": 4} | axes,
        "training": training or {},
        "strategy": {"name": "optuna", "points": 3, "objectives": {"maximise": "test_elbo"}},
    }
    (only,) = load_spec(raw).all_parts.values()
    return only


def proposals(space: SearchSpace, count: int = 30, seed: int = 0) -> list[dict[str, object]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(count)]


DISTRIBUTIONS = [
    ({"range": [0.5, 2.0]}, FloatDistribution(0.5, 2.0)),
    ({"range": [0.0, 0.3], "step": 0.1}, FloatDistribution(0.0, 0.3, step=0.1)),
    ({"range": [0.0, 1.0], "count": 5}, FloatDistribution(0.0, 1.0, step=0.25)),
    ({"log_range": [0.01, 1.0]}, FloatDistribution(0.01, 1.0, log=True)),
    ({"log_range": [0.01, 1.0], "count": 3}, CategoricalDistribution([0.01, 0.1, 1.0])),
    ([0.5, 2.0, 1.0], CategoricalDistribution([0.5, 2.0, 1.0])),
]


@pytest.mark.parametrize(("axis", "distribution"), DISTRIBUTIONS, ids=str)
def test_an_axis_is_what_optuna_calls_it(axis: object, distribution: object) -> None:
    space = SearchSpace(part(beta=axis))
    assert space.names == ["beta"]
    assert space.distributions({"beta": 0}) == {"beta": distribution}


WHOLE = [
    ({"range": [2, 9]}, IntDistribution(2, 9)),
    ({"range": [2, 9], "step": 3}, IntDistribution(2, 8, step=3)),
    ({"range": [2, 9], "count": 3}, CategoricalDistribution([2, 6, 9])),
    ({"log_range": [2, 64]}, IntDistribution(2, 64, log=True)),
    ([2, 8], CategoricalDistribution([2, 8])),
]


@pytest.mark.parametrize(("axis", "distribution"), WHOLE, ids=str)
def test_an_axis_of_whole_numbers(axis: object, distribution: object) -> None:
    space = SearchSpace(part(latent_dim=axis))
    assert space.distributions({"latent_dim": 0}) == {"latent_dim": distribution}
    assert {type(p["latent_dim"]) for p in proposals(space)} == {int}


def test_single_values_and_seeds_are_no_parameters() -> None:
    space = SearchSpace(part(seed=[0, 1], data_seed=[3, 4], beta=2.0, training={"epochs": 7}))
    assert space.names == []
    trials = space.trials({})
    assert [(t.data_seed, t.seed) for t in trials] == [(3, 0), (3, 1), (4, 0), (4, 1)]
    assert {(t.beta, t.epochs) for t in trials} == {(2.0, 7)}


def test_depth_and_width_are_parameters_and_belong_to_the_shape() -> None:
    space = SearchSpace(part(architecture=EQUAL, beta=[1, 2], epochs=[3, 4]))
    assert space.names == ["depth", "width", "beta", "epochs"]
    assert space.shape_names == ["depth", "width", "epochs"]
    names = {space.trials(point)[0].architecture.name for point in proposals(space, 100)}
    assert names == {"dense-" + "-".join([w] * d) for d in (1, 2, 3) for w in ("16", "64")}


def test_what_belongs_to_one_choice_is_there_with_it_only() -> None:
    conv = {"family": "conv", "depth": [1, 2], "width": 4}
    space = SearchSpace(
        part(
            architecture=["linear", EQUAL, conv],
            decoder=["bernoulli", "gaussian"],
            decoder_variance={"log_range": [0.1, 1.0]},
        )
    )
    seen = set()
    for point in proposals(space, 100):
        chosen = point["architecture"]
        seen.add((chosen, point["decoder"]))
        assert ("dense_layers_depth" in point) == (chosen == "dense layers")
        assert ("conv_layers_depth" in point) == (chosen == "conv layers")
        assert "conv_layers_width" not in point
        assert ("decoder_variance" in point) == (point["decoder"] == "gaussian")
        (trial,) = space.trials(point)
        assert space.parameters_of(trial) == point
    assert len(seen) == 6


@given(st.integers(0, 2**31 - 1))
def test_every_proposal_comes_back_from_its_trials(seed: int) -> None:
    space = SearchSpace(
        part(
            dataset=["mnist", "tiles"],
            architecture=["paper-conv", {"family": "dense", "widths": [[8, 4], [8]]}, EQUAL],
            latent_dim={"log_range": [2, 64]},
            beta={"log_range": [0.1, 10.0]},
            objective=["elbo", "no_sampling"],
            decoder=["gaussian", "gaussian_learned"],
            decoder_variance={"range": [0.1, 1.0]},
            initialisation=["glorot", "torch"],
            seed=[0, 1],
            learning_rate={"range": [0.001, 0.01], "step": 0.001},
            batch_size=[64, 128],
        )
    )
    (point,) = proposals(space, 1, seed)
    trials = space.trials(point)
    assert [trial.seed for trial in trials] == [0, 1]
    assert all(space.parameters_of(trial) == point for trial in trials)
    assert set(space.distributions(point)) == set(point)


def other(trial: Trial, **changes: object) -> Trial:
    return trial.model_copy(update=changes)


def test_a_trial_from_elsewhere_is_no_point() -> None:
    space = SearchSpace(part(architecture=EQUAL, beta={"range": [0.5, 1.0]}))
    (trial,) = space.trials({"depth": 2, "width": 16, "beta": 0.7})
    assert space.parameters_of(trial) == {"depth": 2, "width": 16, "beta": 0.7}
    assert space.parameters_of(other(trial, seed=9)) is not None
    nets = load_spec(
        {"study": "s", "dataset": "mnist", "axes": {"architecture": ["dense-16-64", "dense-32"]}}
        | {"axes": {"architecture": ["dense-16-64", "dense-32", "conv-16"], "latent_dim": 4}}
    ).all_parts[""]
    for architecture in nets.axes.architecture.values():
        assert space.parameters_of(other(trial, architecture=architecture)) is None
    for changes in ({"beta": 2.0}, {"latent_dim": 5}, {"epochs": 3}, {"objective": "no_sampling"}):
        assert space.parameters_of(other(trial, **changes)) is None
