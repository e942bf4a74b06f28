"""Users' own arrays: which types and shapes are taken, and how they are split."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import BadInput, Shape
from search_spaces.dataset import ArrayDataset
from trainables.datasets.array_files import read_array_file
from trainables.datasets.image_data import (
    ImageData,
    Images,
    Labels,
    binarise,
    content_fingerprint,
    image_count,
)
from trainables.datasets.random_streams import Stream, random_stream

AnyArray = NDArray[Any]

_CHANNELS = (1, 3, 4)


def array_fingerprint(spec: ArrayDataset) -> str:
    """Fingerprint of the images themselves, so the file is read: its name and form do not count."""
    return load_array_dataset(spec).fingerprint


def load_array_dataset(spec: ArrayDataset) -> ImageData:
    """Read a user's file.

    uint8 values stay as they are (pixels), booleans become black and white pixels, floating-point
    values become float32; anything else is refused. Shapes: (N, values); (N, H, W); (N, H, W, C)
    or (N, C, H, W) with 1, 3 or 4 channels. Where both readings are possible, the channels are
    last, as image libraries store them.

    An `.npz` file may hold one array, or several of which `key` names one, or a split in the
    manner of Keras: x_train and optionally x_test, y_train, y_test. Without an x_test, images are
    shuffled (by `seed`) and `test_fraction` of them, rounded, but at least one, set aside.

    Args:
        spec: The file, and how to split and limit it.

    Returns:
        The images; labels only from an `.npz` file with y_train, and y_test where there is x_test.

    Raises:
        BadInput: The file is missing, damaged, or of another kind; its array has an unsupported
            type or shape, fewer than two images, or values that are not finite.
    """
    path = Path(os.path.expanduser(spec.path))
    stored = read_array_file(path, spec.key)
    train, shape = _images(stored.train, path, at_least=2)  # one for each part
    train_labels = _labels(stored.train_labels, len(train), "y_train", path)
    if stored.test is None:
        order = random_stream(spec.seed, Stream.SPLIT).permutation(len(train))
        held_out = min(max(round(spec.test_fraction * len(train)), 1), len(train) - 1)
        test, train = train[order[:held_out]], train[order[held_out:]]
        test_labels = None if train_labels is None else train_labels[order[:held_out]]
        train_labels = None if train_labels is None else train_labels[order[held_out:]]
    else:
        test, test_shape = _images(stored.test, path, at_least=1)
        test_labels = _labels(stored.test_labels, len(test), "y_test", path)
        if (test_shape, test.dtype) != (shape, train.dtype):
            raise BadInput(
                f"dataset.path: {path}: x_test holds {test.dtype} images of shape {test_shape}, "
                f"x_train {train.dtype} images of shape {shape}; make them alike"
            )

    train_count = image_count(spec.train_images, len(train), "train_images", spec.name)
    test_count = image_count(spec.test_images, len(test), "test_images", spec.name)
    train, test = train[:train_count], test[:test_count]
    if spec.binarise:
        train, test = binarise(train), binarise(test)
    return ImageData(
        name=spec.label,
        shape=shape,
        train=train,
        test=test,
        train_labels=None if train_labels is None else train_labels[:train_count],
        test_labels=None if test_labels is None else test_labels[:test_count],
        fingerprint=content_fingerprint(shape, train, test),
    )


def _images(array: AnyArray, path: Path, at_least: int) -> tuple[Images, Shape]:
    """Flattened images (N, values) of a supported type, and the shape of one."""
    arranged, shape = _arrange(array, path)
    if len(arranged) < at_least or 0 in shape:
        raise BadInput(
            f"dataset.path: {path} has an array of shape {array.shape}; give at least {at_least} "
            "images of at least one value each"
        )
    flat = np.ascontiguousarray(arranged).reshape(len(arranged), -1)
    return _supported_type(flat, path), shape


def _arrange(array: AnyArray, path: Path) -> tuple[AnyArray, Shape]:
    """Channels first, and the shape of one image."""
    if array.ndim == 2:
        return array, array.shape[1:]
    if array.ndim == 3:
        return array, (1, *array.shape[1:])
    if array.ndim == 4 and array.shape[3] in _CHANNELS:
        array = np.moveaxis(array, 3, 1)
        return array, array.shape[1:]
    if array.ndim == 4 and array.shape[1] in _CHANNELS:
        return array, array.shape[1:]
    raise BadInput(
        f"dataset.path: {path} has an array of shape {array.shape}; give (N, values), "
        "(N, height, width), or (N, height, width, channels) with 1, 3 or 4 channels"
    )


def _supported_type(flat: AnyArray, path: Path) -> Images:
    if flat.dtype == np.uint8:
        return flat
    if flat.dtype == np.bool_:
        return flat.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(flat.dtype, np.floating):
        raise BadInput(
            f"dataset.path: {path} holds values of type {flat.dtype}; convert pixels (0 to 255) "
            "with .astype('uint8'), other numbers with .astype('float32')"
        )
    with np.errstate(over="ignore"):
        values = flat.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        image, value = np.argwhere(~finite)[0]
        raise BadInput(
            f"dataset.path: {path}: image {image} (counted from 0) has {flat[image, value]} as "
            f"its value {value}; give values that are finite in float32"
        )
    return values


def _labels(array: AnyArray | None, images: int, name: str, path: Path) -> Labels | None:
    if array is None:
        return None
    if array.shape != (images,) or not np.issubdtype(array.dtype, np.integer):
        raise BadInput(
            f"dataset.path: {path}: {name} is {array.dtype} of shape {array.shape}; "
            f"give whole numbers of shape ({images},)"
        )
    return array.astype(np.int64)
