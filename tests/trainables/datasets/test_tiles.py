"""Tiles: counted by an independent connected-components labelling, and drawn as promised."""

from typing import Any

import numpy as np
import pytest
from scipy import ndimage, stats

from search_spaces import TilesDataset
from trainables.datasets import dataset_fingerprint, load_dataset

ALSO_DIAGONAL = np.ones((3, 3))


@pytest.fixture(scope="module")
def tiles() -> Any:
    return load_dataset(TilesDataset(train_images=6000, test_images=3000, seed=5))


def test_form(tiles: Any) -> None:
    assert tiles.shape == (1, 28, 28)
    assert tiles.train.shape == (6000, 784)
    assert tiles.test.shape == (3000, 784)
    assert tiles.train.dtype == tiles.test.dtype == np.uint8
    assert tiles.train_labels.dtype == np.int64
    assert tiles.name == "tiles"
    assert tiles.value_range == (0.0, 1.0)
    assert set(np.unique(tiles.train)) == {0, 255}


@pytest.mark.parametrize("part", ["train", "test"])
def test_every_component_is_a_tile_and_their_number_the_label(tiles: Any, part: str) -> None:
    images = getattr(tiles, part).reshape(-1, 28, 28)
    for image, label in zip(images, getattr(tiles, f"{part}_labels"), strict=True):
        components, count = ndimage.label(image, structure=ALSO_DIAGONAL)
        assert count == label
        for rows, columns in ndimage.find_objects(components):
            assert (rows.stop - rows.start, columns.stop - columns.start) == (4, 4)
        assert (image == 255).sum() == 16 * count


def test_one_to_three_tiles_are_equally_frequent(tiles: Any) -> None:
    labels = np.concatenate([tiles.train_labels, tiles.test_labels])
    frequencies = np.bincount(labels)
    assert frequencies[0] == 0
    assert len(frequencies) == 4
    assert stats.chisquare(frequencies[1:]).pvalue > 1e-3


def test_a_lone_tile_is_anywhere_with_equal_chance(tiles: Any) -> None:
    alone = tiles.train[tiles.train_labels == 1].reshape(-1, 28, 28)
    corners = [(image.any(axis=1).argmax(), image.any(axis=0).argmax()) for image in alone]
    rows, columns = np.array(corners).T
    for places in (rows, columns):
        assert (places.min(), places.max()) == (0, 24)
        assert stats.chisquare(np.bincount(places, minlength=25)).pvalue > 1e-3


def test_pairs_are_uniform_over_the_positions_where_they_do_not_touch() -> None:
    """Rejection leaves the uniform law on what is allowed: compared with brute force."""
    data = load_dataset(TilesDataset(train_images=20_000, test_images=1, seed=2))
    pairs = data.train[data.train_labels == 2].reshape(-1, 28, 28)
    distances = []
    for image in pairs:
        (first, second) = ndimage.find_objects(ndimage.label(image, structure=ALSO_DIAGONAL)[0])
        distances.append(max(abs(a.start - b.start) for a, b in zip(first, second, strict=True)))
    place = np.arange(25)
    apart = np.abs(place[:, None] - place[None, :])
    farthest = np.maximum(apart[:, :, None, None], apart[None, None, :, :]).ravel()
    allowed = np.bincount(farthest[farthest >= 5], minlength=25)[5:]
    observed = np.bincount(distances, minlength=25)
    assert observed[:5].sum() == 0
    expected = allowed / allowed.sum() * len(pairs)
    assert stats.chisquare(observed[5:], expected).pvalue > 1e-3


def test_seeds_and_parts_are_independent_streams() -> None:
    base = load_dataset(TilesDataset(train_images=300, test_images=300))
    again = load_dataset(TilesDataset(train_images=300, test_images=300))
    longer_test = load_dataset(TilesDataset(train_images=300, test_images=400))
    other = load_dataset(TilesDataset(train_images=300, test_images=300, seed=1))
    np.testing.assert_array_equal(base.train, again.train)
    np.testing.assert_array_equal(base.test, again.test)
    np.testing.assert_array_equal(base.train, longer_test.train)
    assert not np.array_equal(base.train, base.test)
    assert not np.array_equal(base.train, other.train)
    # Parts of neighbouring seeds must not be shifted copies of each other.
    assert not np.array_equal(base.test, other.train)


def test_the_same_recipe_gives_the_same_images_for_ever() -> None:
    """If this fails, the numbers of the generator have changed: raise tiles.VERSION."""
    data = load_dataset(TilesDataset(train_images=3, test_images=1, seed=0))
    corners = [np.flatnonzero(image)[0] for image in (*data.train, *data.test)]
    assert data.train_labels is not None
    assert (data.train_labels.tolist(), corners) == ([3, 3, 1], [108, 40, 571, 169])


def test_fingerprints_follow_the_recipe() -> None:
    spec = TilesDataset(train_images=20, test_images=10)
    assert load_dataset(spec).fingerprint == dataset_fingerprint(spec)
    changed = [
        spec.model_copy(update=update)
        for update in ({"train_images": 21}, {"test_images": 11}, {"seed": 1})
    ]
    assert len({dataset_fingerprint(other) for other in [spec, *changed]}) == 4
    assert dataset_fingerprint(spec.model_copy(update={"label": "x"})) == dataset_fingerprint(spec)
