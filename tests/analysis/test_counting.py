"""Tiles against images made by hand, against a flood fill, and placed apart at random."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import analysis.counting
from analysis.components import bright_components
from analysis.counting import (
    RULE,
    RULES,
    CountingRule,
    count_tiles,
    tile_counts,
    tile_trials,
)
from search_spaces import TilesDataset
from tests.analysis.sampled_tables import samples_of
from tests.analysis.tables import trials_of
from trainables.datasets import load_dataset

Image = NDArray[np.float64]


def drawn(*tiles: tuple[int, int], side: int = 4, size: int = 12, brightness: float = 1.0) -> Image:
    image = np.zeros((size, size))
    for row, column in tiles:
        image[row : row + side, column : column + side] = brightness
    return image


def counted(*images: Image, rule: CountingRule = RULE) -> list[int]:
    return count_tiles(samples_of("t", "generated", np.stack(images)), rule=rule).tolist()


def test_images_made_by_hand() -> None:
    assert counted(
        drawn(),
        drawn((0, 0)),
        drawn((0, 0), (8, 8)),
        drawn((0, 0), (0, 8), (8, 0), (8, 8)),
        drawn((0, 0), (5, 0)),  # a black line between them
    ) == [0, 1, 2, 4, 2]
    # What touches, at a side or a corner, or overlaps, is one.
    assert counted(drawn((0, 0), (4, 0)), drawn((0, 0), (4, 4)), drawn((0, 0), (2, 3))) == [1, 1, 1]


def test_tiles_of_neighbouring_images_are_not_joined() -> None:
    assert counted(*[drawn((3, 3))] * 3, drawn(), drawn((3, 3), (8, 8))) == [1, 1, 1, 0, 2]


def test_specks_and_faint_tiles_are_none() -> None:
    assert counted(drawn((5, 5), side=1), drawn((5, 5), side=2)) == [0, 1]
    assert counted(drawn((5, 5), brightness=127 / 255), drawn((5, 5), brightness=128 / 255)) == [
        0,
        1,
    ]
    every = CountingRule(0.3, 1)
    assert counted(drawn((5, 5), side=1), drawn((5, 5), brightness=0.4), rule=every) == [1, 1]


def test_other_columns_and_what_is_no_grey_picture() -> None:
    one, two = drawn((0, 0))[None], drawn((0, 0), (8, 8))[None]
    rows = samples_of("t", "reconstruction", one, without=drawn()[None], originals=two)
    assert [
        count_tiles(rows, column)[0] for column in ("pixels", "without_inactive", "original")
    ] == [1, 0, 2]
    for images in (np.zeros((2, 12)), np.zeros((2, 3, 4, 4)), np.zeros((2, 2, 4, 4))):
        with pytest.raises(ValueError, match="no grey pictures"):
            count_tiles(samples_of("t", "generated", images))
    assert count_tiles(rows.head(0)).tolist() == []


@st.composite
def apart(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Corners of 4×4 tiles in 28×28 pixels with at least a black line between them."""
    corners: list[tuple[int, int]] = []
    for row, column in draw(st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)))):
        if all(max(abs(row - r), abs(column - c)) > 4 for r, c in corners):
            corners.append((row, column))
    return corners


@given(st.lists(apart(), min_size=1, max_size=4), st.floats(0.75, 1), st.integers(0, 2**32))
def test_tiles_apart_are_counted_exactly(placed, brightness: float, seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(0, 0.25, (28, 28))
    images = [np.maximum(drawn(*tiles, size=28, brightness=brightness), noise) for tiles in placed]
    for rule in RULES:
        assert counted(*images, rule=rule) == [len(tiles) for tiles in placed]


def flood_fill(image: Image, threshold: float) -> list[tuple[int, int, int]]:
    """Pixels, height and width of each bright region, found pixel by pixel."""
    left = {(int(r), int(c)) for r, c in np.argwhere(image > threshold)}
    regions = []
    while left:
        waiting = [left.pop()]
        region = set(waiting)
        while waiting:
            row, column = waiting.pop()
            for down, right in product((-1, 0, 1), repeat=2):
                neighbour = (row + down, column + right)
                if neighbour in left:
                    left.remove(neighbour)
                    region.add(neighbour)
                    waiting.append(neighbour)
        rows, columns = zip(*region, strict=True)
        height, width = (max(places) - min(places) + 1 for places in (rows, columns))
        regions.append((len(region), height, width))
    return sorted(regions)


def random_images(images: int, seed: int, size: int = 13) -> Image:
    """Smooth enough to have regions of all sizes; in steps of a byte."""
    noise = np.random.default_rng(seed).random((images, size + 2, size + 2))
    smooth = sum(
        noise[:, down : down + size, right : right + size]
        for down, right in product((0, 1, 2), repeat=2)
    )
    return np.asarray(np.rint(255 * np.clip((smooth / 9 - 0.2) / 0.6, 0, 1)) / 255)


@pytest.mark.parametrize("threshold", [0.3, 0.4, 0.7])  # 0.4 is byte 102
def test_regions_are_those_of_a_flood_fill(threshold: float) -> None:
    images = random_images(40, 1)
    found = bright_components(images, threshold)
    assert found["image"].is_monotonic_increasing
    for number, image in enumerate(images):
        regions = found.loc[found["image"] == number, ["pixels", "height", "width"]]
        assert sorted(map(tuple, regions.to_numpy().tolist())) == flood_fill(image, threshold)


def some_samples() -> tuple[pd.DataFrame, dict[tuple[str, str], Image]]:
    """Generated images of two trials, reconstructions of one of these; and all by what they are."""
    images = {
        ("a", "generated"): random_images(7, 2),
        ("b", "generated"): random_images(5, 3),
        ("b", "reconstruction"): random_images(9, 4),
        ("b", "original"): random_images(9, 5),
    }
    given = images["b", "original"]
    labels = [len(flood_fill(image, 0.5)) for image in given]
    labels[0] += 1
    rows = [
        samples_of("a", "generated", images["a", "generated"]),
        samples_of("b", "generated", images["b", "generated"]),
        samples_of(
            "b", "reconstruction", images["b", "reconstruction"], originals=given, labels=labels
        ),
        samples_of("b", "grid", random_images(3, 6)),
        samples_of("c", "generated", np.ones((2, 12))),  # of no picture
    ]
    return pd.concat(rows, ignore_index=True), images


@pytest.mark.parametrize("at_a_time", [3, 5_000])
def test_counts_by_trial_against_a_flood_fill(
    monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(analysis.counting, "AT_A_TIME", at_a_time)
    samples, images = some_samples()
    found = tile_counts(samples.sample(frac=1, random_state=0))
    assert set(found["trial_id"]) == {"a", "b"}
    expected = []
    for rule in RULES:

        def regions(image: Image, rule: CountingRule = rule) -> list[tuple[int, int, int]]:
            return [r for r in flood_fill(image, rule.threshold) if r[0] >= rule.smallest]

        for (trial_id, images_of), some in images.items():
            given = [-1] * len(some)
            if images_of == "reconstruction":
                given = [len(regions(image)) for image in images["b", "original"]]
            elif images_of == "original":
                given = samples.loc[samples["kind"] == "reconstruction", "label"].tolist()
            for image, right in zip(some, given, strict=True):
                of_image = regions(image)
                like = all(3 <= size <= 5 for _, *sizes in of_image for size in sizes)
                row = (trial_id, images_of, *rule, len(of_image), 1, like, len(of_image) == right)
                expected.append(row)
    frame = pd.DataFrame(expected, columns=found.columns)
    again = frame.groupby(list(found.columns[:5])).sum().reset_index()
    pd.testing.assert_frame_equal(found, again.astype(found.dtypes))


def test_no_images_no_counts() -> None:
    samples, _ = some_samples()
    none = tile_counts(samples.head(0))
    assert none.empty
    assert list(none.columns) == list(tile_counts(samples).columns)


def test_the_count_is_right_on_the_training_images() -> None:
    data = load_dataset(TilesDataset(train_images=600, test_images=10))
    images = np.asarray(data.train).reshape(-1, 28, 28) / 255
    rows = samples_of("t", "reconstruction", images, originals=images, labels=data.train_labels)
    for rule in RULES:
        assert count_tiles(rows, rule=rule).tolist() == list(data.train_labels)
    counts = tile_counts(rows)
    assert (counts["as_given"] == counts["images"]).all()
    assert (counts["tile_like"] == counts["images"]).all()
    assert set(counts["tiles"]) == {1, 2, 3}


def test_which_trials_are_counted() -> None:
    rows = [{"seed": seed} for seed in (2, 0, 1, 0, 2)]
    rows += [{"dataset": "mnist"}, {"status": "diverged"}]
    trials = trials_of(rows)
    assert tile_trials(trials).index.tolist() == [0, 1, 2, 3, 4]
    assert tile_trials(trials, most=3).index.tolist() == [1, 2, 3]
