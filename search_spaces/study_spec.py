"""The typed spec of a study: one search space, or parts side by side, each with its own."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from search_spaces.axes import Axes, TrainingSettings
from search_spaces.dataset import DatasetSpec
from search_spaces.errors import nearest_name
from search_spaces.fields import SpecModel, Text, wrong_field
from search_spaces.record import RecordSettings
from search_spaces.shared import complete_parts
from search_spaces.spec import (
    Datasets,
    Part,
    ResourceSettings,
    as_list,
    check_settings,
)
from search_spaces.strategy import GridStrategy, Strategy

STUDY_NAME = "^[a-z0-9][a-z0-9._-]{0,99}$"
PART_NAME = "^[a-z0-9][a-z0-9_-]{0,99}$"
"""Of parts and of scales: without a dot, which separates the steps of a field's path."""

FULL = "full"
"""The scale of a study as its fields say."""

THRESHOLDS = ("active_variance", "active_kl")
"""What makes a unit active: the same throughout a study, or its counts could not be compared."""


def _present(value: Any) -> Any:
    """Refuse null, which is no way to leave a section out."""
    if value is None:
        raise PydanticCustomError("model_type", "null")
    return value


def _spelled_well(name: str) -> str:
    if not re.fullmatch(PART_NAME, name):
        raise ValueError(
            f"{name!r} is not a name; give lower-case letters, digits, '_' and '-', at most 100 "
            "of them, the first a letter or a digit"
        )
    return name


_Name: TypeAlias = Annotated[str, Field(strict=True), AfterValidator(_spelled_well)]
_NAMED = Field(json_schema_extra={"propertyNames": {"pattern": PART_NAME}})
_Parts: TypeAlias = Annotated[dict[_Name, Part], Field(min_length=1), _NAMED]
_Scales: TypeAlias = Annotated[dict[_Name, dict[Text, Any]], _NAMED]


class StudySpec(SpecModel):
    """A study, validated: `load_spec` reads it, `plan_trials` lists its trials.

    A study has `axes`, one search space, or `parts`, several side by side: never both. What parts
    share may stand outside them (see `shared`), and every part is complete once validated. A point
    that two parts have is one trial. It counts to the first of them, and both must record the
    same, since there is one record of it.

    Attributes:
        study: Name of the study and of its folder.
        description: Free text.
        scale: Which of `scales` was applied; "full" is none of them.
        scales: Named sets of overrides, values by field path, `{small: {training.epochs: 5}}`.
            A set that was applied is empty: nothing is left of it to set.
        dataset: One dataset, or several, which make an axis.
        axes: The search space; None where there are parts.
        training: Settings that all trials share.
        strategy: How points are chosen from the space.
        resources: What the study may use.
        record: What is recorded. The thresholds of activity are the same in all parts.
        parts: Search spaces by name; None where there is one, `axes`.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["dataset", "axes"], "not": {"required": ["parts"]}},
                {"required": ["parts"], "not": {"required": ["axes"]}},
            ]
        }
    )

    study: Annotated[str, Field(strict=True, json_schema_extra={"pattern": STUDY_NAME})]
    description: Text = ""
    scale: Text = FULL
    scales: Annotated[_Scales | None, BeforeValidator(_present, json_schema_input_type=_Scales)] = (
        None
    )
    dataset: Annotated[
        Datasets | None, BeforeValidator(as_list, json_schema_input_type=Datasets)
    ] = None
    axes: Annotated[Axes | None, BeforeValidator(_present, json_schema_input_type=Axes)] = None
    training: TrainingSettings = TrainingSettings()
    strategy: Strategy = GridStrategy()
    resources: ResourceSettings = ResourceSettings()
    record: RecordSettings = RecordSettings()
    # Last, so that what is wrong outside the parts is found there, and not in each of them.
    parts: Annotated[_Parts | None, BeforeValidator(_present, json_schema_input_type=_Parts)] = None

    @property
    def all_parts(self) -> dict[str, Part]:
        """The parts by name; a study without parts is one, and its name is empty."""
        if self.parts is not None:
            return self.parts
        fields = {name: getattr(self, name) for name in Part.model_fields}
        return {"": Part.model_construct(**fields)}

    @property
    def datasets(self) -> tuple[DatasetSpec, ...]:
        """The datasets of all parts, each once."""
        parts = self.all_parts.values()
        return tuple(dict.fromkeys(dataset for part in parts for dataset in part.dataset))

    def with_datasets(self, changed: Mapping[DatasetSpec, DatasetSpec]) -> "StudySpec":
        """Return this study with other datasets in place of some of its own, in every part."""

        def update(place: Any) -> Any:
            datasets = tuple(changed.get(dataset, dataset) for dataset in place.dataset or ())
            return place.model_copy(update={"dataset": datasets or None})

        spec: StudySpec = update(self)
        if spec.parts is None:
            return spec
        parts = {name: update(part) for name, part in spec.parts.items()}
        return spec.model_copy(update={"parts": parts})

    @field_validator("study")
    @classmethod
    def _names_a_folder(cls, study: str) -> str:
        if not re.fullmatch(STUDY_NAME, study):
            raise ValueError(
                f"{study!r} is not a study name; give lower-case letters, digits, '.', '_' and "
                "'-', at most 100 of them, the first a letter or a digit"
            )
        return study

    @model_validator(mode="before")
    @classmethod
    def _shares(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        if "parts" in raw and "axes" in raw:
            raise wrong_field("axes", "the study has parts, which have axes of their own each")
        return complete_parts(raw)

    @model_validator(mode="after")
    def _has_a_search_space(self) -> Self:
        if self.parts is None:
            for name in ("dataset", "axes"):
                if getattr(self, name) is None:
                    raise wrong_field(name, "is missing; give it a value")
        if self.axes is not None:
            check_settings(self.axes, self.training, self.strategy)
        return self

    @model_validator(mode="after")
    def _has_this_scale(self) -> Self:
        scales = self.scales or {}
        if FULL in scales:
            raise wrong_field(
                f"scales.{FULL}", "it is the study without a scale; give another name"
            )
        if self.scale != FULL and self.scale not in scales:
            hint = nearest_name(self.scale, [FULL, *scales])
            raise wrong_field("scale", f"{self.scale!r} is not a scale of this study{hint}")
        return self

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        """Refuse parts of which the tables could not hold the trials side by side."""
        seen: dict[DatasetSpec, str] = {}
        for name, part in (self.parts or {}).items():
            for threshold in THRESHOLDS:
                own, shared = getattr(part.record, threshold), getattr(self.record, threshold)
                if own != shared:
                    raise wrong_field(
                        f"parts.{name}.record.{threshold}",
                        f"{own:g} differs from the study's {shared:g}, and one study counts "
                        f"active units by one rule; give it outside the parts, as "
                        f"record.{threshold}",
                    )
            for dataset in part.dataset:
                for other, first in seen.items():
                    if message := _confused(dataset, other, first):
                        raise wrong_field(f"parts.{name}.dataset", message)
                seen.setdefault(dataset, name)
        return self


def _confused(dataset: DatasetSpec, other: DatasetSpec, part: str) -> str | None:
    """Say how two parts' datasets would be taken for each other, if they would."""
    if dataset == other:
        return None
    if dataset.label == other.label:
        return (
            f"part {part!r} has other data labelled {dataset.label!r}, which nobody could tell "
            "apart in the tables; give one of them another label (label: ...)"
        )
    if dataset.recipe() == other.recipe():
        return (
            f"{dataset.label!r} is the same data as {other.label!r} of part {part!r}; give both "
            "the same label"
        )
    return None
