"""The settings of an adaptive search: what is sought, and how Optuna is to seek it."""

import re
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from search_spaces.fields import Count, Seed, SpecModel, Text

__all__ = ["Comparison", "Goal", "NamedTool", "OptunaStrategy", "PruneOn"]

_Given: TypeAlias = Annotated[Text, Field(min_length=1)]
_COMPARISON = re.compile(r"\s*(\w+)\s*(==|<=|>=)\s*([-+0-9.eE]+)\s*")


class Comparison(NamedTuple):
    """A column of `trials` set against a number, as `active_units <= 8`."""

    column: str
    sign: Literal["==", "<=", ">="]
    value: float

    @classmethod
    def parse(cls, text: str) -> "Comparison":
        """Read one.

        Raises:
            ValueError: It is not of this form.
        """
        match = _COMPARISON.fullmatch(text)
        try:
            if match is not None:
                column, sign, value = match.groups()
                return cls(column, sign, float(value))  # type: ignore[arg-type]
        except ValueError:
            pass
        raise ValueError(
            f"{text!r} is not a comparison; give a column of `trials`, ==, <= or >=, and a number, "
            "as active_units <= 8"
        )

    def violation(self, value: float) -> float:
        """Return by how much a value misses it; 0 or less where it does not."""
        if self.sign == "<=":
            return value - self.value
        if self.sign == ">=":
            return self.value - value
        return abs(value - self.value)


class Goal(SpecModel):
    """One objective: a column of `trials` to make large or small, or to bring to a number.

    Attributes:
        maximise: A column.
        minimise: A column.
        target: A column and the number that it is to have, `active_units == 8`; the distance to it
            is minimised.
    """

    maximise: _Given | None = None
    minimise: _Given | None = None
    target: _Given | None = None

    @property
    def column(self) -> str:
        """The column of `trials`."""
        return self.maximise or self.minimise or Comparison.parse(self.target or "").column

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Optuna's word for where it is to go."""
        return "maximize" if self.maximise else "minimize"

    @property
    def words(self) -> str:
        """What is sought, as in the spec: "maximise test_elbo"."""
        return " ".join(f"{name} {value}" for name, value in self if value is not None)

    def value(self, measured: float) -> float:
        """Return the objective's value where the column has this one."""
        if self.target is None:
            return measured
        return Comparison.parse(self.target).violation(measured)

    @field_validator("target")
    @classmethod
    def _names_a_number(cls, target: str | None) -> str | None:
        if target is not None and Comparison.parse(target).sign != "==":
            raise ValueError(f"{target!r} is no target; give column == number")
        return target

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"has {' and '.join(given) or 'nothing in it'}; give one of maximise, minimise and "
                "target"
            )
        return self


class NamedTool(SpecModel):
    """A sampler or pruner of Optuna by name, with its options.

    Attributes:
        name: Its class, as `TPESampler`, or short and in lower case, as `tpe`.
        options: What its constructor takes.
    """

    name: Text
    options: dict[str, bool | int | float | str | None] = Field(default_factory=dict)


def _named(value: Any) -> Any:
    """Read `tpe`, and `{name: tpe, n_startup_trials: 20}`."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "options" not in value and "name" in value:
        rest = {key: option for key, option in value.items() if key != "name"}
        return {"name": value["name"], "options": rest}
    return value


def _listed(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


PruneOn: TypeAlias = Literal["both", "constraints_first", "objective"]

Tool: TypeAlias = Annotated[
    NamedTool, BeforeValidator(_named, json_schema_input_type=str | dict[str, Any])
]
Goals: TypeAlias = Annotated[
    Annotated[tuple[Goal, ...], Field(min_length=1)],
    BeforeValidator(_listed, json_schema_input_type=Goal | list[Goal]),
]


class OptunaStrategy(SpecModel):
    """Let Optuna propose points, in the light of what others came to.

    A point is all but seed and data_seed: it runs with each of their values, and what counts is the
    mean over them.

    Attributes:
        name: Always "optuna".
        points: How many points to try, pruned ones among them.
        objectives: What is sought; several make a Pareto front.
        constraints: Comparisons that a good point fulfils, `active_units <= 8`.
        sampler: Who proposes: any of Optuna's samplers, with its options.
        pruner: Who gives points up before their last epoch: any of Optuna's pruners, with its
            options; nobody by default.
        prune_on: What the pruner compares: the "objective", as Optuna does by itself;
            "constraints_first" (what violates the constraints less is better, and the objective
            decides where that is equal); or "both", to give up what is hopeless in either way.
        first: Points to try before all others: values by axis, where not all have to be given.
        warm_start: Studies in the same storage whose finished trials, those that are points of
            this space, Optuna knows from the start.
        storage: Where Optuna keeps its study: the URL of a database; a journal file by default.
        seed: Seed of the sampler.
    """

    name: Literal["optuna"]
    points: Count
    objectives: Goals
    constraints: tuple[Text, ...] = ()
    sampler: Tool = NamedTool(
        name="tpe",
        # Packs in flight count as bad until they are known, so that others keep away from them.
        options={"multivariate": True, "group": True, "constant_liar": True},
    )
    pruner: Tool | None = None
    prune_on: PruneOn = "both"
    first: tuple[dict[str, Any], ...] = ()
    warm_start: Annotated[
        tuple[Text, ...], BeforeValidator(_listed, json_schema_input_type=str | list[str])
    ] = ()
    storage: Text | None = None
    seed: Seed = 0

    @field_validator("constraints")
    @classmethod
    def _are_comparisons(cls, constraints: tuple[str, ...]) -> tuple[str, ...]:
        for constraint in constraints:
            Comparison.parse(constraint)
        return constraints

    @model_validator(mode="after")
    def _prunes_by_one_objective(self) -> Self:
        if self.pruner is not None and len(self.objectives) > 1:
            raise ValueError(
                f"has the pruner {self.pruner.name!r} and {len(self.objectives)} objectives, and "
                "Optuna prunes by one only; leave one of them, or the pruner, out"
            )
        return self
