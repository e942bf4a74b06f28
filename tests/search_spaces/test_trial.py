import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from search_spaces import NAMED, Architecture, IdxDataset, TilesDataset, Trial, stack_key, trial_id

SEEDS = st.integers(0, 2**63 - 1)
DECODERS = st.one_of(
    st.fixed_dictionaries({"decoder": st.sampled_from(["bernoulli", "gaussian_learned"])}),
    st.fixed_dictionaries(
        {"decoder": st.just("gaussian"), "decoder_variance": st.floats(1e-6, 1e3)}
    ),
)
FIELDS = st.builds(
    lambda fields, decoder: {**fields, **decoder},
    st.fixed_dictionaries(
        {
            "dataset": st.sampled_from([IdxDataset(name="mnist"), TilesDataset()]),
            "architecture": st.sampled_from([*NAMED.values(), Architecture.dense((8,))]),
            "latent_dim": st.integers(1, 64),
        },
        optional={
            "beta": st.floats(0, 100),
            "objective": st.sampled_from(["elbo", "quadratic_penalty", "no_sampling"]),
            "learning_rate": st.floats(1e-6, 1),
            "learning_rate_schedule": st.sampled_from(["cosine", "constant"]),
            "batch_size": st.integers(1, 1000),
            "epochs": st.integers(1, 1000),
            "initialisation": st.sampled_from(["glorot", "torch"]),
            "data_seed": SEEDS,
            "seed": SEEDS,
            "precision": st.sampled_from(["float32", "float64", "mixed"]),
        },
    ),
    DECODERS,
)


def minimal(**fields):
    return Trial(**{"dataset": "tiles", "architecture": "linear", "latent_dim": 4, **fields})


def test_id_of_a_point_never_changes():
    """These ids are in users' tables: a change makes them train every point again."""
    content = {
        "dataset": "abc",
        "hyperparameters": {"architecture": "linear", "latent_dim": 4},
        "numerics_version": 1,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert trial_id(minimal(), "abc", 1) == hashlib.sha256(text.encode()).hexdigest()[:20]
    assert trial_id(minimal(), "abc", 1) == "14a1655ee2009d7b977c"
    other = minimal(beta=2, decoder="gaussian", decoder_variance=0.5, seed=7)
    assert trial_id(other, "abc", 1) == "5051ec9e71bbb1de04b9"


@given(FIELDS, st.randoms(use_true_random=False))
def test_id_is_the_same_in_any_order_and_with_defaults_written_out(fields, rng):
    trial = Trial(**fields)
    names = list(fields)
    rng.shuffle(names)
    shuffled = Trial(**{name: fields[name] for name in names})
    written_out = Trial(**dict(trial))
    reread = Trial.model_validate_json(trial.model_dump_json())
    for same in (shuffled, written_out, reread):
        assert same == trial
        assert hash(same) == hash(trial)
        assert trial_id(same, "abc", 1) == trial_id(trial, "abc", 1)
    assert len(trial_id(trial, "abc", 1)) == 20
    int(trial_id(trial, "abc", 1), 16)


@given(FIELDS, FIELDS)
def test_ids_differ_exactly_where_a_hyperparameter_does(one, other):
    # The dataset enters through its fingerprint alone.
    first, second = Trial(**one), Trial(**other | {"dataset": one["dataset"]})
    assert (trial_id(first, "abc", 1) == trial_id(second, "abc", 1)) == (first == second)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "dense-8"},
        {"latent_dim": 5},
        {"beta": 0},
        {"objective": "no_sampling"},
        {"decoder": "gaussian"},
        {"decoder": "gaussian_learned"},
        {"learning_rate": 0.002},
        {"learning_rate_schedule": "constant"},
        {"batch_size": 64},
        {"epochs": 21},
        {"initialisation": "torch"},
        {"data_seed": 1},
        {"seed": 1},
        {"precision": "float64"},
    ],
)
def test_every_hyperparameter_counts(change):
    assert trial_id(minimal(**change), "abc", 1) != trial_id(minimal(), "abc", 1)


def test_every_field_of_a_trial_is_covered_above():
    """A new field has to be in the strategies here, or its effect on the id goes untested."""
    covered = {"dataset", "architecture", "latent_dim", "decoder_variance"}
    mark = test_every_hyperparameter_counts.pytestmark[0]
    assert covered | {name for change in mark.args[1] for name in change} == set(Trial.model_fields)


def test_decoder_variance_counts_and_its_default_does_not():
    gaussian = minimal(decoder="gaussian")
    assert gaussian.decoder_variance == 1.0
    assert trial_id(gaussian, "a", 1) == trial_id(
        minimal(decoder="gaussian", decoder_variance=1), "a", 1
    )
    assert trial_id(gaussian, "a", 1) != trial_id(
        minimal(decoder="gaussian", decoder_variance=2), "a", 1
    )


def test_fingerprint_and_numerics_version_count():
    ids = {trial_id(minimal(), print_, version) for print_ in ("a", "b") for version in (1, 2)}
    assert len(ids) == 4


def test_the_datasets_recipe_and_label_do_not_count():
    other = minimal(dataset=TilesDataset(label="other", seed=5))
    assert trial_id(other, "abc", 1) == trial_id(minimal(), "abc", 1)


def test_equal_numbers_hash_alike():
    assert trial_id(minimal(beta=2), "a", 1) == trial_id(minimal(beta=2.0), "a", 1)
    assert trial_id(minimal(beta=1), "a", 1) == trial_id(minimal(), "a", 1)
    assert trial_id(minimal(beta=0.0), "a", 1) == trial_id(minimal(beta=-0.0), "a", 1)


def test_hyperparameters_are_one_flat_row():
    row = minimal(architecture="paper-dense-mnist", beta=2).hyperparameters()
    assert row == {
        "dataset": "tiles",
        "architecture": "dense-256-32-24",
        "family": "dense",
        "depth": 3,
        "widths": "256-32-24",
        "latent_dim": 4,
        "beta": 2.0,
        "objective": "elbo",
        "decoder": "bernoulli",
        "decoder_variance": None,
        "learning_rate": 0.001,
        "learning_rate_schedule": "cosine",
        "batch_size": 128,
        "epochs": 20,
        "initialisation": "glorot",
        "data_seed": 0,
        "seed": 0,
        "precision": "float32",
    }
    assert minimal().hyperparameters()["widths"] == ""


@pytest.mark.parametrize(
    ("change", "stacks"),
    [
        ({"latent_dim": 5}, True),
        ({"beta": 2}, True),
        ({"objective": "no_sampling"}, True),
        ({"decoder_variance": 2}, True),
        ({"learning_rate": 0.1}, True),
        ({"learning_rate_schedule": "constant"}, True),
        ({"initialisation": "torch"}, True),
        ({"seed": 1}, True),
        ({"dataset": "mnist"}, False),
        ({"architecture": "dense-8"}, False),
        ({"decoder": "bernoulli"}, False),
        ({"batch_size": 64}, False),
        ({"epochs": 21}, False),
        ({"data_seed": 1}, False),
        ({"precision": "float64"}, False),
    ],
)
def test_what_trials_of_a_pack_share(change, stacks):
    key = stack_key(minimal(decoder="gaussian"))
    other = stack_key(minimal(**{"decoder": "gaussian", **change}))
    assert (key == other) is stacks
    assert len({key, other}) == (1 if stacks else 2)


@pytest.mark.parametrize(
    "change",
    [
        {"latent_dim": 0},
        {"latent_dim": -3},
        {"latent_dim": 2.0},
        {"latent_dim": True},
        {"beta": -0.1},
        {"beta": float("nan")},
        {"beta": float("inf")},
        {"beta": "1"},
        {"objective": "elbow"},
        {"decoder": "gauss"},
        {"decoder": "gaussian", "decoder_variance": 0},
        {"decoder": "gaussian", "decoder_variance": float("inf")},
        {"decoder": "gaussian", "decoder_variance": None},
        {"decoder": "bernoulli", "decoder_variance": 1},
        {"decoder": "gaussian_learned", "decoder_variance": 1},
        {"learning_rate": 0},
        {"learning_rate": 1.1},
        {"batch_size": 0},
        {"epochs": 0},
        {"seed": -1},
        {"seed": 2**63},
        {"data_seed": 2**63},
        {"precision": "float16"},
        {"lr": 0.1},
    ],
)
def test_what_is_no_trial(change):
    with pytest.raises(ValidationError):
        minimal(**change)


def test_trials_are_immutable():
    with pytest.raises(ValidationError):
        minimal().beta = 2.0
