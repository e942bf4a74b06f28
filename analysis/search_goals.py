"""What an adaptive search is after: its objectives and constraints, as plain values."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

__all__ = ["Constraint", "Goal", "Search"]

_SIGNS: Final = ("<=", ">=", "==")


class Goal(NamedTuple):
    """One objective: a column of `trials` to make large or small, or to bring to a number.

    Attributes:
        column: The column; of a point with several seeds, its mean over them.
        direction: Where it is to go. Of a target, the distance to it is minimised.
        target: The number to bring it to, for the direction "target" only.
    """

    column: str
    direction: Literal["maximise", "minimise", "target"]
    target: float | None = None

    @property
    def name(self) -> str:
        """The column of `search_points` that holds its value."""
        return self.column if self.target is None else f"distance_of_{self.column}"

    @property
    def sign(self) -> int:
        """What to multiply values by so that smaller is better."""
        return -1 if self.direction == "maximise" else 1

    @property
    def words(self) -> str:
        """As a spec has it: "maximise test_elbo", "target active_units == 8"."""
        aim = "" if self.target is None else f" == {self.target:g}"
        return f"{self.direction} {self.column}{aim}"


class Constraint(NamedTuple):
    """What a good point fulfils: a column of `trials`, its mean over the seeds, and a number."""

    column: str
    sign: Literal["<=", ">=", "=="]
    value: float

    @property
    def words(self) -> str:
        """As a spec has it: "active_units <= 8"."""
        return f"{self.column} {self.sign} {self.value:g}"


@dataclass(frozen=True)
class Search:
    """How a study in which Optuna chooses was set up.

    Attributes:
        goals: What is sought.
        constraints: What a good point fulfils.
        points: How many points may be tried.
        seeds: Trials of a point.
        sampler: Who proposes, by name.
        pruner: Who gives points up, by name; None where nobody does.
    """

    goals: tuple[Goal, ...]
    constraints: tuple[Constraint, ...] = ()
    points: int = 0
    seeds: int = 1
    sampler: str = "tpe"
    pruner: str | None = None


def checked_goals(goals: "list[Goal] | tuple[Goal, ...]") -> list[Goal]:
    """Return goals, which may come as plain tuples.

    Raises:
        ValueError: There is none, or one whose direction and target do not go together.
    """
    found = [Goal(*goal) for goal in goals]
    if not found:
        raise ValueError("goals: there is none; give one, as ('test_elbo', 'maximise')")
    for goal in found:
        if goal.direction not in ("maximise", "minimise", "target"):
            raise ValueError(
                f"goals: {goal.direction!r} is no direction; give maximise, minimise or target"
            )
        if (goal.direction == "target") != (goal.target is not None):
            raise ValueError(
                f"goals: {tuple(goal)!r} is none; a target needs its number, as "
                "('active_units', 'target', 8), and nothing else has one"
            )
    return found


def checked_constraints(
    constraints: "list[Constraint] | tuple[Constraint, ...]",
) -> list[Constraint]:
    """Return constraints, which may come as plain tuples.

    Raises:
        ValueError: One has an unknown sign.
    """
    found = [Constraint(*constraint) for constraint in constraints]
    for constraint in found:
        if constraint.sign not in _SIGNS:
            raise ValueError(
                f"constraints: {constraint.sign!r} is no sign; give one of {', '.join(_SIGNS)}"
            )
    return found
