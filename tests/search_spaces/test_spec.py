import pytest

from search_spaces import (
    BadInput,
    GridStrategy,
    IdxDataset,
    RandomStrategy,
    RecordSettings,
    ResourceSettings,
    TilesDataset,
    TrainingSettings,
    load_spec,
)


def spec(**sections):
    axes = {"architecture": "linear", "latent_dim": 2}
    return load_spec({"study": "s", "dataset": "mnist", "axes": axes, **sections})


def test_defaults():
    study = spec()
    assert study.description == ""
    assert study.dataset == (IdxDataset(name="mnist"),)
    assert study.training == TrainingSettings(
        epochs=20,
        batch_size=128,
        learning_rate=1e-3,
        learning_rate_schedule="cosine",
        precision="float32",
    )
    assert study.strategy == GridStrategy()
    assert study.resources == ResourceSettings(
        pack_size="auto",
        cpus_per_pack=1,
        gpus_per_pack="auto",
        max_failures=2,
        checkpoint_seconds=60,
    )
    assert study.record == RecordSettings(
        every=0,
        active_variance=0.01,
        active_kl=0.1,
        reconstruction_gain_images=2000,
        models=False,
    )
    axes = study.axes
    assert axes.beta.values() == [1.0]
    assert axes.objective.values() == ["elbo"]
    assert axes.decoder.values() == ["bernoulli"]
    assert axes.decoder_variance is None
    assert axes.initialisation.values() == ["glorot"]
    assert axes.seed.values() == axes.data_seed.values() == [0]
    assert axes.epochs is None


def test_several_datasets():
    assert spec(dataset=["mnist", {"name": "tiles", "seed": 1}]).dataset == (
        IdxDataset(name="mnist"),
        TilesDataset(seed=1),
    )


@pytest.mark.parametrize(
    ("raw", "strategy"),
    [
        ("grid", GridStrategy()),
        ({"name": "grid"}, GridStrategy()),
        ({"name": "random", "points": 3}, RandomStrategy(points=3, seed=0)),
        ({"name": "random", "points": 3, "seed": 4}, RandomStrategy(points=3, seed=4)),
    ],
)
def test_strategies(raw, strategy):
    axes = {"architecture": "linear", "latent_dim": {"range": [1, 9]}}
    assert spec(axes=axes, strategy=raw).strategy == strategy


@pytest.mark.parametrize("name", ["s", "mnist-dense", "0", "a.b_c-d", "a" * 100])
def test_study_names(name):
    assert spec(study=name).study == name


@pytest.mark.parametrize(
    "name", ["a/b", "..", ".a", "-a", "A", "", "a b", "ä", "a\n", "a" * 101, "a\x00"]
)
def test_what_is_no_study_name(name):
    with pytest.raises(BadInput, match=r"^study: .* is not a study name; give lower-case letters"):
        spec(study=name)


def test_specs_are_immutable():
    with pytest.raises(ValueError, match="frozen"):
        spec().study = "other"
