"""The definition of every draw: golden values, and streams that keep apart."""

import itertools

import pytest
import torch

from tests import oracle
from trainables.architectures import ParameterShape, draw_parameters
from trainables.streams import evaluation_noise, minibatch_order, stream, training_noise

PURPOSES = ("weights", "noise", "order", "evaluation")


def test_golden_values() -> None:
    """Other values here mean another NUMERICS_VERSION, and other results for every old trial."""
    seeds = {
        "weights": 4172512745414291794,
        "noise": 5119270989041859444,
        "order": 8004729679258340525,
        "evaluation": 3237191088400025364,
    }
    assert {purpose: stream(purpose, 7, 2).initial_seed() for purpose in PURPOSES} == seeds
    assert minibatch_order(12, 7, 2).tolist() == [6, 7, 0, 9, 10, 4, 2, 8, 5, 3, 1, 11]
    drawn = [
        (torch.rand(3, generator=stream("weights", 7)), [0.09442115, 0.15550977, 0.70400721]),
        (training_noise(20, 3, 7, 2)[19], [0.62725133, -0.36151511, 1.33128989]),
        (evaluation_noise(20, 3, 7, "train")[19], [-1.29379785, 1.37565708, -0.82792515]),
        (evaluation_noise(20, 3, 7, "test")[19], [-1.16187418, -0.17579676, 0.50264060]),
    ]
    for values, expected in drawn:
        torch.testing.assert_close(values, torch.tensor(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize("initialisation", ["glorot", "torch"])
def test_golden_weights_follow_the_stream_in_declared_order(initialisation: str) -> None:
    """Each drawn parameter takes the next uniforms, and a constant one takes none."""
    shapes = [
        ParameterShape("a.weight", (3, 2), "weight", 2, 3),
        ParameterShape("a.bias", (3,), "bias", 2, 3),
        ParameterShape("norm", (4,), "ones"),
        ParameterShape("b.weight", (1, 3), "weight", 3, 1),
    ]
    drawn = draw_parameters(shapes, initialisation, seed=7)
    generator = oracle.generator("weights", 7)
    for shape in shapes:
        if shape.kind == "weight" or (shape.kind == "bias" and initialisation == "torch"):
            fan = (shape.fan_in + shape.fan_out) / 6 if initialisation == "glorot" else shape.fan_in
            uniform = torch.rand(shape.shape, generator=generator)
            torch.testing.assert_close(drawn[shape.name], (2 * uniform - 1) / fan**0.5)
        else:
            constant = 1.0 if shape.kind == "ones" else 0.0
            assert torch.equal(drawn[shape.name], torch.full(shape.shape, constant))


def test_draws_are_those_the_oracle_restates() -> None:
    assert torch.equal(
        training_noise(31, 5, 11, 3), torch.randn(31, 5, generator=oracle.generator("noise", 11, 3))
    )
    assert torch.equal(
        minibatch_order(31, 11, 3), torch.randperm(31, generator=oracle.generator("order", 11, 3))
    )
    for number, split in enumerate(["train", "test"]):
        g = oracle.generator("evaluation", 11, number)
        assert torch.equal(evaluation_noise(31, 5, 11, split), torch.randn(31, 5, generator=g))


def test_a_stream_depends_on_its_address_only() -> None:
    first = torch.rand(5, generator=stream("weights", 1))
    torch.manual_seed(99)
    torch.rand(17)
    stream("weights", 1).manual_seed(5)
    assert torch.equal(torch.rand(5, generator=stream("weights", 1)), first)


def test_no_draw_touches_the_global_generator() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    training_noise(10, 2, 0, 0)
    evaluation_noise(10, 2, 0, "test")
    minibatch_order(10, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_two_addresses_share_a_seed() -> None:
    """Numbers side by side, one and several of them, and the largest seed of a trial."""
    numbers = [0, 1, 2, 9, 10, 11, 12, 100, 101, 110, 2**31, 2**63 - 1]
    addresses: list[tuple[int, ...]] = [(n,) for n in range(2000)]
    addresses += list(itertools.product(numbers, numbers))
    addresses += list(itertools.product(range(60), range(60)))
    seeds = {
        (purpose, *address): stream(purpose, *address).initial_seed()
        for purpose in PURPOSES
        for address in set(addresses)
    }
    assert len(set(seeds.values())) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds.values())


def test_purposes_epochs_and_seeds_are_uncorrelated() -> None:
    draws = [torch.randn(20_000, generator=stream(purpose, 5, 1)) for purpose in PURPOSES]
    draws += [training_noise(10_000, 2, seed, 0).flatten() for seed in range(3)]
    draws += [training_noise(10_000, 2, 5, epoch).flatten() for epoch in (2, 3)]
    correlation = torch.corrcoef(torch.stack(draws)).fill_diagonal_(0)
    assert correlation.abs().max() < 5 / 20_000**0.5


def test_evaluation_noise_of_the_splits_differs() -> None:
    assert not torch.equal(evaluation_noise(9, 2, 0, "train"), evaluation_noise(9, 2, 0, "test"))
    with pytest.raises(KeyError):
        evaluation_noise(9, 2, 0, "validation")


def test_noise_is_standard_normal_and_order_a_permutation() -> None:
    noise = training_noise(50_000, 4, 1, 0)
    assert noise.dtype == torch.float32
    assert noise.mean(0).abs().max() < 0.02
    assert (noise.std(0) - 1).abs().max() < 0.02
    assert torch.equal(minibatch_order(1000, 0, 0).sort().values, torch.arange(1000))
