"""How points are chosen from a search space: all of them, or some at random."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Tag

from search_spaces.errors import nearest_name
from search_spaces.fields import Count, Seed, SpecModel
from search_spaces.optuna_strategy import OptunaStrategy


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
"""The axes that are no part of a point: every point runs with each of their values."""

_STRATEGIES = ("grid", "random", "optuna")


def _named_strategy(value: Any) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, (GridStrategy, RandomStrategy, OptunaStrategy)):
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
    Annotated[GridStrategy, Tag("grid")]
    | Annotated[RandomStrategy, Tag("random")]
    | Annotated[OptunaStrategy, Tag("optuna")],
    Discriminator(_strategy_name),
]

Strategy: TypeAlias = Annotated[
    _AnyStrategy,
    BeforeValidator(_named_strategy, json_schema_input_type=Literal["grid"] | _AnyStrategy),
]
"""How points are chosen from the axes; "grid" is short for `{name: grid}`."""
