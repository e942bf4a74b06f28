"""How many units were given up under noise, and came back without it, over trials."""

import pandas as pd

from analysis.deterioration import FOLLOWED
from analysis.groups import group_columns, with_group_values

__all__ = ["deterioration_by_group", "deterioration_by_schedule"]

_COUNTS = ["trials", "paid", "fell", "collapsed", "collapsed_later"]
_COUNTS += [verdict.replace(" ", "_") for verdict in FOLLOWED]
_PAID = (*FOLLOWED, "never fell below", "not followed")


def deterioration_by_schedule(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Count what became of the units of trials to which the same was done.

    Args:
        outcomes: What `deterioration_by_trial` returns; rows without a schedule do not count.

    Returns:
        One row per schedule, that of most trials first: schedule and increment; trials; paid, in
        how many the law of the experiment holds (see `deterioration_by_trial`) and the unit paid
        for itself before the noise. Of these fell, in how many the gain fell below β·KL, at a noise
        of least_noise to most_noise; collapsed and collapsed_later, in how many mean σ² then rose
        above the threshold under the noise, and after it; recovered, recovered_in_part, relapsed
        and did_not_recover, the verdicts. Over those with one of these verdicts: recovery_epochs,
        epochs after the noise; last_share (median), least_share and most_share of the initial gain
        in the last epoch; best_share (median), the largest after the noise. used_after is the
        median over those that were ever in use again.
    """
    found = _summary(_counted(outcomes), ["schedule", "increment"])
    return found.sort_values("trials", ascending=False, kind="stable", ignore_index=True)


def deterioration_by_group(outcomes: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Count what became of the units of trials that differ in their seeds alone.

    Args:
        outcomes: What `deterioration_by_trial` returns; rows without a schedule do not count.
        trials: The `trials` table.

    Returns:
        One row per group, by the columns that `group_columns` names for these trials, and schedule,
        with the columns of `deterioration_by_schedule`.
    """
    counted = _counted(outcomes)
    probed = trials[trials["trial_id"].isin(counted["trial_id"])].drop_duplicates("trial_id")
    groups = group_columns(probed)
    valued = with_group_values(probed)[["trial_id", *groups]]
    return _summary(valued.merge(counted, on="trial_id"), [*groups, "schedule", "increment"])


def _counted(outcomes: pd.DataFrame) -> pd.DataFrame:
    """One row per trial that counts: what is summed up, null or False where it does not apply."""
    rows = outcomes[outcomes["schedule"].notna()]
    followed = rows["verdict"].isin(FOLLOWED)
    paid = rows["verdict"].isin(_PAID)
    fell = paid & rows["fell_epoch"].notna()
    return pd.DataFrame(
        {
            "trial_id": rows["trial_id"],
            "schedule": rows["schedule"],
            "increment": rows["increment"],
            "trials": True,
            "paid": paid,
            "fell": fell,
            "collapsed": fell & rows["collapse"].eq("under the noise"),
            "collapsed_later": fell & rows["collapse"].eq("after it"),
            **{verdict.replace(" ", "_"): rows["verdict"] == verdict for verdict in FOLLOWED},
            "fell_noise": rows["fell_noise"].where(fell),
            **{
                name: rows[name].astype("float64").where(followed)
                for name in ("recovery_epochs", "used_after", "last_share", "best_share")
            },
        }
    )


def _summary(counted: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    by = counted.groupby(keys, dropna=False)
    counts = by[_COUNTS].sum()
    values = by.agg(
        least_noise=("fell_noise", "min"),
        most_noise=("fell_noise", "max"),
        recovery_epochs=("recovery_epochs", "max"),
        used_after=("used_after", "median"),
        last_share=("last_share", "median"),
        least_share=("last_share", "min"),
        most_share=("last_share", "max"),
        best_share=("best_share", "median"),
    )
    return counts.join(values).reset_index()
