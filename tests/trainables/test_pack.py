"""Lanes of a pack against the plain trainer of tests/oracle.py, alone and in mixed company."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from search_spaces import NAMED, Architecture, TilesDataset, Trial
from tests import oracle
from tests.trainables.small_packs import on_cpu, small_images, small_trial
from trainables.architectures import LaneBuffer
from trainables.datasets import ImageData, load_dataset
from trainables.device_data import DeviceData
from trainables.pack import Pack, minibatch_sizes
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
    """Compare loss curve and all statistics; values near zero against the scale of their kind.

    The variance of means that are all the same is rounding: relative to their square, not to it.
    """
    d = pack.trials[lane].latent_dim
    np.testing.assert_allclose(curve[:, lane], expected["curve"], rtol=rtol)
    for split in ("train", "test"):
        evaluation = evaluate(pack, split, GAIN_IMAGES)
        rounding = 1e-15 * expected[split]["second_moment"].max()
        for name in UNIT_STATISTICS:
            ours, theirs = getattr(evaluation, name)[lane, :d], expected[split][name]
            near_zero = rtol * np.abs(theirs).max() + rounding
            np.testing.assert_allclose(
                ours, theirs, rtol=rtol, atol=near_zero, err_msg=f"{split} {name}"
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
        pytest.param(NAMED["paper-conv"], "bernoulli", marks=(pytest.mark.slow, pytest.mark.long)),
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


NETS = {
    "dense-8": (Architecture.dense((8,)), (36,)),
    "dense-9-5": (Architecture.dense((9, 5)), (1, 6, 6)),
    "linear": (NAMED["linear"], (30,)),
    "conv-3": (Architecture.conv((3,)), (2, 5, 7)),
    "conv-3-4": (Architecture.conv((3, 4)), (1, 6, 6)),
}


@st.composite
def packs(draw: st.DrawFn) -> tuple[list[Trial], ImageData, int]:
    """Lanes of one stack_key, differing in all that lanes may differ in; data; one of the lanes."""
    architecture, shape = NETS[draw(st.sampled_from(sorted(NETS)))]
    decoder = draw(st.sampled_from(["bernoulli", "gaussian", "gaussian_learned"]))
    shared = {
        "architecture": architecture,
        "decoder": decoder,
        "epochs": draw(st.integers(1, 2)),
        "batch_size": draw(st.sampled_from([32, 50, 128])),
        "data_seed": draw(st.sampled_from([0, 1, 2**63 - 1])),
    }
    variance = st.floats(0.05, 4) if decoder == "gaussian" else st.none()
    lane = st.fixed_dictionaries(
        {
            "latent_dim": st.integers(1, 20),
            "beta": st.one_of(st.just(0.0), st.floats(0.01, 8)),
            "objective": st.sampled_from(["elbo", "quadratic_penalty", "no_sampling"]),
            "decoder_variance": variance,
            "learning_rate": st.floats(1e-4, 1e-2),
            "learning_rate_schedule": st.sampled_from(["cosine", "constant"]),
            "initialisation": st.sampled_from(["glorot", "torch"]),
            "seed": st.integers(0, 3) | st.integers(0, 2**63 - 1),
        }
    )
    lanes = draw(st.lists(lane, min_size=1, max_size=8))
    trials = [small_trial(**shared, **lane) for lane in lanes]
    data = small_images(shape, train=draw(st.integers(129, 260)), test=40)
    return trials, data, draw(st.integers(0, len(trials) - 1))


def train_watched(trials: list[Trial], data: ImageData) -> tuple[Pack, Any, Any, torch.Tensor]:
    """Return the pack, its initial weights per lane, its curve and the noise it was given."""
    pack = Pack(trials, on_cpu(data))
    initial = [weights(pack, lane) for lane in range(len(trials))]
    seen: list[torch.Tensor] = []
    step = pack.engine.step

    def watched(images: torch.Tensor, noise: torch.Tensor, *disturbance: Any) -> torch.Tensor:
        seen.append(noise.clone())
        return step(images, noise, *disturbance)

    pack.engine.step = watched  # type: ignore[method-assign]
    curve = np.array([pack.train_epoch().objective.numpy() for _ in range(trials[0].epochs)])
    return pack, initial, curve, torch.cat(seen, dim=1)  # (lanes, epochs·images, units)


def weights(pack: Pack, lane: int) -> dict[str, torch.Tensor]:
    return pack.parameters.lane_values(lane, pack.parameter_shapes(pack.trials[lane].latent_dim))


def assert_close(ours: Any, theirs: Any, rtol: float, what: str = "") -> None:
    """Compare numbers of one kind, those near zero against the largest."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    atol = rtol * np.abs(theirs).max(initial=0)
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=what)


def assert_same_bits(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def own_values(pack: Pack) -> LaneBuffer:
    """A buffer like the pack's parameters: 1 where a lane's own values are, 0 in the padding."""
    mask = LaneBuffer.zeros(
        pack.parameter_shapes(pack.latent_dim), len(pack.trials), pack.dtype, pack.device
    )
    for lane, trial in enumerate(pack.trials):
        shapes = pack.parameter_shapes(trial.latent_dim)
        mask.fill_lane(lane, {shape.name: torch.ones(shape.shape) for shape in shapes})
    return mask


@given(drawn=packs())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_lane_equals_its_trial_alone(drawn: tuple[list[Trial], ImageData, int]) -> None:
    trials, data, lane = drawn
    trial, d = trials[lane], trials[lane].latent_dim
    mixed, mixed_initial, mixed_curve, mixed_noise = train_watched(trials, data)
    alone, alone_initial, alone_curve, alone_noise = train_watched([trial], data)

    assert_same_bits(mixed_initial[lane], alone_initial[0])
    assert torch.equal(mixed_noise[lane, :, :d], alone_noise[0])
    assert not mixed_noise[lane, :, d:].any()
    images = len(data.train)
    defined = [
        torch.randn(images, d, generator=oracle.generator("noise", trial.seed, epoch))
        for epoch in range(trial.epochs)
    ]
    used = [n for n in alone_noise[0].split(len(alone_noise[0]) // trial.epochs)]
    for ours, definition in zip(used, defined, strict=True):
        assert torch.equal(ours, definition[: len(ours)].double())

    assert_close(mixed_curve[:, lane], alone_curve[:, 0], rtol=1e-9)
    for name, tensor in weights(alone, 0).items():
        assert_close(weights(mixed, lane)[name], tensor, rtol=1e-9, what=name)
    for split in ("train", "test"):
        ours, theirs = evaluate(mixed, split, 30), evaluate(alone, split, 30)
        for name in (*UNIT_STATISTICS, "reconstruction", "objective", "mse"):
            value = getattr(ours, name)[lane]
            value = value[:d] if name in UNIT_STATISTICS else value
            assert_close(value, getattr(theirs, name)[0], rtol=1e-9, what=f"{split} {name}")
    padding = own_values(mixed).flat == 0
    for name in ("parameters", "exp_avg", "exp_avg_sq"):
        assert not mixed.tensors()[name][padding].any(), name


@given(drawn=packs())
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_lane_equals_the_oracle(drawn: tuple[list[Trial], ImageData, int]) -> None:
    trials, data, lane = drawn
    assume(len(data.train) % trials[0].batch_size != 1)  # the oracle knows no dropped image
    assume(trials[0].architecture.family != "conv" or data.shape[1] == data.shape[2])
    pack, curve = fused(trials, data)
    assert_lane_equals(pack, lane, curve, plain(trials[lane], data), rtol=1e-9)


@pytest.mark.parametrize("net", sorted(NETS))
def test_both_precisions_start_and_sample_alike(net: str) -> None:
    architecture, shape = NETS[net]
    data = small_images(shape, train=150)
    runs = {}
    for precision in ("float32", "float64"):
        trials = [
            small_trial(architecture=architecture, precision=precision, latent_dim=d, seed=d)
            for d in (3, 11)
        ]
        runs[precision] = train_watched(trials, data)
    for lane in range(2):
        narrow, wide = runs["float32"][1][lane], runs["float64"][1][lane]
        assert_same_bits({name: tensor.double() for name, tensor in narrow.items()}, wide)
    assert torch.equal(runs["float32"][3].double(), runs["float64"][3])
    assert runs["float64"][0].parameters.flat.dtype == torch.float64
    np.testing.assert_allclose(runs["float32"][2], runs["float64"][2], rtol=1e-3)


def mixed_pack(architecture: Architecture, data: ImageData) -> Pack:
    lanes = [lane | {"architecture": architecture, "batch_size": 64} for lane in MIXED]
    return Pack([small_trial(**lane) for lane in lanes], on_cpu(data))


def copied(pack: Pack) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in pack.tensors().items()}


@pytest.mark.parametrize("net", sorted(NETS))
def test_a_restored_pack_goes_on_bitwise_alike(net: str) -> None:
    architecture, shape = NETS[net]
    data = small_images(shape)
    pack = mixed_pack(architecture, data)
    pack.train_epoch()
    after_one = copied(pack)
    undisturbed = pack.train_epoch()

    restored = mixed_pack(architecture, data)
    restored.restore(after_one, epoch=1)
    assert restored.epoch == 1
    again = restored.train_epoch()
    assert torch.equal(again.objective, undisturbed.objective)
    assert torch.equal(again.kl, undisturbed.kl)
    assert_same_bits(restored.tensors(), pack.tensors())

    pack.restore(after_one, epoch=1)  # also the pack itself, backwards
    pack.train_epoch()
    assert_same_bits(pack.tensors(), restored.tensors())


@pytest.mark.parametrize("net", sorted(NETS))
def test_a_subset_goes_on_as_its_lanes_would(net: str) -> None:
    architecture, shape = NETS[net]
    pack = mixed_pack(architecture, small_images(shape))
    pack.train_epoch()
    lanes = [6, 1, 3]
    rest, whole = pack.subset(lanes), pack.subset(range(len(MIXED)))
    assert rest.trials == tuple(pack.trials[lane] for lane in lanes)
    assert (rest.epoch, rest.latent_dim) == (1, pack.latent_dim)
    assert_same_bits(rest.tensors(), {name: t[lanes] for name, t in pack.tensors().items()})

    before = copied(pack)
    rest_means = rest.train_epoch()
    assert_same_bits(pack.tensors(), before)  # a subset shares no memory
    means = pack.train_epoch()
    whole.train_epoch()
    assert_same_bits(whole.tensors(), pack.tensors())
    np.testing.assert_allclose(rest_means.objective, means.objective[lanes], rtol=1e-11)
    for name, tensor in rest.tensors().items():
        assert_close(tensor, pack.tensors()[name][lanes], rtol=1e-9, what=name)


@pytest.mark.parametrize("net", sorted(NETS))
def test_a_poisoned_lane_changes_no_bit_of_the_others(net: str) -> None:
    architecture, shape = NETS[net]
    data = small_images(shape)
    clean, poisoned = mixed_pack(architecture, data), mixed_pack(architecture, data)
    poisoned.parameters.flat[3, 5] = float("nan")
    clean_means, means = clean.train_epoch(), poisoned.train_epoch()
    others = [lane for lane in range(len(MIXED)) if lane != 3]
    assert not means.objective[3].isfinite()
    assert torch.equal(means.objective[others], clean_means.objective[others])
    for name, tensor in poisoned.tensors().items():
        assert torch.equal(tensor[others], clean.tensors()[name][others]), name


@given(full=st.integers(0, 20), batch_size=st.integers(1, 50), rest=st.integers(0, 49))
def test_minibatches_cover_the_images_but_a_single_rest(
    full: int, batch_size: int, rest: int
) -> None:
    rest %= batch_size
    assume(full or rest)
    sizes = minibatch_sizes(full * batch_size + rest, batch_size)
    single = full > 0 and rest == 1
    assert sizes == [batch_size] * full + [rest] * (rest > 0 and not single)


def test_trials_that_cannot_be_stacked_are_refused() -> None:
    data = on_cpu(small_images())
    for difference in ({"batch_size": 51}, {"data_seed": 1}, {"precision": "float32"}):
        with pytest.raises(ValueError, match="stack_key"):
            Pack([small_trial(), small_trial(**difference)], data)
    with pytest.raises(ValueError, match="stack_key"):
        Pack([], data)


def test_training_leaves_the_arithmetic_of_the_process_alone() -> None:
    trials = [small_trial()]
    pack = Pack(trials, on_cpu(small_images()))
    for flush in (False, True):
        torch.set_flush_denormal(flush)
        try:
            pack.train_epoch()
            assert (float("1e-310") == 0) is flush
        finally:
            torch.set_flush_denormal(False)
