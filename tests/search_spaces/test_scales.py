"""Scales: sets of overrides that a spec names, applied before anything else is looked at."""

from copy import deepcopy
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import BadInput, dump_spec, json_schema, load_spec, plan_parts, plan_trials

AXES = {"architecture": "linear", "latent_dim": [2, 3]}
SPEC: dict[str, Any] = {
    "study": "s",
    "dataset": "mnist",
    "axes": AXES,
    "training": {"epochs": 40},
    "scales": {
        "small": {"training.epochs": 5, "dataset.train_images": 100, "axes.latent_dim": 2},
        "tiny": {"training.epochs": 1},
    },
}
PARTS = {
    "study": "s",
    "dataset": "mnist",
    "parts": {"a": {"axes": AXES}, "b": {"axes": AXES | {"beta": 2}, "training": {"epochs": 9}}},
    "scales": {
        "small": {"training.epochs": 2, "parts.b.training.epochs": 3},
        "one": {"parts": "b"},
    },
}


def scaled(**fields: Any) -> dict[str, Any]:
    return deepcopy(SPEC) | {
        "scales": {"small": {k.replace("__", "."): v for k, v in fields.items()}}
    }


def test_a_scale_is_a_set_of_overrides():
    fields = [f"{name}={value}" for name, value in SPEC["scales"]["small"].items()]
    ours, theirs = load_spec(SPEC, ["scale=small"]), load_spec(SPEC, fields)
    assert plan_trials(ours) == plan_trials(theirs)
    assert ours.all_parts == theirs.all_parts
    assert ours.all_parts != load_spec(SPEC).all_parts
    assert (ours.scale, theirs.scale) == ("small", "full")


def test_none_is_full():
    assert load_spec(SPEC) == load_spec(SPEC, ["scale=full"]) == load_spec(SPEC | {"scale": "full"})
    assert load_spec(SPEC).training.epochs == 40
    assert "scale: " not in dump_spec(load_spec(SPEC))


def test_it_may_be_chosen_in_the_file_and_overridden():
    assert load_spec(SPEC | {"scale": "tiny"}).training.epochs == 1
    assert load_spec(SPEC | {"scale": "tiny"}, ["scale=small"]).training.epochs == 5
    assert load_spec(SPEC | {"scale": "tiny"}, ["scale=full"]).training.epochs == 40


@pytest.mark.parametrize("first", [True, False])
def test_what_is_set_explicitly_wins_wherever_it_stands(first):
    overrides = ["scale=small", "training.epochs=7"]
    spec = load_spec(SPEC, overrides if first else overrides[::-1])
    assert spec.training.epochs == 7
    assert spec.dataset[0].train_images == 100


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["training.epochs", "training.batch_size", "axes.latent_dim"]),
        st.integers(1, 9),
    ),
    st.dictionaries(
        st.sampled_from(["training.epochs", "training.batch_size", "axes.latent_dim"]),
        st.integers(10, 19),
    ),
)
def test_a_scale_then_overrides_is_all_of_them_in_a_row(scale, explicit):
    raw = SPEC | {"scales": {"x": scale}}
    ours = [f"{name}={value}" for name, value in explicit.items()]
    spec = load_spec(raw, ["scale=x", *ours])
    in_a_row = load_spec(SPEC, [*(f"{name}={value}" for name, value in scale.items()), *ours])
    assert spec.all_parts == in_a_row.all_parts
    # What is written down says which scale it was, and is not scaled a second time.
    again = load_spec(yaml.safe_load(dump_spec(spec)))
    assert again == spec
    assert (again.scale, again.scales) == ("x", {"x": {}})


def test_parts():
    spec = load_spec(PARTS, ["scale=small"])
    assert [part.training.epochs for part in spec.all_parts.values()] == [2, 3]
    assert list(plan_parts(load_spec(PARTS, ["scale=one"]))) == ["b"]
    # An override that a scale makes pointless is no error of the scale's.
    with pytest.raises(BadInput, match=r"^'parts\.a\.training\.epochs=1': 'a' is not a part"):
        load_spec(PARTS, ["scale=one", "parts.a.training.epochs=1"])
    with pytest.raises(BadInput, match=r"^parts\.b\.axes\.beta: -1 is not allowed"):
        load_spec(PARTS, ["scale=one", "parts.b.axes.beta=-1"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"training__epochs": -1}, "scales.small.training.epochs: -1 is not allowed; give a whole"),
        ({"training__epoch": 1}, "scales.small.training.epoch: unknown key (did you mean 'epochs'"),
        ({"trainin__epochs": 1}, "scales.small.trainin: unknown key (did you mean 'training'?)"),
        ({"record__evry": 1}, "scales.small.record.evry: unknown key (did you mean 'every'?)"),
        ({"axes__latent_dim": [2, -3]}, "scales.small.axes.latent_dim: -3 is not allowed"),
        ({"dataset": ["mnist", "mnist"]}, "scales.small.dataset: two datasets are labelled"),
        ({"dataset": ["tiles", "mnsit"]}, "scales.small.dataset[1]: 'mnsit' is not a dataset"),
        ({"axes__epochs": 3}, "training.epochs: axes.epochs is given too"),
        ({"axes__latent_dim__x": 3}, "'scales.small.axes.latent_dim.x' goes into axes.latent_dim"),
        ({"parts__x__training": {}}, "'scales.small.parts.x.training': 'x' is not a part"),
        ({"": 3}, "scales.small.: '' is not a field that a scale may set"),
        ({"training__": 3}, "scales.small.training.: 'training.' is not a field"),
        ({"scale": "tiny"}, "scales.small.scale: 'scale' is not a field that a scale may set"),
        ({"scales": {}}, "scales.small.scales: 'scales' is not a field that a scale may set"),
    ],
)
def test_what_a_scale_sets_wrongly_names_the_scale(fields, message):
    with pytest.raises(BadInput) as caught:
        load_spec(scaled(**fields), ["scale=small"])
    assert str(caught.value).startswith(message)
    assert load_spec(scaled(**fields)).scale == "full"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.epochs=-2"], "training.epochs: -2 is not allowed"),
        (["training.batch_size=-2"], "training.batch_size: -2 is not allowed"),
        (["training={epochs: -2}"], "training.epochs: -2 is not allowed"),
        (["axes.beta=-2"], "axes.beta: -2 is not allowed"),
    ],
)
def test_what_is_set_explicitly_is_no_fault_of_the_scale(overrides, message):
    raw = {name: value for name, value in SPEC.items() if name != "training"}
    with pytest.raises(BadInput) as caught:
        load_spec(raw, ["scale=tiny", *overrides])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("raw", "overrides", "message"),
    [
        (SPEC, ["scale=smal"], "scale: 'smal' is not a scale of this study (did you mean 'small'"),
        (SPEC | {"scale": "big"}, [], "scale: 'big' is not a scale of this study (choose from"),
        ({**SPEC, "scales": {}}, ["scale=small"], "scale: 'small' is not a scale of this study"),
        (SPEC, ["scale=[small]"], "scale: ['small'] is not allowed; give text"),
        (SPEC, ["scale="], "scale: null is not allowed; give text"),
        (SPEC, ["scales.small.training.epochs=2"], "'scales.small.training.epochs=2' changes a sc"),
        (SPEC, ["scale.x=2"], "scale: {'x': 2} is not allowed; give text"),
        (SPEC | {"scales": {"full": {}}}, [], "scales.full: it is the study without a scale"),
        (SPEC | {"scales": {"A b": {}}}, [], "scales.A b: 'A b' is not a name; give lower-case"),
        (SPEC | {"scales": 3}, ["scale=small"], "scales: 3 is not allowed; give a mapping"),
        (SPEC | {"scales": None}, [], "scales: null is not allowed; give a mapping"),
        (SPEC | {"scales": {"a": 3}}, ["scale=a"], "scales.a: 3 is not allowed; give a mapping"),
        (SPEC | {"scales": {"a": {3: 3}}}, ["scale=a"], "scales.a.3: 3 is not allowed; give text"),
    ],
)
def test_bad_choices_and_bad_scales(raw, overrides, message):
    with pytest.raises(BadInput) as caught:
        load_spec(raw, overrides)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_given_dictionary_stays_as_it_is():
    raw = deepcopy(SPEC)
    load_spec(raw, ["scale=small"])
    assert raw == SPEC


@pytest.mark.parametrize("raw", [SPEC, SPEC | {"scale": "small"}, PARTS])
def test_the_json_schema_knows_scales(raw):
    jsonschema.validate(raw, json_schema())
    jsonschema.validate(yaml.safe_load(dump_spec(load_spec(raw))), json_schema())
    assert load_spec(yaml.safe_load(dump_spec(load_spec(raw)))) == load_spec(raw)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(raw | {"scales": {"A b": {}}}, json_schema())
