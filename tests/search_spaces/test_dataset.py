import pytest
from pydantic import TypeAdapter, ValidationError

from search_spaces import ArrayDataset, DatasetSpec, IdxDataset, ManifoldDataset, TilesDataset

READER = TypeAdapter(DatasetSpec)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("mnist", IdxDataset(name="mnist")),
        ("kmnist", IdxDataset(name="kmnist")),
        (
            {"name": "fashion_mnist", "binarise": True},
            IdxDataset(name="fashion_mnist", binarise=True),
        ),
        ("tiles", TilesDataset()),
        ({"name": "tiles", "seed": 3}, TilesDataset(seed=3)),
        ({"name": "manifold", "true_dimension": 5}, ManifoldDataset(true_dimension=5)),
        ({"path": "data/faces.npz"}, ArrayDataset(path="data/faces.npz", name="faces")),
        ({"path": "my.v2.npy.gz"}, ArrayDataset(path="my.v2.npy.gz", name="my.v2")),
        ({"name": "mine", "path": "x.npy"}, ArrayDataset(path="x.npy", name="mine")),
    ],
)
def test_short_and_long_forms(raw, expected):
    read = READER.validate_python(raw)
    assert read == expected
    assert type(read) is type(expected)
    assert READER.validate_python(read) == read
    assert READER.validate_python(READER.dump_python(read, mode="json")) == read
    hash(read)


@pytest.mark.parametrize(
    ("dataset", "label", "shape"),
    [
        (IdxDataset(name="mnist"), "mnist", (1, 28, 28)),
        (TilesDataset(), "tiles", (1, 28, 28)),
        (ManifoldDataset(true_dimension=5), "manifold-5", (784,)),
        (ManifoldDataset(true_dimension=5, outputs=20, label="small"), "small", (20,)),
        (ArrayDataset(path="faces.npz"), "faces", None),
        (ArrayDataset(path="faces.npz", name="people"), "people", None),
    ],
)
def test_label_and_shape(dataset, label, shape):
    assert dataset.label == label
    assert dataset.shape == shape


def test_recipe_leaves_out_what_the_user_calls_it():
    assert TilesDataset(label="a").recipe() == TilesDataset(label="b").recipe()
    assert TilesDataset(seed=1).recipe() != TilesDataset(seed=2).recipe()
    first, second = (ArrayDataset(path="x.npy", name=name) for name in ("a", "b"))
    assert first.recipe() == second.recipe()
    assert first.recipe() != ArrayDataset(path="y.npy", name="a").recipe()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("mnsit", "'mnsit' is not a dataset (did you mean 'mnist'?)"),
        ({"name": "faces"}, "for your own file give its 'path'"),
        ({"seed": 1}, "is not a dataset; give a name"),
        (3, "3 is not a dataset; give a name"),
        (None, "None is not a dataset; give a name"),
        ({"path": "mnist.npz"}, "'mnist' is the name of a built-in dataset"),
        ({"path": "x.npy", "name": "tiles"}, "'tiles' is the name of a built-in dataset"),
        ({"name": "tiles", "train_image": 5}, "did you mean 'train_images'"),
        ({"name": "mnist", "seed": 5}, "unknown key"),
    ],
)
def test_what_is_no_dataset(raw, message):
    with pytest.raises(ValidationError) as caught:
        READER.validate_python(raw)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "manifold"},
        {"name": "manifold", "true_dimension": 0},
        {"name": "manifold", "true_dimension": 65},
        {"name": "manifold", "true_dimension": 5, "noise": -0.1},
        {"name": "manifold", "true_dimension": 5, "noise": float("nan")},
        {"name": "manifold", "true_dimension": 5, "curvature": 0},
        {"name": "manifold", "true_dimension": 5, "curvature": float("inf")},
        {"name": "tiles", "train_images": 0},
        {"name": "tiles", "train_images": True},
        {"name": "tiles", "seed": -1},
        {"name": "tiles", "label": ""},
        {"name": "mnist", "binarise": "yes"},
        {"path": "", "name": "x"},
        {"path": ".", "label": "x"},
        {"path": "x.npy", "test_fraction": 0},
        {"path": "x.npy", "test_fraction": 1},
    ],
)
def test_values_out_of_bounds(raw):
    with pytest.raises(ValidationError):
        READER.validate_python(raw)


def test_datasets_are_immutable():
    with pytest.raises(ValidationError):
        TilesDataset().seed = 1
