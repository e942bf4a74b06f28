"""Which trials a report shows one by one, where a study has more than a page can carry."""

import pandas as pd

__all__ = ["notable_trials"]

MOST_TRIALS = 2_000
SHARE_OF_EACH = 0.15  # of the room, for each reason to be shown


def notable_trials(trials: pd.DataFrame, most: int = MOST_TRIALS, seed: int = 0) -> pd.DataFrame:
    """Choose the trials to show, and say of each why.

    Args:
        trials: The `trials` table.
        most: How many to show at most.
        seed: Seed of the sample.

    Returns:
        The chosen rows in the table's order, with a column `shown_because`: `all` where there is
        room for every trial; else failed, diverged, pruned, `law` (variance_law_mean farthest from
        1), each at most 15% of the room, and `sample`, a uniform sample of the rest.
    """
    if len(trials) <= most:
        return trials.assign(shown_because="all")
    room = int(SHARE_OF_EACH * most)
    reasons = pd.Series("", index=trials.index)
    for status in ("failed", "diverged", "pruned"):
        reasons[trials.index[trials["status"] == status][:room]] = status
    law = (trials.loc[reasons == "", "variance_law_mean"].astype("float64") - 1).abs()
    reasons[law.nlargest(room).index] = "law"
    rest = trials.index[reasons == ""].to_series()
    reasons[rest.sample(most - int((reasons != "").sum()), random_state=seed).index] = "sample"
    return trials.assign(shown_because=reasons)[reasons != ""]
