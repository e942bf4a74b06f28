"""The units of a study's own trial beside the paper's tables I and II."""

import pandas as pd

from analysis.final_units import final_units
from analysis.law_units import law_units
from analysis.paper import PAPER_NETS, paper_units
from analysis.paper_counts import trials_of_net

__all__ = ["beside_paper_table", "trial_for_paper_table"]


def trial_for_paper_table(trials: pd.DataFrame, units: pd.DataFrame, where: str) -> str | None:
    """Choose the trial to show beside a table of the paper.

    Of the trials whose count of active units is nearest to the paper's, the one that is nearest to
    convergence: whose farthest unit has a second moment, mean σ² + mean μ², nearest to 1.

    Args:
        trials: The `trials` table.
        units: The `units` table, whole or final.
        where: "table I" or "table II".

    Returns:
        Its trial_id; None if the study has no such net.
    """
    (net,) = [net for net in PAPER_NETS if net.where == where]
    chosen = trials_of_net(trials, net)
    measured = law_units(chosen, units)
    if measured.empty:
        return None
    far = (measured["second"] - 1).abs().groupby(measured["trial_id"]).max().rename("far")
    chosen = chosen.join(far, on="trial_id").dropna(subset="far")
    chosen = chosen.assign(off=(chosen["active_units"] - net.active).abs())
    return str(chosen.sort_values(["off", "far", "trial_id"])["trial_id"].iloc[0])


def beside_paper_table(units: pd.DataFrame, trial_id: str, where: str) -> pd.DataFrame:
    """Put a trial's final units beside a table of the paper, both in descending order of Var μ.

    The units of two nets have nothing to do with each other, so they are matched by rank.

    Args:
        units: The `units` table, whole or final, with the trial's units among them.
        trial_id: The trial.
        where: "table I" or "table II".

    Returns:
        One row per rank, from 1: mean_variance and posterior_variance of the paper's unit and of
        ours, and their sums, which the variance law says are 1 (`paper_…` are the paper's).
    """
    ours = final_units(units)
    ours = ours[ours["trial_id"] == trial_id]
    tables = paper_units()
    theirs = tables[tables["where"] == where]
    found = {}
    for prefix, rows in (("paper_", theirs), ("", ours)):
        ranked = rows.sort_values("mean_variance", ascending=False, ignore_index=True)
        for name in ("mean_variance", "posterior_variance"):
            found[prefix + name] = ranked[name]
        found[f"{prefix}sum"] = ranked["mean_variance"] + ranked["posterior_variance"]
    side_by_side = pd.DataFrame(found)
    side_by_side.insert(0, "rank", range(1, len(side_by_side) + 1))
    return side_by_side
