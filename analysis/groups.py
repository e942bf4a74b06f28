"""Which trials belong together: all that a study varies but latent_dim and seeds makes a group.

In a random search nearly every trial has a β and a learning rate of its own, so groups of equal
values would hold a trial each and say nothing. Such hyperparameters are *scattered*; see
`scattered_columns`. β and the decoder's variance set the price of a unit, so groups keep them, as
ranges. How it was trained (learning rate, batch size, epochs) is left out of the grouping: a group
then mixes all of it. Architectures that are scattered make one group per family.
"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "ALWAYS",
    "ANY",
    "WHERE_VARIED",
    "group_columns",
    "has_variance_part",
    "into_ranges",
    "points_of",
    "range_ends",
    "scattered_columns",
    "varied_columns",
    "with_group_values",
    "with_set_variance",
]

ALWAYS: Final = ("dataset", "architecture", "beta")
WHERE_VARIED: Final = (
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

NUMBERS: Final = ("beta", "decoder_variance", "learning_rate", "batch_size", "epochs")
NAMES: Final = tuple(name for name in (*ALWAYS, *WHERE_VARIED) if name not in NUMBERS)
RANGED: Final = ("beta", "decoder_variance")
"""Those of the numbers that groups keep as ranges where they are scattered."""

ANY: Final = "any "
"""Stands before the family in the group of all its architectures: "any dense"."""

FEW_VALUES: Final = 8
"""So many values make so many groups, however they were tried."""

ENOUGH: Final = 8
"""A value that meets half as many of another hyperparameter's values is not taken for random."""

POINTS_PER_RANGE: Final = 10
"""Where the ranges 1, 2, 5, 10, … of most points hold fewer points than this, decades are taken."""


def varied_columns(trials: pd.DataFrame) -> list[str]:
    """Name dataset, architecture and beta, then whichever further hyperparameters vary.

    latent_dim and the seeds, which trials of a group differ in, are not among them; family, depth
    and widths are parts of the architecture's name.
    """
    valued = with_set_variance(trials)
    return [*ALWAYS, *(name for name in WHERE_VARIED if valued[name].nunique() > 1)]


def group_columns(trials: pd.DataFrame) -> list[str]:
    """Name the columns of `with_group_values` that tell a study's groups apart.

    Args:
        trials: The `trials` table of one study, or of several.

    Returns:
        dataset, architecture and beta, then whichever further hyperparameters vary and are not
        left out; after beta and decoder_variance, where they are ranges, the ranges' ends. Group
        with `dropna=False`: decoder_variance may be null.
    """
    valued = with_group_values(trials)
    columns = []
    for name in (*ALWAYS, *WHERE_VARIED):
        ends = [end for end in range_ends(name) if end in valued]
        if name in ALWAYS or ends or valued[name].nunique() > 1:
            columns += [name, *ends]
    return columns


def range_ends(name: str) -> tuple[str, str]:
    """Name the columns that hold the ends of a scattered hyperparameter's ranges."""
    return f"{name}_from", f"{name}_to"


def with_group_values(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials with what they have in common with the others of their group.

    Args:
        trials: A `trials` table. Ranges are chosen for what is in it, so groups of a part of a
            study are to be taken from the whole table's values.

    Returns:
        The trials with decoder_variance only where the user set it. A scattered beta or
        decoder_variance is the middle of its range (on a logarithmic scale), and the ends are in
        columns of their own, the lower one included: beta_from <= β < beta_to. Zero is a range by
        itself. A scattered architecture is "any dense", "any conv", and what else is scattered is
        null.
    """
    valued = with_set_variance(trials)
    points, families = _points_by_family(trials)
    for name in _scattered_numbers(points):
        if name in RANGED:
            valued = into_ranges(valued, name, _steps(points, name))
        else:
            valued = valued.assign(**{name: np.nan})
    return _by_family(valued, families)


def with_set_variance(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials with decoder_variance only where the user set it.

    A learned variance is a result: it differs from trial to trial and must not part them.
    """
    set_by_user = trials["decoder"] == "gaussian"
    variance = pd.to_numeric(trials["decoder_variance"]).astype("float64")
    return trials.assign(decoder_variance=variance.where(set_by_user))


def into_ranges(trials: pd.DataFrame, name: str, steps: tuple[int, ...]) -> pd.DataFrame:
    """Return the trials with a number replaced by the middle of its range, and the ends beside it.

    Args:
        trials: Any frame with the column.
        name: The column; no value is negative.
        steps: Where ranges begin within each decade: (1, 2, 5), say.
    """
    values = trials[name].astype("float64")
    positive = values[values > 0]
    first, last = np.floor(np.log10([positive.min(), positive.max()])).astype(int)
    # Read from text, so that a range ends where people write its end.
    edges: NDArray[np.float64] = np.array(
        [float(f"{step}e{power}") for power in range(first - 1, last + 3) for step in steps]
    )
    place = np.searchsorted(edges, values.where(values > 0, positive.min()), side="right")
    low, high = (
        pd.Series(edges[place + by], index=values.index).where(values > 0, values) for by in (-1, 0)
    )
    ends = dict(zip(range_ends(name), (low, high), strict=True))
    return trials.assign(**{name: np.sqrt(low * high)}, **ends)


def scattered_columns(trials: pd.DataFrame) -> list[str]:
    """Name the hyperparameters that have too many values to make groups, as random searches do.

    A number is scattered if it has more than `FEW_VALUES` values and if there is another number,
    latent_dim among them, of whose values it meets half or fewer: on average over its values, names
    being equal, and of eight where there are more. In a grid each value meets each. The
    architectures of a family are if, besides, there are fewer than two points (trials, seeds apart)
    per architecture.

    Args:
        trials: A `trials` table; completed trials count, or all if none has completed.
    """
    points, families = _points_by_family(trials)
    return [*(["architecture"] if families else []), *_scattered_numbers(points)]


def points_of(trials: pd.DataFrame) -> "pd.Series[int]":
    """Number the points of the search space: trials of one point differ in their seeds alone."""
    columns = [*ALWAYS, *WHERE_VARIED, "latent_dim"]
    return with_set_variance(trials).groupby(columns, dropna=False).ngroup()


def has_variance_part(trials: pd.DataFrame) -> "pd.Series[bool]":
    """Tell the trials whose objective holds the KL's variance part with a weight above zero.

    The others are the paper's controls (quadratic penalty, no sampling) and beta = 0: the scale of
    their latent space is arbitrary, so neither the variance law nor a threshold on Var μ or on the
    KL means anything there.
    """
    return (trials["objective"] == "elbo") & (trials["beta"] > 0)


def _points_by_family(trials: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The different points that say what is scattered, and the families whose architectures are.

    A point is a row for all that differ in seeds alone, and the architectures of such a family are
    one. There are no points where nothing has enough values to be scattered.
    """
    if all(trials[name].nunique() <= FEW_VALUES for name in ("architecture", *NUMBERS)):
        return trials.head(0), []
    completed = trials[trials["status"] == "completed"]
    of_some = with_set_variance(trials if completed.empty else completed)
    points = of_some[[*ALWAYS, *WHERE_VARIED, "family", "latent_dim"]].drop_duplicates()
    families = _scattered_families(points)
    return _by_family(points, families), families


def _scattered_families(points: pd.DataFrame) -> list[str]:
    return [
        str(family)
        for family, members in points.groupby("family")
        if len(members) < 2 * members["architecture"].nunique()
        and _is_scattered(members, "architecture")
    ]


def _by_family(trials: pd.DataFrame, families: list[str]) -> pd.DataFrame:
    """Take the architectures of these families as one each."""
    if not families:
        return trials
    taken = trials["family"].isin(families)
    names = (ANY + trials["family"]).where(taken, trials["architecture"])
    return trials.assign(architecture=names)


def _scattered_numbers(points: pd.DataFrame) -> list[str]:
    return [name for name in NUMBERS if _is_scattered(points, name)]


def _is_scattered(points: pd.DataFrame, name: str) -> bool:
    if points[name].nunique() <= FEW_VALUES:
        return False
    others = [other for other in ("latent_dim", *NUMBERS) if other != name]
    return any(_meets_few(points, name, other) for other in others)


def _meets_few(points: pd.DataFrame, name: str, other: str) -> bool:
    """Whether a value meets half or fewer of another hyperparameter's values, names being equal."""
    names = [column for column in NAMES if column != name]
    met = points[[*names, name, other]].dropna(subset=[name, other]).drop_duplicates()
    there_are = met.groupby(names)[other].transform("nunique").clip(upper=ENOUGH)
    by_value = met.assign(there_are=there_are).groupby([*names, name])["there_are"]
    return bool(0 < 2 * by_value.size().sum() <= by_value.first().sum())


def _steps(points: pd.DataFrame, name: str) -> tuple[int, ...]:
    """Choose where ranges begin within each decade."""
    points = points.dropna(subset=name).drop_duplicates([*NAMES, name, "latent_dim"])
    sizes = into_ranges(points, name, (1, 2, 5)).groupby([*NAMES, name]).size()
    size_for_a_point = (sizes**2).sum() / sizes.sum()  # settings of few points weigh little
    return (1, 2, 5) if size_for_a_point >= POINTS_PER_RANGE else (1,)
