"""Small images with something to learn, and trials and packs on them, for the tests here."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from search_spaces import Architecture, ArrayDataset, Trial
from trainables.datasets import ImageData
from trainables.device_data import DeviceData

SMALL = ArrayDataset(name="small", path="small.npy")


def small_images(
    shape: tuple[int, ...] = (1, 6, 6), train: int = 300, test: int = 70, seed: int = 0
) -> ImageData:
    """uint8 images of three smooth factors and some noise."""
    random = np.random.default_rng(seed)
    factors = random.normal(size=(train + test, 3))
    values = factors @ random.normal(size=(3, math.prod(shape)))
    values += 0.3 * random.normal(size=values.shape)
    pixels = np.clip(127 + 60 * values, 0, 255).astype(np.uint8)
    return ImageData("small", shape, pixels[:train], pixels[train:], None, None, f"small{seed}")


def on_cpu(data: ImageData) -> DeviceData:
    return DeviceData.load(data, torch.device("cpu"))


def small_trial(**changes: Any) -> Trial:
    values: dict[str, Any] = {
        "dataset": SMALL,
        "architecture": Architecture.dense((8,)),
        "latent_dim": 4,
        "batch_size": 50,
        "epochs": 2,
        "precision": "float64",
    }
    return Trial(**(values | changes))


def ids(trials: Sequence[Trial]) -> list[str]:
    return [f"{number:020x}" for number in range(len(trials))]
