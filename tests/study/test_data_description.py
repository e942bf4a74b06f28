"""What is known of the data: against numpy, against closed forms, and through the command."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from search_spaces import BadInput, IdxDataset, ManifoldDataset, TilesDataset, load_spec
from study import data_description, geometric_dimension
from study.commands.command_line import main
from study.data_description import (
    Sample,
    covariance_eigenvalues,
    dataset_named,
    describe_dataset,
    read_datasets,
)
from study.frozen_spec import freeze
from study.loading import load_study
from study.storage import Folder
from study.tables import DATASETS
from tests.study.described import images_of, value
from trainables.datasets import ImageData

Array = NDArray[Any]
SMALL = TilesDataset(train_images=60, test_images=5)
STANDARD = Sample()
ESTIMATES = [
    ("CorrInt", "10 to 20 neighbours"),
    ("MLE", "20 neighbours"),
    ("TwoNN", "linear fit"),
    ("lPCA", "100 neighbours"),
    ("lPCA", "whole sample"),
]


def saved(folder: Path, array: Array, name: str = "mine.npy") -> str:
    np.save(folder / name, array)
    return str(folder / name)


def split_in_keras_manner(folder: Path, train: Array) -> str:
    """A file that gives all these images to training, in their order."""
    np.savez(folder / "mine.npz", x_train=train, x_test=train[:1])
    return str(folder / "mine.npz")


def eigenvalues(rows: pd.DataFrame) -> Array:
    chosen = rows[rows["quantity"] == "eigenvalue"].set_index("component")["value"]
    assert chosen.index.tolist() == list(range(1, len(chosen) + 1))
    return chosen.to_numpy()


# Eigenvalues


@pytest.mark.parametrize("shape", [(50, 12), (12, 50), (20, 20), (2, 3), (40, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("block", [7, 4096])
def test_eigenvalues_are_those_of_numpy(
    shape: tuple[int, int], dtype: Any, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_description, "_BLOCK", block)
    random = np.random.default_rng(0)
    train = random.integers(0, 256, shape).astype(np.uint8)
    if dtype == np.float32:
        train = (100 + 3 * random.normal(size=shape)).astype(np.float32)
    seen = train.astype(np.float64) / (255 if dtype == np.uint8 else 1)
    expected = np.linalg.eigvalsh(np.cov(seen.T, bias=True).reshape(shape[1], shape[1]))[::-1]
    found = covariance_eigenvalues(images_of(train))
    assert found.shape == (shape[1],)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * expected[0])
    assert found.sum() == pytest.approx(seen.var(axis=0).sum(), rel=1e-12)


def test_what_rounding_leaves_of_zero_is_zero() -> None:
    train = np.random.default_rng(0).integers(0, 256, (100, 20)).astype(np.uint8)
    train[:, 5:] = train[:, :1]  # 5 independent columns
    found = covariance_eigenvalues(images_of(train))
    assert (found[:5] > 0).all()
    assert found[5:].tolist() == [0.0] * 15
    assert covariance_eigenvalues(images_of(train[:1].repeat(9, 0))).tolist() == [0.0] * 20


def test_a_covariance_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_description, "LARGEST_COVARIANCE", 9)
    covariance_eigenvalues(images_of(np.zeros((9, 30), np.uint8)))
    covariance_eigenvalues(images_of(np.zeros((30, 9), np.uint8)))
    with pytest.raises(BadInput, match="train_images to 9 or fewer"):
        covariance_eigenvalues(images_of(np.zeros((10, 30), np.uint8)))


# Estimates


@pytest.fixture(scope="module")
def library() -> Any:
    return pytest.importorskip("skdim")


@pytest.mark.timeout(300)
def test_mnist_as_published(mnist_dir: Path) -> None:
    pytest.importorskip("skdim")
    spec = IdxDataset(name="mnist", train_images=5_000, test_images=1)
    found = describe_dataset(spec, data_dir=mnist_dir)
    assert value(found, "TwoNN") == pytest.approx(12.4, abs=0.05)
    assert value(found, "MLE") == pytest.approx(11.2, abs=0.05)
    assert value(found, "CorrInt") == pytest.approx(5.9, abs=0.05)
    assert value(found, "lPCA", "whole sample") == 37
    assert set(found["sample_size"]) == {5_000}


# The table


def test_the_facts_of_a_file_of_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 4)).astype(np.uint8)
    found = describe_dataset(dataset_named(split_in_keras_manner(tmp_path, pixels)), sample=None)
    seen = pixels.reshape(40, 12) / 255
    assert found["dataset"].unique().tolist() == ["mine"]
    assert found["shape"].unique().tolist() == ["1x3x4"]
    for name, expected in (("values_per_image", 12), ("train_images", 40), ("test_images", 1)):
        assert found[name].unique().tolist() == [expected]
    assert found["mean"].iloc[0] == pytest.approx(seen.mean(), rel=1e-12)
    assert found["total_variance"].iloc[0] == pytest.approx(seen.var(axis=0).sum(), rel=1e-12)
    assert len(found) == 12
    expected = np.linalg.eigvalsh(np.cov(seen.T, bias=True))[::-1]
    np.testing.assert_allclose(eigenvalues(found), expected, rtol=1e-9)


def test_values_that_are_no_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    values = (50 + np.random.default_rng(0).normal(size=(30, 3))).astype(np.float32)
    found = describe_dataset(dataset_named(split_in_keras_manner(tmp_path, values)), sample=None)
    assert found["shape"].iloc[0] == "3"
    assert found["mean"].iloc[0] == pytest.approx(values.mean(dtype=float), rel=1e-12)
    assert found["total_variance"].iloc[0] == pytest.approx(values.astype(float).var(0).sum())


def test_table_round_trip(folder: Folder, library: Any) -> None:
    assert list(read_datasets(folder).columns) == DATASETS.names
    assert read_datasets(folder).empty
    tiles = describe_dataset(SMALL, folder=folder)
    manifold = ManifoldDataset(true_dimension=2, outputs=7, train_images=50, test_images=3)
    other = describe_dataset(manifold, folder=folder, sample=None)
    assert tiles["dataset_fingerprint"].nunique() == other["dataset_fingerprint"].nunique() == 1
    files = folder.files("datasets")
    assert files == sorted(f"{x['dataset_fingerprint'].iloc[0]}.parquet" for x in (tiles, other))
    both = read_datasets(folder)
    assert list(both.columns) == DATASETS.names
    for one in (tiles, other):
        stored = both[both["dataset"] == one["dataset"].iloc[0]].reset_index(drop=True)
        pd.testing.assert_frame_equal(stored, one)
    assert (both["quantity"] == "eigenvalue").sum() == 784 + 7
    assert (both["quantity"] == "dimension").sum() == 5


def test_pandas_reads_the_folder(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "study")
    rows = describe_dataset(SMALL, folder=folder, sample=None)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "study" / "datasets"), rows)
    (file,) = (tmp_path / "study" / "datasets").iterdir()
    assert pq.read_schema(file).equals(DATASETS, check_metadata=True)
    assert rows["dataset_fingerprint"].iloc[0] == file.stem


# Computed once


@pytest.fixture
def computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Describe the small dataset in one study; tell whether that took loading it."""
    loads: list[Any] = []
    load = data_description.load_dataset

    def counting(*arguments: Any) -> ImageData:
        loads.append(arguments)
        return load(*arguments)

    monkeypatch.setattr(data_description, "load_dataset", counting)

    def describe(sample: Sample | None = STANDARD, spec: Any = SMALL, **options: Any) -> bool:
        loads.clear()
        describe_dataset(spec, folder=Folder.at(tmp_path), sample=sample, **options)
        return bool(loads)

    return describe


def test_twice_is_computed_once(
    computed: Callable[..., bool], library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert computed(None)
    assert not computed(None)
    assert computed(Sample(50)), "geometry was not stored"
    assert not computed(Sample(50))
    assert not computed(None), "more is stored than was asked for"
    assert computed(Sample(50), again=True)
    assert computed(Sample(50, seed=1))
    assert computed(Sample(51, seed=1))
    assert computed(Sample(1_000)), "50 are not all"
    assert not computed(Sample(60, seed=5)), "both are all 60 images"

    newer: dict[str, str] = {}
    for module in (data_description, geometric_dimension):
        monkeypatch.setattr(module, "version", lambda name: newer.get(name) or version(name))
    for package in ("vae-study", "scikit-dimension"):
        newer[package] = "99"
        assert computed(), package
        assert not computed()


def test_a_stored_description_needs_no_library(
    computed: Callable[..., bool], library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed()
    block_library(monkeypatch)
    assert not computed()
    with pytest.raises(BadInput):
        computed(Sample(30))


def test_the_label_is_that_of_whoever_asks(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    describe_dataset(SMALL, folder=folder, sample=None)
    other = SMALL.model_copy(update={"label": "other"})
    assert set(describe_dataset(other, folder=folder, sample=None)["dataset"]) == {"other"}


def block_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if scikit-dimension were not installed."""

    def found(name: str) -> str:
        if name == "scikit-dimension":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setitem(sys.modules, "skdim", None)
    monkeypatch.setattr(geometric_dimension, "version", found)


def test_without_the_library_nothing_is_begun(
    tmp_path: Path, computed: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    block_library(monkeypatch)
    said: list[str] = []
    with pytest.raises(BadInput, match=r"pip install 'vae-study\[geometry\]'.*--no-geometry"):
        computed(say=said.append)
    assert said == []
    assert list(tmp_path.iterdir()) == []
    assert computed(None)


def test_imports_are_light() -> None:
    code = (
        "import sys, study.data_description\n"
        "assert not {'skdim', 'sklearn', 'numba', 'torch', 'ray', 'altair'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Names


def test_datasets_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dataset_named("mnist") == IdxDataset(name="mnist")
    assert dataset_named("tiles") == TilesDataset()
    text = "{name: manifold, true_dimension: 5, noise: 1e-1}"
    assert dataset_named(text) == ManifoldDataset(true_dimension=5, noise=0.1)
    for path in ("faces.npz", "./faces", "/data/x"):
        assert dataset_named(path).model_dump()["path"] == path
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").touch()
    (tmp_path / "mnist").touch()
    assert dataset_named("faces").model_dump()["path"] == "faces"
    assert dataset_named("mnist") == IdxDataset(name="mnist")


BAD_NAMES = [
    ("minst", "'minst' is not a dataset (did you mean 'mnist'?)"),
    ("", "'' is not a dataset"),
    ("manifold", "true_dimension: is missing"),
    ("manifold", "'{name: manifold, true_dimension: 5}'"),
    ("{name: manifold, true_dimension: 0}", "dataset.true_dimension: 0 is not allowed"),
    ("{name: manifold, dimension: 5}", "dataset.dimension: unknown key"),
    ("{name: mnist", "line 1"),
    ("{}", "is not a dataset"),
    ("nowhere.npy", "nowhere.npy cannot be read"),
]


@pytest.mark.parametrize(("name", "message"), BAD_NAMES)
def test_bad_names(
    name: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert describe(monkeypatch, name) == 2
    said = capsys.readouterr()
    assert said.err.startswith("vae-study: ")
    assert len(said.err.splitlines()) == 1
    assert message in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


# The command


def describe(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run `vae-study data describe` as the installed command does; return the exit code."""
    monkeypatch.setattr(sys, "argv", ["vae-study", "data", "describe", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code if isinstance(left.value.code, int) else 0


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage folder with a study of two datasets, of which no trial has run yet."""
    manifold = {"name": "manifold", "true_dimension": 2, "outputs": 6, "train_images": 150}
    content = {
        "study": "mine",
        "dataset": [SMALL.model_dump(), manifold],
        "axes": {"architecture": "linear", "latent_dim": 2},
    }
    freeze(Folder.at(tmp_path / "kept" / "mine"), load_spec(content), {"numerics_version": 1})
    return tmp_path / "kept"


def test_one_dataset_is_shown_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skdim")
    monkeypatch.chdir(tmp_path)
    name = "{name: manifold, true_dimension: 2, noise: 0.0, outputs: 9, train_images: 900}"
    assert describe(monkeypatch, name, "--sample-size", "600", "--seed", "3") == 0
    said = capsys.readouterr()
    assert "900 training and 2,000 test images of 9" in said.out
    for method, variant in ESTIMATES:
        assert method in said.out
        assert variant in said.out
        assert f"{method}, {variant}, on 600 images" in said.err
    rows = describe_dataset(dataset_named(name), sample=Sample(600, 3))
    for method in ("TwoNN", "MLE", "CorrInt"):
        line = [line for line in said.out.splitlines() if f" {method} " in line]
        assert f" {value(rows, method):.1f} " in line[0]
        assert " 600 " in line[0]
    assert f"{eigenvalues(rows)[0]:.4g}" in said.out
    assert list(tmp_path.iterdir()) == []


def test_a_study_is_described_and_keeps_it(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skdim")
    options = ("--study", "mine", "--storage", storage)
    assert describe(monkeypatch, *options, "manifold-2") == 0
    table = pd.read_parquet(storage / "mine" / "datasets")
    assert set(table["dataset"]) == {"manifold-2"}
    assert describe(monkeypatch, *options) == 0
    table = pd.read_parquet(storage / "mine" / "datasets")
    assert set(table["dataset"]) == {"manifold-2", "tiles"}
    said = capsys.readouterr()
    assert "manifold-2: described before" in said.err
    assert f"table: {storage}/mine/datasets" in said.out
    assert "59 distinct images, and more than 100 are needed" in " ".join(said.out.split())
    pd.testing.assert_frame_equal(read_datasets(storage / "mine"), table)
    monkeypatch.setattr(data_description, "load_dataset", SimpleNamespace)  # fails if called
    assert describe(monkeypatch, *options) == 0
    assert "described before" in capsys.readouterr().err
    assert load_study(storage / "mine").trials.empty


def test_eigenvalues_alone(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block_library(monkeypatch)
    options = ("--study", "mine", "--storage", storage)
    assert describe(monkeypatch, *options) == 2
    said = capsys.readouterr()
    assert "pip install 'vae-study[geometry]'" in said.err
    assert len(said.err.splitlines()) == 1
    assert not (storage / "mine" / "datasets").exists()
    assert describe(monkeypatch, *options, "--no-geometry") == 0
    assert "covariance eigenvalues" in capsys.readouterr().out
    assert set(read_datasets(storage / "mine")["quantity"]) == {"eigenvalue"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("name", "--study")),
        (("--study", "mien"), ("mien", "is not a study", "did you mean 'mine'")),
        (("mnist", "--study", "mine"), ("'mine' has no dataset 'mnist'", "'manifold-2', 'tiles'")),
        (("tiles", "--sample-size", "1"), ("--sample-size",)),
        (("tiles", "--seed", "-1"), ("--seed",)),
        (("mnist", "--data-dir", "nowhere"), ("nowhere",)),
    ],
)
def test_bad_usage(
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    storage: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VAE_STUDY_STORAGE", str(storage))
    assert describe(monkeypatch, *arguments, "--no-geometry") == 2
    said = capsys.readouterr()
    assert said.out == ""
    for word in words:
        assert word in said.err
