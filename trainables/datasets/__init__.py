"""Datasets as plain arrays: MNIST and its kin, generated data of known structure, users' own files.

The package needs numpy only. `load_dataset` turns a spec into an `ImageData`;
`dataset_fingerprint` names the same data without loading it where it can.
"""

from trainables.datasets.image_data import ImageData
from trainables.datasets.loading import (
    DatasetInfo,
    dataset_fingerprint,
    fetch_dataset,
    list_datasets,
    load_dataset,
)

__all__ = [
    "DatasetInfo",
    "ImageData",
    "dataset_fingerprint",
    "fetch_dataset",
    "list_datasets",
    "load_dataset",
]
