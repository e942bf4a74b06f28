"""Studies with parts: what they plan is what plain specs of the same content plan."""

import re
from copy import deepcopy
from itertools import chain
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import (
    BadInput,
    RecordSettings,
    dump_spec,
    json_schema,
    load_spec,
    plan_parts,
    plan_trials,
)

AXES = {"architecture": "linear", "latent_dim": 2}
TWO: dict[str, Any] = {
    "study": "s",
    "dataset": "mnist",
    "training": {"epochs": 7, "batch_size": 32},
    "record": {"every": 2},
    "parts": {
        "dense": {"axes": AXES},
        "conv-tiles": {
            "dataset": "tiles",
            "axes": {"architecture": "paper-conv", "latent_dim": [2, 3]},
            "training": {"epochs": 3},
            "record": {"models": True},
            "strategy": {"name": "random", "points": 2},
        },
    },
}


def two(**changes: Any) -> dict[str, Any]:
    """The two parts with some fields changed: `dense__axes__beta=2` or, outside them, `_a__b=1`."""
    raw = deepcopy(TWO)
    for path, value in changes.items():
        outside = path.startswith("_")
        *sections, field = path.lstrip("_").split("__")
        place = raw if outside else raw["parts"]
        for section in sections:
            place = place.setdefault(section.replace("_", "-") if not outside else section, {})
        place[field] = value
    return raw


def test_what_parts_take_from_outside():
    parts = load_spec(TWO).all_parts
    dense, conv = parts["dense"], parts["conv-tiles"]
    assert list(parts) == ["dense", "conv-tiles"]
    assert [d.label for d in dense.dataset] == ["mnist"]
    assert [d.label for d in conv.dataset] == ["tiles"]
    # Field by field, and the nearer wins.
    assert (dense.training.epochs, dense.training.batch_size) == (7, 32)
    assert (conv.training.epochs, conv.training.batch_size) == (3, 32)
    assert dense.record == RecordSettings(every=2)
    assert conv.record == RecordSettings(every=2, models=True)
    assert dense.strategy.name == "grid"
    assert conv.strategy.points == 2


def test_a_strategy_outside_is_every_part_s_and_taken_whole():
    raw = two(_strategy={"name": "random", "points": 1, "seed": 5})
    parts = load_spec(raw).all_parts
    assert (parts["dense"].strategy.points, parts["dense"].strategy.seed) == (1, 5)
    assert (parts["conv-tiles"].strategy.points, parts["conv-tiles"].strategy.seed) == (2, 0)


def test_an_axis_of_a_part_is_nearer_than_a_setting_outside():
    spec = load_spec(two(dense__axes=AXES | {"epochs": [1, 2]}))
    assert [trial.epochs for trial in plan_parts(spec)["dense"]] == [1, 2]
    assert {trial.epochs for trial in plan_parts(spec)["conv-tiles"]} == {3}
    assert load_spec(yaml.safe_load(dump_spec(spec))) == spec
    with pytest.raises(BadInput, match=r"^parts\.dense\.training\.epochs: axes\.epochs is given"):
        load_spec(two(dense__axes=AXES | {"epochs": [1, 2]}, dense__training={"epochs": 3}))


def test_a_part_may_do_without_what_is_recorded_outside():
    raw = two(_record={"probe": "deterioration", "every": 2}, dense__record={"probe": None})
    spec = load_spec(raw)
    assert spec.all_parts["dense"].record == RecordSettings(every=2)
    assert spec.all_parts["conv-tiles"].record.probe is not None
    assert load_spec(yaml.safe_load(dump_spec(spec))) == spec


def test_a_study_without_parts_is_one():
    spec = load_spec({"study": "s", "dataset": ["mnist", "tiles"], "axes": AXES})
    (part,) = spec.all_parts.values()
    assert (part.dataset, part.axes, part.record) == (spec.dataset, spec.axes, spec.record)
    assert spec.parts is None
    assert plan_parts(spec) == {"": plan_trials(spec)}
    assert spec.datasets == spec.dataset


PARTS = st.fixed_dictionaries(
    {
        "axes": st.fixed_dictionaries(
            {
                "architecture": st.sampled_from(["linear", "dense-8"]),
                "latent_dim": st.lists(st.integers(1, 4), min_size=1, max_size=2, unique=True),
                "seed": st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True),
            },
            optional={"beta": st.sampled_from([0.5, 1, [0.5, 1]])},
        )
    },
    optional={
        "dataset": st.sampled_from(["mnist", "tiles", ["tiles", "mnist"]]),
        "training": st.fixed_dictionaries(
            {}, optional={"epochs": st.integers(1, 2), "batch_size": st.sampled_from([8, 128])}
        ),
    },
)


@settings(deadline=None)
@given(
    parts=st.lists(PARTS, min_size=1, max_size=4),
    training=st.fixed_dictionaries({}, optional={"epochs": st.integers(1, 2)}),
)
def test_parts_plan_what_specs_of_their_own_plan_each_point_once(parts, training):
    """Plain specs are the oracle; points in common count to the first part."""
    named = {f"part-{number}": part for number, part in enumerate(parts)}
    spec = load_spec({"study": "s", "dataset": "mnist", "training": training, "parts": named})
    seen, expected = set(), {}
    for name, part in named.items():
        plain = {"study": "x", "dataset": "mnist"} | part
        plain["training"] = training | part.get("training", {})
        listed = plan_trials(load_spec(plain))
        expected[name] = [trial for trial in listed if trial not in seen]
        seen |= set(listed)
    assert plan_parts(spec) == expected
    assert plan_trials(spec) == list(chain(*expected.values()))
    assert len(set(plan_trials(spec))) == len(plan_trials(spec))
    # Written down and read again, and with each part complete in itself, it is the same study.
    assert load_spec(yaml.safe_load(dump_spec(spec))) == spec
    complete = {name: part.model_dump(mode="json") for name, part in spec.all_parts.items()}
    assert load_spec({"study": "s", "parts": complete}).all_parts == spec.all_parts


def test_a_point_of_two_parts_must_be_recorded_alike():
    raw = two(dense__axes=AXES | {"beta": [1, 2]}, again={"axes": AXES | {"beta": [2.0, 4]}})
    spec = load_spec(raw)
    assert [trial.beta for trial in plan_parts(spec)["dense"]] == [1, 2]
    assert [trial.beta for trial in plan_parts(spec)["again"]] == [4]
    raw["parts"]["again"]["record"] = {"every": 5}
    with pytest.raises(BadInput) as caught:
        plan_trials(load_spec(raw))
    message = str(caught.value)
    assert message.startswith("parts.again.record: every is 5, and part 'dense'")
    assert "beta 2.0" in message
    assert "has 2;" in message
    raw["parts"]["again"]["axes"] = AXES | {"beta": 4}
    assert len(plan_trials(load_spec(raw))) == 5


def test_a_part_without_points_of_its_own_is_still_there():
    assert plan_parts(load_spec(two(again={"axes": AXES})))["again"] == []


BAD = [
    ({"_axes": AXES}, "axes: the study has parts, which have axes of their own each"),
    ({"_axes": {"beta": 1}}, "axes: the study has parts, which have axes of their own each"),
    ({"_parts": {}}, "parts: {} is not allowed; give at least one value"),
    ({"_parts": None}, "parts: null is not allowed; give a mapping of its fields"),
    ({"_parts": ["dense"]}, "parts: ['dense'] is not allowed"),
    ({"_parts": {"dense": None}}, "parts.dense: null is not allowed; give a mapping"),
    ({"_parts": {"dense": {}}}, "parts.dense.axes: is missing; give it a value"),
    ({"_parts": {"Dense": {"axes": AXES}}}, "parts.Dense: 'Dense' is not a name; give lower-case"),
    ({"_parts": {"a.b": {"axes": AXES}}}, "parts.a.b: 'a.b' is not a name; give lower-case"),
    ({"_parts": {"": {"axes": AXES}}}, "parts.: '' is not a name"),
    ({"_parts": {3: {"axes": AXES}}}, "parts.3: 3 is not allowed; give text"),
    ({"dense__epochs": 3}, "parts.dense.epochs: unknown key (choose from"),
    ({"dense__trainin": {}}, "parts.dense.trainin: unknown key (did you mean 'training'?)"),
    ({"dense__training": {"epoch": 3}}, "parts.dense.training.epoch: unknown key (did you mean"),
    ({"dense__training": {"epochs": 0}}, "parts.dense.training.epochs: 0 is not allowed"),
    ({"dense__training": 3}, "parts.dense.training: 3 is not allowed; give a mapping"),
    ({"dense__axes": {"architecture": "linear"}}, "parts.dense.axes.latent_dim: is missing"),
    (
        {"dense__axes": AXES | {"beta": {"range": [0, 1]}}},
        "parts.dense.axes.beta: {range: [0.0, 1.0]} is an interval without values",
    ),
    # What is wrong outside is found there, once, and not in the parts that take it.
    ({"_training": {"epochs": 0}}, "training.epochs: 0 is not allowed; give a whole number"),
    ({"_training": 3}, "training: 3 is not allowed; give a mapping of its fields"),
    ({"_dataset": "mnsit"}, "dataset: 'mnsit' is not a dataset (did you mean 'mnist'?)"),
    ({"_record": {"evry": 1}}, "record.evry: unknown key (did you mean 'every'?)"),
    ({"_strategy": "bayes"}, "strategy: 'bayes' is not a strategy"),
    # What would mix up trials of two parts in the tables.
    (
        {"dense__dataset": {"name": "tiles", "seed": 3}},
        "parts.conv-tiles.dataset: part 'dense' has other data labelled 'tiles'",
    ),
    (
        {"dense__dataset": {"name": "tiles", "label": "t"}},
        "parts.conv-tiles.dataset: 'tiles' is the same data as 't' of part 'dense'",
    ),
    (
        {"dense__record": {"active_variance": 0.02}},
        "parts.dense.record.active_variance: 0.02 differs from the study's 0.01",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_one_message_names_the_part_and_the_field(change, message):
    with pytest.raises(BadInput) as caught:
        load_spec(two(**change))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"conv_tiles__dataset": {"name": "manifold", "true_dimension": 2}},
            "parts.conv-tiles.axes.architecture: on 'manifold-2', 'paper-conv' needs images",
        ),
        (
            {"dense__dataset": {"name": "manifold", "true_dimension": 2}},
            "parts.dense.axes.decoder: 'bernoulli' is not allowed on a manifold dataset",
        ),
        ({"dense__strategy": {"name": "random", "points": 9}}, "parts.dense.strategy.points: 9"),
        (
            {"dense__axes": AXES | {"seed": {"range": [0, 1_000_001]}}},
            "parts.dense.axes.seed: {range: [0, 1000001]}",
        ),
        (
            {f"{name}__axes": AXES | {"seed": {"range": [start, start + 599_999]}}
             for name, start in (("dense", 0), ("more", 600_000))},
            "parts: they make more than 1,000,000 trials together",
        ),
    ],
    ids=["conv on vectors", "bernoulli", "points", "axis", "sum"],
)  # fmt: skip
def test_what_cannot_be_planned_names_the_part(change, message, monkeypatch):
    if message.startswith("parts: they"):  # the same with fewer trials
        monkeypatch.setattr("search_spaces.points.LARGEST_PLAN", 1000)
        for part in change.values():
            low, high = part["seed"]["range"]
            part["seed"] = {"range": [low // 1000, high // 1000]}
        message = message.replace("1,000,000", "1,000")
    with pytest.raises(BadInput) as caught:
        plan_trials(load_spec(two(**change)))
    assert str(caught.value).startswith(message)


def test_a_dataset_that_nobody_gives():
    raw = {name: value for name, value in TWO.items() if name != "dataset"}
    with pytest.raises(BadInput, match=r"^parts\.dense\.dataset: is missing; give it a value$"):
        load_spec(raw)


@pytest.mark.parametrize(
    ("overrides", "read", "expected"),
    [
        (["training.epochs=9"], lambda p: p["dense"].training.epochs, 9),
        (["training.epochs=9"], lambda p: p["conv-tiles"].training.epochs, 3),
        (["parts.conv-tiles.training.epochs=9"], lambda p: p["conv-tiles"].training.epochs, 9),
        (["parts.conv-tiles.training.epochs=9"], lambda p: p["dense"].training.epochs, 7),
        (["parts.dense.dataset=tiles"], lambda p: p["dense"].dataset[0].label, "tiles"),
        # Into a section that the part takes from outside: it starts from that.
        (["parts.dense.dataset.train_images=9"], lambda p: p["dense"].dataset[0].train_images, 9),
        (["parts.dense.record.every=9"], lambda p: p["dense"].record.every, 9),
        (["parts.new={axes: {architecture: linear, latent_dim: 9}}"], len, 3),
        (["parts=dense"], list, ["dense"]),
        (["parts=[conv-tiles, dense]"], list, ["dense", "conv-tiles"]),
        (["parts.dense.record.every=1", "parts=[dense]"], lambda p: p["dense"].record.every, 1),
    ],
)
def test_overrides(overrides, read, expected):
    assert read(load_spec(TWO, overrides).all_parts) == expected


@pytest.mark.parametrize(
    ("raw", "override", "message"),
    [
        (TWO, "parts.conv-tile.training.epochs=3", "'parts.conv-tile.training.epochs=3': 'conv-"
         "tile' is not a part of this study (did you mean 'conv-tiles'?)"),
        (TWO, "parts=dens", "'parts=dens': 'dens' is not a part of this study (did you mean"),
        (TWO, "parts=[dense, {}]", "'parts=[dense, {}]': {} is not a part of this study"),
        (TWO, "parts=[]", "'parts=[]' leaves no part (choose from 'conv-tiles', 'dense')"),
        (TWO, "parts.dense=3", "parts.dense: 3 is not allowed; give a mapping of its fields"),
        (TWO, "parts.dense.training.epochs=0", "parts.dense.training.epochs: 0 is not allowed"),
        (TWO, "axes.beta=1", "axes: the study has parts, which have axes of their own each"),
        ({"study": "s", "dataset": "mnist", "axes": AXES}, "parts.dense.training.epochs=3",
         "'parts.dense.training.epochs=3': 'dense' is not a part of this study (there are none)"),
        ({"study": "s", "dataset": "mnist", "axes": AXES}, "parts=dense",
         "'parts=dense' chooses among parts, and this study has none"),
    ],
)  # fmt: skip
def test_what_is_no_override(raw, override, message):
    with pytest.raises(BadInput) as caught:
        load_spec(raw, [override])
    assert str(caught.value).startswith(message)


def test_an_override_changes_one_place_of_what_an_anchor_put_in_two(tmp_path):
    path = tmp_path / "anchors.yaml"
    path.write_text(
        "study: s\ndataset: mnist\nparts:\n"
        "  a: &a {axes: {architecture: linear, latent_dim: 2}, training: {epochs: 1}}\n"
        "  b: *a\n"
    )
    parts = load_spec(path, ["parts.a.training.epochs=5"]).all_parts
    assert [part.training.epochs for part in parts.values()] == [5, 1]


def test_the_given_dictionary_stays_as_it_is():
    raw = deepcopy(TWO)
    load_spec(raw, ["parts.dense.dataset.train_images=5", "parts.dense.training.epochs=5"])
    assert raw == TWO


def test_a_dump_tells_what_is_shared_once():
    content = yaml.safe_load(dump_spec(load_spec(TWO)))
    assert list(content["parts"]["dense"]) == ["axes"]
    conv = content["parts"]["conv-tiles"]
    assert conv["training"] == {"epochs": 3}
    assert conv["record"] == {"models": True}
    assert conv["strategy"] == {"name": "random", "points": 2, "seed": 0}
    assert content["training"]["learning_rate"] == 0.001
    assert "axes" not in content


FORMS = [
    TWO,
    {name: value for name, value in TWO.items() if name not in ("training", "record")},
    two(dense__axes=AXES | {"epochs": [1, 2]}),
    {"study": "s", "parts": {"a": {"dataset": "tiles", "axes": AXES}}},
    two(_strategy={"name": "random", "points": 1}),
]


@pytest.mark.parametrize("raw", FORMS)
def test_forms_are_dumped_read_back_and_known_to_the_schema(raw):
    spec = load_spec(raw)
    content = yaml.safe_load(dump_spec(spec))
    assert load_spec(content) == spec
    jsonschema.validate(raw, json_schema())
    jsonschema.validate(content, json_schema())


@pytest.mark.parametrize(
    "raw",
    [
        two(_axes=AXES),
        two(_parts={}),
        two(_parts=None),
        two(_parts={"a": {}}),
        two(_parts={"A": {"axes": AXES}}),
        two(dense__training={"epoch": 3}),
        two(dense__resources={}),
        {"study": "s", "axes": AXES},
        {"study": "s", "dataset": "mnist"},
        {"study": "s", "dataset": "mnist", "axes": None},
    ],
)
def test_the_schema_refuses_what_load_spec_refuses(raw):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(raw, json_schema())
    with pytest.raises(BadInput):
        load_spec(raw)


FROZEN = """\
study: early
description: a study of the first version
dataset:
- {name: mnist, binarise: false, label: mnist}
- {path: /data/faces.npz, name: faces, key: images, test_fraction: 0.1, seed: 0, binarise: false, label: faces}
axes:
  architecture:
  - paper-conv
  - family: dense
    depth: [1, 2]
    width: [8]
  latent_dim:
    range: [2, 8]
    step: 3
  beta: [1.0]
  objective: [elbo]
  decoder: [bernoulli, gaussian]
  decoder_variance: [0.5]
  initialisation: [glorot]
  data_seed: [0]
  seed: [0, 1]
  epochs: [1, 2]
training: {batch_size: 128, learning_rate: 1.0e-05, learning_rate_schedule: cosine, precision: float32}
strategy: {name: grid}
resources: {pack_size: auto, cpus_per_pack: 1, gpus_per_pack: auto, max_packs: auto, max_failures: 2,
  checkpoint_seconds: 60.0, storage_patience_seconds: 300.0}
"""  # noqa: E501


def test_a_spec_that_was_written_before_there_were_parts():
    spec = load_spec(yaml.safe_load(FROZEN))
    assert len(plan_trials(spec)) == 144
    assert dump_spec(spec).startswith(FROZEN)
    assert re.search(r"^(parts|scale)", dump_spec(spec), re.MULTILINE) is None
