"""The variance law: mean σ² + Var μ = 1 for every unit of a converged VAE (equations 12, 13).

Two sums are taken of each unit, over the full training set:

    law     mean_x[σ²(x)] + Var_x[μ(x)]     equation 13, which the paper's tables are about
    second  mean_x[σ²(x)] + mean_x[μ²(x)]   equation 12, which is what is exactly stationary

Why the second is exact: scale one unit's μ and σ by c and let the decoder undo it. The
reconstruction stays as it is, and the KL's part that moves, ½ (c²·second - log c²), is least at
c² = 1 / second. So at a stationary point second = 1 for every β > 0, active or not. The first sum
is smaller by the square of the unit's mean. That goes to 0 as well, but slowly where β is small: on
MNIST at β = 0.25, after 40 epochs, the means over 16 units were 0.984 and 1.118.

The law is predicted where the objective has the KL's variance part (equation 14) with a weight
above zero; other objectives are controls and never mixed in. All variances divide by N, as the
paper's 0.00048 does. Completed trials only, each counted once, also where two studies hold it.
"""

import pandas as pd

from analysis.final_units import final_units
from analysis.group_words import describe_group, naturally
from analysis.groups import group_columns, has_variance_part, with_group_values

__all__ = ["SUMS", "law_units", "units_with_sums", "with_group_numbers"]

SUMS = {"law": "mean σ² + Var μ", "second": "mean σ² + mean μ²"}


def law_units(trials: pd.DataFrame, units: pd.DataFrame, controls: bool = False) -> pd.DataFrame:
    """Return the final units with both sums, for charts and for statistics of one's own.

    Args:
        trials: The `trials` table.
        units: The `units` table, whole or final.
        controls: Take the trials in which the law is not predicted, not those in which it is.

    Returns:
        One row per unit: unit, posterior_variance (mean σ²), mean_variance (Var μ), active,
        kl (nats per image), law, second; trial_id, latent_dim and beta of its trial, and group, in
        words.
    """
    chosen, groups = with_group_numbers(trials, controls)
    rows = units_with_sums(chosen, final_units(units), "active", "kl")
    place = rows["place"].to_numpy()
    words = pd.Series([describe_group(row) for _, row in groups.iterrows()], dtype="str")
    labels, categories = pd.factorize(words)  # rounding may give two groups one name
    group = chosen["group"].to_numpy()[place]
    return rows.drop(columns=["place", "epoch", "second_moment"]).assign(
        trial_id=chosen["trial_id"].to_numpy()[place],
        latent_dim=chosen["latent_dim"].to_numpy()[place],
        beta=chosen["beta"].to_numpy()[place],
        group=pd.Categorical.from_codes(labels[group], categories),
    )


def with_group_numbers(trials: pd.DataFrame, controls: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the completed trials with or without the prediction, and their groups.

    Returns:
        The trials, with their group's number in a column `group`; the groups in natural order, a
        row each, their number as index.
    """
    completed = trials[trials["status"] == "completed"].drop_duplicates("trial_id")
    names = group_columns(completed)
    if controls and "objective" not in names:
        names.append("objective")
    chosen = has_variance_part(completed) != controls
    valued = with_group_values(completed).loc[chosen, names]
    groups = valued.drop_duplicates().sort_values(names, key=naturally, ignore_index=True)
    # Merging joins null to null, and keeps the rows in order.
    numbered = valued.merge(groups.assign(number=groups.index), on=names, how="left")
    return completed[chosen].assign(group=numbered["number"].to_numpy()), groups


def units_with_sums(trials: pd.DataFrame, recorded: pd.DataFrame, *further: str) -> pd.DataFrame:
    """Return the units of some trials, each once, with both sums.

    Args:
        trials: The trials, each once.
        recorded: Rows of `units`.
        *further: Further columns of `units` to keep.

    Returns:
        A row per epoch and unit that is recorded: epoch, unit, the statistics, the further columns,
        place (the number of the trial's row), law, second.
    """
    place = pd.Index(trials["trial_id"]).get_indexer(pd.Index(recorded["trial_id"]))
    statistics = ["posterior_variance", "mean_variance", "second_moment"]
    names = dict.fromkeys(["epoch", "unit", *statistics, *further])
    rows: pd.DataFrame = recorded.loc[place >= 0, list(names)]
    rows = rows.assign(**rows[statistics].astype("float64"), place=place[place >= 0])
    again = rows.duplicated(["place", "epoch", "unit"])
    rows = rows[~again] if again.any() else rows  # a copy less, of millions of rows
    return rows.assign(
        law=rows["posterior_variance"] + rows["mean_variance"],
        second=rows["posterior_variance"] + rows["second_moment"],
    ).reset_index(drop=True)
