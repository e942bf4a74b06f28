"""Engines against each other, at the edges that whole trainings (test_pack.py) do not reach."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces import NAMED, Architecture
from tests.trainables.small_packs import on_cpu, small_images, small_trial
from trainables.architectures import LaneBuffer
from trainables.engines import Engine, build_engine
from trainables.engines.autograd import AutogradEngine, LaneByLaneEngine
from trainables.engines.dense import DenseEngine
from trainables.pack import Pack
from trainables.statistics import Evaluation, evaluate

LANES = [
    {"latent_dim": 4, "seed": 1},
    {"latent_dim": 2, "seed": 2, "beta": 3.0},
    {"latent_dim": 3, "seed": 3, "objective": "quadratic_penalty"},
]
DENSE = [Architecture.dense((8,)), Architecture.dense((12, 5)), NAMED["linear"]]


def pack_of(**shared: Any) -> Pack:
    return Pack([small_trial(**shared, **lane) for lane in LANES], on_cpu(small_images()))


def inputs(pack: Pack, batch: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    images = pack.data.batch("train", slice(0, batch), pack.dtype)
    noise = torch.randn(len(LANES), batch, pack.latent_dim, dtype=pack.dtype)
    return images, noise


def engine_of(
    pack: Pack, build: Callable[..., Engine] = build_engine
) -> tuple[Engine, torch.Tensor]:
    """An engine on a pack's parameters, and where it writes gradients."""
    gradients = LaneBuffer(pack.parameters.shapes, torch.full_like(pack.parameters.flat, math.nan))
    engine = build(pack.network, pack.objectives, pack.parameters, gradients, pack.state)
    return engine, gradients.flat


@pytest.mark.parametrize("architecture", DENSE, ids=lambda a: a.name)
@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian", "gaussian_learned"])
@pytest.mark.parametrize("batch", [1, 9])
def test_gradients_by_hand_are_those_of_autograd(
    architecture: Architecture, decoder: str, batch: int
) -> None:
    shared: dict[str, Any] = {"architecture": architecture, "decoder": decoder}
    if decoder == "gaussian":
        shared["decoder_variance"] = 0.3
    pack = pack_of(**shared)
    for tensor in pack.parameters.views.values():
        tensor += 0.1 * torch.randn_like(tensor)  # biases and log s away from zero, padding too
    images, noise = inputs(pack, batch)
    engine, gradients = engine_of(pack)
    oracle, expected = engine_of(pack, AutogradEngine)
    assert isinstance(engine, DenseEngine)
    torch.testing.assert_close(engine.step(images, noise), oracle.step(images, noise))
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_losses_hold_where_probabilities_are_zero_and_one(scale: float, precision: str) -> None:
    pack = pack_of(precision=precision)
    pack.parameters.views["decoder.1.bias"].uniform_(-scale, scale)
    engine, _ = engine_of(pack)
    oracle, _ = engine_of(pack, AutogradEngine)
    images, noise = inputs(pack)
    rtol = 1e-5 if precision == "float32" else 1e-9
    for given in (images, (images > 0.5).to(images)):
        np.testing.assert_allclose(
            engine.losses(noise, given), oracle.losses(noise, given), rtol=rtol
        )


@pytest.mark.parametrize(
    ("architecture", "engine"),
    [
        (Architecture.conv((4, 6)), LaneByLaneEngine),
        (Architecture.dense((64, 24)), DenseEngine),
        (NAMED["linear"], DenseEngine),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_on_a_cpu_a_lane_is_bit_for_bit_its_trial_alone(
    architecture: Architecture, engine: type
) -> None:
    """Given the same padding; another width changes the order of sums."""
    torch.set_num_threads(1)
    data = on_cpu(small_images((1, 8, 8)))
    shared = {"architecture": architecture, "precision": "float32", "learning_rate": 0.01}
    trials = [small_trial(**shared, **lane) for lane in LANES]
    together = Pack(trials, data)
    assert isinstance(together.engine, engine)
    together.train_epoch()
    for number, trial in enumerate(trials):
        alone = Pack([trial], data, latent_dim=together.latent_dim)
        alone.train_epoch()
        for name, tensor in alone.tensors().items():
            assert torch.equal(together.tensors()[name][number], tensor[0]), name
        ours, theirs = (evaluate(pack, "test", gain_images=40) for pack in (together, alone))
        for field in dataclasses.fields(Evaluation):
            np.testing.assert_array_equal(
                getattr(ours, field.name)[number], getattr(theirs, field.name)[0], field.name
            )
