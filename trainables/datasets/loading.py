"""From a dataset's spec to its arrays, its fingerprint, or where its files lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from search_spaces import BadInput, nearest_name
from search_spaces.dataset import (
    ArrayDataset,
    DatasetSpec,
    IdxDataset,
    ManifoldDataset,
    TilesDataset,
)
from trainables.datasets.arrays import array_fingerprint, load_array_dataset
from trainables.datasets.idx_collections import COLLECTIONS, FILE_NAMES, IdxCollection
from trainables.datasets.idx_dataset import (
    fetch_collection,
    find_files,
    idx_fingerprint,
    load_idx_dataset,
    read_part,
    search_places,
)
from trainables.datasets.image_data import ImageData
from trainables.datasets.manifold import load_manifold, manifold_fingerprint
from trainables.datasets.tiles import load_tiles, tiles_fingerprint

_GENERATED = {
    "tiles": "one to three white 4x4 tiles on black, 28x28 (the paper's section V)",
    "manifold": "vectors of known dimension: Gaussian factors behind a random decoder, with noise",
}


@dataclass(frozen=True)
class DatasetInfo:
    """A built-in dataset and where it is.

    Attributes:
        name: As in a spec.
        description: What it is, in one line.
        status: "found", "missing", "damaged" or "generated".
        where: The folder; what is missing or wrong; or that nothing is needed.
    """

    name: str
    description: str
    status: str
    where: str


def load_dataset(spec: DatasetSpec, data_dir: Path | None = None) -> ImageData:
    """Load or generate a dataset, downloading it into the cache if it is nowhere else.

    Args:
        spec: Which dataset.
        data_dir: Folder with the files of MNIST and its kin, as `<data_dir>/<name>/` or directly;
            the environment variable `VAE_STUDY_DATA` if not given.

    Returns:
        The images.

    Raises:
        BadInput: A file is missing, damaged or unsuitable, or the spec wants more than there is.
    """
    match spec:
        case IdxDataset():
            return load_idx_dataset(spec, data_dir)
        case TilesDataset():
            return load_tiles(spec)
        case ManifoldDataset():
            return load_manifold(spec)
        case ArrayDataset():
            return load_array_dataset(spec)
        case _:
            assert_never(spec)


def dataset_fingerprint(spec: DatasetSpec, data_dir: Path | None = None) -> str:
    """The fingerprint that `load_dataset` would give; only users' own files are read for it.

    Args:
        spec: Which dataset.
        data_dir: Accepted as in `load_dataset`; where the files lie does not change what they are.

    Returns:
        20 hex digits, equal exactly where the images and their order are.

    Raises:
        BadInput: As `load_dataset`, for users' own files and for numbers of images.
    """
    match spec:
        case IdxDataset():
            return idx_fingerprint(spec)
        case TilesDataset():
            return tiles_fingerprint(spec)
        case ManifoldDataset():
            return manifold_fingerprint(spec)
        case ArrayDataset():
            return array_fingerprint(spec)
        case _:
            assert_never(spec)


def fetch_dataset(name: str, data_dir: Path | None = None) -> Path:
    """Make a published dataset available offline: verify what is there, download what is not.

    Args:
        name: "mnist", "fashion_mnist" or "kmnist".
        data_dir: A folder to look in first; `VAE_STUDY_DATA` if not given. Downloads always go
            into the cache.

    Returns:
        The folder with the training images.

    Raises:
        BadInput: No such dataset, a damaged file, no mirror, or a cache that cannot be written to.
    """
    collections = {collection.name: collection for collection in COLLECTIONS.values()}
    if name in _GENERATED:
        raise BadInput(f"dataset {name!r} is generated: there is nothing to fetch")
    if name not in collections:
        raise BadInput(f"dataset {name!r} is not known{nearest_name(name, collections)}")
    return fetch_collection(collections[name], data_dir)


def list_datasets(data_dir: Path | None = None) -> list[DatasetInfo]:
    """What there is built in, and where; files that are found are verified, nothing is fetched.

    Args:
        data_dir: A folder to look in first; `VAE_STUDY_DATA` if not given.

    Raises:
        BadInput: The folder does not exist.
    """
    published = [_locate(collection, data_dir) for collection in COLLECTIONS.values()]
    generated = [
        DatasetInfo(name, description, "generated", "nothing to fetch")
        for name, description in _GENERATED.items()
    ]
    return published + generated


def _locate(collection: IdxCollection, data_dir: Path | None) -> DatasetInfo:
    places = search_places(collection.name, data_dir)
    paths = find_files(places)
    try:
        for part, path in paths.items():
            read_part(collection, part, path)
    except BadInput as error:
        return DatasetInfo(collection.name, collection.description, "damaged", str(error))
    missing = [f"{FILE_NAMES[part]}.gz" for part in FILE_NAMES if part not in paths]
    if missing:
        where = f"{', '.join(missing)} not in {', '.join(map(str, places))}"
        return DatasetInfo(collection.name, collection.description, "missing", where)
    where = ", ".join(dict.fromkeys(str(path.parent) for path in paths.values()))
    return DatasetInfo(collection.name, collection.description, "found", where)
