"""The typed spec of a study: what to try, how to train it, on what, and what to record."""

import re
from itertools import combinations
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from search_spaces.architecture_axis import ArchitectureAxis
from search_spaces.axis import ChoiceAxis, Choices, NumberAxis
from search_spaces.dataset import DatasetSpec
from search_spaces.errors import BadInput, nearest_name
from search_spaces.fields import (
    Count,
    CountOrZero,
    LearningRate,
    Positive,
    PositiveOrZero,
    Seed,
    SpecModel,
    Text,
)
from search_spaces.record import RecordSettings
from search_spaces.trial import (
    Decoder,
    Initialisation,
    LearningRateSchedule,
    Objective,
    Precision,
    default_decoder_variance,
)


def _default_variances(data: dict[str, Any]) -> Choices[float] | None:
    decoders: Choices[Decoder] = data["decoder"]
    variances = [default_decoder_variance(decoder) for decoder in decoders.choices]
    given = tuple(variance for variance in variances if variance is not None)
    return Choices[Positive](choices=given) if given else None


class Axes(SpecModel):
    """The axes of a study's search space; each takes a value, a list or a mapping.

    The fields are those of `Trial`. The last five may stand under `training` instead, where they
    hold one value; None here means that they do.
    """

    architecture: ArchitectureAxis
    latent_dim: NumberAxis[Count]
    beta: NumberAxis[PositiveOrZero] = Choices[PositiveOrZero](choices=(1.0,))
    objective: ChoiceAxis[Objective] = Choices[Objective](choices=("elbo",))
    decoder: ChoiceAxis[Decoder] = Choices[Decoder](choices=("bernoulli",))
    decoder_variance: NumberAxis[Positive] | None = Field(default_factory=_default_variances)
    initialisation: ChoiceAxis[Initialisation] = Choices[Initialisation](choices=("glorot",))
    data_seed: NumberAxis[Seed] = Choices[Seed](choices=(0,))
    seed: NumberAxis[Seed] = Choices[Seed](choices=(0,))
    learning_rate: NumberAxis[LearningRate] | None = None
    learning_rate_schedule: ChoiceAxis[LearningRateSchedule] | None = None
    batch_size: NumberAxis[Count] | None = None
    epochs: NumberAxis[Count] | None = None
    precision: ChoiceAxis[Precision] | None = None

    @field_validator("decoder_variance")
    @classmethod
    def _belongs_to_gaussian(cls, variance: Any, others: ValidationInfo) -> Any:
        decoder: Choices[Decoder] | None = others.data.get("decoder")
        if decoder is not None and ("gaussian" in decoder.choices) != (variance is not None):
            raise ValueError(
                "belongs to decoder 'gaussian' and to no other, and axes.decoder is "
                f"{list(decoder.choices)}; give both or neither"
            )
        return variance


class TrainingSettings(SpecModel):
    """How every trial is trained; see `Trial` for the fields."""

    epochs: Count = 20
    batch_size: Count = 128
    learning_rate: LearningRate = 1e-3
    learning_rate_schedule: LearningRateSchedule = "cosine"
    precision: Precision = "float32"


class GridStrategy(SpecModel):
    """Try every combination of the axes' values.

    Attributes:
        name: Always "grid".
    """

    name: Literal["grid"] = "grid"


class RandomStrategy(SpecModel):
    """Draw points from the space, each axis by itself, without repetition.

    Points are drawn over all axes except seed and data_seed; every point then runs with every
    seed and data_seed. More points of the same seed keep the earlier ones.

    Attributes:
        name: Always "random".
        points: How many points to draw.
        seed: Seed of the draws.
    """

    name: Literal["random"] = "random"
    points: Count
    seed: Seed = 0


SEED_AXES = ("data_seed", "seed")
"""The axes that strategy random does not draw from: every point runs with each of their values."""

_STRATEGIES = ("grid", "random")


def _named_strategy(value: Any) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, (GridStrategy, RandomStrategy)):
        return value
    if not isinstance(value, dict) or "name" not in value:
        raise ValueError(f"{value!r} has no name; give {{name: grid}} or {{name: random, ...}}")
    if value["name"] not in _STRATEGIES:
        hint = nearest_name(str(value["name"]), _STRATEGIES)
        raise ValueError(f"{value['name']!r} is not a strategy{hint}")
    return value


def _strategy_name(value: Any) -> Any:
    return value["name"] if isinstance(value, dict) else value.name


_AnyStrategy = Annotated[
    Annotated[GridStrategy, Tag("grid")] | Annotated[RandomStrategy, Tag("random")],
    Discriminator(_strategy_name),
]

Strategy: TypeAlias = Annotated[
    _AnyStrategy,
    BeforeValidator(_named_strategy, json_schema_input_type=Literal["grid"] | _AnyStrategy),
]
"""How points are chosen from the axes; "grid" is short for `{name: grid}`."""


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


def _as_list(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


Datasets: TypeAlias = Annotated[
    Annotated[tuple[DatasetSpec, ...], Field(min_length=1)],
    BeforeValidator(_as_list, json_schema_input_type=DatasetSpec | list[DatasetSpec]),
]


STUDY_NAME = "^[a-z0-9][a-z0-9._-]{0,99}$"


class StudySpec(SpecModel):
    """A study, validated: `load_spec` reads it, `plan_trials` lists its trials.

    Attributes:
        study: Name of the study and of its folder.
        description: Free text.
        dataset: One dataset, or several, which make an axis.
        axes: The search space.
        training: Settings that all trials share.
        strategy: How points are chosen from the space.
        resources: What the study may use.
        record: What is recorded.
    """

    study: Annotated[str, Field(strict=True, json_schema_extra={"pattern": STUDY_NAME})]
    description: Text = ""
    dataset: Datasets
    axes: Axes
    training: TrainingSettings = TrainingSettings()
    strategy: Strategy = GridStrategy()
    resources: ResourceSettings = ResourceSettings()
    record: RecordSettings = RecordSettings()

    @field_validator("study")
    @classmethod
    def _names_a_folder(cls, study: str) -> str:
        if not re.fullmatch(STUDY_NAME, study):
            raise ValueError(
                f"{study!r} is not a study name; give lower-case letters, digits, '.', '_' and "
                "'-', at most 100 of them, the first a letter or a digit"
            )
        return study

    @field_validator("dataset")
    @classmethod
    def _datasets_differ(cls, datasets: tuple[DatasetSpec, ...]) -> tuple[DatasetSpec, ...]:
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

    @model_validator(mode="after")
    def _gives_settings_once(self) -> Self:
        for name in sorted(self.training.model_fields_set):
            if getattr(self.axes, name) is not None:
                raise ValueError(f"training.{name}: axes.{name} is given too; remove one of them")
        return self

    @model_validator(mode="after")
    def _has_values_to_list(self) -> Self:
        is_grid = isinstance(self.strategy, GridStrategy)
        for name, axis in self.axes:
            if axis is not None and (is_grid or name in SEED_AXES):
                try:
                    axis.values()
                except BadInput as error:
                    raise ValueError(f"axes.{name}: {error}") from None
        return self
