"""Users' arrays: round trips of what is taken, and a reason for whatever is not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from search_spaces import ArrayDataset, BadInput
from trainables.datasets import dataset_fingerprint, load_dataset

RANDOM = np.random.default_rng(3)
PIXELS = RANDOM.integers(0, 256, (20, 5, 4), dtype=np.uint8)


def saved(folder: Path, array: Any, **options: Any) -> ArrayDataset:
    np.save(folder / "faces.npy", array)
    return ArrayDataset(path=str(folder / "faces.npy"), **options)


def saved_npz(folder: Path, options: dict[str, Any] | None = None, **arrays: Any) -> ArrayDataset:
    np.savez_compressed(folder / "faces.npz", **arrays)
    return ArrayDataset(path=str(folder / "faces.npz"), **(options or {}))


def rows(array: Any) -> list[bytes]:
    return sorted(row.tobytes() for row in array)


images = st.sampled_from(["uint8", "float32", "float64", "float16", "bool", ">f4"]).flatmap(
    lambda dtype: hnp.arrays(
        np.dtype(dtype),
        st.tuples(st.integers(2, 12), st.integers(1, 5), st.integers(1, 5)),
        elements=None
        if np.dtype(dtype).kind in "ub"
        else {"allow_nan": False, "allow_infinity": False, "min_value": -100, "max_value": 100},
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    array=images,
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**63 - 1),
    order=st.sampled_from("CF"),
)
def test_a_split_loses_and_doubles_nothing(
    array: Any, fraction: float, seed: int, order: Any, tmp_path: Path
) -> None:
    spec = saved(tmp_path, np.asarray(array, order=order), test_fraction=fraction, seed=seed)
    data = load_dataset(spec)
    expected = array * np.uint8(255) if array.dtype == bool else array
    expected = expected.astype(np.uint8 if array.dtype.kind in "ub" else np.float32)
    assert data.shape == (1, *array.shape[1:])
    assert data.train.dtype == data.test.dtype == expected.dtype
    assert sorted(rows(data.train) + rows(data.test)) == rows(expected.reshape(len(array), -1))
    assert min(len(data.train), len(data.test)) >= 1
    assert abs(len(data.test) - fraction * len(array)) <= 1
    assert data.train.flags.c_contiguous
    assert data.train.flags.writeable
    assert data.fingerprint == dataset_fingerprint(spec)


@pytest.mark.parametrize(
    ("shape", "expected", "channels"),
    [
        ((6, 7), (7,), None),
        ((6, 1), (1,), None),
        ((6, 5, 4), (1, 5, 4), None),
        ((6, 5, 4, 3), (3, 5, 4), "last"),
        ((6, 5, 4, 1), (1, 5, 4), "last"),
        ((6, 5, 4, 4), (4, 5, 4), "last"),
        ((6, 3, 5, 8), (3, 5, 8), "first"),
        ((6, 1, 5, 8), (1, 5, 8), "first"),
        ((6, 3, 8, 3), (3, 3, 8), "last"),  # either reading is possible
        ((6, 4, 4, 4), (4, 4, 4), "last"),
    ],
)
def test_shapes(shape: Any, expected: Any, channels: str | None, tmp_path: Path) -> None:
    array = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    data = load_dataset(saved_npz(tmp_path, x_train=array, x_test=array[:1]))
    assert data.shape == expected
    images = data.train.reshape(-1, *expected)
    if channels == "last":
        for channel in range(expected[0]):
            np.testing.assert_array_equal(images[:, channel], array[..., channel])
    else:
        np.testing.assert_array_equal(images.reshape(shape), array)


@pytest.mark.parametrize("shape", [(), (6,), (6, 5, 4, 2), (6, 1, 1, 1, 1), (6, 2, 5, 8)])
def test_unsupported_shapes(shape: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"dataset\.path: .* give \(N, values\)") as refusal:
        load_dataset(saved(tmp_path, np.zeros(shape, dtype=np.uint8)))
    assert str(shape) in str(refusal.value)


@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (6, 0), (6, 0, 4), (1, 5, 4, 3)])
def test_too_little(shape: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least 2 images of at least one value"):
        load_dataset(saved(tmp_path, np.zeros(shape, dtype=np.float32)))


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint16", "complex64", "U3", "M8[s]", "i4,f4"])
def test_unsupported_types_are_told_what_to_do(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="astype"):
        load_dataset(saved(tmp_path, np.zeros((4, 3), dtype=dtype)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_the_first_image_that_is_not_finite_is_named(value: float, tmp_path: Path) -> None:
    array = np.zeros((9, 2, 3))
    array[6, 1, 0] = array[7, 0, 0] = value
    with pytest.raises(BadInput, match=r"image 6 \(counted from 0\)") as refusal:
        load_dataset(saved(tmp_path, array))
    assert str(value) in str(refusal.value)


def test_a_single_array_in_an_npz_needs_no_key(tmp_path: Path) -> None:
    data = load_dataset(saved_npz(tmp_path, whatever=PIXELS))
    assert sorted(rows(data.train) + rows(data.test)) == rows(PIXELS.reshape(20, 20))


def test_a_key_names_the_array(tmp_path: Path) -> None:
    spec = saved_npz(tmp_path, {"key": "images"}, images=PIXELS, other=np.zeros(3))
    assert load_dataset(spec).shape == (1, 5, 4)
    with pytest.raises(BadInput, match=r"dataset\.key: .* no array 'image' .*'images'"):
        load_dataset(spec.model_copy(update={"key": "image"}))
    with pytest.raises(BadInput, match=r"dataset\.key: .* 2 arrays \(images, other\)"):
        load_dataset(spec.model_copy(update={"key": None}))


def test_a_key_is_for_npz_only(tmp_path: Path, write_idx: Any) -> None:
    idx = ArrayDataset(path=str(write_idx(tmp_path / "x.gz", PIXELS)), key="images")
    for spec in (saved(tmp_path, PIXELS, key="images"), idx):
        with pytest.raises(BadInput, match=r"dataset\.key: 'images'"):
            load_dataset(spec)


def test_the_split_of_keras_is_kept_in_order(tmp_path: Path) -> None:
    digits = np.arange(20) % 10
    spec = saved_npz(
        tmp_path, x_train=PIXELS[:15], y_train=digits[:15], x_test=PIXELS[15:], y_test=digits[15:]
    )
    data = load_dataset(spec)
    np.testing.assert_array_equal(data.train, PIXELS[:15].reshape(15, 20))
    np.testing.assert_array_equal(data.test, PIXELS[15:].reshape(5, 20))
    np.testing.assert_array_equal(data.train_labels, digits[:15])
    np.testing.assert_array_equal(data.test_labels, digits[15:])


def test_labels_stay_with_their_images_when_split(tmp_path: Path) -> None:
    array = np.repeat(np.arange(40, dtype=np.uint8)[:, None], 3, axis=1)
    data = load_dataset(saved_npz(tmp_path, x_train=array, y_train=np.arange(40), y_test=[1]))
    np.testing.assert_array_equal(data.train_labels, data.train[:, 0])
    np.testing.assert_array_equal(data.test_labels, data.test[:, 0])


@pytest.mark.parametrize("labels", [np.zeros(19, int), np.zeros((20, 10), int), np.zeros(20)])
def test_unsuitable_labels(labels: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="y_train"):
        load_dataset(saved_npz(tmp_path, x_train=PIXELS, y_train=labels))


def test_training_and_test_images_must_be_alike(tmp_path: Path) -> None:
    for other in (PIXELS[:, :4], PIXELS.astype(np.float32)):
        with pytest.raises(BadInput, match="make them alike"):
            load_dataset(saved_npz(tmp_path, x_train=PIXELS, x_test=other))


def test_idx_files(tmp_path: Path, write_idx: Any) -> None:
    for array, dtype in ((PIXELS, np.uint8), (PIXELS.astype(np.float64) / 7, np.float32)):
        for name in ("mine.idx", "mine.gz"):
            data = load_dataset(ArrayDataset(path=str(write_idx(tmp_path / name, array))))
            assert data.train.dtype == dtype
            together = sorted(rows(data.train) + rows(data.test))
            assert together == rows(array.astype(dtype).reshape(20, 20))
    with pytest.raises(BadInput, match="astype"):
        load_dataset(
            ArrayDataset(path=str(write_idx(tmp_path / "mine.idx", PIXELS.astype(np.int32))))
        )


def test_the_split_depends_on_the_seed_only(tmp_path: Path) -> None:
    spec = saved(tmp_path, PIXELS)
    np.testing.assert_array_equal(load_dataset(spec).train, load_dataset(spec).train)
    other = load_dataset(spec.model_copy(update={"seed": 1}))
    assert not np.array_equal(load_dataset(spec).train, other.train)


def test_limits(tmp_path: Path) -> None:
    spec = saved(tmp_path, PIXELS, test_fraction=0.25)
    whole = load_dataset(spec)
    part = load_dataset(spec.model_copy(update={"train_images": 4, "test_images": 2}))
    np.testing.assert_array_equal(part.train, whole.train[:4])
    np.testing.assert_array_equal(part.test, whole.test[:2])
    for field, too_many in (("train_images", 16), ("test_images", 6)):
        with pytest.raises(BadInput, match=rf"dataset\.{field}: {too_many} is more than"):
            load_dataset(spec.model_copy(update={field: too_many}))


def test_binarised_at_one_half(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.49999, 0.5], [1.0, 0.7, -3.0]])
    data = load_dataset(saved_npz(tmp_path, {"binarise": True}, x_train=values, x_test=values))
    assert data.train.dtype == np.uint8
    assert data.train.tolist() == [[0, 0, 255], [255, 255, 0]]


def test_fingerprints_follow_the_content(tmp_path: Path) -> None:
    spec = saved(tmp_path, PIXELS)
    reference = dataset_fingerprint(spec)
    for update in ({"seed": 1}, {"binarise": True}, {"train_images": 3}, {"test_fraction": 0.3}):
        assert dataset_fingerprint(spec.model_copy(update=update)) != reference
    assert dataset_fingerprint(spec.model_copy(update={"label": "x"})) == reference
    assert dataset_fingerprint(saved_npz(tmp_path, moved=PIXELS)) == reference
    changed = PIXELS.copy()
    changed[7, 2, 2] ^= 1
    assert dataset_fingerprint(saved(tmp_path, changed)) != reference
    assert dataset_fingerprint(saved(tmp_path, PIXELS.reshape(20, 4, 5))) != reference
    assert dataset_fingerprint(saved(tmp_path, PIXELS.reshape(20, 20))) != reference


def test_value_range(tmp_path: Path) -> None:
    pixels = load_dataset(saved(tmp_path, np.array([[0], [51], [255]], dtype=np.uint8)))
    assert pixels.value_range == (0.0, 1.0)
    values = load_dataset(saved(tmp_path, np.array([[-2.5], [0], [7]])))
    assert values.value_range == (-2.5, 7.0)
