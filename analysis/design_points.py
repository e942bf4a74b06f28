"""Trials as points of the search space, to compare or to explain."""

from typing import Any, Final

import pandas as pd

from analysis.groups import ALWAYS, WHERE_VARIED, has_variance_part, with_set_variance

__all__ = ["SEEDS", "countable_trials", "design_points", "numbered", "varied_points"]

SEEDS: Final = ("seed", "data_seed")
"""What repetitions differ in: its importance is the noise that others have to exceed."""

HYPERPARAMETERS: Final = (*ALWAYS, "latent_dim", *WHERE_VARIED, *SEEDS)


def design_points(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the hyperparameters of each trial in a form in which equal points compare equal.

    Args:
        trials: The `trials` table of one study, or of several.

    Returns:
        One row per trial, on its index; one column per hyperparameter. A decoder's variance is part
        of the decoder ("gaussian 0.1") where decoders vary, since only one of them has it; a
        learned one is a result, and left out. Datasets of one name and several fingerprints are
        told apart. Family, depth and widths are in the architecture's name. Numbers are rounded to
        12 digits, so that 0.5 from a list and from a log range are one.
    """
    points = with_set_variance(trials)[list(HYPERPARAMETERS)]
    for name in ("beta", "learning_rate", "decoder_variance"):
        rounded = {value: float(f"{value:.12g}") for value in points[name].dropna().unique()}
        points[name] = points[name].map(rounded).astype(float)
    if points["decoder"].nunique() > 1:
        variance = points.pop("decoder_variance")
        with_variance = points["decoder"] + " " + variance.astype("str")
        points["decoder"] = points["decoder"].where(variance.isna(), with_variance)
    fingerprint = trials["dataset_fingerprint"]
    prints = fingerprint.groupby(trials["dataset"]).transform("nunique")
    named = trials["dataset"] + " (" + fingerprint.astype("str") + ")"
    return points.assign(dataset=points["dataset"].where(prints < 2, named))


def countable_trials(trials: pd.DataFrame, target: str) -> pd.DataFrame:
    """Return the completed trials with a target, each once; controls have no active units."""
    kept = (trials["status"] == "completed") & trials[target].notna()
    if target.startswith("active_units"):
        kept &= has_variance_part(trials)
    once = trials[kept].drop_duplicates("trial_id")
    return once.sort_values("trial_id", ignore_index=True)  # files may be read in any order


def varied_points(points: pd.DataFrame) -> pd.DataFrame:
    """Return the hyperparameters that are not the same in all of these trials."""
    return points.loc[:, points.nunique(dropna=False) > 1]


def numbered(values: "pd.Series[Any]") -> "pd.Series[int]":
    """Number the values in order, from 0; null comes last."""
    return values.rank(method="dense", na_option="bottom").astype("int64") - 1
