"""Saved models: they compute what the pack computes, and nothing but a model is loaded as one."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from search_spaces import NAMED, Architecture, BadInput
from tests import oracle
from tests.trainables.small_packs import on_cpu, small_images, small_trial
from trainables.models import METADATA, load_model, model_bytes
from trainables.pack import Pack

NETS = [
    (Architecture.dense((9, 5)), (1, 6, 6)),
    (NAMED["linear"], (20,)),
    (Architecture.conv((3, 4)), (2, 7, 5)),
]
LANES: list[dict[str, Any]] = [
    {"latent_dim": 4, "seed": 1},
    {"latent_dim": 7, "seed": 2, "initialisation": "torch"},
    {"latent_dim": 1, "seed": 3, "beta": 0.1},
]


def trained(architecture: Architecture, shape: tuple[int, ...], **shared: Any) -> Pack:
    trials = [small_trial(architecture=architecture, **shared, **lane) for lane in LANES]
    pack = Pack(trials, on_cpu(small_images(shape)))
    pack.train_epoch()
    return pack


def saved(folder: Path, pack: Pack, lane: int) -> Path:
    path = folder / f"{lane}.safetensors"
    path.write_bytes(model_bytes(pack, lane))
    return path


@pytest.mark.parametrize(("architecture", "shape"), NETS, ids=[net.name for net, _ in NETS])
@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian", "gaussian_learned"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_loaded_model_computes_what_its_lane_does(
    tmp_path: Path,
    architecture: Architecture,
    shape: tuple[int, ...],
    decoder: str,
    precision: str,
) -> None:
    pack = trained(architecture, shape, decoder=decoder, precision=precision)
    rtol = 1e-10 if precision == "float64" else 1e-4
    pixels = pack.data.splits["test"]
    batch = pack.data.batch("test", slice(None), pack.dtype)
    parameters, state = pack.parameters.views, pack.state.views
    with torch.no_grad():
        mean, log_variance = pack.network.encode(parameters, batch, state, training=False)
        output = pack.network.decode(parameters, mean, state, training=False)
    decoded = output.sigmoid() if decoder == "bernoulli" else output
    for lane, trial in enumerate(pack.trials):
        model = load_model(saved(tmp_path, pack, lane))
        d = trial.latent_dim
        assert (model.trial, model.shape) == (trial, shape)
        by_pixels = model.encode(pixels.numpy().reshape(-1, *shape))
        by_numbers = model.encode(batch)
        for ours in (by_pixels, by_numbers, model.encode(pixels)):
            torch.testing.assert_close(ours[0], mean[lane, :, :d], rtol=rtol, atol=rtol)
            torch.testing.assert_close(
                ours[1], log_variance[lane, :, :d].exp(), rtol=rtol, atol=rtol
            )
        images = model.decode(mean[lane, :, :d])
        assert images.shape == (len(pixels), *shape)
        torch.testing.assert_close(images.flatten(1), decoded[lane], rtol=rtol, atol=rtol)
        assert images.dtype == pack.dtype
        assert not images.requires_grad


@pytest.mark.parametrize("architecture", [net for net, _ in NETS[:2]], ids=lambda net: net.name)
def test_weights_go_into_plain_torch_modules(architecture: Architecture) -> None:
    """Names and shapes are those of torch.nn layers at the trial's own latent_dim."""
    shape = (1, 6, 6)
    pack = trained(architecture, shape)
    tensors = load(model_bytes(pack, 2))
    plain = oracle.PlainVAE(pack.trials[2], shape).double()
    linears = [m for m in plain.modules() if isinstance(m, torch.nn.Linear)]
    weights = sorted(tuple(t.shape) for t in tensors.values() if t.dim() == 2)
    assert weights == sorted(tuple(m.weight.shape) for m in linears)
    counted = sum(t.numel() for t in tensors.values())
    assert counted == sum(p.numel() for p in plain.parameters())


def test_generated_images_are_decoded_draws_of_the_prior(tmp_path: Path) -> None:
    model = load_model(saved(tmp_path, trained(*NETS[0]), 1))
    images = model.generate(5, seed=4)
    assert images.shape == (5, 1, 6, 6)
    assert ((images >= 0) & (images <= 1)).all()
    codes = torch.randn(5, 7, generator=torch.Generator().manual_seed(4))
    assert torch.equal(images, model.decode(codes))
    assert torch.equal(images, model.generate(5, seed=4))
    assert not torch.equal(images, model.generate(5, seed=5))


@pytest.mark.parametrize(("architecture", "shape"), NETS, ids=[net.name for net, _ in NETS])
def test_parameters_are_counted_without_padding(
    tmp_path: Path, architecture: Architecture, shape: tuple[int, ...]
) -> None:
    if len(shape) == 3 and shape[1] != shape[2]:
        shape = (2, 7, 7)  # the oracle takes square images
    pack = trained(architecture, shape)
    for lane, trial in enumerate(pack.trials):
        plain = oracle.PlainVAE(trial, shape)
        expected = sum(p.numel() for p in plain.parameters())
        assert load_model(saved(tmp_path, pack, lane)).parameters == expected


def test_batch_norm_keeps_its_running_statistics(tmp_path: Path) -> None:
    """An image's code does not depend on the images beside it."""
    pack = trained(*NETS[2])
    model = load_model(saved(tmp_path, pack, 0))
    pixels = pack.data.splits["test"]
    torch.testing.assert_close(model.encode(pixels[:1])[0], model.encode(pixels)[0][:1])


def test_the_same_lane_gives_the_same_bytes() -> None:
    pack = trained(*NETS[2])
    assert len({model_bytes(pack, 1) for _ in range(20)}) == 1


class Bomb:
    """Ends the test run if it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise __import__('builtins').SystemExit('executed')",))


def metadata(**changes: Any) -> dict[str, str]:
    trial = small_trial().model_dump(mode="json")
    return {METADATA: json.dumps({"trial": trial, "shape": [1, 6, 6]} | changes)}


BROKEN = {
    "empty": b"",
    "text": b"not a model at all",
    "zeros": b"\0" * 100,
    "pickle": pickle.dumps(Bomb()),
    "foreign": save({"weight": torch.zeros(3)}),
    "foreign metadata": save({"weight": torch.zeros(3)}, {"format": "pt"}),
    "no JSON": save({"weight": torch.zeros(3)}, {METADATA: "{"}),
    "another JSON": save({"weight": torch.zeros(3)}, {METADATA: "null"}),
    "no trial": save({"weight": torch.zeros(3)}, {METADATA: '{"shape": [1, 6, 6]}'}),
    "another trial": save({"weight": torch.zeros(3)}, metadata(trial={"latent_dim": 3})),
    "no shape": save({"weight": torch.zeros(3)}, metadata(shape=3)),
    "another shape": save({"weight": torch.zeros(3)}, metadata(shape="square")),
    "other weights": save({"weight": torch.zeros(3)}, metadata()),
    "no weights": save({}, metadata()),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_anything_else_is_bad_input_and_not_executed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(BROKEN[name])
    with pytest.raises(BadInput, match=r"model: .*model\.safetensors is not a saved model"):
        load_model(path)


@pytest.mark.parametrize("kept", [0.01, 0.2, 0.7, 0.999])
def test_a_truncated_model_is_bad_input(tmp_path: Path, kept: float) -> None:
    whole = model_bytes(trained(*NETS[0]), 0)
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(BadInput, match="not a saved model"):
        load_model(str(path))


def test_weights_of_another_shape_are_bad_input(tmp_path: Path) -> None:
    whole = model_bytes(trained(*NETS[0]), 0)
    size = int.from_bytes(whole[:8], "little")
    path = tmp_path / "model.safetensors"
    for damage in ("missing", "transposed"):
        tensors = load(whole)
        if damage == "missing":
            del tensors["encoder.0.weight"]
        else:
            tensors["encoder.0.weight"] = tensors["encoder.0.weight"].T.contiguous()
        path.write_bytes(save(tensors, json.loads(whole[8 : 8 + size])["__metadata__"]))
        with pytest.raises(BadInput, match=r"encoder\.0\.weight"):
            load_model(path)


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing\.safetensors does not exist"):
        load_model(tmp_path / "nothing.safetensors")
    with pytest.raises(BadInput, match="model: "):
        load_model(tmp_path)


def test_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    """Only uint8 is divided by 255."""
    pack = trained(*NETS[1])
    model = load_model(saved(tmp_path, pack, 0))
    values = np.random.default_rng(0).normal(size=(3, 20))
    weight = pack.parameters.views["encoder.mean.weight"][0, :4].numpy()
    bias = pack.parameters.views["encoder.mean.bias"][0, :4].numpy()
    np.testing.assert_allclose(model.encode(values)[0], values @ weight.T + bias, rtol=1e-10)
