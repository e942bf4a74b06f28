"""Lanes of a pack against the plain trainer of tests/oracle.py, alone and in mixed company."""

from typing import Any

import numpy as np
import pytest
import torch

from search_spaces import NAMED, Architecture, TilesDataset, Trial
from tests import oracle
from trainables.datasets import ImageData, load_dataset
from trainables.device_data import DeviceData
from trainables.pack import Pack
from trainables.statistics import evaluate

TILES = TilesDataset(train_images=2000, test_images=300)
GAIN_IMAGES = 200
UNIT_STATISTICS = (
    "mean",
    "mean_variance",
    "posterior_variance",
    "second_moment",
    "kl",
    "reconstruction_gain",
)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_dataset(TILES)


def trial(**changes: Any) -> Trial:
    values: dict[str, Any] = {
        "dataset": TILES,
        "architecture": Architecture.dense((64, 24)),
        "latent_dim": 5,
        "epochs": 2,
        "precision": "float64",
    }
    return Trial(**(values | changes))


def plain(trial: Trial, data: ImageData) -> Any:
    images = [getattr(data, s).reshape(-1, *data.shape) / 255.0 for s in ("train", "test")]
    return oracle.train(trial, *images, gain_images=GAIN_IMAGES)


def assert_lane_equals(pack: Pack, lane: int, curve: Any, expected: Any, rtol: float) -> None:
    """Compare loss curve and all statistics; values near zero against the scale of their kind."""
    d = pack.trials[lane].latent_dim
    np.testing.assert_allclose(curve[:, lane], expected["curve"], rtol=rtol)
    for split in ("train", "test"):
        evaluation = evaluate(pack, split, GAIN_IMAGES)
        for name in UNIT_STATISTICS:
            ours, theirs = getattr(evaluation, name)[lane, :d], expected[split][name]
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(
                ours, theirs, rtol=rtol, atol=rtol * scale, err_msg=f"{split} {name}"
            )
        for name in ("reconstruction", "objective"):
            np.testing.assert_allclose(
                getattr(evaluation, name)[lane], expected[split][name], rtol=rtol
            )


def fused(trials: list[Trial], data: ImageData) -> tuple[Pack, Any]:
    pack = Pack(trials, DeviceData.load(data, torch.device("cpu")))
    curve = [pack.train_epoch().objective.numpy() for _ in range(trials[0].epochs)]
    return pack, np.array(curve)


MIXED = [
    {"latent_dim": 5, "beta": 1.0, "seed": 3},
    {"latent_dim": 2, "beta": 0.0, "seed": 4, "initialisation": "torch"},
    {"latent_dim": 9, "beta": 4.0, "seed": 5, "learning_rate": 3e-3},
    {"latent_dim": 5, "beta": 1.0, "seed": 6, "learning_rate_schedule": "constant"},
    {"latent_dim": 1, "beta": 0.5, "seed": 3, "objective": "quadratic_penalty"},
    {"latent_dim": 7, "beta": 0.5, "seed": 8, "objective": "no_sampling"},
    {"latent_dim": 5, "beta": 2.0, "seed": 3},
    {"latent_dim": 16, "beta": 1.0, "seed": 9, "initialisation": "torch"},
]


@pytest.mark.parametrize(
    ("architecture", "decoder"),
    [
        (Architecture.dense((64, 24)), "bernoulli"),
        (Architecture.dense((64, 24)), "gaussian"),
        (Architecture.dense((64, 24)), "gaussian_learned"),
        (NAMED["linear"], "gaussian"),
        (Architecture.conv((4, 8, 8)), "gaussian_learned"),
        pytest.param(NAMED["paper-conv"], "bernoulli", marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_lane_alone_and_in_company_equals_the_oracle(
    data: ImageData, architecture: Architecture, decoder: str
) -> None:
    trials = [trial(architecture=architecture, decoder=decoder, **lane) for lane in MIXED]
    mixed, mixed_curve = fused(trials, data)
    alone, alone_curve = fused(trials[:1], data)
    for lane in (0, 5, 7):
        expected = plain(trials[lane], data)
        assert_lane_equals(mixed, lane, mixed_curve, expected, rtol=1e-9)
        if lane == 0:
            assert_lane_equals(alone, 0, alone_curve, expected, rtol=1e-9)


@pytest.mark.parametrize("architecture", [Architecture.dense((64, 24)), NAMED["linear"]])
def test_float32_lane_stays_near_the_oracle(data: ImageData, architecture: Architecture) -> None:
    trials = [trial(architecture=architecture, precision="float32", **lane) for lane in MIXED]
    pack, curve = fused(trials, data)
    for lane in (0, 7):
        assert_lane_equals(pack, lane, curve, plain(trials[lane], data), rtol=1e-3)


def test_float32_conv_loss_stays_near_the_oracle(data: ImageData) -> None:
    base = {"architecture": NAMED["paper-conv"], "precision": "float32", "epochs": 1}
    trials = [trial(**base, **lane) for lane in MIXED[:3]]
    _, curve = fused(trials, data)
    np.testing.assert_allclose(curve[:, 0], plain(trials[0], data)["curve"], rtol=1e-3)
