"""Connected bright regions of images: what tiles are to a program that counts them."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["bright_components"]

# Pixels of one image that share a side or a corner; images lie behind each other and never do.
_WITHIN_AN_IMAGE = np.zeros((3, 3, 3), dtype=bool)
_WITHIN_AN_IMAGE[1] = True


def bright_components(images: "NDArray[np.float64]", threshold: float) -> pd.DataFrame:
    """Find the connected regions that are brighter than a threshold.

    Args:
        images: Shape (images, height, width).
        threshold: A pixel belongs to a region where it exceeds this.

    Returns:
        One row per region, sorted by image: image, its number; pixels, how many it has; height
        and width of the smallest upright rectangle around it.
    """
    labels, found = ndimage.label(images > threshold, _WITHIN_AN_IMAGE)
    boxes = ndimage.find_objects(labels)
    columns = [[box[axis] for box in boxes] for axis in range(3)]
    regions = pd.DataFrame(
        {
            "image": [image.start for image in columns[0]],
            "pixels": np.bincount(labels.ravel(), minlength=found + 1)[1:],
            "height": [rows.stop - rows.start for rows in columns[1]],
            "width": [across.stop - across.start for across in columns[2]],
        },
        dtype="int64",
    )
    return regions.sort_values("image", kind="stable", ignore_index=True)
