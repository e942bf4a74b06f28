"""Grids of images cut into slices: which image stands where."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import norm

from analysis.latent_slices import grid_slices
from tests.analysis.latent_tables import grid_of


def shown(sheet: pd.Series, size: int = 3) -> np.ndarray:
    """The numbers of the images in a slice, as they stand on the page."""
    picture = Image.open(io.BytesIO(base64.b64decode(sheet["address"].partition(",")[2])))
    assert picture.size == (sheet["width"], sheet["height"])
    values = np.asarray(picture)
    blocks = values.reshape(values.shape[0] // size, size, values.shape[1] // size, size)
    assert (blocks == blocks[:, :1, :, :1]).all()
    return blocks[:, 0, :, 0].astype(int)


def test_two_units_are_a_plane() -> None:
    grid = grid_of("a", steps=3, units=2, latent_dim=2)  # the last unit runs fastest
    (sheet,) = [row for _, row in grid_slices(grid).iterrows()]
    assert shown(sheet).tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    assert (sheet["across"], sheet["upwards"], sheet["slice"]) == (0, 1, "")


def test_three_units_are_slices_of_planes() -> None:
    slices = grid_slices(grid_of("a", steps=3, units=3, latent_dim=5).sample(frac=1))
    assert slices["slice"].tolist() == ["unit 2 at −0.97", "unit 2 at +0.00", "unit 2 at +0.97"]
    assert slices[["across", "upwards"]].drop_duplicates().to_numpy().tolist() == [[3, 4]]
    for number, (_, sheet) in enumerate(slices.iterrows()):
        expected = 9 * number + np.array([[2, 5, 8], [1, 4, 7], [0, 3, 6]])
        assert shown(sheet).tolist() == expected.tolist()


def test_one_unit_is_a_line() -> None:
    (sheet,) = [row for _, row in grid_slices(grid_of("a", 4, 1, 1)).iterrows()]
    assert shown(sheet).tolist() == [[0, 1, 2, 3]]
    assert sheet["across"] == 0
    assert pd.isna(sheet["upwards"])


def test_fine_grids_are_thinned_evenly_and_keep_their_ends() -> None:
    sheet = grid_slices(grid_of("a", 41, 2, 2, size=1)).iloc[0]
    assert (sheet["width"], sheet["height"]) == (20, 20)
    values = shown(sheet, 1)
    assert values[-1, 0] == 0
    assert values[0, -1] == (41**2 - 1) % 256
    slices = grid_slices(grid_of("a", 12, 3, 3, size=1))
    quantiles = norm.ppf((np.array([0, 3, 6, 8, 11]) + 0.5) / 12)
    said = [float(name.rpartition(" ")[2].replace("−", "-")) for name in slices["slice"]]
    assert said == pytest.approx(quantiles, abs=0.005)
    assert (slices["width"] == 8).all()


def test_colours() -> None:
    grid = grid_of("a", 2, 2, 2, size=1).assign(shape="3x1x1")
    grid["pixels"] = [bytes([10 * image, 1, 2]) for image in grid["image"]]
    sheet = grid_slices(grid).iloc[0]
    picture = Image.open(io.BytesIO(base64.b64decode(sheet["address"].partition(",")[2])))
    assert np.asarray(picture).tolist() == [[[10, 1, 2], [30, 1, 2]], [[0, 1, 2], [20, 1, 2]]]


def test_nothing_to_show() -> None:
    grid = grid_of("a", 2, 2, 2)
    assert grid_slices(grid.head(0)).empty
    assert grid_slices(grid.assign(shape="9")).empty


def test_a_grid_of_one_image() -> None:
    (sheet,) = [row for _, row in grid_slices(grid_of("a", 1, 3, 3)).iterrows()]
    assert shown(sheet).tolist() == [[0]]
