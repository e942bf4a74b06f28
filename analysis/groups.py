"""Which trials belong together: all that a study varies but latent_dim and seeds makes a group."""

import re

import pandas as pd

__all__ = [
    "describe_group",
    "describe_setting",
    "group_columns",
    "has_variance_part",
    "naturally",
    "setting_labels",
    "with_group_values",
]

ALWAYS = ("dataset", "architecture", "beta")
WHERE_VARIED = (
    "objective",
    "decoder",
    "decoder_variance",
    "initialisation",
    "learning_rate",
    "learning_rate_schedule",
    "batch_size",
    "epochs",
    "precision",
)
"""Hyperparameters that tell groups apart only in studies that vary them."""


def with_group_values(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials with a decoder_variance only where the user set it.

    A learned variance is a result: it differs from trial to trial and must not part them.
    """
    set_by_user = trials["decoder"] == "gaussian"
    return trials.assign(decoder_variance=trials["decoder_variance"].where(set_by_user))


def group_columns(trials: pd.DataFrame) -> list[str]:
    """Name the hyperparameters that tell a study's groups apart.

    Args:
        trials: The `trials` table of one study, or of several.

    Returns:
        dataset, architecture and beta, then whichever further hyperparameters vary. latent_dim,
        seed and data_seed are what a group's trials differ in; family, depth and widths are parts
        of the architecture's name. Group with `dropna=False`: decoder_variance may be null.
    """
    valued = with_group_values(trials)
    varied = [name for name in WHERE_VARIED if valued[name].nunique() > 1]
    return [*ALWAYS, *varied]


def describe_group(group: pd.Series) -> str:
    """Put a group into words: "dense-256-32-24, initialisation torch, on mnist, β = 1"."""
    return f"{describe_setting(group)} on {group['dataset']}, β = {group['beta']:g}"


def describe_setting(group: pd.Series) -> str:
    """Put a group into words without dataset and beta: "dense-256-32-24, initialisation torch"."""
    words = [str(group["architecture"])]
    for name in WHERE_VARIED:
        if name in group.index and not pd.isna(group[name]):
            value = group[name] if isinstance(group[name], str) else f"{group[name]:g}"
            words.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(words)


def setting_labels(trials: pd.DataFrame) -> "pd.Series[str]":
    """Return each row's setting in words; see `describe_setting`.

    Args:
        trials: Any frame with the columns that `group_columns` named, a row per trial or group.
    """
    settings = [name for name in ("architecture", *WHERE_VARIED) if name in trials.columns]
    distinct = trials[settings].drop_duplicates()
    labels = distinct.assign(setting=[describe_setting(row) for _, row in distinct.iterrows()])
    found = trials[settings].merge(labels, on=settings, how="left")["setting"]
    return found.set_axis(trials.index).astype("str")


def naturally(values: pd.Series) -> pd.Series:
    """Return a key for `sort_values` by which "manifold-2" comes before "manifold-10"."""
    if not pd.api.types.is_string_dtype(values):
        return values
    distinct = sorted(values.dropna().unique(), key=_natural_key)
    return values.map({value: place for place, value in enumerate(distinct)})


def _natural_key(text: str) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", text)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def has_variance_part(trials: pd.DataFrame) -> "pd.Series[bool]":
    """Tell the trials whose objective holds the KL's variance part with a weight above zero.

    The others are the paper's controls (quadratic penalty, no sampling) and beta = 0: the scale of
    their latent space is arbitrary, so neither the variance law nor a threshold on Var μ or on the
    KL means anything there.
    """
    return (trials["objective"] == "elbo") & (trials["beta"] > 0)
