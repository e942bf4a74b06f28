"""The plain side of the benchmark is right, the accounts add up, and both sides really run."""

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from search_spaces import Architecture, TilesDataset, Trial
from tests import oracle
from tests.benchmarks import whole_study
from tests.benchmarks.plain_vae import (
    loader_batches,
    memory_batches,
    plain_epoch,
    plain_model,
    plain_statistics,
)
from tests.benchmarks.timed_runs import Options, Run, Share, breakdown
from tests.benchmarks.whole_study import DATALOADER, MEMORY, MIXED, OURS, measure, report

LATENT_DIM = 3
DENSE = Architecture.dense((16, 8))


def with_oracle(
    name: str, beta: float = 1.0
) -> tuple[Trial, oracle.PlainVAE, nn.Module, nn.Module]:
    """A plain model with the weights of the oracle's model of the same trial."""
    trial = Trial(
        dataset=TilesDataset(), architecture=name, latent_dim=LATENT_DIM, beta=beta, seed=1
    )
    expected = oracle.PlainVAE(trial, (1, 28, 28))
    encoder, decoder = plain_model(trial.architecture, LATENT_DIM)
    with torch.no_grad():
        for part in ("weight", "bias"):
            heads = [getattr(expected.mean, part), getattr(expected.log_variance, part)]
            layers = [*with_weights(expected.encoder), None, *with_weights(expected.decoder)]
            for layer, source in zip(
                [*with_weights(encoder), *with_weights(decoder)], layers, strict=True
            ):
                value = torch.cat(heads) if source is None else getattr(source, part)
                getattr(layer, part).copy_(value)
    return trial, expected, encoder, decoder


def with_weights(network: nn.Module) -> list[nn.Module]:
    return [layer for layer in network.children() if hasattr(layer, "weight")]


def pixels(images: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (images, 784), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", [DENSE.name, "paper-conv"])
def test_plain_models_compute_what_the_oracle_computes(name: str) -> None:
    _, expected, encoder, decoder = with_oracle(name)
    x = pixels(6).float() / 255
    mean, log_variance = encoder(x).chunk(2, dim=1)
    for found, wanted in zip(
        (mean, log_variance), expected.encode(x.reshape(-1, 1, 28, 28)), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    z = torch.randn(6, LATENT_DIM)
    torch.testing.assert_close(decoder(z), expected.decode(z), rtol=1e-4, atol=1e-5)


def test_an_architecture_without_a_plain_model_is_refused() -> None:
    with pytest.raises(ValueError, match="conv-16-32"):
        plain_model(Architecture.conv((16, 32)), 2)


def test_a_plain_step_follows_the_oracles_gradient() -> None:
    trial, expected, encoder, decoder = with_oracle(DENSE.name, beta=2.0)
    x = pixels(20).float() / 255
    parameters = [*encoder.parameters(), *decoder.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    torch.manual_seed(3)
    elbo = plain_epoch(encoder, decoder, torch.optim.SGD(parameters, lr=1.0), [x], beta=2.0)

    torch.manual_seed(3)
    noise = torch.randn(20, LATENT_DIM)
    reconstruction, objective, kl, *_ = oracle.losses(
        expected, trial, x.reshape(-1, 1, 28, 28), noise
    )
    objective.mean().backward()
    assert elbo == pytest.approx(-(reconstruction + kl.sum(1)).mean().item(), rel=1e-5)
    first = before[0] - parameters[0]
    torch.testing.assert_close(first, expected.encoder[1].weight.grad, rtol=1e-3, atol=1e-5)
    last = before[-1] - parameters[-1]
    torch.testing.assert_close(last, expected.decoder[-1].bias.grad, rtol=1e-3, atol=1e-5)


def test_both_loaders_give_every_image_once_in_a_new_order() -> None:
    images = torch.arange(50, dtype=torch.uint8).repeat(784, 1).T.contiguous()
    loader = loader_batches(images, 16)
    for epoch in (lambda: memory_batches(images, 16), lambda: (x for (x,) in loader)):
        first, second = (torch.cat(list(epoch()))[:, 0] * 255 for _ in range(2))
        assert first.round().sort().values.tolist() == list(range(50))
        assert first.tolist() != second.tolist()
        assert [len(batch) for batch in epoch()] == [16, 16, 16, 2]


@pytest.mark.parametrize("gain_images", [40, 550, 5_000])
def test_plain_statistics_are_those_of_numpy(gain_images: int) -> None:
    """Images come in batches of 500, and so does the noise."""
    trial, model, encoder, decoder = with_oracle(DENSE.name)
    images = pixels(620)
    torch.manual_seed(5)
    found = plain_statistics(encoder, decoder, images, gain_images)

    torch.manual_seed(5)
    noise = torch.cat([torch.randn(500, LATENT_DIM), torch.randn(120, LATENT_DIM)])
    x = (images.double() / 255).reshape(-1, 1, 28, 28)
    with torch.no_grad():
        wanted = oracle.statistics(model.double(), trial, x, noise.double(), gain_images)
    for name in ("mean", "mean_variance", "posterior_variance", "second_moment", "kl"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-6, err_msg=name)
    gain = found["reconstruction_gain"]
    np.testing.assert_allclose(gain, wanted["reconstruction_gain"], rtol=2e-3, atol=1e-4)
    assert found["reconstruction"].item() == pytest.approx(wanted["reconstruction"], rel=1e-5)
    elbo = -(wanted["reconstruction"] + wanted["kl"].sum())
    assert found["elbo"].item() == pytest.approx(elbo, rel=1e-5)


def test_the_gain_is_left_out_where_it_is_not_asked_for() -> None:
    _, _, encoder, decoder = with_oracle(DENSE.name)
    assert "reconstruction_gain" not in plain_statistics(encoder, decoder, pixels(10))


def test_the_breakdown_accounts_for_every_worker_second() -> None:
    """Two workers, three packs: a 10-20 s, b 11-17 s, c 18-23 s; the command runs 0-25 s."""
    began = pd.Timestamp("2026-01-01", tz="UTC")
    started = began.timestamp()
    starts = {"a": 10, "b": 11, "c": 18}
    rows = [("a", 5.0), ("a", 5.0), ("b", 6.0), ("c", 5.0)]
    trials = pd.DataFrame(
        {
            "pack_id": [pack for pack, _ in rows],
            "started_at": pd.to_datetime(
                [began + pd.Timedelta(seconds=starts[pack]) for pack, _ in rows]
            ).astype("datetime64[ms, UTC]"),
            "seconds": [seconds for _, seconds in rows],
        }
    )
    epochs = pd.DataFrame({"seconds": [2.0, 2.0, 2.0, 2.0, 4.0, 5.0]})
    parts = breakdown(trials, epochs, started, started + 25, workers=2)
    assert {name: part.worker_seconds for name, part in parts.items()} == pytest.approx(
        {
            "training": 17,
            "evaluation": 4,
            "start_up": 20,
            "waiting_at_end": 3,  # from 20 s, when a is done, to 23 s
            "shut_down": 4,
            "gaps": 2,  # before b, and between b and c
        }
    )
    assert sum(part.share for part in parts.values()) == pytest.approx(1)
    assert parts["training"].share == pytest.approx(17 / 50)


def pretend(seconds: float, **changes: Any) -> Run:
    share = Share(seconds / 4, 0.25)
    run = Run(seconds, 64, 192, 1280, 7.0, 7.0, -100.0, {"training": share})
    return dataclasses.replace(run, **changes)


def test_sides_run_in_turns_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = iter([30.0, 90.0, 10.0, 91.0, 20.0, 92.0])  # of the study, then of the longer one
    plain = iter([100.0, 150.0, 80.0, 160.0, 60.0, 170.0])
    order: list[Any] = []

    def run_ours(options: Options, epochs: int, precision: str = "float32") -> Run:
        order.append(epochs if precision == "float32" else precision)
        return pretend(next(ours) if precision == "float32" else 16.0)

    def run_plain(options: Options, loader: str) -> Run:
        order.append(loader)
        return pretend(next(plain), breakdown=None, median_active_units=8.5)

    monkeypatch.setattr(whole_study, "run_ours", run_ours)
    monkeypatch.setattr(whole_study, "run_plain", run_plain)
    result = measure(Options(epochs=2, overhead_epochs=7, mixed=True))
    assert order == [2, "mixed", "memory", "dataloader", 7] * 3
    assert result.sides[OURS].seconds == [30, 10, 20]
    assert result.sides[OURS].median.seconds == 20
    assert result.sides[MEMORY].times_ours == 80 / 20
    assert result.sides[DATALOADER].times_ours == 160 / 20
    assert result.sides[MIXED].times_ours == 16 / 20
    assert result.sides[OURS].trials_per_hour == 64 * 3600 / 20
    assert not result.sides[MEMORY].active_units_agree
    assert "median active units differ from ours" in report(result)
    assert result.overhead is not None
    assert result.overhead.overheads == [0.75] * 3


def test_sides_that_did_not_do_the_same_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_study, "run_ours", lambda *_: pretend(1.0))
    monkeypatch.setattr(
        whole_study, "run_plain", lambda options, loader: pretend(1.0, unit_rows=1279)
    )
    with pytest.raises(RuntimeError, match=r"1280.*by vae-study.*1279.*by plain Tune"):
        measure(Options())


@pytest.mark.slow
def test_both_sides_really_run() -> None:
    options = Options(
        dataset="tiles",
        images=512,
        test_images=256,
        epochs=1,
        latent_dims=(2, 3),
        betas=(1.0,),
        seeds=1,
        repeats=1,
        overhead_epochs=2,
        cpus=2,
    )
    result = measure(options)
    assert list(result.sides) == [OURS, MEMORY, DATALOADER]
    for side in result.sides.values():
        # Two trials of one epoch; two and three units on two splits.
        assert side.median.work == (2, 2, 10)
        assert side.median.seconds > 1
        assert side.median.mean_test_elbo == pytest.approx(-517, abs=15)
    parts = result.sides[OURS].median.breakdown
    assert parts is not None
    assert sum(part.share for part in parts.values()) == pytest.approx(1)
    for name in ("training", "evaluation", "start_up", "shut_down"):
        assert 0 < parts[name].share < 1, name
    assert result.overhead is not None
    assert 0 < result.overhead.median < 1
    json.dumps(dataclasses.asdict(result))
    for name in (*result.sides, "start up", "overhead of ours at 2 epochs"):
        assert name in report(result)
