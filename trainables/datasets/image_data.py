"""What every dataset becomes: two arrays of flattened images and a fingerprint."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import BadInput, Shape

Images = NDArray[np.uint8] | NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageData:
    """Training and test images, flattened, as they lie on a device.

    Attributes:
        name: The dataset's label.
        shape: Of one image: (channels, height, width), or (values,) for data that are no images.
        train: (images, prod(shape)). uint8 means pixels/255, in [0, 1]; float32 is used as it is.
        test: (images, prod(shape)), of the same type.
        train_labels: (images,), or None where the dataset has none.
        test_labels: (images,), or None where the dataset has none.
        fingerprint: 20 hex digits; equal fingerprints mean equal images in equal order.
    """

    name: str
    shape: Shape
    train: Images
    test: Images
    train_labels: Labels | None
    test_labels: Labels | None
    fingerprint: str

    @property
    def value_range(self) -> tuple[float, float]:
        """The smallest and largest value of all images, on the scale that models see."""
        low = min(float(self.train.min()), float(self.test.min()))
        high = max(float(self.train.max()), float(self.test.max()))
        scale = 255.0 if self.train.dtype == np.uint8 else 1.0
        return low / scale, high / scale


def recipe_fingerprint(recipe: dict[str, Any]) -> str:
    """Fingerprint of data that a recipe (JSON values only) determines completely."""
    canonical = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]


def content_fingerprint(shape: tuple[int, ...], train: Images, test: Images) -> str:
    """Fingerprint of images by their shape, type and bytes."""
    header = [list(shape), train.dtype.str, list(train.shape), list(test.shape)]
    digest = hashlib.sha256(json.dumps(header).encode())
    for images in (train, test):
        digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()[:20]


def image_count(wanted: int | None, available: int, field: str, name: str) -> int:
    """The number of images to take, `available` where none is given.

    Raises:
        BadInput: More images are wanted than there are.
    """
    if wanted is not None and wanted > available:
        raise BadInput(
            f"dataset.{field}: {wanted} is more than the {available} that {name} has; "
            f"give {available} or fewer"
        )
    return available if wanted is None else wanted


def binarise(images: Images) -> NDArray[np.uint8]:
    """Black (0) and white (255) pixels: white from 0.5 on, which is 128 for uint8."""
    threshold = 128 if images.dtype == np.uint8 else 0.5
    return np.where(images >= threshold, np.uint8(255), np.uint8(0))
