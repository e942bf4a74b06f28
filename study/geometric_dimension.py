"""Estimates of the data's dimension by scikit-dimension: what is asked of it, and its answers."""

import importlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import BadInput
from trainables.datasets import ImageData

__all__ = [
    "ESTIMATORS",
    "STANDARD_SAMPLE",
    "Sample",
    "geometric_estimates",
    "import_library",
    "installed_library",
    "pixel_scale",
]

Values = NDArray[np.float64]
Rows = list[dict[str, Any]]

_LIBRARY = "scikit-dimension"


@dataclass(frozen=True)
class Sample:
    """Which training images the geometric estimators see: their time grows with the square.

    Attributes:
        size: How many, drawn without replacement; all where there are no more.
        seed: Seed of the draw.
    """

    size: int = 5_000
    seed: int = 0

    def rows(self, images: int) -> NDArray[np.int64]:
        """Return the rows that are drawn from so many images."""
        if self.size >= images:
            return np.arange(images)
        return np.random.default_rng(self.seed).choice(images, self.size, replace=False)


STANDARD_SAMPLE = Sample()


@dataclass(frozen=True)
class _Estimator:
    """An estimator of scikit-dimension with all that its result depends on.

    Attributes:
        method: Its class in `skdim.id`.
        variant: In words.
        neighbours: More distinct images than this are needed.
        parameters: Given to the class.
        fit_parameters: Given to its `fit`.
        neighbourhoods: Estimate within so many neighbourhoods and take the mean; 0 for the whole.
    """

    method: str
    variant: str
    neighbours: int
    parameters: dict[str, Any]
    fit_parameters: dict[str, Any] = field(default_factory=dict)
    neighbourhoods: int = 0

    def dimension(self, library: Any, images: Values) -> float:
        """Estimate the dimension of images without duplicates."""
        estimator = getattr(library.id, self.method)(**self.parameters)
        if not self.neighbourhoods:
            return float(estimator.fit(images, **self.fit_parameters).dimension_)
        _, neighbours = library.get_nn(images, k=self.neighbours)
        centres = np.linspace(0, len(images) - 1, min(self.neighbourhoods, len(images)))
        chosen = neighbours[centres.astype(int)]
        return float(np.mean(library.asPointwise(images, estimator, precomputed_knn=chosen)))

    def recorded(self) -> str:
        """Return the hyperparameters as JSON."""
        local = {"n_neighbors": self.neighbours, "neighbourhoods": self.neighbourhoods}
        found = self.parameters | self.fit_parameters | (local if self.neighbourhoods else {})
        return json.dumps(found, sort_keys=True)


_FUKUNAGA_OLSEN = {"ver": "FO", "alphaFO": 0.05}

ESTIMATORS = (
    _Estimator("TwoNN", "linear fit", 2, {"method": "linear", "discard_fraction": 0.1}),
    _Estimator("MLE", "20 neighbours", 20, {}, {"n_neighbors": 20, "comb": "mle"}),
    _Estimator("CorrInt", "10 to 20 neighbours", 20, {"k1": 10, "k2": 20}),
    _Estimator("lPCA", "whole sample", 1, _FUKUNAGA_OLSEN),
    _Estimator("lPCA", "100 neighbours", 100, _FUKUNAGA_OLSEN, neighbourhoods=500),
)


def geometric_estimates(
    data: ImageData, sample: Sample, library: Any, say: Callable[[str], None] = lambda line: None
) -> Rows:
    """Estimate the dimension of the training images with scikit-dimension.

    TwoNN (Facco et al. 2017), MLE (Levina and Bickel 2004), CorrInt (Grassberger and Procaccia
    1983) and lPCA (Fukunaga and Olsen 1971), this one over the whole sample as one neighbourhood
    and as the mean over 500 neighbourhoods of 100 images. Duplicates are left out: between them
    the distance is zero, which no density that the estimators assume allows.

    Returns:
        A row of `datasets` per estimator; `value` is None where it is not defined, and `note`
        says why.
    """
    drawn = data.train[sample.rows(len(data.train))]
    _, first = np.unique(drawn, axis=0, return_index=True)
    images = drawn[np.sort(first)].astype(np.float64) / pixel_scale(data)
    rows = []
    for estimator in ESTIMATORS:
        say(f"{data.name}: {estimator.method}, {estimator.variant}, on {len(images):,} images")
        value, note = _estimate(estimator, images, library)
        rows.append(
            {
                "quantity": "dimension",
                "method": estimator.method,
                "variant": estimator.variant,
                "component": 0,
                "value": value,
                "note": note,
                "sample_size": len(drawn),
                "distinct_images": len(images),
                "sample_seed": sample.seed if len(drawn) < len(data.train) else None,
                "parameters": estimator.recorded(),
                "library": f"{_LIBRARY} {version(_LIBRARY)}",
            }
        )
    return rows


def _estimate(
    estimator: _Estimator, images: Values, library: Any
) -> tuple[float | None, str | None]:
    """Return the estimate, or None and the reason why there is none."""
    count, values = images.shape
    if values < 2:
        return None, "images of a single value have no dimension to estimate"
    if count <= estimator.neighbours:
        return None, f"{count} distinct images, and more than {estimator.neighbours} are needed"
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        value = estimator.dimension(library, images)
    if not (np.isfinite(value) and value > 0):
        return None, "not defined: too many images lie at equal distances"
    return value, None


def pixel_scale(data: ImageData) -> float:
    """Return what stored values are divided by before models see them."""
    return 255.0 if data.train.dtype == np.uint8 else 1.0


def installed_library() -> str | None:
    """Return the name and version of scikit-dimension; None where it is not installed."""
    try:
        return f"{_LIBRARY} {version(_LIBRARY)}"
    except PackageNotFoundError:
        return None


def import_library() -> Any:
    """Import scikit-dimension: seconds, for numba; so it is not imported with this module."""
    try:
        return importlib.import_module("skdim")
    except ImportError as error:
        raise BadInput(
            f"geometry: scikit-dimension cannot be imported ({error}); pip install "
            "'vae-study[geometry]', or give --no-geometry for the eigenvalues alone"
        ) from error
