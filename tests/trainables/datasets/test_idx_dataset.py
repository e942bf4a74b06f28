"""MNIST and its kin: where files are looked for, that they are the right ones, and what is told."""

import gzip
import hashlib
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces import BadInput, IdxDataset
from trainables.datasets import dataset_fingerprint, fetch_dataset, list_datasets, load_dataset
from trainables.datasets.idx_collections import COLLECTIONS, FILE_NAMES, IdxCollection
from trainables.datasets.idx_dataset import cache_folder, fetch_collection, search_places

MNIST = IdxDataset(name="mnist")
TRAIN_IMAGES = FILE_NAMES["train_images"]


def assert_holds(data: Any, arrays: Any) -> None:
    assert data.shape == (1, 28, 28)
    np.testing.assert_array_equal(data.train, arrays["train_images"].reshape(30, 784))
    np.testing.assert_array_equal(data.test, arrays["test_images"].reshape(10, 784))
    np.testing.assert_array_equal(data.train_labels, arrays["train_labels"])
    np.testing.assert_array_equal(data.test_labels, arrays["test_labels"])


@pytest.mark.parametrize("form", ["gzipped", "uncompressed", "recompressed"])
@pytest.mark.parametrize("below", ["mnist", "."])
def test_files_of_a_folder_are_read_in_any_form(
    form: str, below: str, collection: IdxCollection, published: Path, arrays: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / below
    folder.mkdir(parents=True)
    for file in published.iterdir():
        content = gzip.decompress(file.read_bytes())
        if form == "uncompressed":
            (folder / file.stem).write_bytes(content)
        else:
            level = 9 if form == "gzipped" else 1
            (folder / file.name).write_bytes(gzip.compress(content, level, mtime=0))
    data = load_dataset(MNIST, tmp_path / "data")
    assert_holds(data, arrays)
    assert data.train.dtype == data.test.dtype == np.uint8
    assert data.train_labels is not None
    assert data.train_labels.dtype == np.int64
    assert data.train.flags.writeable
    assert data.fingerprint == dataset_fingerprint(MNIST)


def test_places_in_order(
    tmp_path: Path, published: Path, collection: IdxCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, variable = tmp_path / "given", tmp_path / "variable"
    given.mkdir()
    variable.mkdir()
    cache = tmp_path / "cache" / "mnist"
    monkeypatch.setenv("VAE_STUDY_DATA", str(variable))
    assert search_places("mnist", given) == [given / "mnist", given, cache]
    assert search_places("mnist") == [variable / "mnist", variable, cache]
    monkeypatch.delenv("VAE_STUDY_DATA")
    assert search_places("mnist") == [cache]

    monkeypatch.setenv("VAE_STUDY_DATA", str(variable))
    for folder in (cache, variable, variable / "mnist", given, given / "mnist"):
        shutil.copytree(published, folder, dirs_exist_ok=True)
        data_dir = given if given in (folder, folder.parent) else None
        assert fetch_dataset("mnist", data_dir) == folder


def test_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_STUDY_CACHE", "/own")
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("VAE_STUDY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/vae-study")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/vae-study")


@pytest.mark.parametrize("origin", ["--data-dir", "VAE_STUDY_DATA"])
def test_a_folder_that_does_not_exist_is_refused(
    origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent"
    if origin == "VAE_STUDY_DATA":
        monkeypatch.setenv(origin, str(absent))
    with pytest.raises(BadInput, match=f"{origin}: {absent} is not a folder"):
        load_dataset(MNIST, absent if origin == "--data-dir" else None)


def test_missing_labels_are_no_error_offline(
    collection: IdxCollection, published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = load_dataset(MNIST, published)
    for part in ("train_labels", "test_labels"):
        (published / f"{FILE_NAMES[part]}.gz").unlink()
    data = load_dataset(MNIST, published)
    assert data.train_labels is None
    assert data.test_labels is None
    assert data.fingerprint == whole.fingerprint
    assert not caplog.records  # nothing was downloaded


@pytest.mark.parametrize("part", FILE_NAMES)
@pytest.mark.parametrize("tenths", range(10))
def test_truncated_files_are_refused(
    part: Any, tenths: int, collection: IdxCollection, published: Path
) -> None:
    path = published / f"{FILE_NAMES[part]}.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenths // 10])
    with pytest.raises(BadInput, match="truncated") as refusal:
        load_dataset(MNIST, published)
    assert str(path) in str(refusal.value)


def test_other_content_is_refused_with_both_digests(
    collection: IdxCollection, published: Path, arrays: Any, write_idx: Any
) -> None:
    arrays["train_images"][3, 14, 15] ^= 1
    path = write_idx(published / f"{TRAIN_IMAGES}.gz", arrays["train_images"])
    found = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    with pytest.raises(BadInput) as refusal:
        load_dataset(MNIST, published)
    for text in (str(path), found, collection.contents["train_images"], "undamaged copy"):
        assert text in str(refusal.value)


def test_without_a_digest_of_the_content_only_the_published_archive_passes(
    collection: IdxCollection, published: Path, arrays: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COLLECTIONS, "mnist", replace(collection, contents={}))
    assert_holds(load_dataset(MNIST, published), arrays)
    path = published / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    with pytest.raises(BadInput, match="as published") as refusal:
        load_dataset(MNIST, published)
    assert collection.archives["train_images"] in str(refusal.value)


def test_a_file_of_another_collection_is_recognised(
    collection: IdxCollection, published: Path
) -> None:
    with pytest.raises(BadInput, match=r"not fashion_mnist's .* it belongs to mnist"):
        load_dataset(IdxDataset(name="fashion_mnist"), published)


def test_a_wrong_magic_number_is_told_as_such(collection: IdxCollection, published: Path) -> None:
    path = published / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(gzip.compress(b"\x00\x00\x99\x03" + gzip.decompress(path.read_bytes())[4:]))
    with pytest.raises(BadInput, match="magic number 00009903"):
        load_dataset(MNIST, published)


def test_a_folder_in_place_of_a_file(collection: IdxCollection, published: Path) -> None:
    path = published / f"{TRAIN_IMAGES}.gz"
    path.unlink()
    path.mkdir()
    with pytest.raises(BadInput, match=f"{path}: cannot be read"):
        load_dataset(MNIST, published)


def test_offline_names_files_places_and_the_way_out(
    collection: IdxCollection, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as refusal:
        load_dataset(MNIST, tmp_path)
    message = str(refusal.value)
    expected = [*FILE_NAMES.values(), str(tmp_path / "mnist"), str(tmp_path / "cache" / "mnist")]
    for text in [*expected, "refused", "--data-dir", "VAE_STUDY_DATA"]:
        assert text in message
    assert "\n" not in message


def test_a_download_fills_the_cache_once(
    collection: IdxCollection,
    published: Path,
    arrays: Any,
    serve: Any,
    files_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve(files_of) as mirror:
        monkeypatch.setitem(COLLECTIONS, "mnist", replace(collection, mirrors=(mirror,)))
        assert_holds(load_dataset(MNIST), arrays)
    assert sorted(os.listdir(cache_folder() / "mnist")) == sorted(os.listdir(published))
    assert len(caplog.records) == 4
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert_holds(load_dataset(MNIST), arrays)  # the server is gone
    assert fetch_dataset("mnist") == cache_folder() / "mnist"


def test_only_what_is_missing_is_downloaded(
    collection: IdxCollection,
    published: Path,
    arrays: Any,
    tmp_path: Path,
    serve: Any,
    files_of: Any,
) -> None:
    here = tmp_path / "data"
    here.mkdir()
    shutil.copy(published / f"{TRAIN_IMAGES}.gz", here)
    with serve(files_of) as mirror:
        assert fetch_collection(replace(collection, mirrors=(mirror,)), here) == here
    assert len(os.listdir(cache_folder() / "mnist")) == 3
    assert_holds(load_dataset(MNIST, here), arrays)


def test_fetch_verifies_what_is_there(collection: IdxCollection, published: Path) -> None:
    (published / f"{FILE_NAMES['test_labels']}.gz").write_bytes(b"")
    with pytest.raises(BadInput, match="truncated"):
        fetch_dataset("mnist", published)


def test_the_first_images_are_taken(
    collection: IdxCollection, published: Path, arrays: Any
) -> None:
    spec = IdxDataset(name="mnist", train_images=7, test_images=2)
    data = load_dataset(spec, published)
    np.testing.assert_array_equal(data.train, arrays["train_images"][:7].reshape(7, 784))
    np.testing.assert_array_equal(data.test, arrays["test_images"][:2].reshape(2, 784))
    np.testing.assert_array_equal(data.train_labels, arrays["train_labels"][:7])
    assert data.fingerprint == dataset_fingerprint(spec) != dataset_fingerprint(MNIST)


def test_more_images_than_there_are(collection: IdxCollection, published: Path) -> None:
    for spec in (
        IdxDataset(name="mnist", train_images=31),
        IdxDataset(name="mnist", test_images=11),
    ):
        for give in (load_dataset, dataset_fingerprint):
            with pytest.raises(BadInput, match=r"dataset\.(train|test)_images: (31|11) is more"):
                give(spec, published)


def test_binarised_at_one_half(collection: IdxCollection, published: Path, arrays: Any) -> None:
    spec = IdxDataset(name="mnist", binarise=True)
    data = load_dataset(spec, published)
    white = arrays["train_images"].reshape(30, 784) / 255 >= 0.5
    np.testing.assert_array_equal(data.train, np.where(white, 255, 0))
    assert data.train.dtype == np.uint8
    assert data.fingerprint == dataset_fingerprint(spec) != dataset_fingerprint(MNIST)


def test_fingerprints_name_the_images_not_the_request(collection: IdxCollection) -> None:
    spelled_out = IdxDataset(name="mnist", train_images=30, test_images=10, label="mine")
    assert dataset_fingerprint(spelled_out) == dataset_fingerprint(MNIST)
    names = ("mnist", "fashion_mnist", "kmnist")
    assert len({dataset_fingerprint(IdxDataset(name=name)) for name in names}) == 3


def test_listing_tells_found_missing_and_damaged(
    collection: IdxCollection, published: Path, tmp_path: Path
) -> None:
    def mnist(folder: Path | None) -> Any:
        return next(info for info in list_datasets(folder) if info.name == "mnist")

    assert mnist(None).status == "missing"
    assert str(tmp_path / "cache" / "mnist") in mnist(None).where
    assert (mnist(published).status, mnist(published).where) == ("found", str(published))
    (published / f"{TRAIN_IMAGES}.gz").write_bytes(b"\x1f\x8b")
    assert mnist(published).status == "damaged"
    assert "truncated" in mnist(published).where
    assert [info.name for info in list_datasets()] == [*COLLECTIONS, "tiles", "manifold"]


@pytest.mark.parametrize("name", COLLECTIONS)
def test_the_table_is_complete(name: Any) -> None:
    collection = COLLECTIONS[name]
    assert collection.name == name
    assert all(url.startswith("http") and url.endswith("/") for url in collection.mirrors)
    assert collection.archives.keys() == FILE_NAMES.keys()
    assert collection.contents.keys() in (FILE_NAMES.keys(), set())
    digests = [*collection.archives.values(), *collection.contents.values()]
    assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)
    assert len(set(digests)) == len(digests)


def test_the_real_mnist(mnist_dir: Path) -> None:
    data = load_dataset(MNIST, mnist_dir)
    assert data.train.shape == (60_000, 784)
    assert data.test.shape == (10_000, 784)
    assert data.value_range == (0.0, 1.0)
    assert data.fingerprint == dataset_fingerprint(MNIST)
    # Mean and standard deviation of the training pixels, as every tutorial normalises them.
    assert data.train.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert data.train.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    assert data.train_labels is not None
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(data.train_labels).tolist()[:3] == [5923, 6742, 5958]
