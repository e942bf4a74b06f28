"""Points and values of a search in words."""

from typing import Any, Final

import pandas as pd

from analysis.design_points import varied_points
from analysis.search_goals import Goal

__all__ = [
    "BARE",
    "column_words",
    "goal_words",
    "number_format",
    "parameter_words",
    "parameters_of",
]

COUNTS: Final = ("active_units", "active_units_kl", "epochs_trained", "parameters")
_ALWAYS: Final = ["architecture", "latent_dim", "beta", "learning_rate"]
BARE: Final = (
    "dataset",
    "architecture",
    "objective",
    "decoder",
)  # values that speak for themselves


def parameters_of(points: pd.DataFrame) -> pd.DataFrame:
    """Return the hyperparameters in which points differ; of a single point, those of most interest.

    Args:
        points: As `search_points` returns them.
    """
    names = list(points.columns)
    every = points[names[names.index("point") + 1 : names.index("trials")]]
    varied = varied_points(every)
    return every[_ALWAYS] if varied.empty else varied


def parameter_words(points: pd.DataFrame) -> "pd.Series[str]":
    """Return each point's hyperparameters in words: "dense-128, β 0.531, learning rate 0.00417".

    Args:
        points: As `search_points` returns them.
    """
    parameters = parameters_of(points)
    words = pd.Series("", index=points.index, dtype="str")
    for name in map(str, parameters):
        values = parameters[name]
        numeric = pd.api.types.is_numeric_dtype(values)
        text = values.map("{:.3g}".format if numeric else str)
        if name not in BARE:
            text = f"{column_words(name)} " + text
        words += (", " + text).where(values.notna(), "")
    return words.str.removeprefix(", ")


def column_words(name: str) -> str:
    """Return a column's name in words: "learning rate", "test ELBO"."""
    words = {"elbo": "ELBO", "kl": "KL", "mse": "MSE", "beta": "β"}
    return " ".join(words.get(word, word) for word in name.split("_"))


def goal_words(goal: Goal) -> str:
    """Return what a goal's value is, in words: "test ELBO", "distance of active units from 8"."""
    words = column_words(goal.column)
    return words if goal.target is None else f"distance of {words} from {goal.target:g}"


def number_format(values: "pd.Series[Any]") -> str:
    """Return how to print values of a column, by its name and size.

    Means of counts keep their fractions, others have about four digits of the largest.
    """
    if str(values.name).removeprefix("distance_of_") in COUNTS:
        return "g"
    largest = values.abs().max()
    if not largest >= 0.1:  # NaN too
        return ".5f"
    return ".3f" if largest < 10 else ".2f"
