"""Which points of a search to draw where it has more than a page can carry."""

from typing import Final

import numpy as np
import pandas as pd

from analysis.search_goals import Goal
from analysis.search_points import best_so_far

__all__ = ["improvements", "points_to_follow", "points_to_show", "spread_over"]

MOST_POINTS: Final = 2_000
"""Points drawn as dots at most."""

MOST_CURVES: Final = 200
FEWEST_CURVES: Final = 20
MOST_EPOCHS: Final = 6_000
"""Epochs of all curves together, where that does not make them too few."""


def points_to_show(points: pd.DataFrame, keep: "pd.Series[bool]") -> pd.DataFrame:
    """Choose 2,000 points to draw as dots: those to keep, and others spread over the search."""
    return spread_over(points, keep, MOST_POINTS)


def points_to_follow(points: pd.DataFrame, goal: Goal) -> pd.DataFrame:
    """Choose the points whose values are drawn epoch by epoch.

    Args:
        points: As `search_points` returns them.
        goal: What is sought.

    Returns:
        200 of the points, or fewer where they trained long, 6,000 epochs together but never fewer
        than 20 points: those that were the best when they came, the last of them first, and others
        at equal distances in the order of the search.
    """
    trained = points[points["reached"] > 0]
    longest = int(trained["reached"].max()) if len(trained) else 1
    most = min(MOST_CURVES, max(FEWEST_CURVES, MOST_EPOCHS // longest))
    keep = pd.Series(False, index=trained.index)
    for _, of_dataset in trained.groupby("dataset"):
        keep |= improvements(of_dataset, goal).reindex(trained.index, fill_value=False)
    return spread_over(trained, keep, most)


def improvements(points: pd.DataFrame, goal: Goal) -> "pd.Series[bool]":
    """Tell which points were better than all before them."""
    best = best_so_far(points, goal)
    return best.notna() & (best != best.shift())


def spread_over(points: pd.DataFrame, keep: "pd.Series[bool]", most: int) -> pd.DataFrame:
    """Choose at most so many points to draw, in their order.

    Args:
        points: Points, a row each.
        keep: Which to draw in any case, by the index of the points; the last of them where they are
            too many.
        most: How many.

    Returns:
        All, where there are no more; else those to keep, and of the others as many as find room, at
        equal distances in their order.
    """
    if len(points) <= most:
        return points
    kept = np.flatnonzero(keep.loc[points.index].to_numpy(bool))[-most:]
    others = np.setdiff1d(np.arange(len(points)), kept)
    places = np.linspace(0, len(others) - 1, most - len(kept)).round().astype(int)
    return points.iloc[np.sort(np.concatenate([kept, others[places]]))]
