"""Images per second of fused packs against plain PyTorch loops, side by side in one run.

python -m tests.benchmarks.trainer --images 6000 --repeats 3 --json benchmark.json
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from search_spaces import NAMED, Architecture, TilesDataset, Trial
from trainables.datasets import load_dataset
from trainables.device_data import DeviceData
from trainables.pack import Pack

LATENT_DIM = 16
BATCH_SIZE = 128


def plain_model(architecture: Architecture) -> tuple[nn.Module, nn.Module]:
    """The encoder (μ and log σ² side by side) and decoder that a user would write."""
    if architecture.family == "dense":
        sizes = [784, *architecture.widths]
        encoder: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            encoder += [nn.Linear(a, b), nn.ReLU()]
        encoder.append(nn.Linear(sizes[-1], 2 * LATENT_DIM))
        decoder: list[nn.Module] = []
        sizes = [LATENT_DIM, *reversed(sizes)]
        for a, b in itertools.pairwise(sizes):
            decoder += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*encoder), nn.Sequential(*decoder[:-1])
    return (
        nn.Sequential(
            *(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16)),
            *(nn.ReLU(), nn.Conv2d(16, 32, 3, 1, 1), nn.Conv2d(32, 32, 3, 2, 1)),
            *(nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1)),
            *(nn.Conv2d(32, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 2, 2)),
            *(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(32, 32, 2), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 32, 2), nn.Flatten(), nn.Linear(32, 2 * LATENT_DIM)),
        ),
        nn.Sequential(
            *(
                nn.Linear(LATENT_DIM, 32),
                nn.Unflatten(1, (32, 1, 1)),
                nn.ConvTranspose2d(32, 32, 2),
            ),
            *(nn.BatchNorm2d(32), nn.ReLU(), nn.ConvTranspose2d(32, 32, 2, padding=0, stride=1)),
            *(nn.ZeroPad2d((0, -1, 0, -1)), nn.ConvTranspose2d(32, 32, 2, 2), nn.BatchNorm2d(32)),
            *(nn.ReLU(), nn.ConvTranspose2d(32, 32, 3, 1, 1), nn.ConvTranspose2d(32, 32, 3, 2, 1)),
            *(nn.BatchNorm2d(32), nn.ReLU(), nn.ConvTranspose2d(32, 32, 3, 2, 1, 1)),
            *(nn.ConvTranspose2d(32, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.ConvTranspose2d(16, 1, 3, 2, 1, 1), nn.Flatten()),
        ),
    )


def plain_epoch(architecture: Architecture, images: torch.Tensor) -> Callable[[], int]:
    """An epoch of the plain loop, in-memory uint8 images, no DataLoader."""
    encoder, decoder = plain_model(architecture)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)

    def epoch() -> int:
        for rows in torch.randperm(len(images)).split(BATCH_SIZE):
            x = images[rows].float().div_(255)
            mean, log_variance = encoder(x).chunk(2, dim=1)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            loss = nn.functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum()
            optimizer.zero_grad()
            ((loss + kl) / len(x)).backward()
            optimizer.step()
        return len(images)

    return epoch


def fused_epoch(architecture: Architecture, images: int, lanes: int) -> Callable[[], int]:
    """An epoch of a pack; returns images trained on, summed over lanes."""
    dataset = TilesDataset(train_images=images, test_images=1)
    trials = [
        Trial(dataset=dataset, architecture=architecture, latent_dim=LATENT_DIM, seed=seed)
        for seed in range(lanes)
    ]
    pack = Pack(trials, DeviceData.load(load_dataset(dataset), torch.device("cpu")))

    def epoch() -> int:
        pack.train_epoch()
        return lanes * pack.samples_per_epoch

    return epoch


def samples_per_second(epoch: Callable[[], int], repeats: int) -> float:
    """Median over repeats, after one epoch to warm up."""
    epoch()
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        rates.append(epoch() / (time.perf_counter() - start))
    return statistics.median(rates)


def one_process(architecture: Architecture, images: int, lanes: int, repeats: int) -> float:
    """Rate of one thread: `lanes` 0 is the plain loop."""
    torch.set_num_threads(1)
    if lanes:
        return samples_per_second(fused_epoch(architecture, images, lanes), repeats)
    data = load_dataset(TilesDataset(train_images=images, test_images=1))
    return samples_per_second(plain_epoch(architecture, torch.from_numpy(data.train)), repeats)


def all_processes(architecture: Architecture, images: int, lanes: int, repeats: int) -> float:
    """Summed rate of one process of one thread per core, all at the same time."""
    cores = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        arguments = (architecture, images, lanes, repeats)
        return float(np.sum(pool.starmap(one_process, [arguments] * cores, chunksize=1)))


def main() -> None:
    """Print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6000, help="training images per epoch")
    parser.add_argument("--repeats", type=int, default=3, help="timed epochs; the median counts")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--json", type=Path, default=Path("benchmark.json"))
    options = parser.parse_args()
    rows = []
    for name in ("paper-dense-mnist", "paper-conv"):
        images = options.images if name != "paper-conv" else max(1000, options.images // 6)
        plain = {}
        for lanes in (0, *options.lanes):
            one = one_process(NAMED[name], images, lanes, options.repeats)
            machine = all_processes(NAMED[name], images, lanes, options.repeats)
            plain = plain or {"one": one, "machine": machine}
            rows.append(
                {
                    "architecture": name,
                    "how": f"pack of {lanes}" if lanes else "plain loop",
                    "one_thread": one,
                    "against_plain": one / plain["one"],
                    "machine": machine,
                    "machine_against_plain": machine / plain["machine"],
                }
            )
            print(
                f"{name:18} {rows[-1]['how']:11} {one:10,.0f} /s per thread"
                f" {one / plain['one']:6.2f}x   {machine:10,.0f} /s on {os.cpu_count()} cores"
                f" {machine / plain['machine']:6.2f}x",
                flush=True,
            )
    machine_name = {
        "cores": os.cpu_count(),
        "processor": platform.processor(),
        "torch": torch.__version__,
    }
    options.json.write_text(json.dumps({"machine": machine_name, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
