"""Latent statistics against plain numpy over whole arrays."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from search_spaces import NAMED, Architecture, Trial
from tests import oracle
from tests.trainables.small_packs import on_cpu, small_images, small_trial
from trainables.datasets import ImageData
from trainables.pack import Pack
from trainables.statistics import evaluate

Array = NDArray[np.float64]
LANES: list[dict[str, Any]] = [
    {"latent_dim": 4, "beta": 1.5, "seed": 1, "initialisation": "torch"},
    {"latent_dim": 7, "beta": 0.0, "seed": 2},
    {"latent_dim": 2, "beta": 0.5, "seed": 3, "objective": "quadratic_penalty"},
    {"latent_dim": 1, "beta": 2.0, "seed": 4, "objective": "no_sampling"},
]


class NumpyVAE:
    """The forward pass of one dense or linear lane and its statistics, all images at once."""

    def __init__(self, pack: Pack, lane: int, split: str) -> None:
        trial = pack.trials[lane]
        shapes = pack.parameter_shapes(trial.latent_dim)
        values = pack.parameters.lane_values(lane, shapes)
        self.trial: Trial = trial
        self.p = {name: value.double().numpy() for name, value in values.items()}
        self.x = pack.data.splits[split].double().numpy()
        if pack.data.splits[split].dtype == torch.uint8:
            self.x = self.x / 255
        number = ["train", "test"].index(split)
        noise = torch.randn(
            len(self.x),
            trial.latent_dim,
            generator=oracle.generator("evaluation", trial.seed, number),
        )
        hidden = self.x
        for layer in range(trial.architecture.depth):
            hidden = np.maximum(self.affine(f"encoder.{layer}", hidden), 0)
        self.mean = self.affine("encoder.mean", hidden)
        if trial.architecture.family == "linear":
            self.log_variance = np.tile(self.p["encoder.log_variance"], (len(self.x), 1))
        else:
            self.log_variance = self.affine("encoder.log_variance", hidden)
        self.variance = np.exp(self.log_variance)
        sampling = trial.objective != "no_sampling"
        self.z = self.mean + sampling * np.sqrt(self.variance) * noise.double().numpy()
        self.kl = 0.5 * (self.mean**2 + self.variance - self.log_variance - 1)

    def affine(self, name: str, inputs: Array) -> Array:
        outputs: Array = inputs @ self.p[f"{name}.weight"].T + self.p[f"{name}.bias"]
        return outputs

    def decoder_mean_and_loss(self, z: Array) -> tuple[Array, Array]:
        hidden = z
        depth = self.trial.architecture.depth
        for layer in range(depth):
            hidden = np.maximum(self.affine(f"decoder.{layer}", hidden), 0)
        out = self.affine(f"decoder.{depth}", hidden[: len(z)])
        x = self.x[: len(z)]
        if self.trial.decoder == "bernoulli":
            p = 1 / (1 + np.exp(-out))
            return p, -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum(1)
        s = self.trial.decoder_variance
        if s is None:
            s = float(np.exp(self.p["decoder.log_variance"][0]))
        return out, 0.5 * ((x - out) ** 2 / s + np.log(2 * np.pi * s)).sum(1)

    def gain(self, images: int) -> Array:
        _, whole = self.decoder_mean_and_loss(self.z[:images])
        gains = []
        for unit in range(self.trial.latent_dim):
            z = self.z[:images].copy()
            z[:, unit] = 0
            gains.append((self.decoder_mean_and_loss(z)[1] - whole).mean())
        return np.array(gains)


def trained(data: ImageData, **shared: Any) -> Pack:
    pack = Pack([small_trial(**shared, **lane) for lane in LANES], on_cpu(data))
    for _ in range(pack.trials[0].epochs):
        pack.train_epoch()
    return pack


@pytest.mark.parametrize("images", [(1203, 70), (500, 1000), (60, 501)])
@pytest.mark.parametrize(
    ("architecture", "decoder"),
    [
        (Architecture.dense((9, 6)), "bernoulli"),
        (Architecture.dense((9,)), "gaussian_learned"),
        (NAMED["linear"], "gaussian"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_statistics_are_those_of_whole_arrays(
    architecture: Architecture, decoder: str, images: tuple[int, int]
) -> None:
    """Image counts below, at, above and between multiples of the chunk; variances divide by N."""
    data = small_images(train=images[0], test=images[1])
    pack = trained(data, architecture=architecture, decoder=decoder)
    for split in ("train", "test"):
        found = evaluate(pack, split, gain_images=55)
        assert found.reconstruction_gain is not None
        for lane, trial in enumerate(pack.trials):
            d, plain = trial.latent_dim, NumpyVAE(pack, lane, split)
            decoded, loss = plain.decoder_mean_and_loss(plain.z)
            penalty = plain.kl if trial.objective == "elbo" else 0.5 * plain.mean**2
            expected = {
                "mean": plain.mean.mean(0),
                "mean_variance": ((plain.mean - plain.mean.mean(0)) ** 2).sum(0) / len(plain.x),
                "posterior_variance": plain.variance.mean(0),
                "second_moment": (plain.mean**2).mean(0),
                "kl": plain.kl.mean(0),
                "reconstruction_gain": plain.gain(55),
            }
            for name, value in expected.items():
                ours = getattr(found, name)[lane]
                assert ours.dtype == np.float64
                np.testing.assert_allclose(ours[:d], value, rtol=1e-9, atol=1e-11, err_msg=name)
                padding = 1.0 if name == "posterior_variance" else 0.0
                np.testing.assert_array_equal(ours[d:], padding, err_msg=name)
            for ours, value in [
                (found.reconstruction, loss.mean()),
                (found.objective, (loss + trial.beta * penalty.sum(1)).mean()),
                (found.mse, ((plain.x - decoded) ** 2).mean()),
                (found.elbo, -(loss + plain.kl.sum(1)).mean()),
            ]:
                assert ours.shape == (len(LANES),)
                assert ours[lane] == pytest.approx(value, rel=1e-9)


def test_real_values_are_used_as_they_are() -> None:
    random = np.random.default_rng(0)
    train, test = (random.normal(2, 3, (n, 6)).astype(np.float32) for n in (80, 20))
    data = ImageData("values", (6,), train, test, None, None, "f")
    pack = trained(data, architecture=NAMED["linear"], decoder="gaussian")
    plain = NumpyVAE(pack, 0, "test")
    np.testing.assert_array_equal(plain.x, test.astype(np.float64))
    np.testing.assert_allclose(evaluate(pack, "test").mean[0, :4], plain.mean.mean(0), rtol=1e-10)


def test_gain_is_on_the_first_images_and_on_request() -> None:
    data = small_images(train=1100, test=40)
    pack = trained(data)
    assert evaluate(pack, "test").reconstruction_gain is None
    for images in (1, 40, 600, 1100, 5000):
        for split in ("train", "test"):
            gain = evaluate(pack, split, images).reconstruction_gain
            assert gain is not None
            assert gain.shape == (len(LANES), 7)
            for lane in range(len(LANES)):
                expected = NumpyVAE(pack, lane, split).gain(images)
                ours = gain[lane, : len(expected)]
                np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-11)


def affine_means(data: ImageData, precision: str, offset: float, spread: float) -> Pack:
    """A linear lane whose units have mean `offset` and a standard deviation of about `spread`."""
    trial = small_trial(architecture=NAMED["linear"], decoder="gaussian", precision=precision)
    pack = Pack([trial], on_cpu(data))
    with torch.no_grad():
        weight, bias = (
            pack.parameters.views[f"encoder.mean.{name}"] for name in ("weight", "bias")
        )
        x = torch.from_numpy(data.train).double() / 255
        direction = x[0] - x.mean(0)
        direction = direction * spread / (x @ direction).std()
        weight[0] = direction
        bias[0] = offset - (x @ direction).mean()
    return pack


@pytest.mark.parametrize(
    ("precision", "offset", "rtol"),
    [("float64", 3.0, 1e-6), ("float64", 300.0, 1e-2), ("float32", 3.0, 1e-2)],
)
def test_a_tiny_variance_far_from_zero_survives(precision: str, offset: float, rtol: float) -> None:
    """At 3 ± 1e-4, a float32 sum of squares would lose the variance altogether."""
    data = small_images(train=1300)
    pack = affine_means(data, precision, offset, spread=1e-4)
    ours = evaluate(pack, "train").mean_variance
    mean = NumpyVAE(pack, 0, "train").mean
    np.testing.assert_allclose(ours[0], mean.var(0), rtol=rtol)
    np.testing.assert_allclose(ours[0], 1e-8, rtol=0.02)


def test_variances_are_never_negative() -> None:
    data = small_images(train=700)
    found = evaluate(affine_means(data, "float32", offset=7.3, spread=0.0), "train")
    assert (found.mean_variance >= 0).all()
    assert (found.mean_variance < 1e-10).all()


def everything(pack: Pack) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in pack.tensors().items()}


@pytest.mark.parametrize("name", ["conv-3-4", "dense-8"])
def test_evaluation_changes_nothing(name: str) -> None:
    """Neither parameters and batch-norm state, nor what training does next, nor global draws."""
    architecture, data = Architecture.model_validate(name), small_images()
    pack, undisturbed = (trained(data, architecture=architecture, epochs=1) for _ in range(2))
    before, random_state = everything(pack), torch.get_rng_state()
    first = evaluate(pack, "train", 50)
    second = evaluate(pack, "train", 50)
    evaluate(pack, "test", 50)
    assert torch.equal(torch.get_rng_state(), random_state)
    for key, tensor in everything(pack).items():
        assert torch.equal(tensor, before[key]), key
    assert (pack.state.flat.numel() > 0) == (architecture.family == "conv")
    assert not any(tensor.requires_grad for tensor in pack.tensors().values())
    for key in ("mean", "reconstruction_gain", "reconstruction", "objective"):
        np.testing.assert_array_equal(getattr(first, key), getattr(second, key))
    pack.train_epoch()
    undisturbed.train_epoch()
    for key, tensor in pack.tensors().items():
        assert torch.equal(tensor, undisturbed.tensors()[key]), key


def test_batch_norm_is_evaluated_with_its_running_statistics() -> None:
    """So that an image's statistics do not depend on the others in its chunk."""
    data = small_images(train=300, test=601)
    pack = trained(data, architecture=Architecture.conv((3, 4)))
    halves = [
        ImageData("half", data.shape, data.train, part, None, None, "f")
        for part in (data.test[:300], data.test[300:])
    ]
    means = []
    for half in halves:
        part = Pack(pack.trials, on_cpu(half))
        part.restore(pack.tensors(), pack.epoch)
        means.append(evaluate(part, "test").mean)
    whole = evaluate(pack, "test").mean
    np.testing.assert_allclose((300 * means[0] + 301 * means[1]) / 601, whole, rtol=1e-10)
