"""Where codes lie in latent space: numbers for every trial, with sampling beside without, points.

Test codes are those after training; a *trajectory* is the codes of a few training images along the
first epochs.
"""

from collections.abc import Collection
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.design_points import SEEDS, design_points
from analysis.group_words import naturally
from analysis.groups import varied_columns
from analysis.normality import (
    axis_ratio,
    henze_zirkler,
    mardia_kurtosis,
    mardia_skewness,
    prior_covered,
    prior_kl,
)

__all__ = [
    "MOST_GROUPS",
    "OBJECTIVES",
    "STATISTICS",
    "code_statistics",
    "code_table",
    "latent_points",
    "pair_columns",
    "sampling_pairs",
    "trials_to_show",
    "widest_units",
]

OBJECTIVES: Final = {
    "elbo": "with sampling",
    "no_sampling": "without sampling",
    "quadratic_penalty": "quadratic penalty",
}
"""In words, in the order to show them in."""

STATISTICS: Final = (
    "spread",
    "axis_ratio",
    "henze_zirkler",
    "skewness",
    "kurtosis",
    "prior_kl",
    "prior_covered",
)

VARIES: Final = 0.01  # of the variance of the unit that varies most
MOST_GROUPS: Final = 3

_COLUMNS = {"trial_id": "str", "images": "int64", "left_out": "int64", "units": "int64"}
_COLUMNS |= dict.fromkeys(STATISTICS, "float64")

Array = NDArray[np.float64]


def code_statistics(trials: pd.DataFrame, encodings: pd.DataFrame) -> pd.DataFrame:
    """Measure the shape of each trial's test codes, and how near they are to the prior.

    All are of the posterior means μ, as the paper's figure 3 draws them, over the units whose means
    vary: with at least 1% of the variance of the one that varies most. Units that are switched off
    would be a shape of rounding errors, and objectives without the KL's variance part have no
    scale of their own, so that an absolute threshold says nothing there.

    Args:
        trials: The `trials` table.
        encodings: Rows of `encodings` of any of them; time grows with the square of the images.

    Returns:
        One row per completed trial with test codes, sorted by trial_id: images, counted; left_out,
        those with a code that is not a number; units, that vary; spread, the root of the mean
        variance over these (1 for the prior); axis_ratio; henze_zirkler, mardia's skewness and
        kurtosis, the latter over that of a Gaussian, d(d + 2); prior_kl, of the aggregate
        posterior, which for no_sampling has no variance besides that of μ; prior_covered. See
        `analysis.normality`. Null where there are too few images or units to tell.
    """
    completed = trials[trials["status"] == "completed"].drop_duplicates("trial_id")
    samples = (completed.set_index("trial_id")["objective"] != "no_sampling").to_dict()
    chosen = encodings[(encodings["split"] == "test") & encodings["trial_id"].isin(list(samples))]
    rows = [
        {"trial_id": trial_id, **_statistics(codes, samples[str(trial_id)])}
        for trial_id, codes in chosen.groupby("trial_id")
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


def _statistics(rows: pd.DataFrame, samples: bool) -> dict[str, float]:
    mean, variance = (_matrix(_last_step(rows), name) for name in ("mean", "variance"))
    known = np.isfinite(mean).all(1)
    if samples:
        known &= np.isfinite(variance).all(1)
    mean, variance = mean[known], variance[known]
    variances = mean.var(0) if len(mean) else np.zeros(mean.shape[1])
    varies = (variances >= VARIES * variances.max()) & (variances > 0)
    codes = mean[:, varies]
    units = codes.shape[1]
    return {
        "images": len(codes),
        "left_out": int((~known).sum()),
        "units": units,
        "spread": float(np.sqrt(variances[varies].mean())) if units else np.nan,
        "axis_ratio": axis_ratio(codes),
        "henze_zirkler": henze_zirkler(codes).statistic,
        "skewness": mardia_skewness(codes).statistic,
        "kurtosis": mardia_kurtosis(codes).statistic / max(units * (units + 2), 1),
        "prior_kl": prior_kl(codes, variance[:, varies] if samples else None),
        "prior_covered": prior_covered(codes),
    }


def _last_step(rows: pd.DataFrame) -> pd.DataFrame:
    last: pd.DataFrame = rows[rows["step"] == rows["step"].max()]
    return last


def _matrix(rows: pd.DataFrame, name: str) -> Array:
    """Return one trial's values at one step, shape (images, units), in the order of both."""
    table = rows.pivot(index="image", columns="unit", values=name)
    return table.to_numpy(dtype=np.float64, na_value=np.nan)


def code_table(trials: pd.DataFrame, statistics: pd.DataFrame) -> pd.DataFrame:
    """Return the statistics of each trial beside what it was trained with, seed under seed.

    Args:
        trials: The `trials` table.
        statistics: What `code_statistics` returns.

    Returns:
        One row per trial: what differs of dataset, architecture, latent_dim, objective, beta, all
        other hyperparameters and seed, then the statistics; sorted by all of the former.
    """
    chosen = trials[trials["trial_id"].isin(statistics["trial_id"])]
    first = ["dataset", "architecture", "latent_dim", "objective", "beta"]
    others = [name for name in varied_columns(chosen) if name not in first]
    setting = [*first, *others, "data_seed", "seed"]
    table = chosen[["trial_id", *setting]].drop_duplicates("trial_id").merge(statistics)
    table = table.sort_values(setting, key=naturally, ignore_index=True)
    return table[[*(name for name in setting if table[name].nunique() > 1), *STATISTICS]]


def sampling_pairs(trials: pd.DataFrame, statistics: pd.DataFrame) -> pd.DataFrame:
    """Put trials trained with sampling beside those without that equal them in all else.

    Seeds included, and the number of images too: Henze and Zirkler's statistic grows with it. Pairs
    that lack a statistic on either side are left out, those of one unit among them.

    Args:
        trials: The `trials` table.
        statistics: What `code_statistics` returns.

    Returns:
        One row per pair, sorted: the hyperparameters as `analysis.design_points` has them, without
        objective; images; and each statistic twice, ending in _with and _without.
    """
    chosen = trials.merge(statistics, on="trial_id")
    points = design_points(chosen).assign(images=chosen["images"])
    shared = [name for name in points.columns if name != "objective"]
    sides = [
        pd.concat([points[shared], chosen[list(STATISTICS)].add_suffix(suffix)], axis=1)[
            points["objective"] == objective
        ]
        for objective, suffix in (("elbo", "_with"), ("no_sampling", "_without"))
    ]
    pairs = sides[0].merge(sides[1], on=shared)
    pairs = pairs.dropna(subset=[name for name in pairs.columns if name not in shared])
    return pairs.sort_values(shared, key=naturally, ignore_index=True)


def pair_columns(pairs: pd.DataFrame) -> list[str]:
    """Name what tells groups of pairs apart: dataset, architecture, latent_dim, β, what varies."""
    always = ["dataset", "architecture", "latent_dim", "beta"]
    first_statistic = list(pairs.columns).index(f"{STATISTICS[0]}_with")
    others = pairs.columns[:first_statistic].difference([*always, *SEEDS], sort=False)
    return always + [name for name in others if pairs[name].nunique(dropna=False) > 1]


def trials_to_show(
    trials: pd.DataFrame, with_rows: Collection[str], most: int = MOST_GROUPS
) -> pd.DataFrame:
    """Choose the trials whose latent space is drawn.

    Of each dataset, architecture and latent_dim, the smallest latent_dim with two units or more
    first, at most `most`; and of each objective there the completed trial with β nearest to 1, then
    the smallest seed, then the first in the table's order. In a grid the objectives are so shown at
    the same setting.

    Args:
        trials: The `trials` table.
        with_rows: Trials of which there is something to draw.
        most: Combinations of dataset, architecture and latent_dim.

    Returns:
        Their rows of `trials`, with a column `shown_group` that numbers the combinations from 0,
        in the order to show them in.
    """
    there = trials["trial_id"].isin(list(with_rows)) & (trials["status"] == "completed")
    kept = trials[there & trials["objective"].isin(list(OBJECTIVES))]
    with np.errstate(divide="ignore"):
        distance = np.abs(np.log(kept["beta"].to_numpy(dtype=np.float64)))
    objective = kept["objective"].map(list(OBJECTIVES).index)
    kept = kept.assign(distance=distance, order=objective, single=kept["latent_dim"] < 2)
    group = ["latent_dim", "dataset", "architecture"]
    kept = kept.sort_values(["distance", "seed"], kind="stable")
    kept = kept.groupby([*group, "objective"], sort=False).head(1)
    kept = kept.sort_values(["single", *group, "order"], key=naturally, ignore_index=True)
    number = kept.groupby(group, sort=False).ngroup()
    kept = kept.drop(columns=["distance", "order", "single"]).assign(shown_group=number)
    return kept[number < most]


def widest_units(rows: pd.DataFrame, most: int) -> list[int]:
    """Name up to `most` units whose μ varies most over the images at the last step, in order.

    Args:
        rows: Rows of `encodings` of one trial and one split.
        most: So many at most.
    """
    last = _last_step(rows)
    variances = last.groupby("unit")["mean"].var(ddof=0).fillna(0.0)
    largest = variances.sort_values(ascending=False, kind="stable").head(most)
    return sorted(int(unit) for unit in largest.index)


def latent_points(rows: pd.DataFrame, units: list[int]) -> pd.DataFrame:
    """Return codes as points, one row each.

    Args:
        rows: Rows of `encodings` of one trial and one split.
        units: Which units to keep.

    Returns:
        step, image, label (text; null without), variance (σ², the mean over these units), and μ of
        each unit as unit_0, unit_1, …, sorted by step and image. Points of which μ is not a number
        are left out; variance is null where it is not one.
    """
    kept = rows[rows["unit"].isin(units)]
    places = ["step", "image"]
    means = kept.pivot(index=places, columns="unit", values="mean").astype("float64")
    means.columns = pd.Index([f"unit_{unit}" for unit in means.columns])
    variance = kept["variance"].astype("float64").groupby([kept[name] for name in places]).mean()
    label = kept.groupby(places)["label"].first().astype("Int64").astype("str")
    points = means.assign(
        variance=variance.where(np.isfinite(variance)), label=label.where(label.notna(), None)
    )
    return (
        points[np.isfinite(means).all(axis=1)].reset_index().sort_values(places, ignore_index=True)
    )
