"""Mixed precision: what is rounded, what is not, and devices that cannot do it."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from search_spaces import NAMED, Architecture, BadInput, TilesDataset, Trial
from tests import oracle
from trainables.datasets import load_dataset
from trainables.device_data import DeviceData
from trainables.mixed_precision import ProductFormat, require_mixed_precision
from trainables.pack import Pack
from trainables.statistics import evaluate

CPU = torch.device("cpu")
TILES = TilesDataset(train_images=1000, test_images=200)


def is_able() -> bool:
    try:
        require_mixed_precision(CPU)
    except BadInput:
        return False
    return True


needs_bfloat16 = pytest.mark.skipif(not is_able(), reason="a CPU without bfloat16")


@pytest.fixture(scope="module")
def data() -> DeviceData:
    return DeviceData.load(load_dataset(TILES), CPU)


def trial(precision: str, seed: int = 0, architecture: str = "dense-64-24") -> Trial:
    net = NAMED["paper-conv"] if architecture == "paper-conv" else Architecture.dense((64, 24))
    return Trial.model_validate(
        {
            "dataset": TILES,
            "architecture": net,
            "latent_dim": 4,
            "seed": seed,
            "epochs": 2,
            "precision": precision,
        }
    )


def trained(trials: list[Trial], data: DeviceData) -> Pack:
    pack = Pack(trials, data)
    for _ in range(trials[0].epochs):
        pack.train_epoch()
    return pack


@needs_bfloat16
def test_factors_are_rounded_and_sums_are_not() -> None:
    first, second = torch.randn(256, 784), torch.randn(784, 128)
    full = first @ second
    with ProductFormat.fastest(CPU, "matrices"):
        ours = first @ second
        with ProductFormat.full(CPU, "matrices"):
            assert torch.equal(first @ second, full)
        assert torch.equal(first @ second, ours)
    assert torch.equal(first @ second, full)
    rounded = first.bfloat16().double() @ second.bfloat16().double()
    np.testing.assert_allclose(ours, rounded, atol=1e-3)
    assert (full - rounded).abs().max() > 0.05


@needs_bfloat16
def test_an_error_leaves_products_as_they_were() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError), ProductFormat.fastest(CPU, "matrices"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    after = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    assert after == before


@needs_bfloat16
@pytest.mark.parametrize("architecture", ["dense-64-24", "paper-conv"])
def test_training_is_near_the_oracle_and_not_that_of_float32(
    data: DeviceData, architecture: str
) -> None:
    mixed, single = (trial(name, architecture=architecture) for name in ("mixed", "float32"))
    images = load_dataset(TILES)
    splits = [split.reshape(-1, *images.shape) / 255.0 for split in (images.train, images.test)]
    expected = oracle.train(single, *splits, gain_images=10)
    packs = {t.precision: Pack([t], data) for t in (mixed, single)}
    curves = {
        name: [pack.train_epoch().objective.item() for _ in range(2)]
        for name, pack in packs.items()
    }
    np.testing.assert_allclose(curves["mixed"], expected["curve"], rtol=1e-2)
    difference = packs["mixed"].parameters.flat - packs["float32"].parameters.flat
    assert difference.abs().max() > 1e-4  # the other one stays within 1e-6 of the oracle


@needs_bfloat16
@pytest.mark.parametrize("architecture", ["dense-64-24", "paper-conv"])
def test_what_is_measured_is_measured_in_float32(data: DeviceData, architecture: str) -> None:
    mixed = trained([trial("mixed", architecture=architecture)], data)
    single = Pack([trial("float32", architecture=architecture)], data)
    single.restore(mixed.tensors(), mixed.epoch)
    ours, expected = (evaluate(pack, "test", gain_images=50) for pack in (mixed, single))
    for name in ("mean_variance", "posterior_variance", "reconstruction", "reconstruction_gain"):
        want = getattr(expected, name)
        atol = 1e-6 * np.abs(want).max()
        np.testing.assert_allclose(getattr(ours, name), want, rtol=1e-6, atol=atol)


@needs_bfloat16
@pytest.mark.parametrize("architecture", ["dense-64-24", "paper-conv"])
def test_a_lane_has_the_same_bits_in_any_company(data: DeviceData, architecture: str) -> None:
    trials = [trial("mixed", seed, architecture) for seed in range(3)]
    company = trained(trials, data)
    for lane, own in enumerate(trials):
        alone = trained([own], data)
        shapes = alone.parameter_shapes(own.latent_dim)
        ours = company.parameters.lane_values(lane, shapes)
        for name, values in alone.parameters.lane_values(0, shapes).items():
            assert torch.equal(ours[name], values), name


@needs_bfloat16
@pytest.mark.parametrize(
    ("architecture", "latent_dims"),
    [(Architecture.dense((512,)), (16, 80)), (NAMED["paper-conv"], (1, 2))],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_is_rounded_does_not_depend_on_larger_lanes(
    data: DeviceData, architecture: Architecture, latent_dims: tuple[int, int]
) -> None:
    """Layers on the latent side have as many weights as the largest lane asks for."""
    few = replace(data, splits={name: split[:256] for name, split in data.splits.items()})
    own, larger = (
        trial("mixed").model_copy(update={"architecture": architecture, "latent_dim": d})
        for d in latent_dims
    )
    pack, alone = Pack([own, larger], few), Pack([own], few)
    for each in (pack, alone):
        each.train_epoch()
    shapes = alone.parameter_shapes(own.latent_dim)
    ours, expected = (p.parameters.lane_values(0, shapes) for p in (pack, alone))
    for name, values in expected.items():
        np.testing.assert_allclose(ours[name], values, atol=5e-4, err_msg=name)  # 3e-3 if it did


@pytest.mark.parametrize("capabilities", [{}, {"avx512_f": True, "amx_bf16": False}])
def test_a_cpu_without_bfloat16_is_refused(
    monkeypatch: pytest.MonkeyPatch, data: DeviceData, capabilities: Mapping[str, bool]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    with pytest.raises(BadInput) as refused:
        Pack([trial("mixed")], data)
    assert str(refused.value) == (
        "precision: 'mixed' needs a CPU with bfloat16 (AMX or AVX-512 BF16); this one has none, "
        "so give 'float32'"
    )
    Pack([trial("float32")], data)
