"""The grid of images that a trial decodes from its latent space, cut into slices."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.images import drawable, picture_address

__all__ = ["grid_slices"]

MOST_SLICES: Final = 5
MOST_ALONG: Final = 20  # images along a side of a slice
MOST_ALONG_OF_SEVERAL: Final = 8

Bytes = NDArray[np.uint8]
Steps = NDArray[np.int64]


def grid_slices(grid: pd.DataFrame) -> pd.DataFrame:
    """Return the grid of a trial as pictures of many images each, one per slice.

    Of three units the first counts the slices; of the two that are left, the first runs across and
    the second upwards, like the axes of a plane. Where the grid is finer than a page can show,
    evenly spread steps are taken of it: at most 5 slices of 8 × 8 images, or one of 20 × 20.

    Args:
        grid: The rows of `samples` of one trial with the kind grid.

    Returns:
        One row per slice: slice, the code of its unit in words, empty where there is one slice;
        address, a data URI; width and height, in pixels; across and upwards, the units along
        its sides, null where there is none. No rows without a grid, or where the images are no
        pictures.
    """
    columns = ["slice", "address", "width", "height", "across", "upwards"]
    if grid.empty or not drawable(str(grid["shape"].iloc[0])):
        return pd.DataFrame(columns=columns)
    ordered = grid.sort_values("image")
    codes = np.stack(ordered["code"].tolist()).astype(np.float64)
    units = np.flatnonzero((codes != codes[0]).any(0))
    steps = round(len(codes) ** (1 / max(len(units), 1)))
    sides = (*[1] * (3 - len(units)), *[steps] * len(units))
    images = _images(ordered).reshape(*sides, *_shape(ordered))
    slices, *plane = _kept(sides)
    across, upwards = [None, None, *units.tolist()][-2:]
    if len(units) == 1:  # a single unit runs across
        images, plane = images.swapaxes(1, 2), plane[::-1]
        across, upwards = upwards, across
    values = np.unique(codes[:, units[0]]) if len(units) else np.zeros(1)
    rows = []
    for place in slices:
        pixels, shape = _mosaic(images[place][np.ix_(*plane)])
        name = f"unit {units[0]} at {values[place]:+.2f}" if len(units) == 3 else ""
        _, height, width = shape.split("x")
        address = picture_address(pixels, shape)
        rows.append((name.replace("-", "−"), address, int(width), int(height), across, upwards))
    return pd.DataFrame(rows, columns=columns)


def _images(grid: pd.DataFrame) -> Bytes:
    return np.stack([np.frombuffer(pixels, np.uint8) for pixels in grid["pixels"]])


def _shape(grid: pd.DataFrame) -> tuple[int, ...]:
    return tuple(map(int, str(grid["shape"].iloc[0]).split("x")))


def _kept(sides: tuple[int, ...]) -> list[Steps]:
    """Return which steps to show along each side."""
    along = MOST_ALONG if sides[0] == 1 else MOST_ALONG_OF_SEVERAL
    return [
        np.unique(np.linspace(0, steps - 1, min(steps, most)).round().astype(np.int64))
        for steps, most in zip(sides, (MOST_SLICES, along, along), strict=True)
    ]


def _mosaic(images: Bytes) -> tuple[bytes, str]:
    """Put images (across, upwards, channels, height, width) side by side into one."""
    across, upwards, channels, height, width = images.shape
    rows = images[:, ::-1].transpose(2, 1, 3, 0, 4)  # a picture begins at the top
    shape = f"{channels}x{upwards * height}x{across * width}"
    return rows.tobytes(), shape
