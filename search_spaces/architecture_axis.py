"""The axis of architectures: names, layer plans, and depths and widths within one family."""

import random
from collections import Counter
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    WithJsonSchema,
    field_validator,
    model_serializer,
)

from search_spaces.architecture import NAMED, Architecture
from search_spaces.axis import LARGEST_AXIS, NumberAxis
from search_spaces.errors import BadInput, nearest_name
from search_spaces.fields import Count, SpecModel

Depth = Annotated[int, Field(strict=True, ge=1, le=100)]

Plan: TypeAlias = Annotated[tuple[Count, ...], Field(min_length=1)]


def _as_plans(value: Any) -> Any:
    """Read `[256, 32]` as the one plan that it is."""
    is_plan = isinstance(value, (list, tuple)) and value and not isinstance(value[0], (list, tuple))
    return [value] if is_plan else value


Plans: TypeAlias = Annotated[
    Annotated[tuple[Plan, ...], Field(min_length=1)],
    BeforeValidator(_as_plans, json_schema_input_type=Plan | list[Plan]),
]


class DensePlans(SpecModel):
    """Dense nets given layer by layer: `{family: dense, widths: [[256, 32], [64]]}`.

    Attributes:
        family: Always "dense".
        widths: Units of each layer, for one net or a list of nets.
    """

    family: Literal["dense"]
    widths: Plans

    @property
    def size(self) -> int:
        """Number of architectures."""
        return len(self.widths)

    def values(self) -> list[Architecture]:
        """The architectures, in the order of the spec."""
        return [Architecture.dense(plan) for plan in self.widths]

    def draw(self, rng: random.Random) -> Architecture:
        """Draw one of the plans."""
        return Architecture.dense(rng.choice(self.widths))


class ConvPlans(SpecModel):
    """Conv nets given stage by stage: `{family: conv, channels: [[16, 32], [32, 64, 64]]}`.

    Attributes:
        family: Always "conv".
        channels: Channels of each stage, for one net or a list of nets.
    """

    family: Literal["conv"]
    channels: Plans

    @property
    def size(self) -> int:
        """Number of architectures."""
        return len(self.channels)

    def values(self) -> list[Architecture]:
        """The architectures, in the order of the spec."""
        return [Architecture.conv(plan) for plan in self.channels]

    def draw(self, rng: random.Random) -> Architecture:
        """Draw one of the plans."""
        return Architecture.conv(rng.choice(self.channels))


class EqualLayers(SpecModel):
    """Nets whose layers are all alike: `{family: dense, depth: [1, 2, 3], width: [64, 128]}`.

    The axes `depth` and `width` are conditional, they exist only here: the other architectures of
    a study are not multiplied by them.

    Attributes:
        family: "dense" or "conv".
        depth: Axis of the number of layers.
        width: Axis of the units, or channels, of every layer.
    """

    family: Literal["dense", "conv"]
    depth: NumberAxis[Depth]
    width: NumberAxis[Count]

    @property
    def size(self) -> int:
        """Number of architectures."""
        return (self.depth.size or 0) * (self.width.size or 0)  # whole numbers: never a continuum

    def values(self) -> list[Architecture]:
        """Every depth with every width.

        Raises:
            BadInput: One of the two is an interval without values of its own.
        """
        widths = self.width.values()
        return [self.build(depth, width) for depth in self.depth.values() for width in widths]

    def draw(self, rng: random.Random) -> Architecture:
        """Draw a depth and a width."""
        return self.build(self.depth.draw(rng), self.width.draw(rng))

    def build(self, depth: int, width: int) -> Architecture:
        """Return the net with so many equal layers."""
        layers = (width,) * depth
        return Architecture.dense(layers) if self.family == "dense" else Architecture.conv(layers)


_LAYER_KEYS = {"dense": "widths", "conv": "channels"}


def _checked_form(entry: Any) -> Any:
    """Refuse a mapping that is no entry, before its fields are looked at."""
    if isinstance(entry, (str, Architecture, SpecModel)):
        return entry
    if entry == {"family": "linear"}:
        return "linear"
    if not isinstance(entry, dict) or "family" not in entry:
        raise ValueError(
            f"{entry!r} is not an architecture; give a name such as 'paper-conv', "
            "or a mapping with a 'family'"
        )
    family = entry["family"]
    if family == "linear":
        others = ", ".join(repr(key) for key in entry if key != "family")
        raise ValueError(f"family 'linear' has no layers to give; remove {others}")
    if family not in list(_LAYER_KEYS):  # a list compares; a dict would hash what may be a list
        hint = nearest_name(str(family), [*_LAYER_KEYS, "linear"])
        raise ValueError(f"{family!r} is not a family{hint}")
    layers = _LAYER_KEYS[family]
    if layers in entry and entry.keys() & {"depth", "width"}:
        raise ValueError(f"give either {layers!r}, or 'depth' and 'width'")
    return entry


def _kind(entry: Any) -> str:
    if isinstance(entry, dict):
        is_equal = bool(entry.keys() & {"depth", "width"})
        return "EqualLayers" if is_equal else f"{entry['family'].capitalize()}Plans"
    return type(entry).__name__ if isinstance(entry, SpecModel) else "Architecture"


_NAME_SCHEMA = {
    "anyOf": [
        {"enum": list(NAMED)},
        {"type": "string", "pattern": "^(dense|conv)(-[1-9][0-9]*)+$"},
        {"const": {"family": "linear"}},
    ]
}

Entry: TypeAlias = Annotated[
    Annotated[
        Architecture,
        Tag("Architecture"),
        PlainSerializer(lambda architecture: architecture.name),
        WithJsonSchema(_NAME_SCHEMA),
    ]
    | Annotated[DensePlans, Tag("DensePlans")]
    | Annotated[ConvPlans, Tag("ConvPlans")]
    | Annotated[EqualLayers, Tag("EqualLayers")],
    Discriminator(_kind),
    BeforeValidator(_checked_form),
]
"""One architecture by name, or several of one family."""


class ArchitectureChoices(SpecModel):
    """An axis of architectures; an entry, or a list of entries, is short for it.

    Attributes:
        choices: The entries, which have no architecture in common.
    """

    choices: Annotated[tuple[Entry, ...], Field(min_length=1)]

    @field_validator("choices")
    @classmethod
    def _all_different(cls, choices: tuple[Entry, ...]) -> tuple[Entry, ...]:
        if sum(_size(entry) for entry in choices) > LARGEST_AXIS:
            raise ValueError(f"gives more than {LARGEST_AXIS:,} architectures; narrow the widths")
        try:
            listed = [architecture for entry in choices for architecture in _values(entry)]
        except BadInput:  # To be drawn from: a point that comes up twice is then drawn anew.
            return choices
        architecture, times = Counter(listed).most_common(1)[0]
        if times > 1:
            aliases = [repr(name) for name, named in NAMED.items() if named == architecture]
            known = f" (also called {', '.join(aliases)})" if aliases else ""
            raise ValueError(
                f"gives {architecture.name!r}{known} {times} times, so trials would be equal; "
                "keep one"
            )
        return choices

    @property
    def size(self) -> int:
        """Number of architectures."""
        return sum(_size(entry) for entry in self.choices)

    def values(self) -> list[Architecture]:
        """All architectures in the order of the spec, for a grid.

        Raises:
            BadInput: A depth or width is an interval without values of its own.
        """
        return [architecture for entry in self.choices for architecture in _values(entry)]

    def draw(self, rng: random.Random) -> Architecture:
        """Draw an entry, then an architecture within it."""
        entry = rng.choice(self.choices)
        return entry if isinstance(entry, Architecture) else entry.draw(rng)

    @model_serializer
    def _short_form(self) -> list[Entry]:
        return list(self.choices)


def _size(entry: Entry) -> int:
    return 1 if isinstance(entry, Architecture) else entry.size


def _values(entry: Entry) -> list[Architecture]:
    return [entry] if isinstance(entry, Architecture) else entry.values()


def _spelled_out(value: Any) -> Any:
    """Expand the short forms, an entry alone or a list of entries."""
    if isinstance(value, ArchitectureChoices) or (isinstance(value, dict) and "choices" in value):
        return value
    return {"choices": value if isinstance(value, (list, tuple)) else [value]}


ArchitectureAxis: TypeAlias = Annotated[
    ArchitectureChoices,
    BeforeValidator(_spelled_out, json_schema_input_type=Entry | list[Entry] | ArchitectureChoices),
]
"""The axis of architectures."""
