"""Packs on a CUDA device: the same draws, and the same numbers as on the CPU."""

import numpy as np
import pytest
import torch

from search_spaces import NAMED, Architecture, TilesDataset, Trial
from search_spaces.trial import Decoder
from trainables.datasets import load_dataset
from trainables.device_data import DeviceData
from trainables.pack import Pack
from trainables.process import prepare_process
from trainables.statistics import evaluate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

TILES = TilesDataset(train_images=1000, test_images=200)


@pytest.mark.parametrize(
    "architecture", [Architecture.dense((64, 24)), NAMED["linear"], NAMED["paper-conv"]]
)
def test_pack_on_cuda_equals_pack_on_cpu(architecture: Architecture) -> None:
    trials = [
        Trial(
            dataset=TILES,
            architecture=architecture,
            latent_dim=latent_dim,
            seed=latent_dim,
            epochs=2,
            precision="float64",
        )
        for latent_dim in (3, 8, 5)
    ]
    data = load_dataset(TILES)
    results = {}
    for device in ("cpu", "cuda"):
        pack = Pack(trials, DeviceData.load(data, torch.device(device)))
        curve = [pack.train_epoch().objective.cpu().numpy() for _ in range(2)]
        results[device] = (np.array(curve), evaluate(pack, "train", gain_images=100))
    (cpu_curve, cpu), (cuda_curve, cuda) = results["cpu"], results["cuda"]
    np.testing.assert_allclose(cuda_curve, cpu_curve, rtol=1e-9)
    for name in ("mean_variance", "posterior_variance", "kl", "reconstruction_gain"):
        ours, expected = getattr(cuda, name), getattr(cpu, name)
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("architecture", [Architecture.dense((64, 24)), NAMED["paper-conv"]])
def test_mixed_precision_is_near_float32(architecture: Architecture) -> None:
    prepare_process(threads=1)  # without which convolutions in float32 are none
    data = DeviceData.load(load_dataset(TILES), torch.device("cuda"))
    curves = {}
    for precision in ("float32", "mixed"):
        trial = Trial(dataset=TILES, architecture=architecture, latent_dim=4, epochs=2)
        pack = Pack([trial.model_copy(update={"precision": precision})], data)
        curves[precision] = [pack.train_epoch().objective.item() for _ in range(2)]
    np.testing.assert_allclose(curves["mixed"], curves["float32"], rtol=1e-2)
    assert curves["mixed"] != curves["float32"]


@pytest.mark.parametrize("architecture", [Architecture.dense((64, 24)), NAMED["paper-conv"]])
@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian_learned"])
def test_the_host_waits_for_no_step(architecture: Architecture, decoder: Decoder) -> None:
    trials = [
        Trial(dataset=TILES, architecture=architecture, latent_dim=4, decoder=decoder, seed=seed)
        for seed in (0, 1)
    ]
    pack = Pack(trials, DeviceData.load(load_dataset(TILES), torch.device("cuda")))
    pack.train_epoch()  # libraries set themselves up in the first steps
    last = 2 * pack.steps_per_epoch

    def watch(steps: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if steps < last else "default")

    try:
        pack.train_epoch(watch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
