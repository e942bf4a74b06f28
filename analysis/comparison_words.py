"""A comparison in sentences."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from analysis.pairing import MEASURES, SIDES

__all__ = [
    "ALL",
    "describe_differences",
    "describe_matching",
    "describe_reproducibility",
    "describe_side",
]

ALL: Final = "all"
"""The group of all trials."""


def describe_side(name: str, trials: pd.DataFrame) -> str:
    """Say how many trials of a side completed, and how the others ended."""
    counts = trials["status"].value_counts()
    rest = [f"{count} {status}" for status, count in counts.items() if status != "completed"]
    completed = f"{name}: {counts.get('completed', 0)} of {len(trials)} trials completed"
    return ", ".join([completed, *rest])


def describe_matching(
    pairs: pd.DataFrame, unmatched: pd.DataFrame, names: tuple[str, str], parted_by: list[str]
) -> Iterator[str]:
    """Say how many pairs there are, by what, and who has no partner."""
    same = f"in all but {' and '.join(parted_by)}" if parted_by else "in all hyperparameters"
    ways = {"trial_id": "trials with equal ids", "point": f"points that are equal {same}"}
    for way, found in pairs.groupby("matched_by", sort=False):
        trials = [int(found[f"{side}_trials"].sum()) for side in SIDES]
        averages = f" (means of {trials[0]} and {trials[1]} trials)" * (max(trials) > len(found))
        yield f"{len(found)} pairs of {ways[str(way)]}{averages}"
    if len(pairs):
        alone = [int((unmatched["side"] == side).sum()) for side in SIDES]
        yield f"without partner: {alone[0]} trials of {names[0]}, {alone[1]} of {names[1]}"


def describe_differences(differences: pd.DataFrame, names: tuple[str, str]) -> Iterator[str]:
    """Say by how much active units and the ELBO differ over all trials."""
    told = (differences["group"] == ALL) & differences["measure"].isin(
        ["active_units", "test_elbo"]
    )
    if (differences["matched_by"] == "group").any():
        yield "no pairs: means of all trials are compared, whatever else differs is mixed in"
    for _, row in differences[told].iterrows():
        how = f"{row['pairs']} pairs of equal {row['matched_by']}" if row["pairs"] else "unpaired"
        interval = "no interval"
        if not np.isnan(row["low"]):
            interval = f"95% CI {row['low']:.2f} to {row['high']:.2f}"
        yield (
            f"{MEASURES[row['measure']]}: {row['left']:.2f} in {names[0]}, {row['right']:.2f} in "
            f"{names[1]}, difference {row['difference']:+.2f} ({interval}, {how})"
        )


def describe_reproducibility(reproducibility: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
    """Say whether trials with equal ids have equal results."""
    if pairs["one_run"].any():
        yield f"{pairs['one_run'].sum()} of the pairs with equal ids are one run, there twice"
    other = reproducibility[reproducibility["largest"] > 0]
    if len(reproducibility) and other.empty:
        yield "trials with equal ids have exactly equal results"
    for _, row in other.iterrows():
        yield (
            f"equal ids: {row['measure']} differs in {row['trials'] - row['equal']} of "
            f"{row['trials']} trials, by {row['largest']:.3g} at most (trial {row['trial_id']})"
        )
