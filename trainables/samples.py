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

__all__ = ["GRID_UNITS", "sample_rows"]

GRID_UNITS = 3
"""A grid of codes varies so many units; the paper's figure 3 shows one in slices."""

Numbers = NDArray[np.float64]


@torch.no_grad()
def sample_rows(
    pack: Pack, trial_ids: Sequence[str], mean_variance: Numbers, record: RecordSettings
) -> pd.DataFrame:
    """Generate images from N(0, I) and a grid, and reconstruct test images from posterior means.

    Args:
        pack: Trained lanes.
        trial_ids: Their ids.
        mean_variance: Var_x[μ(x)], shape (lanes, latent_dim): tells which units are active, as
            the others are zeroed, and which matter most, as the grid is along these.
        record: How many images of each kind.

    Returns:
        The columns of the table, but for the study.
    """
    active = torch.from_numpy(mean_variance > record.active_variance)
    kept = active.to(pack.device, pack.dtype).unsqueeze(1)
    rows: list[dict[str, Any]] = []
    for kind, start, codes, originals in _codes(pack, mean_variance, record):
        shown = _decode(pack, codes), _decode(pack, codes * kept)
        labels = None if originals is None else pack.data.labels.get("test")
        given = None if originals is None else originals.double().cpu().numpy()
        for lane, trial_id in enumerate(trial_ids):
            latent_dim = pack.trials[lane].latent_dim
            # A copy: the engine writes its next codes over these.
            code = codes[lane, :, :latent_dim].float().cpu().numpy().copy()
            images, without = shown[0][lane], shown[1][lane]
            if kind == "grid":  # padded where other lanes of the pack have a grid of more units
                own = max(0, _grid_images(record.grid, latent_dim) - start)
                images, without = images[:own], without[:own]
            if not len(images):
                continue
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
                    "code": code[number],
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


def _codes(
    pack: Pack, mean_variance: Numbers, record: RecordSettings
) -> Iterator[tuple[str, int, Tensor, Tensor | None]]:
    """Yield kind, number of the first image, codes (lanes, chunk, latent_dim), originals."""
    generated = pack.stacked(
        record.samples,
        lambda trial: prior_samples(record.samples, trial.latent_dim, trial.seed),
    )
    rows, lanes = _grid_images(record.grid, pack.latent_dim), iter(mean_variance)
    grid = pack.stacked(
        rows, lambda trial: _grid(next(lanes)[: trial.latent_dim], record.grid, rows)
    )
    for kind, codes in (("generated", generated), ("grid", grid)):
        for start in range(0, codes.shape[1], CHUNK):
            yield kind, start, codes[:, start : start + CHUNK], None
    images = min(record.reconstructions, pack.data.images("test"))
    for start in range(0, images, CHUNK):
        batch = pack.data.batch("test", slice(start, min(start + CHUNK, images)), pack.dtype)
        yield "reconstruction", start, pack.engine.encode(batch)[0], batch


def _grid_images(steps: int, latent_dim: int) -> int:
    return int(steps ** min(GRID_UNITS, latent_dim))


def _grid(mean_variance: Numbers, steps: int, rows: int) -> Tensor:
    """Return codes along the units of greatest Var μ, the last of them fastest, the others zero.

    The steps are equally likely under the prior: its quantiles at (i + 1/2) / steps.

    Returns:
        Shape (rows, latent_dim), zero after the grid's own rows.
    """
    latent_dim = len(mean_variance)
    largest = np.sort(np.argsort(-mean_variance, kind="stable")[:GRID_UNITS])
    quantiles = torch.special.ndtri((torch.arange(steps, dtype=torch.float64) + 0.5) / steps)
    points = torch.cartesian_prod(*[quantiles] * len(largest)).view(-1, len(largest))
    codes = torch.zeros(rows, latent_dim)
    codes[: len(points), largest.tolist()] = points.float()
    return codes


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
