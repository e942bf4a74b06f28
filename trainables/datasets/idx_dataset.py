"""Loading MNIST and its kin: where their files are looked for, verified, and fetched from."""

import hashlib
import os
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from search_spaces import BadInput
from search_spaces.dataset import IdxDataset
from trainables.datasets.download import DownloadError, download
from trainables.datasets.idx import decompress, parse_idx, read_bytes
from trainables.datasets.idx_collections import COLLECTIONS, FILE_NAMES, IdxCollection, Part
from trainables.datasets.image_data import (
    ImageData,
    Labels,
    binarise,
    image_count,
    recipe_fingerprint,
)


def idx_fingerprint(spec: IdxDataset) -> str:
    """Fingerprint from the published digests: no file is read.

    Labels do not enter, since nothing is learnt from them; nor does the way in which the same
    images are asked for (all of them by default, or by their number).
    """
    collection = COLLECTIONS[spec.name]
    train, test = _image_counts(collection, spec)
    return recipe_fingerprint(
        {
            "idx": [collection.archives["train_images"], collection.archives["test_images"]],
            "train_images": train,
            "test_images": test,
            "binarise": spec.binarise,
        }
    )


def load_idx_dataset(spec: IdxDataset, data_dir: Path | None = None) -> ImageData:
    """Read the dataset from `data_dir` or the cache, downloading it into the cache if need be.

    Args:
        spec: Which dataset, how much of it, and whether to binarise it.
        data_dir: A folder to look in first; `VAE_STUDY_DATA` if not given.

    Returns:
        uint8 images of shape (1, 28, 28). Labels are None where their files are not at hand.

    Raises:
        BadInput: A file is damaged or not the published one, or none is found and none can be
            downloaded, or more images are wanted than there are.
    """
    collection = COLLECTIONS[spec.name]
    counts = _image_counts(collection, spec)
    places = search_places(collection.name, data_dir)
    paths = find_files(places)
    if not {"train_images", "test_images"} <= paths.keys():
        fetch_collection(collection, data_dir)
        paths = find_files(places)

    arrays = {part: read_part(collection, part, path) for part, path in paths.items()}
    train = arrays["train_images"][: counts[0]].reshape(counts[0], -1)
    test = arrays["test_images"][: counts[1]].reshape(counts[1], -1)
    return ImageData(
        name=spec.label,
        shape=(1, *arrays["train_images"].shape[1:]),
        train=binarise(train) if spec.binarise else train,
        test=binarise(test) if spec.binarise else test,
        train_labels=_labels(arrays.get("train_labels"), counts[0]),
        test_labels=_labels(arrays.get("test_labels"), counts[1]),
        fingerprint=idx_fingerprint(spec),
    )


def fetch_collection(collection: IdxCollection, data_dir: Path | None = None) -> Path:
    """Make all four files available, downloading into the cache those that are nowhere else.

    Args:
        collection: What to fetch.
        data_dir: A folder to look in first; `VAE_STUDY_DATA` if not given.

    Returns:
        The folder of the training images. Files in it have been verified.

    Raises:
        BadInput: A file that was found is damaged or not the published one, or a file can neither
            be found nor downloaded, or the cache cannot be written to.
    """
    places = search_places(collection.name, data_dir)
    paths = find_files(places)
    for part, path in paths.items():
        read_part(collection, part, path)
    missing = [part for part in FILE_NAMES if part not in paths]
    try:
        for part in missing:
            name = f"{FILE_NAMES[part]}.gz"
            paths[part] = download(collection.mirrors, name, collection.archives[part], places[-1])
    except DownloadError as error:
        raise BadInput(
            f"dataset {collection.name!r}: {', '.join(FILE_NAMES[part] for part in missing)} "
            f"(or with .gz) not found in {', '.join(map(str, places))}, and not downloaded "
            f"({error}); put the files into a folder and give it with --data-dir or VAE_STUDY_DATA"
        ) from error
    return paths["train_images"].parent


def search_places(name: str, data_dir: Path | None = None) -> list[Path]:
    """The folders where a collection's files are looked for, the cache last.

    Args:
        name: The collection's name.
        data_dir: Given by the user; `VAE_STUDY_DATA` if not given.

    Raises:
        BadInput: The user's folder does not exist.
    """
    places = []
    origin = "--data-dir" if data_dir is not None else "VAE_STUDY_DATA"
    given = data_dir or os.environ.get("VAE_STUDY_DATA")
    if given:
        folder = Path(os.path.expanduser(given))
        if not os.path.isdir(folder):  # False also where it may not be looked at
            raise BadInput(f"{origin}: {folder} is not a folder; give one that exists")
        places += [folder / name, folder]
    return [*places, cache_folder() / name]


def cache_folder() -> Path:
    """`VAE_STUDY_CACHE`, or vae-study in the platform's cache folder."""
    if own := os.environ.get("VAE_STUDY_CACHE"):
        return Path(os.path.expanduser(own))
    platform = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(platform)) / "vae-study"


def find_files(places: list[Path]) -> dict[Part, Path]:
    """For each of the four files the first place that has it, gzipped or not."""
    found: dict[Part, Path] = {}
    for part, name in FILE_NAMES.items():
        candidates = [place / file for place in places for file in (f"{name}.gz", name)]
        path = next((candidate for candidate in candidates if os.path.exists(candidate)), None)
        if path is not None:
            found[part] = path
    return found


def read_part(collection: IdxCollection, part: Part, path: Path) -> NDArray[np.uint8]:
    """Read one file, and make sure that it is the published one.

    Args:
        collection: What the file should belong to.
        part: Which of its files it should be.
        path: The file, gzipped or not.

    Returns:
        The array: (images, 28, 28) or (images,).

    Raises:
        BadInput: It is damaged, or its digest is another one.
    """
    stored = read_bytes(path)
    content = decompress(stored, path)
    array = parse_idx(content, path)  # first, since its messages say more than a wrong digest
    if _sha256(stored) != collection.archives[part]:
        _check_content(collection, part, path, stored, content)
    return cast(NDArray[np.uint8], array)  # the digest vouches for the type


def _check_content(
    collection: IdxCollection, part: Part, path: Path, stored: bytes, content: bytes
) -> None:
    found, expected = _sha256(content), collection.contents.get(part)
    if found == expected:
        return
    if expected is None:
        raise BadInput(
            f"{path}: not {collection.name}'s {FILE_NAMES[part]}.gz as published, the only form "
            f"with a known digest: SHA-256 of the file is {_sha256(stored)}, expected "
            f"{collection.archives[part]}; give that file"
        )
    owners = [other.name for other in COLLECTIONS.values() if found in other.contents.values()]
    advice = f"it belongs to {owners[0]}" if owners else "give an undamaged copy, or remove it"
    raise BadInput(
        f"{path}: not {collection.name}'s {FILE_NAMES[part]}: SHA-256 of the uncompressed content "
        f"is {found}, expected {expected}; {advice}"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _image_counts(collection: IdxCollection, spec: IdxDataset) -> tuple[int, int]:
    return (
        image_count(spec.train_images, collection.train_images, "train_images", collection.name),
        image_count(spec.test_images, collection.test_images, "test_images", collection.name),
    )


def _labels(array: NDArray[np.uint8] | None, images: int) -> Labels | None:
    return None if array is None else array[:images].astype(np.int64)
