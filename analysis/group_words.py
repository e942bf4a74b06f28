"""Groups in words, and in the order in which people would list them."""

import re
from collections.abc import Iterable
from typing import Final

import pandas as pd

from analysis.groups import WHERE_VARIED, range_ends

__all__ = [
    "beta_words",
    "describe_group",
    "describe_setting",
    "hyperparameter_words",
    "in_natural_order",
    "naturally",
    "setting_labels",
    "without_common",
]

_PHRASES: Final = {
    "objective": "{}",
    "decoder": "{}",
    "initialisation": "{} init",
    "learning_rate_schedule": "{} rate",
    "batch_size": "batches of {}",
    "epochs": "{} epochs",
    "precision": "{}",
}
_NUMBER: Final = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)")


def describe_group(group: pd.Series) -> str:
    """Put a group into words: "dense-256-32-24, torch init on mnist, β = 1"."""
    return f"{describe_setting(group)} on {group['dataset']}, {_beta_words(group)}"


def describe_setting(group: pd.Series) -> str:
    """Put a group into words without dataset and beta: "dense-256-32-24, torch init"."""
    return ", ".join([str(group["architecture"]), *_varied_words(group)])


def without_common(groups: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Part what some groups have in common from what tells them apart.

    Args:
        groups: A row per group, with the columns that `group_columns` named.

    Returns:
        The groups without those hyperparameters that are the same for all, and these in words:
        "bernoulli, 40 epochs"; "" where there are none, where there is one group only, and
        where groups are of ranges of values.
    """
    varied = [name for name in WHERE_VARIED if name in groups.columns]
    ranges = {end for name in varied for end in range_ends(name)}
    if len(groups) < 2 or ranges & set(groups.columns):
        return groups, ""
    same = [name for name in varied if groups[name].eq(groups[name].iloc[0]).all()]
    return groups.drop(columns=same), ", ".join(_varied_words(groups.iloc[0][same]))


def _varied_words(group: pd.Series) -> list[str]:
    words = []
    for name in WHERE_VARIED:
        if name in group.index and not pd.isna(group[name]):
            value = group[name] if isinstance(group[name], str) else _number_words(group, name)
            words.append(hyperparameter_words(name, value))
    return words


def hyperparameter_words(name: str, value: str) -> str:
    """Return the value of a hyperparameter in words: "40 epochs", "decoder variance 0.5"."""
    return _PHRASES.get(name, f"{name.replace('_', ' ')} {{}}").format(value)


def setting_labels(trials: pd.DataFrame) -> "pd.Series[str]":
    """Return each row's setting in words; see `describe_setting`.

    Args:
        trials: Any frame with the columns that `group_columns` named, a row per trial or group.
    """
    settings = ["architecture", *WHERE_VARIED, *range_ends("decoder_variance")]
    settings = [name for name in settings if name in trials.columns]
    distinct = trials[settings].drop_duplicates()
    labels = distinct.assign(setting=[describe_setting(row) for _, row in distinct.iterrows()])
    found = trials[settings].merge(labels, on=settings, how="left")["setting"]
    return found.set_axis(trials.index).astype("str")


def beta_words(groups: pd.DataFrame) -> "pd.Series[str]":
    """Return the β of each row of groups in words: "β = 0.5", or "β 0.5 to 1" of a range."""
    words = [_beta_words(row) for _, row in groups.iterrows()]
    return pd.Series(words, index=groups.index, dtype="str")


def _beta_words(group: pd.Series) -> str:
    return f"β {'' if _is_range(group, 'beta') else '= '}{_number_words(group, 'beta')}"


def naturally(values: pd.Series) -> pd.Series:
    """Return a key for `sort_values` by which "manifold-2" comes before "manifold-10"."""
    if not pd.api.types.is_string_dtype(values):
        return values
    distinct = in_natural_order(values.dropna())
    return values.map({value: place for place, value in enumerate(distinct)})


def in_natural_order(texts: Iterable[str]) -> list[str]:
    """Return the different texts with the numbers in them in order: "beta 2" before "beta 10"."""
    return sorted(set(texts), key=_natural_key)


def _natural_key(text: str) -> list[tuple[bool, float, str]]:
    parts = enumerate(_NUMBER.split(text))  # every other part is a number
    return [(bool(i % 2), float(part) if i % 2 else 0.0, part) for i, part in parts]


def _is_range(group: pd.Series, name: str) -> bool:
    low, high = range_ends(name)
    return low in group.index and bool(group[low] < group[high])


def _number_words(group: pd.Series, name: str) -> str:
    if _is_range(group, name):
        low, high = range_ends(name)
        return f"{group[low]:g} to {group[high]:g}"
    return f"{group[name]:g}"
