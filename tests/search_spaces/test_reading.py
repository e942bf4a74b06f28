from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import (
    BadInput,
    dump_spec,
    json_schema,
    load_spec,
    plan_trials,
    preset_names,
    preset_path,
)
from search_spaces.yaml_text import parse_yaml

MINIMAL = {"study": "s", "dataset": "mnist", "axes": {"architecture": "linear", "latent_dim": 2}}


def with_axes(**axes):
    return MINIMAL | {"axes": MINIMAL["axes"] | axes}


# One spec for each short form and each long one.
FORMS = [
    MINIMAL,
    MINIMAL | {"description": "why: because", "strategy": "grid"},
    MINIMAL | {"strategy": {"name": "grid"}},
    MINIMAL | {"strategy": {"name": "random", "points": 1, "seed": 3}},
    MINIMAL | {"dataset": ["mnist", "tiles", {"path": "faces.npz", "key": "images"}]},
    MINIMAL | {"dataset": {"name": "kmnist", "train_images": 100, "binarise": True}},
    MINIMAL | {"dataset": {"name": "manifold", "true_dimension": 3}},
    MINIMAL | {"dataset": {"name": "mine", "path": "x.npy"}},
    MINIMAL | {"study": "1e3", "description": "null"},
    MINIMAL | {"resources": {"pack_size": 4, "gpus_per_pack": 0.25, "checkpoint_seconds": 5}},
    MINIMAL | {"record": {"every": 5, "models": True, "active_kl": 1e-05}},
    MINIMAL | {"record": {"samples": 9, "encodings": 9, "probe": "deterioration"}},
    MINIMAL | {"record": {"trajectory": {"images": 1}, "probe": {"increment": 0.5}}},
    MINIMAL | {"training": {"epochs": 3, "learning_rate": 1e-05, "precision": "float64"}},
    with_axes(latent_dim=[2, 3], beta={"choices": [0.5, 1]}, objective=["elbo", "no_sampling"]),
    with_axes(latent_dim={"range": [2, 9]}, beta={"range": [0, 1], "count": 3}),
    with_axes(latent_dim={"range": [2, 9], "step": 2}, beta={"log_range": [0.1, 1], "count": 3}),
    with_axes(decoder=["bernoulli", "gaussian"], decoder_variance=[0.5, 2]),
    with_axes(decoder="gaussian_learned", initialisation=["glorot", "torch"]),
    with_axes(
        epochs=[1, 2], learning_rate=0.01, precision=["float32"], batch_size={"choices": [8]}
    ),
    with_axes(architecture=["paper-conv", "dense-8-4", "conv-8", {"family": "linear"}]),
    with_axes(architecture={"family": "dense", "widths": [8, 4]}),
    with_axes(architecture={"choices": [{"family": "conv", "channels": [[8], [8, 4]]}]}),
    with_axes(architecture=[{"family": "dense", "depth": [1, 2], "width": {"range": [3, 4]}}]),
    with_axes(data_seed=[0, 1], seed={"range": [0, 4]}),
    with_axes(beta={"range": [0, 1]}) | {"strategy": {"name": "random", "points": 5}},
]
forms = pytest.mark.parametrize("raw", FORMS)


@forms
def test_what_is_dumped_is_read_back(raw, tmp_path):
    spec = load_spec(raw)
    text = dump_spec(spec)
    path = tmp_path / "study.yaml"
    path.write_text(text)
    again = load_spec(path)
    assert again == spec
    assert dump_spec(again) == text
    if not any(dataset.label.startswith("manifold") for dataset in spec.dataset):
        assert plan_trials(again) == plan_trials(spec)


def test_a_dump_writes_out_every_default():
    content = yaml.safe_load(dump_spec(load_spec(MINIMAL)))
    assert content["training"] == {
        "epochs": 20,
        "batch_size": 128,
        "learning_rate": 0.001,
        "learning_rate_schedule": "cosine",
        "precision": "float32",
    }
    assert content["axes"] == {
        "architecture": ["linear"],
        "latent_dim": [2],
        "beta": [1.0],
        "objective": ["elbo"],
        "decoder": ["bernoulli"],
        "initialisation": ["glorot"],
        "data_seed": [0],
        "seed": [0],
    }
    assert content["strategy"] == {"name": "grid"}
    assert set(content) >= {"resources", "record", "description"}


def test_a_dump_leaves_out_settings_that_an_axis_gives():
    content = yaml.safe_load(dump_spec(load_spec(with_axes(epochs=[1, 2]))))
    assert "epochs" not in content["training"]
    assert content["axes"]["epochs"] == [1, 2]


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1e300), min_size=1, max_size=4, unique=True),
    st.floats(1e-300, 1),
    st.text(max_size=40),
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
)
def test_any_number_and_text_survives_the_dump(betas, learning_rate, description, study):
    raw = with_axes(beta=betas, learning_rate=learning_rate)
    spec = load_spec(raw | {"description": description, "study": study})
    assert load_spec(parse_yaml(dump_spec(spec), "test")) == spec


@forms
def test_the_json_schema_accepts_every_form_and_its_dump(raw):
    jsonschema.validate(raw, json_schema())
    jsonschema.validate(yaml.safe_load(dump_spec(load_spec(raw))), json_schema())


@pytest.mark.parametrize("name", preset_names())
def test_the_json_schema_accepts_the_presets(name):
    jsonschema.validate(yaml.safe_load(preset_path(name).read_text()), json_schema())


@pytest.mark.parametrize(
    "raw",
    [
        MINIMAL | {"axis": 1},
        MINIMAL | {"study": "a/b"},
        MINIMAL | {"dataset": "mnsit"},
        MINIMAL | {"strategy": "random"},
        MINIMAL | {"training": {"epoch": 3}},
        with_axes(latent_dim=-3),
        with_axes(latent_dim=[]),
        with_axes(architecture="paper-cnov"),
        with_axes(architecture={"family": "dense"}),
        with_axes(beta={"rang": [0, 1]}),
        with_axes(decoder="bernouli"),
        {"study": "s", "dataset": "mnist"},
    ],
)
def test_the_json_schema_refuses_what_load_spec_refuses(raw):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(raw, json_schema())
    with pytest.raises(BadInput):
        load_spec(raw)


def test_the_json_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_sources(tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    path.write_text("study: s\ndataset: mnist\naxes: {architecture: linear, latent_dim: 2}\n")
    assert load_spec(path) == load_spec(str(path)) == load_spec(MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert load_spec("mine.yaml") == load_spec(MINIMAL)
    assert load_spec("mnist-dense") == load_spec("mnist_dense")
    # A folder named like a preset is not in its way, and a file is read by its path.
    (tmp_path / "quickstart").write_text(path.read_text())
    assert load_spec("quickstart").study == "quickstart"
    assert load_spec("./quickstart").study == "s"
    assert load_spec(Path("quickstart")).study == "s"


def test_the_given_dictionary_stays_as_it_is():
    raw = deepcopy(MINIMAL)
    load_spec(raw, ["axes.beta=2", "dataset.train_images=5", "training.epochs=3"])
    assert raw == MINIMAL


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no spec; a spec is a mapping"),
        ("[1, 2]", "holds no spec; a spec is a mapping"),
        ("quickstart", "holds no spec; a spec is a mapping"),
        ("study: [1, 2", "line 1"),
        ("study: a\nstudy: b\n", "'study' is there already"),
        (b"study: \xff\xfe", "cannot be read"),
    ],
)
def test_files_that_hold_no_spec(tmp_path, content, message):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput) as caught:
        load_spec(path)
    assert message in str(caught.value)
    assert "broken.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("quickstrt", "'quickstrt' is neither a file nor a preset (did you mean 'quickstart'?)"),
        (
            "no/such.yaml",
            "'no/such.yaml' is neither a file nor a preset (choose from 'known-dimension'",
        ),
        ("", "'' cannot be read"),
        ("a\x00b", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("/", "'/' cannot be read"),
    ],
)
def test_sources_that_are_not_there(source, message):
    with pytest.raises(BadInput) as caught:
        load_spec(source)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("training.epochs=5", lambda spec: spec.training.epochs == 5),
        ("training.learning_rate=1e-2", lambda spec: spec.training.learning_rate == 0.01),
        ("axes.latent_dim=[2, 4]", lambda spec: spec.axes.latent_dim.values() == [2, 4]),
        ("axes.seed={range: [0, 2]}", lambda spec: spec.axes.seed.values() == [0, 1, 2]),
        ("study=other", lambda spec: spec.study == "other"),
        ("description=a=b", lambda spec: spec.description == "a=b"),
        ("dataset=tiles", lambda spec: spec.dataset[0].label == "tiles"),
        ("dataset.train_images=9", lambda spec: spec.dataset[0].train_images == 9),
        ("strategy.name=grid", lambda spec: spec.strategy.name == "grid"),
        (" record.models = true", lambda spec: spec.record.models),
    ],
)
def test_overrides(override, read):
    assert read(load_spec(MINIMAL | {"strategy": "grid"}, [override]))


def test_later_overrides_win_and_build_on_earlier_ones():
    overrides = ["strategy=random", "strategy.points=1", "training.epochs=3", "training.epochs=4"]
    spec = load_spec(MINIMAL, overrides)
    assert spec.strategy.points == 1
    assert spec.training.epochs == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=5", "training.epoch: unknown key (did you mean 'epochs'?)"),
        ("trainin.epochs=5", "trainin: unknown key (did you mean 'training'?)"),
        ("epochs=5", "epochs: unknown key"),
        (
            "training.epochs",
            "'training.epochs' is not an override; write it as 'training.epochs=5'",
        ),
        ("=5", "'=5' is not an override"),
        ("training..epochs=5", "'training..epochs=5' is not an override"),
        ("training.epochs=", "training.epochs: null is not allowed; give a whole number"),
        ("training.epochs=-1", "training.epochs: -1 is not allowed"),
        ("training.epochs=[", "'training.epochs=[', line 1"),
        ("axes.latent_dim.x=5", "'axes.latent_dim.x=5' goes into axes.latent_dim, which is 2"),
        ("axes.latent_dim.x.y=5", "'axes.latent_dim.x.y=5' goes into axes.latent_dim, which is 2"),
        ("axes.epochs=5", "training.epochs: axes.epochs is given too"),
    ],
)
def test_what_is_no_override(override, message):
    with pytest.raises(BadInput) as caught:
        load_spec(MINIMAL | {"training": {"epochs": 1}}, [override])
    assert str(caught.value).startswith(message)
