"""Networks against the paper's figures, plain torch.nn layers and PyTorch's own initialisation."""

import itertools
import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces import NAMED, Architecture, BadInput
from tests import oracle
from tests.trainables.small_packs import small_trial
from trainables.architectures import LaneBuffer, Network, build_network, draw_parameters

FIGURE_7 = [  # conv2d and BatchNormalization rows with their output shapes, top to bottom
    ("encoder.0", (14, 14, 16), 160, 64),
    ("encoder.1", (14, 14, 32), 4640, 0),
    ("encoder.2", (7, 7, 32), 9248, 128),
    ("encoder.3", (4, 4, 32), 9248, 0),
    ("encoder.4", (4, 4, 32), 9248, 128),
    ("encoder.5", (2, 2, 32), 4128, 0),
    ("encoder.6", (2, 2, 32), 4128, 128),
    ("encoder.7", (1, 1, 32), 4128, 0),
]
MIRRORED_SIZES = [(2, 32), (2, 32), (4, 32), (4, 32), (7, 32), (14, 32), (14, 16), (28, 1)]


def counts(network: Network, latent_dim: int) -> dict[str, int]:
    """Values per layer, batch norm with its running statistics apart as `<layer>.norm`."""
    result: dict[str, int] = {}
    for shape in [*network.parameters(latent_dim), *network.buffers()]:
        layer = shape.name.rpartition(".")[0]
        result[layer] = result.get(layer, 0) + shape.numel
    return result


def one_lane(network: Network, latent_dim: int, seed: int = 0) -> dict[str, Tensor]:
    """Torch-initialised parameters and state of one lane, stacked, in float64."""
    shapes = [*network.parameters(latent_dim), *network.buffers()]
    drawn = draw_parameters(shapes, "torch", seed)
    return {name: tensor.double().unsqueeze(0) for name, tensor in drawn.items()}


class Convolutions:
    """Watches the convolutions a network calls, and the ReLUs, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.sizes: list[tuple[int, ...]] = []
        for module, name in [
            (functional, "conv2d"),
            (functional, "conv_transpose2d"),
            (functional, "batch_norm"),
            (torch, "relu"),
        ]:
            self._watch(monkeypatch, module, name)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
        original = getattr(module, name)

        def watched(*args: object, **kwargs: object) -> Tensor:
            output: Tensor = original(*args, **kwargs)
            self.calls.append(name)
            self.sizes.append(tuple(output.shape[1:]))
            return output

        monkeypatch.setattr(module, name, watched)


def test_paper_conv_has_figure_7s_parameters_layer_by_layer() -> None:
    network = build_network(NAMED["paper-conv"], (1, 28, 28))
    found = counts(network, latent_dim=16)
    for layer, _, convolution, normalisation in FIGURE_7:
        assert found.pop(layer) == convolution, layer
        assert found.pop(f"{layer}.norm", 0) == normalisation, layer
    assert found.pop("encoder.mean") == 528
    assert found.pop("encoder.log_variance") == 528
    assert not [layer for layer in found if layer.startswith("encoder")]


def test_paper_convs_decoder_mirrors_the_encoder() -> None:
    found = counts(build_network(NAMED["paper-conv"], (1, 28, 28)), latent_dim=16)
    assert found["decoder.features"] == 16 * 32 + 32
    kernels = [2, 2, 2, 3, 3, 3, 3, 3]
    channels = [32, 32, 32, 32, 32, 32, 32, 16, 1]
    for index, (a, b) in enumerate(itertools.pairwise(channels)):
        assert found[f"decoder.{index}"] == a * b * kernels[index] ** 2 + b


def test_paper_conv_has_figure_7s_output_sizes_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also: no ReLU between paired convolutions, and one after every batch norm."""
    network = build_network(NAMED["paper-conv"], (1, 28, 28))
    lane = one_lane(network, 16)
    images = torch.rand(3, 784, dtype=torch.float64)
    watched = Convolutions(monkeypatch)
    mean, log_variance = network.encode(lane, images, lane, training=False)
    assert mean.shape == log_variance.shape == (1, 3, 16)
    expected, sizes = [], []
    for _, (height, width, channels), _, normalisation in FIGURE_7:
        block = ["conv2d", *(["batch_norm", "relu"] if normalisation else [])]
        expected += block
        sizes += [(channels, height, width)] * len(block)
    assert watched.calls == expected
    assert watched.sizes == sizes

    watched.calls.clear()
    watched.sizes.clear()
    output = network.decode(lane, torch.randn(1, 3, 16, dtype=torch.float64), lane, training=False)
    assert output.shape == (1, 3, 784)
    expected = [
        *("conv_transpose2d", "batch_norm", "relu"),
        *("conv_transpose2d", "conv_transpose2d", "batch_norm", "relu"),
        *("conv_transpose2d", "conv_transpose2d", "batch_norm", "relu"),
        *("conv_transpose2d", "conv_transpose2d", "batch_norm", "relu"),
        "conv_transpose2d",
    ]
    assert watched.calls == expected
    transposed = [
        size
        for call, size in zip(watched.calls, watched.sizes, strict=True)
        if call == "conv_transpose2d"
    ]
    for (channels, height, width), (size, outputs) in zip(transposed, MIRRORED_SIZES, strict=True):
        surplus = 1 if channels == 32 and height == 3 else 0  # cropped, as the encoder padded it
        assert (channels, height - surplus, width - surplus) == (outputs, size, size)


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((3, 27, 31), (4,)),
        ((3, 27, 31), (4, 5, 6)),
        ((3, 27, 31), (2, 2, 2, 2, 2)),
        ((1, 28, 28), (4, 6)),
        ((2, 5, 64), (3, 3, 3)),
        ((1, 9, 6), (2, 2)),
        ((4, 2, 2), (3,)),
        ((1, 33, 17), (2, 3, 2, 3)),
    ],
)
def test_conv_nets_give_back_any_size(
    shape: tuple[int, int, int], channels: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network(Architecture.conv(channels), shape)
    lane = one_lane(network, 3)
    watched = Convolutions(monkeypatch)
    images = torch.rand(2, math.prod(shape), dtype=torch.float64)
    for training in (True, False):
        mean, _ = network.encode(lane, images, lane, training)
        assert mean.shape == (1, 2, 3)
        output = network.decode(lane, mean, lane, training)
        assert output.shape == (1, 2, math.prod(shape))
        assert output.isfinite().all()
    sizes, (_, height, width) = [], shape
    for count in channels:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
        sizes += [(count, height, width)] * 3  # convolution, batch norm, ReLU
    assert watched.sizes[: len(sizes)] == sizes


def test_every_pixel_of_an_odd_image_is_decoded() -> None:
    """No row or column is only bias: the last transposed convolution reaches all of them."""
    network = build_network(Architecture.conv((4, 4, 4)), (1, 27, 30))
    lane = one_lane(network, 2)
    codes = torch.randn(1, 200, 2, dtype=torch.float64)
    images = network.decode(lane, codes, lane, training=False).view(200, 27, 30)
    assert (images.var(0) > 0).all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 27, 27)])
def test_networks_compute_what_plain_layers_do(shape: tuple[int, int, int]) -> None:
    """The same weights under the same names in torch.nn modules, in training and evaluation."""
    names = ["linear", "dense-20-9", "conv-4-6-5"] + ["paper-conv"] * (shape[1] == 28)
    for name in names:
        architecture = NAMED.get(name) or Architecture.model_validate(name)
        trial = small_trial(architecture=architecture, latent_dim=5, initialisation="torch", seed=2)
        plain = oracle.PlainVAE(trial, shape).double()
        network = build_network(architecture, shape)
        lane = one_lane(network, 5, seed=2)
        images = torch.rand(7, *shape, dtype=torch.float64)
        codes = torch.randn(1, 7, 5, dtype=torch.float64)
        for training in (True, False):
            plain.train(training)
            mean, log_variance = network.encode(lane, images.flatten(1), lane, training)
            expected_mean, expected_log_variance = plain.encode(images)
            torch.testing.assert_close(mean[0], expected_mean)
            torch.testing.assert_close(log_variance[0], expected_log_variance)
            output = network.decode(lane, codes, lane, training)
            torch.testing.assert_close(output[0], plain.decode(codes[0]))


@pytest.mark.parametrize(
    ("name", "latent_dim", "layers"),
    [
        ("paper-dense-mnist", 16, [784, 256, 32, 24, 16]),
        ("paper-dense-mnist-3", 3, [784, 256, 64, 16, 3]),
        ("paper-dense-tiles", 16, [784, 512, 256, 64, 32, 16]),
    ],
)
def test_dense_nets_have_the_papers_layers(name: str, latent_dim: int, layers: list[int]) -> None:
    """Two heads at the end of the encoder, and the same layers backwards in the decoder."""
    pairs = list(itertools.pairwise(layers))
    encoder = sum(a * b + b for a, b in pairs) + layers[-2] * layers[-1] + layers[-1]
    decoder = sum(a * b + a for a, b in pairs)
    network = build_network(NAMED[name], (1, 28, 28))
    assert sum(counts(network, latent_dim).values()) == encoder + decoder
    assert network.buffers() == []
    weights = [s.shape for s in network.parameters(latent_dim) if len(s.shape) == 2]
    hidden = [(b, a) for a, b in pairs[:-1]]
    heads = [(layers[-1], layers[-2])] * 2
    assert weights == [*hidden, *heads, *[(a, b) for a, b in reversed(pairs)]]


def test_the_linear_vae_has_one_variance_per_unit_and_is_affine() -> None:
    network = build_network(NAMED["linear"], (1, 28, 28))
    assert sum(counts(network, 7).values()) == (784 * 7 + 7) + 7 + (7 * 784 + 784)
    lane = one_lane(network, 7)
    lane["encoder.log_variance"] = torch.randn(1, 7, dtype=torch.float64)
    x, y = torch.randn(2, 1, 784, dtype=torch.float64)

    def both(images: Tensor) -> Tensor:
        mean, log_variance = network.encode(lane, images, lane, training=True)
        assert torch.equal(log_variance[0], lane["encoder.log_variance"].expand(len(images), 7))
        return network.decode(lane, mean, lane, training=True)

    torch.testing.assert_close(both((x + y) / 2), (both(x) + both(y)) / 2)


PLAIN_LAYERS = {
    "dense": (Architecture.dense((300,)), (400,), "encoder.0", nn.Linear(400, 300)),
    "conv": (Architecture.conv((24, 48)), (3, 16, 16), "encoder.1", nn.Conv2d(24, 48, 3)),
    "transposed": (
        Architecture.conv((24, 48)),
        (3, 16, 16),
        "decoder.0",
        nn.ConvTranspose2d(48, 24, 3),
    ),
    "two by two": (NAMED["paper-conv"], (1, 28, 28), "encoder.5", nn.Conv2d(32, 32, 2)),
    "head": (Architecture.dense((300,)), (400,), "encoder.log_variance", nn.Linear(300, 20)),
}


def weights_and_biases(
    architecture: Architecture, shape: tuple[int, ...], layer: str, initialisation: str
) -> tuple[Tensor, Tensor]:
    """One layer's values over 40 seeds."""
    shapes = build_network(architecture, shape).parameters(20)
    draws = [draw_parameters(shapes, initialisation, seed) for seed in range(40)]
    return (
        torch.stack([draw[f"{layer}.weight"] for draw in draws]),
        torch.stack([draw[f"{layer}.bias"] for draw in draws]),
    )


def assert_uniform(values: Tensor, bound: float) -> None:
    """Within ±bound, reaching it, with the uniform distribution's first four moments."""
    values = values.double().flatten()
    n = len(values)
    assert values.abs().max() <= bound
    assert values.max() > bound * (1 - 20 / n)
    assert values.min() < -bound * (1 - 20 / n)
    scaled = values / bound
    for power, moment in [(1, 0), (2, 1 / 3), (3, 0), (4, 1 / 5)]:
        spread = (1 / (2 * power + 1) - moment**2) ** 0.5 / n**0.5
        assert abs((scaled**power).mean() - moment) < 4 * spread, power


@pytest.mark.parametrize("name", sorted(PLAIN_LAYERS))
def test_torch_initialisation_is_pytorchs_default(name: str) -> None:
    """As PyTorch's own layers: bounds found from many of theirs, and the moments."""
    architecture, shape, layer, plain = PLAIN_LAYERS[name]
    weight, bias = weights_and_biases(architecture, shape, layer, "torch")
    assert weight.shape[1:] == plain.weight.shape
    assert bias.shape[1:] == plain.bias.shape
    torch.manual_seed(0)
    theirs = []
    for _ in range(40):
        plain.reset_parameters()
        theirs.append((plain.weight.detach().clone(), plain.bias.detach().clone()))
    for ours, index in ((weight, 0), (bias, 1)):
        expected = torch.stack([pair[index] for pair in theirs])
        assert ours.abs().max() == pytest.approx(expected.abs().max().item(), rel=0.01)
        assert ours.std() == pytest.approx(expected.std().item(), rel=0.06)
        fan_in, _ = nn.init._calculate_fan_in_and_fan_out(plain.weight)
        assert_uniform(ours, 1 / fan_in**0.5)


@pytest.mark.parametrize("name", sorted(PLAIN_LAYERS))
def test_glorot_initialisation_is_xavier_uniform(name: str) -> None:
    architecture, shape, layer, plain = PLAIN_LAYERS[name]
    weight, bias = weights_and_biases(architecture, shape, layer, "glorot")
    assert not bias.any()
    torch.manual_seed(0)
    theirs = torch.stack(
        [nn.init.xavier_uniform_(plain.weight.detach()).clone() for _ in range(40)]
    )
    assert weight.abs().max() == pytest.approx(theirs.abs().max().item(), rel=0.01)
    assert weight.std() == pytest.approx(theirs.std().item(), rel=0.02)
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(plain.weight)
    assert_uniform(weight, (6 / (fan_in + fan_out)) ** 0.5)


@pytest.mark.parametrize("initialisation", ["glorot", "torch"])
def test_batch_norm_and_the_linear_variance_start_at_their_constants(initialisation: str) -> None:
    network = build_network(Architecture.conv((4, 6)), (1, 9, 9))
    shapes = [*network.parameters(2), *network.buffers()]
    for name, tensor in draw_parameters(shapes, initialisation, 3).items():
        if ".norm." in name:
            one = name.endswith(("norm.weight", "running_var"))
            assert torch.equal(tensor, torch.full_like(tensor, float(one))), name
    linear = build_network(NAMED["linear"], (9,)).parameters(2)
    assert not draw_parameters(linear, initialisation, 3)["encoder.log_variance"].any()


def test_lanes_do_not_mix() -> None:
    """A stacked pack gives each lane what it gets alone, batch statistics included."""
    for name, shape in [("conv-3-4", (2, 7, 6)), ("dense-9-5", (12,)), ("linear", (12,))]:
        network = build_network(Architecture.model_validate(name), shape)
        lanes = [one_lane(network, 3, seed) for seed in range(3)]
        stacked = {key: torch.cat([lane[key] for lane in lanes]) for key in lanes[0]}
        images = torch.rand(8, math.prod(shape), dtype=torch.float64)
        codes = torch.randn(3, 8, 3, dtype=torch.float64)
        together = network.encode(stacked, images, stacked, training=True)
        decoded = network.decode(stacked, codes, stacked, training=True)
        for index, lane in enumerate(lanes):
            for ours, alone in zip(together, network.encode(lane, images, lane, True), strict=True):
                torch.testing.assert_close(ours[index], alone[0])
            alone = network.decode(lane, codes[index : index + 1], lane, training=True)
            torch.testing.assert_close(decoded[index], alone[0])
            for buffer in network.buffers():
                torch.testing.assert_close(stacked[buffer.name][index], lane[buffer.name][0])


def test_impossible_shapes_are_refused() -> None:
    for architecture, shape in [
        (Architecture.conv((4,)), (784,)),
        (NAMED["paper-conv"], (1, 32, 32)),
        (Architecture.conv((2,) * 6), (1, 28, 28)),
        (Architecture.conv((2, 2)), (1, 28, 2)),
    ]:
        with pytest.raises(BadInput):
            build_network(architecture, shape)


def test_lane_buffer_keeps_lanes_and_names_apart() -> None:
    network = build_network(Architecture.dense((5,)), (7,))
    padded = network.parameters(6)
    buffer = LaneBuffer.zeros(padded, 3, torch.float64, torch.device("cpu"))
    drawn: list[Mapping[str, Tensor]] = []
    for lane, latent_dim in enumerate([2, 6, 1]):
        drawn.append(draw_parameters(network.parameters(latent_dim), "torch", lane))
        buffer.fill_lane(lane, drawn[lane])
    for lane, latent_dim in enumerate([2, 6, 1]):
        values = buffer.lane_values(lane, network.parameters(latent_dim))
        assert values.keys() == drawn[lane].keys()
        for name, tensor in values.items():
            assert torch.equal(tensor, drawn[lane][name].double()), name
    values["encoder.0.bias"].zero_()  # a copy
    assert buffer.views["encoder.0.bias"][2].any()
    assert buffer.flat[0].count_nonzero() == sum(s.numel for s in network.parameters(2))
    for values_per_lane in (10, buffer.flat.shape[1] - 1, buffer.flat.shape[1] + 1):
        with pytest.raises(ValueError, match="values per lane"):
            LaneBuffer(padded, torch.zeros(3, values_per_lane))
