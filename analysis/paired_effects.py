"""Which way each hyperparameter moves the active units: trials that differ in it alone."""

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis.design_points import (
    SEEDS,
    countable_trials,
    design_points,
    numbered,
    varied_points,
)

__all__ = ["describe_effect", "paired_effects", "t_half_width"]

MOST_NAMES: Final = 20
"""Names of one hyperparameter, the most frequent ones, that are paired each with each."""

_EFFECTS = dict.fromkeys(["hyperparameter", "reference", "value"], "str")
_EFFECTS |= dict.fromkeys(["difference", "low", "high"], "float64")
_EFFECTS |= {"pairs": "int64", "verdict": "str"}


def paired_effects(trials: pd.DataFrame) -> pd.DataFrame:
    """Compare the active units of trials that differ in one hyperparameter only.

    Two trials are a pair if they are equal in everything else, seeds included. Numbers are compared
    with the next larger value that the same setting was tried with, names (the `MOST_NAMES` most
    frequent) each with each. Where families (dense, conv) hold several architectures, they are
    compared too, each as the mean of its architectures.

    The interval is Student's t over the pairs' differences (95%, not adjusted for the number of
    comparisons). It is for the mean over the settings of this study, and wide where these disagree;
    other settings may behave otherwise. Differences that are all equal give it no width.

    Args:
        trials: The `trials` table; completed trials count, but for those whose objective lacks the
            KL's variance part: thresholds mean nothing there.

    Returns:
        One row per two values that have pairs: hyperparameter, reference and value (as text),
        difference (active units at value minus those at reference, mean over the pairs), low and
        high, pairs, verdict. A varied hyperparameter without any pair has one row that says so,
        with neither values nor numbers. Seeds are what pairs share and have no rows.
    """
    counted = countable_trials(trials, "active_units")
    points = varied_points(design_points(counted))
    units = counted["active_units"].astype(float)
    tested = [name for name in points.columns if name not in SEEDS]
    effects = [_effects_of(points, units, name) for name in tested]
    family = counted["family"]
    if "architecture" in tested and 1 < family.nunique() < points["architecture"].nunique():
        by_family = points.drop(columns="architecture").assign(family=family)
        effects.append(_effects_of(by_family, units, "family"))
    if not effects:
        return pd.DataFrame(columns=list(_EFFECTS)).astype(_EFFECTS)
    return pd.concat(effects, ignore_index=True)[list(_EFFECTS)].astype(_EFFECTS)


def describe_effect(effect: "pd.Series[Any]") -> str:
    """Put a row of `paired_effects` into words.

    "conv-4 keeps 2.5 more units than dense-16, 95% CI 1.8 to 3.2, 24 pairs"
    """
    name, verdict = effect["hyperparameter"], effect["verdict"]
    if effect["pairs"] == 0:
        return f"{name}: {verdict}"
    value, reference = effect["value"], effect["reference"]
    if not value[0].isalpha():  # a number says little without its name
        value, reference = f"{name} {value}", f"{name} {reference}"
    difference, low, high = effect["difference"], effect["low"], effect["high"]
    if difference < 0:
        low, high = -high, -low
    amount = f"{abs(difference):.1f}"
    keeps = f"{amount} {'more' if difference > 0 else 'fewer'} units than"
    if amount == "0.0":
        keeps = "as many units as"
    if effect["pairs"] == 1:
        interval = verdict
    elif low == high:
        interval = f"in each of {effect['pairs']} pairs"
    else:
        interval = f"95% CI {low:.1f} to {high:.1f}, {effect['pairs']} pairs"
    doubt = f": {verdict}" if verdict == "no difference shown" and low < high else ""
    return f"{value} keeps {keeps} {reference}, {interval}{doubt}"


def t_half_width(spread: Any, count: Any) -> Any:
    """Return half the width of the 95% t interval of a mean; NaN for fewer than two values.

    Args:
        spread: Standard deviation of the values (divided by N - 1), number or array.
        count: How many there are.
    """
    count = np.asarray(count, dtype=float)
    quantile = stdtrit(np.maximum(count - 1, 1), 0.975)
    return np.where(count > 1, quantile * spread / np.sqrt(np.maximum(count, 1)), np.nan)


def _effects_of(points: pd.DataFrame, units: "pd.Series[float]", name: str) -> pd.DataFrame:
    """The rows of one hyperparameter."""
    others = [other for other in points.columns if other != name]
    levels = points[name].drop_duplicates().sort_values(ignore_index=True)
    setting = _numbered_groups(points, [other for other in others if other not in SEEDS])
    cells = pd.DataFrame(
        {
            "setting": setting,
            "context": _numbered_groups(points, others),
            "level": numbered(points[name]),
            "units": units,
        }
    )
    # A point may be there twice, from studies with numerics of their own, and a family as often as
    # it has architectures: take the mean.
    cells = cells.groupby(["setting", "context", "level"])[["units"]].mean().reset_index()
    is_number = pd.api.types.is_numeric_dtype(levels)
    words = levels.map("{:.12g}".format) if is_number else levels
    partners = _next_levels(cells) if is_number else _other_levels(cells)
    pairs = cells.merge(partners, on=["setting", "level"]).merge(
        cells.rename(columns={"level": "partner"}),
        on=["setting", "context", "partner"],
        suffixes=("_reference", "_value"),
    )
    pairs["difference"] = pairs["units_value"] - pairs["units_reference"]
    differences = pairs.groupby(["level", "partner"])["difference"]
    found = differences.agg(["mean", "std", "count"]).reset_index()
    half = t_half_width(found["std"], found["count"])
    effects = pd.DataFrame(
        {
            "reference": found["level"].map(words),
            "value": found["partner"].map(words),
            "difference": found["mean"],
            "low": found["mean"] - half,
            "high": found["mean"] + half,
            "pairs": found["count"],
        }
    )
    effects["verdict"] = _effect_verdicts(effects)
    if effects.empty:
        effects = pd.DataFrame(index=[0], columns=list(_EFFECTS)).assign(pairs=0)
        effects["verdict"] = f"no pairs: no two trials differ in {name} alone"
    return effects.assign(hyperparameter=name)


def _numbered_groups(points: pd.DataFrame, columns: list[str]) -> "pd.Series[int]":
    if not columns:
        return pd.Series(0, index=points.index)
    return points.groupby(columns, dropna=False).ngroup()


def _next_levels(cells: pd.DataFrame) -> pd.DataFrame:
    """The next larger level that each setting was tried with: setting, level, partner.

    A setting has several seeds: a level that failed for one of them is not leapt over.
    """
    tried = cells[["setting", "level"]].drop_duplicates().sort_values(["setting", "level"])
    tried["partner"] = tried.groupby("setting")["level"].shift(-1)
    return tried.dropna().astype("int64")


def _other_levels(cells: pd.DataFrame) -> pd.DataFrame:
    """Every two of a setting's levels, each two once: setting, level, partner."""
    frequent = cells["level"].value_counts().index[:MOST_NAMES]
    tried = cells.loc[cells["level"].isin(frequent), ["setting", "level"]].drop_duplicates()
    both = tried.merge(tried.rename(columns={"level": "partner"}), on="setting")
    return both[both["level"] < both["partner"]]


def _effect_verdicts(effects: pd.DataFrame) -> NDArray[np.str_]:
    verdicts = np.where(effects["high"] < 0, "fewer units", "no difference shown")
    verdicts = np.where(effects["low"] > 0, "more units", verdicts)
    return np.where(effects["pairs"] == 1, "one pair: no interval", verdicts)
