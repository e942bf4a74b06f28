import re
from copy import deepcopy

import pytest

from search_spaces import BadInput, load_spec

MINIMAL = {"study": "s", "dataset": "mnist", "axes": {"architecture": "linear", "latent_dim": 2}}
OWN = {"path": "x.npy"}
MANIFOLD = {"name": "manifold", "true_dimension": 5}

# Where to put what in the minimal spec, and the message it gives, from its beginning.
BAD = [
    # unknown keys
    ("axis", 1, "axis: unknown key (did you mean 'axes'?)"),
    ("training.epoch", 3, "training.epoch: unknown key (did you mean 'epochs'?)"),
    ("axes.bta", 1, "axes.bta: unknown key (did you mean 'beta'?)"),
    ("axes.beta", {"rang": [0, 1]}, "axes.beta.rang: unknown key (did you mean 'range'?)"),
    ("dataset", {"name": "tiles", "sed": 1}, "dataset.sed: unknown key (did you mean 'seed'?)"),
    (
        "strategy",
        {"name": "grid", "points": 1},
        "strategy.points: unknown key (choose from 'name')",
    ),
    ("record.model", True, "record.model: unknown key (did you mean 'models'?)"),
    ("resources.packsize", 1, "resources.packsize: unknown key (did you mean 'pack_size'?)"),
    (
        "axes.architecture",
        {"family": "dense", "depth": 2, "widht": 3},
        "axes.architecture.widht: unknown key (did you mean 'width'?)",
    ),
    # wrong types
    ("axes.latent_dim", "16", "axes.latent_dim: '16' is not allowed; give a whole number"),
    ("axes.latent_dim", 2.5, "axes.latent_dim: 2.5 is not allowed; give a whole number"),
    ("axes.latent_dim", True, "axes.latent_dim: true is not allowed; give a whole number"),
    ("axes.latent_dim", None, "axes.latent_dim: null is not allowed; give a whole number"),
    ("axes.latent_dim", [[2]], "axes.latent_dim: [2] is not allowed; give a whole number"),
    ("axes.beta", "1", "axes.beta: '1' is not allowed; give a number"),
    ("axes", None, "axes: null is not allowed; give a mapping of its fields"),
    ("record", 3, "record: 3 is not allowed; give a mapping of its fields"),
    ("record.models", "yes", "record.models: 'yes' is not allowed; give true or false"),
    ("study", 3, "study: 3 is not allowed; give text, in quotes if it looks like a number"),
    ("resources.cpus_per_pack", 1.5, "resources.cpus_per_pack: 1.5 is not allowed; give a whole"),
    ("axes.beta", {"range": 3}, "axes.beta.range: 3 is not allowed; give a list"),
    # sizes and bounds
    ("axes.latent_dim", -3, "axes.latent_dim: -3 is not allowed; give a whole number of 1 or more"),
    ("axes.latent_dim", [2, -3, "x"], "axes.latent_dim: -3 is not allowed; give a whole number of"),
    ("axes.latent_dim", [], "axes.latent_dim: [] is not allowed; give at least one value"),
    ("axes.latent_dim", {}, "axes.latent_dim: {} is empty; give a value"),
    ("axes.architecture", [], "axes.architecture: [] is not allowed; give at least one value"),
    ("dataset", [], "dataset: [] is not allowed; give at least one value"),
    ("axes.beta", -0.5, "axes.beta: -0.5 is not allowed; give a number of 0 or more"),
    ("axes.beta", float("nan"), "axes.beta: nan is not allowed; give a finite number"),
    ("axes.beta", [1, float("inf")], "axes.beta: inf is not allowed; give a finite number"),
    ("axes.learning_rate", 0, "axes.learning_rate: 0 is not allowed; give a number above 0"),
    ("axes.learning_rate", 2, "axes.learning_rate: 2 is not allowed; give a number of at most 1"),
    (
        "axes.seed",
        2**63,
        f"axes.seed: {2**63} is not allowed; give a whole number of at most {2**63 - 1}",
    ),
    ("axes.latent_dim", 10**400, "axes.latent_dim: 1000"),
    ("axes.beta", {"range": [0]}, "axes.beta.range: [0] is not allowed; give one more value"),
    (
        "axes.beta",
        {"range": [0, 1, 2]},
        "axes.beta.range: [0, 1, 2] is not allowed; give a list of 2",
    ),
    ("axes.beta", {"range": [0, 1], "count": 1}, "axes.beta.count: 1 is not allowed; give a whole"),
    ("axes.beta", {"range": [0, 1], "step": 0}, "axes.beta.step: 0.0 is not a step"),
    (
        "dataset",
        OWN | {"test_fraction": 1},
        "dataset.test_fraction: 1 is not allowed; give a number below 1",
    ),
    ("dataset", {"path": ""}, "dataset.path: '' is not allowed; give a text that is not empty"),
    ("dataset", OWN | {"name": "x" * 101}, "dataset.name: 'xxx"),
    (
        "dataset",
        ["mnist", MANIFOLD | {"noise": -1}],
        "dataset[1].noise: -1 is not allowed; give a number of 0",
    ),
    (
        "resources.pack_size",
        0,
        "resources.pack_size: 0 is not allowed; give 'auto' or a whole number of 1 or more",
    ),
    (
        "resources.gpus_per_pack",
        "aut",
        "resources.gpus_per_pack: 'aut' is not allowed; give 'auto' or a number",
    ),
    (
        "axes.architecture",
        ["linear", {"family": "dense", "widths": [[8, 0]]}],
        "axes.architecture[1].widths: 0 is",
    ),
    # names
    (
        "axes.decoder",
        "bernouli",
        "axes.decoder: 'bernouli' is not allowed (did you mean 'bernoulli'?)",
    ),
    (
        "axes.precision",
        "f",
        "axes.precision: 'f' is not allowed (choose from 'float32', 'float64', 'mixed')",
    ),
    (
        "axes.decoder",
        "gausian",
        "axes.decoder: 'gausian' is not allowed (did you mean 'gaussian'?)",
    ),
    (
        "axes.architecture",
        "paper-cnov",
        "axes.architecture: 'paper-cnov' is not an architecture (did you mean 'paper-conv'?)",
    ),
    (
        "dataset",
        "mnsit",
        "dataset: 'mnsit' is not a dataset (did you mean 'mnist'?); for your own file",
    ),
    (
        "strategy",
        "bayes",
        "strategy: 'bayes' is not a strategy (choose from 'grid', 'optuna', 'random')",
    ),
    ("strategy", 3, "strategy: 3 has no name"),
    # missing
    ("strategy", "random", "strategy.points: is missing; give it a value"),
    ("dataset", "manifold", "dataset.true_dimension: is missing"),
    ("axes.architecture", {"family": "dense", "depth": 2}, "axes.architecture.width: is missing"),
    # contradictions
    ("axes.epochs", [1, 2], "training.epochs: axes.epochs is given too; remove one of them"),
    (
        "axes.decoder_variance",
        2,
        "axes.decoder_variance: belongs to decoder 'gaussian' and to no other",
    ),
    (
        "axes.beta",
        {"range": [1, 0], "count": 2},
        "axes.beta: {range: [1.0, 0.0], count: 2} must rise",
    ),
    (
        "axes.latent_dim",
        {"range": [1, 4], "choices": [3]},
        "axes.latent_dim: has both 'choices' and 'range'",
    ),
    (
        "axes.beta",
        {"range": [0, 1]},
        "axes.beta: {range: [0.0, 1.0]} is an interval without values",
    ),
    ("axes.seed", {"log_range": [1, 9]}, "axes.seed: {log_range: [1, 9]} is an interval without"),
    # trials that would be equal
    ("axes.beta", [1, 1.0], "axes.beta: gives 1.0 twice, so trials would be equal; remove one"),
    (
        "axes.architecture",
        ["paper-dense-mnist", "dense-256-32-24"],
        "axes.architecture: gives 'dense-256-32-24' (also called 'paper-dense-mnist') 2 times",
    ),
    ("dataset", ["mnist", "mnist"], "dataset: two datasets are labelled 'mnist'"),
    (
        "dataset",
        ["mnist", {"name": "mnist", "label": "b"}],
        "dataset: 'mnist' and 'b' are the same data",
    ),
    ("dataset", [OWN, OWN | {"name": "y"}], "dataset: 'x' and 'y' are the same data"),
    ("dataset", {"path": "mnist.npz"}, "dataset: 'mnist' is the name of a built-in dataset"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_one_message_names_the_field_the_value_and_what_is_right(path, value, message):
    raw = deepcopy(MINIMAL) | {"training": {"epochs": 5}}
    *sections, field = path.split(".")
    place = raw
    for section in sections:
        place = place.setdefault(section, {})
    place[field] = value
    before = deepcopy(raw)
    with pytest.raises(BadInput) as caught:
        load_spec(raw)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert caught.value.__cause__ is None
    assert repr(raw) == repr(before)


@pytest.mark.parametrize("section", ["study", "dataset", "axes"])
def test_sections_that_every_spec_needs(section):
    raw = {name: value for name, value in MINIMAL.items() if name != section}
    with pytest.raises(BadInput, match=f"^{section}: is missing; give it a value$"):
        load_spec(raw)


def test_seeds_are_listed_even_when_points_are_drawn():
    raw = deepcopy(MINIMAL) | {"strategy": {"name": "random", "points": 1}}
    raw["axes"]["data_seed"] = {"log_range": [1, 9]}
    with pytest.raises(BadInput, match=re.escape("axes.data_seed: {log_range: [1, 9]}")):
        load_spec(raw)


def test_a_gaussian_decoder_cannot_lose_its_variance():
    raw = deepcopy(MINIMAL)
    raw["axes"] |= {"decoder": "gaussian", "decoder_variance": None}
    with pytest.raises(BadInput, match=r"^axes\.decoder_variance: belongs to decoder 'gaussian'"):
        load_spec(raw)


def test_a_spec_that_contains_itself():
    raw = deepcopy(MINIMAL)
    raw["axes"]["latent_dim"] = raw["axes"]
    with pytest.raises(BadInput):
        load_spec(raw)


def test_thousands_of_errors_are_one_message():
    raw = deepcopy(MINIMAL)
    raw["axes"]["latent_dim"] = ["x"] * 20_000
    with pytest.raises(BadInput, match=r"^axes\.latent_dim: 'x' is not allowed"):
        load_spec(raw)
