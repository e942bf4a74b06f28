"""Which images or vectors a trial learns from: the recipe of a dataset, not its data."""

from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from search_spaces.errors import nearest_name
from search_spaces.fields import (
    Count,
    Flag,
    Fraction,
    Positive,
    PositiveOrZero,
    Seed,
    SpecModel,
    Text,
)

Shape: TypeAlias = tuple[int, int, int] | tuple[int]
"""Shape of one example: (channels, height, width) of an image, or (values,) of a vector."""

IdxName = Literal["mnist", "fashion_mnist", "kmnist"]
BUILT_IN = ("mnist", "fashion_mnist", "kmnist", "tiles", "manifold")

Label = Annotated[str, Field(strict=True, min_length=1, max_length=100)]


class _Dataset(SpecModel):
    def recipe(self) -> dict[str, Any]:
        """All that decides the data, without what the user calls them."""
        return self.model_dump(exclude={"label"})


class IdxDataset(_Dataset):
    """28x28 grey images that are published as IDX files: MNIST and its two drop-in siblings.

    Attributes:
        name: Which of them.
        train_images: Use only the first so many training images; all 60,000 by default.
        test_images: Use only the first so many test images; all 10,000 by default.
        binarise: Replace each pixel by 1 where it is at least one half, and by 0 elsewhere.
        label: Value of the tables' `dataset` column; the name by default.
    """

    name: IdxName
    train_images: Count | None = None
    test_images: Count | None = None
    binarise: Flag = False
    label: Label = Field(default_factory=lambda data: data["name"])

    @property
    def shape(self) -> Shape:
        """Shape of one image, (1, 28, 28)."""
        return (1, 28, 28)


class TilesDataset(_Dataset):
    """Generated 28x28 black images with one to three white 4x4 tiles (the paper's section V).

    Attributes:
        name: Always "tiles".
        train_images: Number of training images.
        test_images: Number of test images.
        seed: Seed of the generator.
        label: Value of the tables' `dataset` column; "tiles" by default.
    """

    name: Literal["tiles"] = "tiles"
    train_images: Count = 60_000
    test_images: Count = 10_000
    seed: Seed = 0
    label: Label = "tiles"

    @property
    def shape(self) -> Shape:
        """Shape of one image, (1, 28, 28)."""
        return (1, 28, 28)


class ManifoldDataset(_Dataset):
    """Generated vectors of a known dimension: Gaussian factors through a random smooth decoder.

    Attributes:
        name: Always "manifold".
        true_dimension: Number of latent factors, the dimension that an estimate should find.
        noise: Standard deviation of the Gaussian noise on each output; the signal's is 1.
        curvature: Scale of the first layer's weights: the larger, the more the manifold bends.
        hidden: Width of the tanh layer.
        outputs: Number of values of each vector.
        train_images: Number of training vectors.
        test_images: Number of test vectors.
        seed: Seed of the generator.
        label: Value of the tables' `dataset` column; "manifold-5" for five factors by default.
    """

    name: Literal["manifold"] = "manifold"
    true_dimension: Annotated[int, Field(strict=True, ge=1, le=64)]
    noise: PositiveOrZero = 0.1
    curvature: Positive = 0.5
    hidden: Count = 128
    outputs: Count = 784
    train_images: Count = 20_000
    test_images: Count = 2_000
    seed: Seed = 0
    label: Label = Field(default_factory=lambda data: f"manifold-{data['true_dimension']}")

    @property
    def shape(self) -> Shape:
        """Shape of one vector, (outputs,)."""
        return (self.outputs,)


def _stem(path: str) -> str:
    return PurePath(PurePath(path).name.removesuffix(".gz")).stem


class ArrayDataset(_Dataset):
    """A user's own array, read from a `.npy`, `.npz` or IDX file (`.gz` too).

    Attributes:
        path: The file.
        name: The user's name for it; the file's name without its endings by default.
        key: Which array of an `.npz` file; may be left out where it holds only one.
        test_fraction: Share of the examples that is set aside as the test set.
        seed: Seed of the split into training and test set.
        train_images: Use only so many training examples; all by default.
        test_images: Use only so many test examples; all by default.
        binarise: Replace each pixel by 1 where it is at least one half, and by 0 elsewhere.
        label: Value of the tables' `dataset` column; the name by default.
    """

    path: Annotated[str, Field(strict=True, min_length=1)]
    name: Label = Field(default_factory=lambda data: _stem(data["path"]), validate_default=True)
    key: Text | None = None
    test_fraction: Fraction = 0.1
    seed: Seed = 0
    train_images: Count | None = None
    test_images: Count | None = None
    binarise: Flag = False
    label: Label = Field(default_factory=lambda data: data["name"])

    @field_validator("name")
    @classmethod
    def _leave_built_in_names(cls, name: str) -> str:
        if name in BUILT_IN:
            raise ValueError(
                f"{name!r} is the name of a built-in dataset; give your own file another name"
            )
        return name

    def recipe(self) -> dict[str, Any]:
        """All that decides the data, without what the user calls them."""
        return self.model_dump(exclude={"label", "name"})

    @property
    def shape(self) -> None:
        """Always None: only the file knows."""
        return None


def _spelled_out(value: Any) -> Any:
    """Expand the short form, a name alone, and refuse a name that nothing answers to."""
    if isinstance(value, _Dataset):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or not value.keys() & {"name", "path"}:
        raise ValueError(
            f"{value!r} is not a dataset; give a name{nearest_name('', BUILT_IN)}, "
            "or the 'path' of your own file"
        )
    if "path" not in value and value["name"] not in BUILT_IN:
        hint = nearest_name(str(value["name"]), BUILT_IN)
        raise ValueError(
            f"{value['name']!r} is not a dataset{hint}; for your own file give its 'path'"
        )
    return value


def _kind(value: Any) -> str:
    if not isinstance(value, dict):
        return _KINDS.get(type(value), "idx")
    if "path" in value:
        return "array"
    name = value["name"]
    return name if name in ("tiles", "manifold") else "idx"


_KINDS: dict[type, str] = {
    IdxDataset: "idx",
    TilesDataset: "tiles",
    ManifoldDataset: "manifold",
    ArrayDataset: "array",
}

_AnyDataset = Annotated[
    Annotated[IdxDataset, Tag("idx")]
    | Annotated[TilesDataset, Tag("tiles")]
    | Annotated[ManifoldDataset, Tag("manifold")]
    | Annotated[ArrayDataset, Tag("array")],
    Discriminator(_kind),
]

DatasetSpec: TypeAlias = Annotated[
    _AnyDataset,
    BeforeValidator(
        _spelled_out,
        json_schema_input_type=Literal["mnist", "fashion_mnist", "kmnist", "tiles"] | _AnyDataset,
    ),
]
"""Any dataset, told apart by its name; a name alone is short for `{name: ...}`."""
