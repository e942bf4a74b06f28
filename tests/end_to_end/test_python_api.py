"""A study from Python: run, run again, load, read its columns, load a model and generate."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from search_spaces import BadInput
from study import Study, column_dictionary, load_study, run_study
from study.run import RAY_ADDRESS
from trainables.models import load_model

SPEC: dict[str, Any] = {
    "study": "mine",
    "dataset": {"name": "tiles", "train_images": 200, "test_images": 50},
    "axes": {
        "architecture": [{"family": "dense", "widths": [16]}, {"family": "conv", "channels": [4]}],
        "latent_dim": [1, 2],
    },
    "training": {"epochs": 50},
    "record": {"models": True},
}
OVERRIDES = ["training.epochs=2", "axes.beta=[0.5, 1]"]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def mine(storage: Path) -> Study:
    return run_study(SPEC, OVERRIDES, storage=storage, cpus=1)


def test_what_it_returns(mine: Study, storage: Path) -> None:
    assert mine.spec.training.epochs == 2
    assert len(mine.trials) == 8
    assert set(mine.trials["status"]) == {"completed"}
    assert len(mine.units) == sum(mine.trials["latent_dim"]) * 2
    assert len(mine.epochs) == len(mine.trials) * 2
    loaded = load_study(storage / "mine")
    for name in ("trials", "units", "epochs"):
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(mine, name))
    planned = [(a, z) for a in ("dense-16", "conv-4") for z in (1, 2) for _ in (0.5, 1)]
    found = mine.trials[["architecture", "latent_dim"]].itertuples(index=False, name=None)
    assert list(found) == planned


@pytest.mark.parametrize(
    ("override", "refused"),
    [
        ("resources.cpus_per_pack=3", "resources.cpus_per_pack: 3 CPUs per pack, and there are 2"),
        ("resources.gpus_per_pack=64", "resources.gpus_per_pack: 64 GPUs per pack"),
        ("training.precision=mixed", "precision: 'mixed' needs a"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, override: str, refused: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # a CPU that can do nothing
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput) as error:
        run_study(SPEC, [*OVERRIDES, override], storage=tmp_path, cpus=2)
    assert str(error.value).startswith(refused)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["10.0.0.5", "http://127.0.0.1:8265", "10.0.0.5:", "a b:1"])
@pytest.mark.parametrize("given", ["address", "RAY_ADDRESS"])
def test_what_is_no_address_is_refused_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, address: str
) -> None:
    if given == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(BadInput, match=f"^{given}: '{re.escape(address)}' is no address"):
        run_study(
            SPEC, OVERRIDES, storage=tmp_path, address=address if given == "address" else None
        )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "address", ["auto", "local", "10.0.0.5:6379", "head:6379", "[fe80::1]:6379", "ray://head:10001"]
)
def test_what_is_an_address(address: str) -> None:
    assert RAY_ADDRESS.fullmatch(address)


def test_the_column_dictionary_explains_every_column(mine: Study) -> None:
    dictionary = column_dictionary()
    for name in ("trials", "units", "epochs"):
        explained = dictionary[dictionary["table"] == name]
        assert list(explained["column"]) == list(getattr(mine, name).columns)
        assert (explained["description"].str.len() > 0).all()


def test_again_does_nothing_and_otherwise_is_refused(mine: Study, storage: Path) -> None:
    again = run_study(SPEC, OVERRIDES, storage=storage, cpus=1)
    pd.testing.assert_frame_equal(again.trials, mine.trials)
    with pytest.raises(BadInput, match="another spec"):
        run_study(SPEC, ["training.epochs=3"], storage=storage, cpus=1)
    with pytest.raises(BadInput, match="overrides"):
        run_study(mine.spec, ["training.epochs=3"], storage=storage)


def test_every_model_loads_and_generates(mine: Study, storage: Path) -> None:
    models = storage / "mine" / "models"
    assert {path.stem for path in models.iterdir()} == set(mine.trials["trial_id"])
    for row in mine.trials.itertuples():
        vae = load_model(models / f"{row.trial_id}.safetensors")
        assert vae.trial.latent_dim == row.latent_dim
        assert vae.trial.beta == row.beta
        assert vae.parameters == row.parameters
        images = vae.generate(3, seed=1)
        assert images.shape == (3, 1, 28, 28)
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1
        assert torch.equal(images, vae.generate(3, seed=1))
        mean, variance = vae.encode(images)
        assert mean.shape == variance.shape == (3, row.latent_dim)
        assert float(variance.min()) > 0
