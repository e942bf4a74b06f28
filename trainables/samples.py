"""Rows of `samples`: images that a trained decoder makes, with and without its inactive units.

Pixels are bytes, since pictures need no more and black regions compress. What a byte cannot
tell, how much the inactive units change, is measured before rounding.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces import RecordSettings
from trainables.pack import Pack
from trainables.statistics import CHUNK
from trainables.streams import prior_samples

__all__ = ["sample_rows"]

Numbers = NDArray[np.float64]


@torch.no_grad()
def sample_rows(
    pack: Pack, trial_ids: Sequence[str], active: NDArray[np.bool_], record: RecordSettings
) -> pd.DataFrame:
    """Generate images from N(0, I), and reconstruct test images from their posterior means.

    Args:
        pack: Trained lanes.
        trial_ids: Their ids.
        active: Which units are active, shape (lanes, latent_dim); the others are zeroed.
        record: How many images of either kind.

    Returns:
        The columns of the table, but for the study.
    """
    kept = torch.from_numpy(active).to(pack.device, pack.dtype).unsqueeze(1)
    rows: list[dict[str, Any]] = []
    for kind, start, codes, originals in _codes(pack, record):
        shown = _decode(pack, codes), _decode(pack, codes * kept)
        labels = None if originals is None else pack.data.labels.get("test")
        given = None if originals is None else originals.double().cpu().numpy()
        for lane, trial_id in enumerate(trial_ids):
            images, without = shown[0][lane], shown[1][lane]
            versions = [images, without] if given is None else [images, without, given]
            low, high = _range(pack, versions)
            pixels = [_as_bytes(version, low, high) for version in versions]
            difference = np.abs(images - without).max(1)
            rows += [
                {
                    "trial_id": trial_id,
                    "kind": kind,
                    "image": start + number,
                    "label": None if labels is None else labels[start + number],
                    "shape": "x".join(map(str, pack.data.shape)),
                    "low": low[number],
                    "high": high[number],
                    "pixels": pixels[0][number].tobytes(),
                    "without_inactive": pixels[1][number].tobytes(),
                    "original": None if given is None else pixels[2][number].tobytes(),
                    "largest_difference": difference[number],
                }
                for number in range(len(images))
            ]
    return pd.DataFrame(rows)


def _codes(pack: Pack, record: RecordSettings) -> Iterator[tuple[str, int, Tensor, Tensor | None]]:
    """Yield kind, number of the first image, codes (lanes, chunk, latent_dim), originals."""
    generated = pack.stacked(
        record.samples,
        lambda trial: prior_samples(record.samples, trial.latent_dim, trial.seed),
    )
    for start in range(0, record.samples, CHUNK):
        yield "generated", start, generated[:, start : start + CHUNK], None
    images = min(record.reconstructions, pack.data.images("test"))
    for start in range(0, images, CHUNK):
        batch = pack.data.batch("test", slice(start, min(start + CHUNK, images)), pack.dtype)
        yield "reconstruction", start, pack.engine.encode(batch)[0], batch


def _decode(pack: Pack, codes: Tensor) -> Numbers:
    """Return the decoder's means, shape (lanes, images, values)."""
    output = pack.network.decode(pack.parameters.views, codes, pack.state.views, training=False)
    means = torch.sigmoid(output) if pack.objectives.decoder == "bernoulli" else output
    return means.double().cpu().numpy()


def _range(pack: Pack, versions: Sequence[Numbers]) -> tuple[Numbers, Numbers]:
    """Return what bytes 0 and 255 stand for in each image: black and white, where it has pixels."""
    images = len(versions[0])
    if pack.data.splits["test"].dtype == torch.uint8:
        return np.zeros(images), np.ones(images)
    values = np.concatenate(versions, axis=1)
    return values.min(1), values.max(1)


def _as_bytes(values: Numbers, low: Numbers, high: Numbers) -> NDArray[np.uint8]:
    """Round to 255 steps from low to high; a Gaussian decoder may go beyond black and white."""
    span = np.where(high > low, high - low, 1.0)
    scaled = (values - low[:, None]) / span[:, None]
    return np.rint(255 * np.clip(scaled, 0.0, 1.0)).astype(np.uint8)
