"""What is known of the data itself: facts, covariance eigenvalues, estimates of its dimension.

They make the `datasets` table, one file per dataset, in long form: a row per eigenvalue and per
estimate, each with the dataset's own facts. So `pandas.read_parquet("studies/NAME/datasets")` is
plain columns, one query gives the spectrum and another the estimates, and an estimator more is a
row more.
"""

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from search_spaces import BadInput, DatasetSpec
from search_spaces.dataset import BUILT_IN
from search_spaces.fields import SpecModel
from search_spaces.messages import explain
from search_spaces.yaml_text import parse_yaml
from study.geometric_dimension import (
    STANDARD_SAMPLE,
    Sample,
    geometric_estimates,
    import_library,
    installed_library,
    pixel_scale,
)
from study.ledger import read_rows, write_table
from study.storage import Folder
from study.tables import DATASETS, KEYS, to_table
from trainables.datasets import ImageData, dataset_fingerprint, load_dataset

__all__ = [
    "Sample",
    "covariance_eigenvalues",
    "dataset_named",
    "describe_dataset",
    "read_datasets",
]

Values = NDArray[np.float64]
Rows = list[dict[str, Any]]

LARGEST_COVARIANCE = 20_000
"""Rows of the largest matrix whose eigenvalues are asked for: 3 GB, and some minutes."""

_BLOCK = 4_096


class _Named(SpecModel):
    """Gives messages about a dataset the words that they have for a spec."""

    dataset: DatasetSpec


def dataset_named(text: str) -> DatasetSpec:
    """Read a dataset from the command line.

    Args:
        text: A built-in name ("mnist"), a file ("faces.npz"), or what stands in a spec
            ("{name: manifold, true_dimension: 5}").

    Raises:
        BadInput: It is none of these, or a field of it is wrong.
    """
    content: Any = text
    if text.lstrip().startswith("{"):
        content = parse_yaml(text, text)
    elif text not in BUILT_IN and _looks_like_a_file(text):
        content = {"path": text}
    raw = {"dataset": content}
    try:
        return _Named.model_validate(raw).dataset
    except ValidationError as error:
        found = explain(error, raw)
        if text == "manifold":
            raise BadInput(f"{found}, as in '{{name: manifold, true_dimension: 5}}'") from None
        raise found from None


def _looks_like_a_file(text: str) -> bool:
    return os.sep in text or bool(Path(text).suffix) or Path(text).is_file()


def describe_dataset(
    dataset: DatasetSpec,
    *,
    data_dir: Path | None = None,
    folder: Folder | None = None,
    sample: Sample | None = STANDARD_SAMPLE,
    again: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Compute the `datasets` rows of one dataset, or read what a study's folder holds of it.

    Rows are read where they were computed by the same versions from the same sample; more than
    was asked for is fine.

    Args:
        dataset: Which dataset.
        data_dir: Where to look for its files first.
        folder: A study's folder, to read from and to store in.
        sample: What the geometric estimators see; None leaves them out.
        again: Compute and replace what is stored.
        say: Called with a line before each step that may take long.

    Returns:
        The rows, columns as in `study.tables.DATASETS`.

    Raises:
        BadInput: The dataset cannot be had or is too large, or scikit-dimension is missing.
        StorageError: The folder cannot be read or written.
    """
    label, fingerprint = dataset.label, dataset_fingerprint(dataset, data_dir)
    file = f"{fingerprint}.parquet"
    if folder is not None and not again:
        stored = _read(folder, [file])
        if _answers(stored, sample):
            say(f"{label}: described before; --again computes it anew")
            return stored.assign(dataset=label)
    library = None if sample is None else import_library()  # before minutes of other work
    data = load_dataset(dataset, data_dir)
    say("{}: covariance of {:,} images of {:,} values".format(label, *data.train.shape))
    rows = _eigenvalue_rows(data)
    facts = _facts(data) | {"total_variance": sum(row["value"] for row in rows)}
    if sample is not None:
        rows += geometric_estimates(data, sample, library, say)
    frame = pd.DataFrame([dict.fromkeys(DATASETS.names) | facts | row for row in rows])
    frame = frame.sort_values(KEYS["datasets"], ignore_index=True)
    table = to_table("datasets", frame)
    if folder is not None:
        write_table(folder, f"datasets/{file}", table)
    described: pd.DataFrame = table.to_pandas()
    return described


def _facts(data: ImageData) -> dict[str, Any]:
    return {
        "dataset_fingerprint": data.fingerprint,
        "dataset": data.name,
        "shape": "x".join(map(str, data.shape)),
        "values_per_image": data.train.shape[1],
        "train_images": len(data.train),
        "test_images": len(data.test),
        "mean": float(data.train.mean(dtype=np.float64)) / pixel_scale(data),
        "version": version("vae-study"),
    }


def read_datasets(location: str | Path | Folder) -> pd.DataFrame:
    """Read the `datasets` table of a study's folder; without rows where nothing was described."""
    folder = Folder.at(location)
    return _read(folder, folder.files("datasets", ".parquet"))


def covariance_eigenvalues(data: ImageData) -> Values:
    """Return all eigenvalues of the training images' covariance, from the largest, in float64.

    Values are those that models see (pixels in [0, 1]); the covariance is divided by N. Where
    there are fewer images than values, the eigenvalues are those of the images' Gram matrix, which
    has the same but for zeros. What rounding alone may leave of a zero becomes 0.

    Raises:
        BadInput: The matrix would be too large.
    """
    images, scale = data.train, pixel_scale(data)
    count, values = images.shape
    size = min(count, values)
    if size > LARGEST_COVARIANCE:
        raise BadInput(
            f"dataset: {data.name!r} has {count:,} training images of {values:,} values, too many "
            f"for a covariance; set train_images to {LARGEST_COVARIANCE:,} or fewer"
        )
    mean = images.mean(axis=0, dtype=np.float64)
    matrix = np.zeros((size, size))
    for start in range(0, max(count, values), _BLOCK):
        block = slice(start, start + _BLOCK)
        if count < values:
            part = (images[:, block] - mean[block]).T / scale
        else:
            part = (images[block] - mean) / scale
        matrix += part.T @ part
    found = np.linalg.eigvalsh(matrix / count)[::-1]
    found = np.where(found > found[0] * size * np.finfo(np.float64).eps, found, 0.0)
    return np.pad(found, (0, values - size))


def _eigenvalue_rows(data: ImageData) -> Rows:
    return [
        {
            "quantity": "eigenvalue",
            "method": "covariance",
            "variant": "divided by N",
            "component": component,
            "value": value,
            "sample_size": len(data.train),
            "library": f"numpy {np.__version__}",
        }
        for component, value in enumerate(covariance_eigenvalues(data).tolist(), start=1)
    ]


def _read(folder: Folder, files: list[str]) -> pd.DataFrame:
    there = [file for file in files if folder.exists(f"datasets/{file}")]
    if not there:
        nothing: pd.DataFrame = DATASETS.empty_table().to_pandas()
        return nothing
    rows: pd.DataFrame = read_rows(folder, "datasets", there).select(DATASETS.names).to_pandas()
    return rows.sort_values(KEYS["datasets"], ignore_index=True)


def _answers(stored: pd.DataFrame, sample: Sample | None) -> bool:
    """Whether stored rows are what would be computed."""
    if stored.empty or (stored["version"] != version("vae-study")).any():
        return False
    if sample is None:
        return True
    dimensions = stored[stored["quantity"] == "dimension"]
    if dimensions.empty:
        return False
    first = dimensions.iloc[0]
    whole = sample.size >= first["train_images"]
    return (
        first["sample_size"] == min(sample.size, first["train_images"])
        and (whole or first["sample_seed"] == sample.seed)
        and installed_library() in (None, first["library"])
    )
