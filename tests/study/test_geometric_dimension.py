"""Estimates of scikit-dimension against known dimensions and the papers' formulas."""

import json
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import pytest

from study.data_description import covariance_eigenvalues
from study.geometric_dimension import STANDARD_SAMPLE, Sample, geometric_estimates
from tests.study.described import Array, images_of, value

ESTIMATES = [
    ("CorrInt", "10 to 20 neighbours"),
    ("MLE", "20 neighbours"),
    ("TwoNN", "linear fit"),
    ("lPCA", "100 neighbours"),
    ("lPCA", "whole sample"),
]


def flat(dimension: int, values: int, count: int, seed: int = 0) -> Array:
    """Points of a flat piece of this dimension in a space of `values` dimensions."""
    random = np.random.default_rng(seed)
    return (
        random.uniform(size=(count, dimension)) @ random.normal(size=(dimension, values))
    ).astype(np.float32)


@pytest.fixture(scope="module")
def library() -> Any:
    return pytest.importorskip("skdim")


def estimates(train: Array, library: Any, sample: Sample = STANDARD_SAMPLE) -> pd.DataFrame:
    return pd.DataFrame(geometric_estimates(images_of(train), sample, library))


@pytest.mark.parametrize("dimension", [2, 4])
def test_a_flat_piece_of_known_dimension(dimension: int, library: Any) -> None:
    found = estimates(flat(dimension, 30, 1_500), library)
    assert sorted(zip(found["method"], found["variant"], strict=True)) == ESTIMATES
    assert found["note"].isna().all()
    assert value(found, "TwoNN") == pytest.approx(dimension, rel=0.1)
    assert value(found, "MLE") == pytest.approx(dimension, rel=0.1)
    assert value(found, "CorrInt") == pytest.approx(dimension, rel=0.15)
    assert value(found, "lPCA", "whole sample") == dimension
    assert value(found, "lPCA", "100 neighbours") == pytest.approx(dimension, abs=0.1)


def test_a_curve_is_one_dimensional_where_only_the_neighbourhood_is_seen(library: Any) -> None:
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, (2_000, 1))
    circle = np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    found = estimates(circle, library)
    assert value(found, "lPCA", "whole sample") == 2
    assert value(found, "lPCA", "100 neighbours") == 1
    for method in ("TwoNN", "MLE", "CorrInt"):
        assert value(found, method) == pytest.approx(1, rel=0.1)


def test_estimates_against_the_papers_formulas(library: Any) -> None:
    train = np.random.default_rng(3).integers(0, 256, (400, 30)).astype(np.uint8)
    seen = train / 255
    distance = np.sqrt(((seen[:, None] - seen[None]) ** 2).sum(-1))
    nearest = np.sort(distance, axis=1)[:, 1:21]
    found = estimates(train, library)
    # Levina and Bickel 2004, equation 9, averaged over the inverse (MacKay and Ghahramani 2005)
    inverse = np.log(nearest[:, -1:] / nearest[:, :-1]).sum(1) / 19
    assert value(found, "MLE") == pytest.approx(1 / inverse.mean(), rel=1e-6)
    # Facco et al. 2017: a line through the origin, the largest tenth of the ratios left out
    ratio = np.sort(nearest[:, 1] / nearest[:, 0])[:360]
    height = -np.log(1 - np.arange(1, 361) / 400)
    slope = (np.log(ratio) @ height) / (np.log(ratio) @ np.log(ratio))
    assert value(found, "TwoNN") == pytest.approx(slope, rel=1e-6)
    # Grassberger and Procaccia 1983 between the median distances to the 10th and 20th neighbour
    near, far = np.median(nearest[:, 9]), np.median(nearest[:, 19])
    pairs = [(distance < radius).sum() - 400 for radius in (near, far)]
    expected = np.log(pairs[1] / pairs[0]) / np.log(far / near)
    assert value(found, "CorrInt") == pytest.approx(expected, rel=1e-3)
    # Fukunaga and Olsen 1971
    spectrum = covariance_eigenvalues(images_of(train))
    assert value(found, "lPCA", "whole sample") == (spectrum > 0.05 * spectrum[0]).sum()
    assert found.set_index("method").loc["TwoNN", "library"] == (
        f"scikit-dimension {version('scikit-dimension')}"
    )
    recorded = {row.variant: json.loads(row.parameters) for row in found.itertuples()}
    assert recorded["linear fit"] == {"method": "linear", "discard_fraction": 0.1}
    assert recorded["20 neighbours"] == {"n_neighbors": 20, "comb": "mle"}
    assert recorded["100 neighbours"] == {
        **{"n_neighbors": 100, "neighbourhoods": 500},
        **{"ver": "FO", "alphaFO": 0.05},
    }


def test_local_pca_sees_the_neighbourhoods_it_says(library: Any) -> None:
    train = flat(3, 8, 700)
    train += np.random.default_rng(1).normal(scale=0.15, size=train.shape).astype(np.float32)
    distance = ((train[:, None].astype(float) - train[None]) ** 2).sum(-1)
    counts = []
    for place in np.linspace(0, 699, 500).astype(int):
        neighbours = train[np.argsort(distance[place])[1:101]].astype(float)
        spectrum = np.linalg.eigvalsh(np.cov(neighbours.T))
        counts.append((spectrum > 0.05 * spectrum[-1]).sum())
    assert np.std(counts) > 0
    assert value(estimates(train, library), "lPCA", "100 neighbours") == np.mean(counts)


def test_duplicates_are_left_out(library: Any) -> None:
    train = flat(2, 5, 150)
    once, twice = estimates(train, library), estimates(train.repeat(2, axis=0), library)
    assert once["value"].tolist() == twice["value"].tolist()
    assert once["distinct_images"].tolist() == twice["distinct_images"].tolist() == [150] * 5
    assert once["sample_size"].tolist() == [150] * 5
    assert twice["sample_size"].tolist() == [300] * 5


@pytest.mark.parametrize(
    ("train", "defined", "why"),
    [
        (np.zeros((200, 9), np.uint8), set(), "1 distinct images"),
        (flat(2, 5, 20), {"TwoNN", "lPCA"}, "more than 20 are needed"),
        (flat(2, 5, 2), {"lPCA"}, "more than 2 are needed"),
        (flat(1, 1, 200), set(), "single value"),
        # Every image as far from every other: no neighbour is nearer than the next.
        (np.eye(200, dtype=np.float32), {"lPCA"}, "equal distances"),
    ],
    ids=["constant", "few", "two", "one value", "equidistant"],
)
def test_what_is_not_defined_is_null_and_says_why(
    train: Array, defined: set[str], why: str, library: Any, recwarn: pytest.WarningsRecorder
) -> None:
    found = estimates(train, library)
    assert (found["value"].notna() == found["note"].isna()).all()
    assert set(found.loc[found["value"].notna(), "method"]) == defined
    assert found["note"].dropna().str.contains(why).any()
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_the_sample_can_be_drawn_again(library: Any) -> None:
    train = flat(3, 6, 400)
    found = estimates(train, library, Sample(size=250, seed=7))
    rows = np.random.default_rng(7).choice(400, 250, replace=False)
    assert len(set(rows)) == 250
    again = estimates(train[rows], library)
    assert found["value"].tolist() == again["value"].tolist()
    assert found["sample_size"].tolist() == [250] * 5
    assert found["sample_seed"].tolist() == [7] * 5
    assert again["sample_seed"].isna().all()  # nothing was drawn
    assert Sample(size=400).rows(400).tolist() == Sample(size=401).rows(400).tolist()
    assert Sample(size=400).rows(400).tolist() == list(range(400))
    other = estimates(train, library, Sample(size=250, seed=8))
    assert value(found, "TwoNN") != value(other, "TwoNN")
