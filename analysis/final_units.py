"""The units of each trial as they were when it ended: what counts and laws are taken from."""

import pandas as pd

__all__ = ["final_units"]


def final_units(units: pd.DataFrame, split: str = "train") -> pd.DataFrame:
    """Return each trial's units at its last recorded epoch, over the images of one split.

    Args:
        units: The `units` table, whole or already reduced: reducing twice changes nothing.
        split: train (the full training set, which the paper's figures are over) or test.
    """
    chosen = units[units["split"] == split]
    last = chosen.groupby("trial_id")["epoch"].transform("max")
    return chosen[chosen["epoch"] == last]
