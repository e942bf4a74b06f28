"""The counting problem (the paper, section V): how many tiles are in an image of a trial on tiles.

A tile is a connected region of pixels brighter than a threshold, neighbours by a side or a corner.
The training images' tiles neither overlap nor touch, so there this count is right. In generated
images tiles may touch; then they count as one, so that shares of images with more than three tiles
are rather too small. A faint tile is not counted, and one that falls apart counts twice: hence
further rules, to see how much hangs on the choice.

Specks are left out. A convolutional net of ten epochs drew its tiles as chequered clouds: of their
regions above 0.5 two thirds were single pixels, and 21% of its images had more than three regions,
but 0.1% had more than three of four pixels or more.
"""

from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.components import bright_components
from analysis.images import drawable, image_values

__all__ = ["RULE", "RULES", "TILE", "CountingRule", "count_tiles", "tile_counts", "tile_trials"]

TILE: Final = 4
"""Pixels along a side of the paper's tiles."""

MOST_TRIALS: Final = 500
AT_A_TIME: Final = 5_000  # images looked at: 31 MB of numbers
_COLUMNS: Final = {
    "trial_id": "str",
    "images_of": "str",
    "threshold": "float64",
    "smallest": "int64",
    "tiles": "int64",
    "images": "int64",
    "tile_like": "int64",
    "as_given": "int64",
}


class CountingRule(NamedTuple):
    """What counts as a tile.

    Attributes:
        threshold: Its pixels are brighter than this: 0 is black and 1 is white.
        smallest: It has at least so many pixels; a tile of the training images has 16.
    """

    threshold: float
    smallest: int


RULE: Final = CountingRule(0.5, 4)
"""Half way from black to white, and a quarter of a tile."""

RULES: Final = (
    RULE,
    CountingRule(0.3, 4),
    CountingRule(0.7, 4),
    CountingRule(0.5, 1),
    CountingRule(0.5, 8),
)
"""That one, and those that tell how much hangs on it."""


def tile_trials(trials: pd.DataFrame, most: int = MOST_TRIALS) -> pd.DataFrame:
    """Return the completed trials on tiles whose images are to be counted.

    Args:
        trials: The `trials` table.
        most: How many at most: to count takes time, about 0.25 s per 1,000 images. Of more,
            those with the smallest seeds are taken, so that every setting keeps some.
    """
    chosen = trials[(trials["dataset"] == "tiles") & (trials["status"] == "completed")]
    return chosen.sort_values(["seed", "data_seed"], kind="stable").head(most).sort_index()


def count_tiles(
    samples: pd.DataFrame, column: str = "pixels", rule: CountingRule = RULE
) -> "NDArray[np.int64]":
    """Count the tiles of each image.

    Args:
        samples: Rows of the `samples` table, of one shape with one channel.
        column: "pixels", "without_inactive" or "original".
        rule: What counts as a tile.

    Returns:
        Their number, a value per row.

    Raises:
        ValueError: The rows have several shapes, or one that is no grey picture.
    """
    return _look(samples, column, rule)[0]


def tile_counts(samples: pd.DataFrame, rules: tuple[CountingRule, ...] = RULES) -> pd.DataFrame:
    """Count how many images of each trial have how many tiles.

    Args:
        samples: Rows of the `samples` table of trials on tiles, all images of a trial among them.
            Kinds but generated and reconstruction are left out, as are images that are not grey.
        rules: What counts as a tile.

    Returns:
        One row per trial, kind of image, rule and number of tiles that occurs, sorted by these:
        trial_id; images_of (generated, reconstruction, or original, the images that were
        reconstructed); threshold and smallest, the rule; tiles, the number; images, how many have
        so many; tile_like, how many of these have nothing but regions of 3 to 5 pixels by 3 to 5,
        as tiles have; as_given, in how many the number is that of the original (reconstructions)
        or the image's label (originals); 0 where generated.
    """
    parts = [pd.DataFrame(columns=list(_COLUMNS)).astype(_COLUMNS)]
    for (kind, shape), rows in samples.groupby(["kind", "shape"]):
        if kind not in ("generated", "reconstruction") or not _is_grey(str(shape)):
            continue
        for rule in rules:
            seen, alike = _look(rows, "pixels", rule)
            if kind == "generated":
                parts.append(_histogram(rows, kind, rule, seen, alike, np.zeros(len(rows), bool)))
                continue
            given, given_alike = _look(rows, "original", rule)
            right = given == pd.to_numeric(rows["label"]).to_numpy(np.float64)
            parts.append(_histogram(rows, "original", rule, given, given_alike, right))
            parts.append(_histogram(rows, "reconstruction", rule, seen, alike, seen == given))
    found = pd.concat(parts, ignore_index=True)[list(_COLUMNS)].astype(_COLUMNS)
    return found.sort_values(list(_COLUMNS)[:5], ignore_index=True)


def _histogram(
    rows: pd.DataFrame,
    images_of: str,
    rule: CountingRule,
    tiles: "NDArray[np.int64]",
    tile_like: "NDArray[np.bool_]",
    as_given: "NDArray[np.bool_]",
) -> pd.DataFrame:
    """Count the images of each trial by their tiles."""
    columns = {"tiles": tiles, "images": 1, "tile_like": tile_like, "as_given": as_given}
    images = pd.DataFrame(columns).assign(trial_id=rows["trial_id"].to_numpy())
    counted = images.groupby(["trial_id", "tiles"]).sum().reset_index()
    counted = counted.assign(images_of=images_of)
    return counted.assign(threshold=rule.threshold, smallest=rule.smallest)


def _look(
    samples: pd.DataFrame, column: str, rule: CountingRule
) -> "tuple[NDArray[np.int64], NDArray[np.bool_]]":
    """Return each image's number of tiles, and whether all its regions are as large as a tile."""
    tiles = np.zeros(len(samples), dtype=np.int64)
    tile_like = np.ones(len(samples), dtype=bool)
    for start in range(0, len(samples), AT_A_TIME):
        some = samples.iloc[start : start + AT_A_TIME]
        values, shape = image_values(some, column), str(some["shape"].iloc[0])
        if not _is_grey(shape):
            raise ValueError(f"images of shape {shape} are no grey pictures")
        height, width = map(int, shape.split("x")[1:])
        regions = bright_components(values.reshape(-1, height, width), rule.threshold)
        regions = regions[regions["pixels"] >= rule.smallest]
        tiles[start : start + len(some)] = np.bincount(regions["image"], minlength=len(some))
        odd = regions[["height", "width"]].sub(TILE).abs().max(axis=1) > 1
        tile_like[start + regions.loc[odd, "image"].to_numpy()] = False
    return tiles, tile_like


def _is_grey(shape: str) -> bool:
    return drawable(shape) and shape.startswith("1x")
