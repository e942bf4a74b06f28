"""The images of the table `samples`: bytes to numbers, and to pictures that a page can show."""

import base64
import io

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

__all__ = ["drawable", "image_values", "picture_address"]


def image_values(samples: pd.DataFrame, column: str = "pixels") -> "NDArray[np.float64]":
    """Return images as they were before they became bytes, to within half a step of rounding.

    Args:
        samples: Rows of the `samples` table, all of one shape.
        column: "pixels", "without_inactive" or "original".

    Returns:
        Shape (rows, values of an image), in the units of the data: pixels are in [0, 1].

    Raises:
        ValueError: The rows have several shapes, or no such image.
    """
    shapes = samples["shape"].unique()
    if len(shapes) > 1:
        raise ValueError(f"samples have the shapes {', '.join(shapes)}; take those of one dataset")
    if samples[column].isna().any():
        raise ValueError(f"samples.{column} is null in some rows; choose a kind that has it")
    if samples.empty:
        return np.empty((0, 0))
    values = np.stack([np.frombuffer(row, np.uint8) for row in samples[column]])
    low, high = (samples[name].to_numpy(np.float64)[:, None] for name in ("low", "high"))
    scaled: NDArray[np.float64] = low + (high - low) * values / 255
    return scaled


def drawable(shape: str) -> bool:
    """Tell whether values of a shape, as in `samples`, make a picture: grey or of three colours."""
    sizes = _sizes(shape)
    return len(sizes) == 3 and sizes[0] in (1, 3)


def picture_address(pixels: bytes, shape: str) -> str:
    """Return a PNG of one image as a data URI, for pages that stand alone.

    Args:
        pixels: A byte per value, as in `samples`: channels first.
        shape: Of the image, as in `samples`: one that is `drawable`.
    """
    values = np.frombuffer(pixels, np.uint8).reshape(_sizes(shape))
    image = Image.fromarray(values[0] if len(values) == 1 else np.moveaxis(values, 0, -1))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _sizes(shape: str) -> tuple[int, ...]:
    return tuple(map(int, shape.split("x")))
