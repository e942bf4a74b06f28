"""A dataset on a device: one copy for all packs of a process, as uint8 where it is pixels."""

import warnings
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces import Shape
from trainables.datasets import ImageData
from trainables.datasets.image_data import Labels

__all__ = ["DeviceData"]


@dataclass(frozen=True)
class DeviceData:
    """Images of both splits on a device, flattened to (images, values).

    Attributes:
        shape: Shape of one image, (channels, height, width) or (values,).
        splits: `train` and `test`, uint8 pixels or float32 values.
        fingerprint: Identifies the content.
        labels: Of the images of a split that has any, (images,), on the CPU.
    """

    shape: Shape
    splits: dict[str, Tensor]
    fingerprint: str
    labels: dict[str, Labels] = field(default_factory=dict)

    @classmethod
    def load(cls, data: ImageData, device: torch.device) -> "DeviceData":
        """Move a dataset to a device; on the CPU the memory is shared with `data`, not copied."""
        given = {"train": data.train_labels, "test": data.test_labels}
        return cls(
            data.shape,
            {split: _tensor(getattr(data, split)).to(device) for split in ("train", "test")},
            data.fingerprint,
            {split: labels for split, labels in given.items() if labels is not None},
        )

    def images(self, split: str) -> int:
        """Return the number of images of a split."""
        return len(self.splits[split])

    def batch(self, split: str, rows: Tensor | slice, dtype: torch.dtype) -> Tensor:
        """Return some images as numbers, pixels scaled to [0, 1], shape (rows, values)."""
        images = self.splits[split]
        # index_select: indexing with a tensor takes ten times as long
        images = images[rows] if isinstance(rows, slice) else images.index_select(0, rows)
        values = images.to(dtype)
        return values.div_(255) if images.dtype == torch.uint8 else values


def _tensor(array: NDArray[np.generic]) -> Tensor:
    with warnings.catch_warnings():  # arrays in Ray's object store are read-only, and only read
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
