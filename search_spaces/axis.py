"""The axes of a search space: choices, ranges and log ranges of one hyperparameter's values."""

import math
import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Generic, Protocol, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import TypeAliasType

from search_spaces.errors import BadInput
from search_spaces.fields import SpecModel, unknown_key

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)
N = TypeVar("N", bound=float)
A = TypeVar("A", bound=float)  # pydantic turns Range[N] into Range, so the alias needs its own

LARGEST_AXIS = 1_000_000
"""Most values of one axis, so that a misplaced digit is an error rather than a full memory."""


class Axis(Protocol[V_co]):
    """What every axis of a search space can do."""

    @property
    def size(self) -> int | None:
        """Number of different values; None for a continuum."""
        ...

    def values(self) -> Sequence[V_co]:
        """The values for a grid; BadInput where there is an interval in place of values."""
        ...

    def draw(self, rng: random.Random) -> V_co:
        """Draw a value for a random search."""
        ...


class Choices(SpecModel, Generic[V]):
    """An axis of listed values; `5` and `[5, 6]` are short for `{choices: [5]}` and so on.

    Attributes:
        choices: The values, all different.
    """

    choices: tuple[V, ...] = Field(min_length=1)

    @field_validator("choices")
    @classmethod
    def _all_different(cls, choices: tuple[V, ...]) -> tuple[V, ...]:
        seen: set[V] = set()
        for value in choices:
            if value in seen:
                raise ValueError(f"gives {value!r} twice, so trials would be equal; remove one")
            seen.add(value)
        return choices

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.choices)

    def values(self) -> list[V]:
        """The values in the order of the spec, for a grid."""
        return list(self.choices)

    def draw(self, rng: random.Random) -> V:
        """Draw one of the values, each equally likely."""
        return rng.choice(self.choices)

    @model_serializer
    def _short_form(self) -> list[V]:
        return list(self.choices)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Let editors accept the short forms too."""
        schema = handler(core_schema)
        listed = handler.resolve_ref_schema(schema)["properties"]["choices"]
        short = {key: listed[key] for key in ("type", "items", "minItems")}
        return {"anyOf": [listed["items"], short, schema]}


class _Interval(SpecModel, Generic[N]):
    """What ranges and log ranges share: values between two ends, at regular positions or not."""

    @property
    @abstractmethod
    def _ends(self) -> tuple[N, N]: ...

    @property
    @abstractmethod
    def _positions(self) -> int | None:
        """How many regular positions there are; None where any value may be drawn."""

    @abstractmethod
    def _at(self, position: int) -> float: ...

    @abstractmethod
    def _anywhere(self, rng: random.Random) -> float: ...

    @property
    def size(self) -> int | None:
        """Number of different values; None for a continuum."""
        if self._positions is not None:
            return len(self.values())
        low, high = self._ends
        return high - low + 1 if isinstance(low, int) and isinstance(high, int) else None

    def values(self) -> list[N]:
        """The values in ascending order, for a grid.

        On an axis of whole numbers, spaced values are rounded and each is kept once; real numbers
        are rounded to 12 significant digits.

        Raises:
            BadInput: The interval has neither a step nor a count, so that only draws make sense.
        """
        if self._positions is None:
            raise BadInput(
                f"{_written(self)} is an interval without values of its own; give it a 'count', "
                "or draw from it with strategy 'random'"
            )
        spaced = (self.readable(self._at(position)) for position in range(self._positions))
        return list(dict.fromkeys(spaced))

    def draw(self, rng: random.Random) -> N:
        """Draw one of the positions, or anywhere between the ends where there are none."""
        if self._positions is None:
            return self.readable(self._anywhere(rng))
        return self.readable(self._at(rng.randrange(self._positions)))

    def readable(self, value: float) -> N:
        """Round to what a person would write, so that values read well and hash stably."""
        low, high = self._ends
        rounded = round(value) if isinstance(low, int) else float(f"{value:.12g}")
        return min(max(type(low)(rounded), low), high)

    @model_validator(mode="after")
    def _has_sensible_ends(self) -> Self:
        low, high = self._ends
        if low >= high:
            raise ValueError(
                f"{_written(self)} must rise from its first end to its second; "
                "swap them, or give a single value"
            )
        if self._positions is not None and self._positions > LARGEST_AXIS:
            raise ValueError(
                f"{_written(self)} has {self._positions:,} values, more than {LARGEST_AXIS:,}; "
                "check its ends, or give a 'count'"
            )
        return self


class Range(_Interval[N], Generic[N]):
    """Evenly spaced values, both ends included: `{range: [low, high], step: ...}` or `count: ...`.

    Whole numbers go in steps of 1 unless told otherwise. Real numbers with neither step nor count
    are drawn uniformly (strategy random). A step that does not divide the interval stops below
    the upper end.

    Attributes:
        range: The two ends.
        step: Distance of neighbours.
        count: Number of values, in place of a step.
    """

    range: tuple[N, N]
    step: N | None = None
    count: int | None = Field(default=None, strict=True, ge=2)

    @property
    def _ends(self) -> tuple[N, N]:
        return self.range

    @property
    def _step(self) -> float | None:
        low, high = self.range
        if self.count is not None:
            return (high - low) / (self.count - 1)
        return 1 if self.step is None and isinstance(low, int) else self.step

    @property
    def _positions(self) -> int | None:
        if self.count is not None:
            return self.count
        low, high = self.range
        if self._step is None:
            return None
        # The small surplus keeps [0, 0.3] in steps of 0.1 from stopping at 0.2; the quotient of a
        # tiny step can be infinite.
        return math.floor(min((high - low) / self._step, 1e15) + 1e-9) + 1

    def _at(self, position: int) -> float:
        return self.range[0] + position * (self._step or 0)

    def _anywhere(self, rng: random.Random) -> float:
        return rng.uniform(*self.range)

    @model_validator(mode="after")
    def _has_one_spacing(self) -> Self:
        if self.step is not None and self.count is not None:
            raise ValueError(f"{_written(self)} has both a step and a count; give one of them")
        return self

    @field_validator("step")
    @classmethod
    def _goes_forward(cls, step: N | None) -> N | None:
        if step is not None and step <= 0:
            raise ValueError(f"{step} is not a step; give a number above 0")
        return step


class LogRange(_Interval[N], Generic[N]):
    """Values with a constant ratio, both ends included: `{log_range: [low, high], count: ...}`.

    Without a count the logarithm is drawn uniformly (strategy random).

    Attributes:
        log_range: The two ends, both above 0.
        count: Number of values.
    """

    log_range: tuple[N, N]
    count: int | None = Field(default=None, strict=True, ge=2)

    @property
    def _ends(self) -> tuple[N, N]:
        return self.log_range

    @property
    def _positions(self) -> int | None:
        return self.count

    def _at(self, position: int) -> float:
        assert self.count is not None, "only a counted range has positions"
        return self._part_way(position / (self.count - 1))

    def _anywhere(self, rng: random.Random) -> float:
        return self._part_way(rng.random())

    def _part_way(self, share: float) -> float:
        low, high = map(math.log, self.log_range)
        return math.exp(low + share * (high - low))

    @field_validator("log_range")
    @classmethod
    def _is_above_zero(cls, ends: tuple[N, N]) -> tuple[N, N]:
        if min(ends) <= 0:
            raise ValueError(f"{list(ends)} reaches {min(ends)}; a log range lies above 0")
        return ends


def _written(interval: _Interval[Any]) -> str:
    """The interval as its user wrote it, `{range: [0.1, 0.5]}`."""
    given = interval.model_dump(exclude_defaults=True, mode="json")
    return "{" + ", ".join(f"{key}: {value}" for key, value in given.items()) + "}"


_FORMS = {"choices": "Choices", "range": "Range", "log_range": "LogRange"}


def _spelled_out(value: Any) -> Any:
    """Expand the short forms of `Choices`, and refuse a mapping that is no axis."""
    if isinstance(value, (Choices, _Interval)):
        return value
    if not isinstance(value, dict):
        return {"choices": value if isinstance(value, (list, tuple)) else [value]}
    forms = [form for form in _FORMS if form in value]
    if len(forms) > 1:
        raise ValueError(f"has both {forms[0]!r} and {forms[1]!r}; give one of them")
    if not forms:
        for key in value:
            raise unknown_key(key, (*_FORMS, "step", "count"))
        raise ValueError("{} is empty; give a value, a list, a range or a log_range")
    return value


def _kind(value: Any) -> str:
    keys = value if isinstance(value, dict) else type(value).model_fields
    return next(kind for form, kind in _FORMS.items() if form in keys)


ChoiceAxis = TypeAliasType(
    "ChoiceAxis", Annotated[Choices[V], BeforeValidator(_spelled_out)], type_params=(V,)
)
"""An axis whose values are names."""

NumberAxis = TypeAliasType(
    "NumberAxis",
    Annotated[
        Annotated[Choices[A], Tag("Choices")]
        | Annotated[Range[A], Tag("Range")]
        | Annotated[LogRange[A], Tag("LogRange")],
        Discriminator(_kind),
        BeforeValidator(_spelled_out),
    ],
    type_params=(A,),
)
"""An axis of numbers, whole or real."""
