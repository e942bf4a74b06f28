"""One part of a study: what to try, how to train it, on what, and what to record."""

from itertools import combinations
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from search_spaces.axes import Axes, TrainingSettings
from search_spaces.dataset import DatasetSpec
from search_spaces.errors import BadInput
from search_spaces.fields import (
    Count,
    CountOrZero,
    PositiveOrZero,
    SpecModel,
    wrong_field,
)
from search_spaces.record import RecordSettings
from search_spaces.strategy import SEED_AXES, GridStrategy, Strategy


class ResourceSettings(SpecModel):
    """What a study may use.

    Attributes:
        pack_size: Trials per pack; "auto" sizes packs for the memory and the devices found.
        cpus_per_pack: CPUs that Ray reserves for a pack.
        gpus_per_pack: GPUs, or the share of one, that Ray reserves for a pack; "auto" takes a GPU
            where there is one, or where a node type of the cluster's autoscaler has one.
        max_packs: Packs that run at a time; "auto" takes as many as there is room for, now or
            when the cluster's autoscaler has started all it may.
        max_failures: How often a pack whose worker died is started again; nodes that are lost
            do not count.
        checkpoint_seconds: Least time between two checkpoints of a pack.
        storage_patience_seconds: How long the driver waits for storage that fails (full, or out
            of reach) before it stops with exit code 3.
    """

    pack_size: Literal["auto"] | Count = "auto"
    cpus_per_pack: Count = 1
    gpus_per_pack: Literal["auto"] | PositiveOrZero = "auto"
    max_packs: Literal["auto"] | Count = "auto"
    max_failures: CountOrZero = 2
    checkpoint_seconds: PositiveOrZero = 60.0
    storage_patience_seconds: PositiveOrZero = 300.0

    @field_validator("gpus_per_pack")
    @classmethod
    def _can_be_reserved(cls, gpus: Literal["auto"] | float) -> Literal["auto"] | float:
        if gpus != "auto" and gpus > 1 and gpus != int(gpus):
            raise ValueError(
                f"{gpus:g} GPUs cannot be reserved; give a share of one, such as 0.25, or a whole "
                "number"
            )
        return gpus


def as_list(value: Any) -> Any:
    """Read a dataset alone as a list of one."""
    return value if isinstance(value, (list, tuple)) else [value]


def _differing(datasets: tuple[DatasetSpec, ...]) -> tuple[DatasetSpec, ...]:
    """Refuse datasets that the tables, or the trials' ids, could not tell apart."""
    for first, second in combinations(datasets, 2):
        if first.label == second.label:
            raise ValueError(
                f"two datasets are labelled {first.label!r}, which nobody could tell apart in "
                "the tables; remove one, or give them different labels (label: ...)"
            )
        if first.recipe() == second.recipe():
            raise ValueError(
                f"{first.label!r} and {second.label!r} are the same data, so trials would be "
                "equal; remove one"
            )
    return datasets


Datasets: TypeAlias = Annotated[
    Annotated[tuple[DatasetSpec, ...], Field(min_length=1)],
    BeforeValidator(as_list, json_schema_input_type=DatasetSpec | list[DatasetSpec]),
    AfterValidator(_differing),
]


def check_settings(axes: Axes, training: TrainingSettings, strategy: Strategy) -> None:
    """Refuse a setting that is an axis too, and an axis without the values that a grid lists.

    Raises:
        PydanticCustomError: Of `wrong_field`, to be raised by a validator.
    """
    for name in sorted(training.model_fields_set):
        if getattr(axes, name) is not None:
            raise wrong_field(f"training.{name}", f"axes.{name} is given too; remove one of them")
    is_grid = isinstance(strategy, GridStrategy)
    for name, axis in axes:
        if axis is not None and (is_grid or name in SEED_AXES):
            try:
                axis.values()
            except BadInput as error:
                raise wrong_field(f"axes.{name}", str(error)) from None


class Part(SpecModel):
    """A search space and all that belongs to it; a study has one, or several side by side.

    Attributes:
        dataset: One dataset, or several, which make an axis.
        axes: The search space.
        training: Settings that all its trials share.
        strategy: How points are chosen from the space.
        record: What is recorded of its trials.
    """

    # In a file, a part may leave the dataset to the study around it.
    model_config = ConfigDict(json_schema_extra={"required": ["axes"]})

    dataset: Datasets
    axes: Axes
    training: TrainingSettings = TrainingSettings()
    strategy: Strategy = GridStrategy()
    record: RecordSettings = RecordSettings()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        check_settings(self.axes, self.training, self.strategy)
        return self
