"""What pruning spared: epochs that points given up did not train, and how far points got."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.search_goals import Goal, checked_goals

__all__ = ["points_by_epoch", "pruning_savings", "values_by_epoch"]


def pruning_savings(trials: pd.DataFrame) -> "pd.Series[float]":
    """Return how much training the pruned trials of a study were spared.

    Epochs are counted: pruned trials lack epochs − epochs_trained each. Seconds are an estimate:
    the same epochs at the pace of the trial's own ones (a trial's seconds are its equal share of
    its pack's). Diverged and failed trials count with what they trained; nothing was spared there.

    Args:
        trials: The `trials` table.

    Returns:
        trials; pruned (trials); epochs_trained (by all trials); epochs_saved; epochs_without (what
        would have been trained without pruning, the sum of both); share (of these that was saved;
        NaN where nothing was trained); seconds (of all trials) and seconds_saved (estimated).
    """
    numbers = trials[["epochs", "epochs_trained", "seconds"]].astype("float64")
    trained = numbers["epochs_trained"].fillna(0)
    pruned = trials["status"] == "pruned"
    saved = (numbers["epochs"] - trained).where(pruned, 0)
    pace = numbers["seconds"] / trained.where(trained > 0)  # seconds per epoch
    without = trained.sum() + saved.sum()
    return pd.Series(
        {
            "trials": len(trials),
            "pruned": pruned.sum(),
            "epochs_trained": trained.sum(),
            "epochs_saved": saved.sum(),
            "epochs_without": without,
            "share": saved.sum() / without if without else np.nan,
            "seconds": numbers["seconds"].sum(),
            "seconds_saved": (pace * saved).sum(),
        },
        dtype="float64",
    )


def points_by_epoch(points: pd.DataFrame) -> pd.DataFrame:
    """Count how many points trained each epoch, and how many would have without pruning.

    Args:
        points: As `search_points` returns them. Unfinished ones do not count.

    Returns:
        One row per epoch from 1 on: epoch; points (that all their trials trained so far); without
        (those and the ones that were pruned before, where they had so many epochs to go).
    """
    done = points[points["outcome"] != "unfinished"]
    reached = done["reached"].to_numpy(np.int64)
    asked = done["epochs"].to_numpy(np.int64)
    unpruned = np.where(done["outcome"] == "pruned", asked, reached)
    last = int(unpruned.max(initial=0))
    return pd.DataFrame(
        {
            "epoch": np.arange(1, last + 1),
            "points": _at_least(reached, last),
            "without": _at_least(unpruned, last),
        }
    )


def values_by_epoch(
    points: pd.DataFrame, epochs: pd.DataFrame, goal: Goal | tuple[Any, ...]
) -> pd.DataFrame:
    """Return what a pruner goes by: the goal's value of each point after every epoch.

    Args:
        points: As `search_points` returns them.
        epochs: The `epochs` table, or the rows of some trials; of points whose trials are not all
            among them nothing is returned.
        goal: The goal; its column is one of `epochs`.

    Returns:
        One row per point and epoch that all its trials reached: point, epoch, value (the mean over
        its trials, for a target its distance to it).
    """
    (goal,) = checked_goals([goal])  # type: ignore[list-item]
    members = points[["point", "trials", "trial_ids"]].explode("trial_ids")
    members = members.rename(columns={"trial_ids": "trial_id"})
    own = epochs.loc[epochs["epoch"] > 0, ["trial_id", "epoch", goal.column]]
    own = own.dropna().astype({goal.column: "float64"}).merge(members, on="trial_id")
    means = own.groupby(["point", "trials", "epoch"])[goal.column].agg(["mean", "size"])
    means = means.reset_index()
    means = means[means["size"] == means["trials"]]
    value = means["mean"] if goal.target is None else (means["mean"] - goal.target).abs()
    return means[["point", "epoch"]].assign(value=value).reset_index(drop=True)


def _at_least(reached: NDArray[np.int64], last: int) -> NDArray[np.int64]:
    """How many of the numbers are 1 or more, 2 or more, and so on up to the last."""
    counts = np.bincount(reached, minlength=last + 1)[1:]
    return counts[::-1].cumsum()[::-1]
