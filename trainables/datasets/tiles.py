"""The counting problem of section V of the paper: one to three white tiles on a black background.

Asperti, "Sparsity in Variational Autoencoders" (2018): "All tiles have dimension 4x4 and the whole
image is 28x28". The paper does not say whether tiles may overlap. Here they neither overlap nor
touch, not even at a corner: the problem is to count tiles, and tiles that merge cannot be counted.
So the number of connected components of an image, also with diagonal neighbours, is its label.
"""

import numpy as np
from numpy.typing import NDArray

from search_spaces.dataset import TilesDataset
from trainables.datasets.image_data import ImageData, Labels, recipe_fingerprint
from trainables.datasets.random_streams import Stream, random_stream

VERSION = 1  # raise whenever the same recipe gives other images

SIDE = 28
TILE = 4
MOST_TILES = 3


def tiles_fingerprint(spec: TilesDataset) -> str:
    """Fingerprint of the recipe: nothing is generated."""
    return recipe_fingerprint(
        {
            "generator": "tiles",
            "version": VERSION,
            "train_images": spec.train_images,
            "test_images": spec.test_images,
            "seed": spec.seed,
        }
    )


def load_tiles(spec: TilesDataset) -> ImageData:
    """Generate the images; the label of each is its number of tiles.

    Args:
        spec: Numbers of images and seed. Training and test images come from separate streams, so
            the number of the ones does not change the others.

    Returns:
        uint8 images of shape (1, 28, 28), black 0 and white 255. The number of tiles is uniform
        on 1, 2, 3; given the number, positions are uniform on those where no two tiles touch.
    """
    train, train_labels = _draw(spec.train_images, random_stream(spec.seed, Stream.TRAIN))
    test, test_labels = _draw(spec.test_images, random_stream(spec.seed, Stream.TEST))
    return ImageData(
        name=spec.label,
        shape=(1, SIDE, SIDE),
        train=train,
        test=test,
        train_labels=train_labels,
        test_labels=test_labels,
        fingerprint=tiles_fingerprint(spec),
    )


def _draw(images: int, random: np.random.Generator) -> tuple[NDArray[np.uint8], Labels]:
    counts = random.integers(1, MOST_TILES + 1, size=images)
    present = np.arange(MOST_TILES) < counts[:, None]  # (images, tiles)
    corners = _separate_corners(present, random)  # (images, tiles, 2)

    canvas = np.zeros((images, SIDE, SIDE), dtype=np.uint8)
    image, tile = np.nonzero(present)
    row, column = corners[image, tile].T
    for down in range(TILE):
        for right in range(TILE):
            canvas[image, row + down, column + right] = 255
    return canvas.reshape(images, SIDE * SIDE), counts.astype(np.int64)


def _separate_corners(present: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.int64]:
    """Upper left corners (images, tiles, 2), drawn anew for the images whose tiles touch."""
    corners = np.empty((*present.shape, 2), dtype=np.int64)
    pending = np.arange(len(present))
    while pending.size:
        corners[pending] = random.integers(
            0, SIDE - TILE + 1, size=(pending.size, present.shape[1], 2)
        )
        pending = pending[_touching(corners[pending], present[pending])]
    return corners


def _touching(corners: NDArray[np.int64], present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which images have two tiles without a black line between them."""
    distance = np.abs(corners[:, :, None] - corners[:, None, :]).max(axis=-1)
    close = (distance <= TILE) & present[:, :, None] & present[:, None, :]
    touching: NDArray[np.bool_] = np.triu(close, k=1).any(axis=(1, 2))
    return touching
