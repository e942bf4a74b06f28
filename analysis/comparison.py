"""Two studies, or two groups of one, side by side: trial by trial where trials have a partner."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from analysis.comparison_words import (
    ALL,
    describe_differences,
    describe_matching,
    describe_reproducibility,
    describe_side,
)
from analysis.group_words import naturally
from analysis.paired_effects import t_half_width
from analysis.pairing import (
    CONDITIONS,
    MEASURES,
    OF_LIKELIHOOD,
    SIDES,
    Match,
    comparable_sides,
    differing_hyperparameters,
    group_words,
    other_nats,
    pair_trials,
    shared_group_columns,
    unmatched_trials,
)

__all__ = ["ALL", "MEASURES", "Comparison", "compare_trials"]

_LARGEST = ["measure", "trials", "equal", "largest", "trial_id", *SIDES]
_DIFFERENCES = ["group", "matched_by", "measure", *SIDES, "difference", "low", "high"]
_DIFFERENCES += ["left_trials", "right_trials", "pairs"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What two sets of trials, left and right, have in common and where they differ.

    Attributes:
        summary: Sentences.
        differences: One row per group (`ALL` first), way of matching and measure: means left and
            right, difference (right minus left) with its 95% interval, left_trials and
            right_trials, pairs (0 where unpaired). Groups have rows where there are several; they
            leave out what is scattered (see `analysis.groups`).
        reproducibility: One row per measure over the trials with equal ids: their number, how many
            are exactly equal, and the trial with the largest difference.
        pairs: One row per pair: its group, ids (the first one where several trials of a point
            were averaged), numbers of trials, the hyperparameters that both sides share, values
            (`active_units_left`, …) and differences (`active_units`, …).
        unmatched: One row per trial without partner: side, trial_id, status, reason.
    """

    summary: list[str]
    differences: pd.DataFrame
    reproducibility: pd.DataFrame
    pairs: pd.DataFrame
    unmatched: pd.DataFrame


def compare_trials(
    left: pd.DataFrame,
    right: pd.DataFrame,
    match: Match = "auto",
    names: tuple[str, str] = ("left", "right"),
) -> Comparison:
    """Compare two trials tables: of two studies, or of two groups of one.

    Completed trials are paired by trial_id. Those left over are paired by their points: equal in
    all hyperparameters, seeds included, but for those of which the two sides share no value at all
    (β, say, where β = 1 is compared with β = 2); several trials of a side at one point are
    averaged. Paired differences have a t interval over the pairs. Where there are no pairs, or just
    one that averages several trials, the means of all trials are compared (Welch's t interval):
    whatever else differs between the sides is then mixed in.

    Controls, whose objective lacks the KL's variance part, have no active units and no variance
    law to compare, and nats of one likelihood or dataset are not those of another. Equal trial_ids
    promise equal results: see `Comparison.reproducibility`.

    Args:
        left: A `trials` table.
        right: Another; trials may be in both.
        match: "trial_id", "point" or "group" (unpaired) allows that way alone.
        names: What to call the two in words.

    Raises:
        ValueError: No such way to match.
    """
    if match not in ("auto", "trial_id", "point", "group"):
        raise ValueError(f"match: {match!r} is none of auto, trial_id, point, group")
    sides, hyperparameters, scattered = comparable_sides(left, right)
    differing = differing_hyperparameters(*sides, [*hyperparameters, *CONDITIONS])
    incomparable = other_nats(*sides, differing)
    if incomparable:
        unknown = dict.fromkeys(OF_LIKELIHOOD, np.nan)
        sides = sides[0].assign(**unknown), sides[1].assign(**unknown)
    shared = [name for name in hyperparameters if name not in differing]
    pairs = pair_trials(*sides, shared, match)
    groups = shared_group_columns(pd.concat(sides), [x for x in shared if x not in scattered])
    pairs.insert(0, "group", group_words(pairs, groups))
    averaged = pairs["left_trials"] + pairs["right_trials"] > 2
    if match == "auto" and (pairs.empty or (len(pairs) == 1 and averaged.all())):
        pairs, match = pairs.head(0), "group"
    if match == "group":
        grouped = (side.assign(group=group_words(side, groups)) for side in sides)
        differences = _unpaired_differences(*grouped)
    else:
        differences = _paired_differences(pairs)
    reproducibility = _reproducibility(pairs[pairs["matched_by"] == "trial_id"])
    unmatched = unmatched_trials((left, right), sides, pairs, shared)
    summary = [
        *(describe_side(*side) for side in zip(names, (left, right), strict=True)),
        *(f"they differ in {name}: {values}" for name, values in differing.items()),
        *describe_matching(pairs, unmatched, names, [x for x in differing if x not in CONDITIONS]),
        *describe_differences(differences, names),
        *([f"test ELBO and reconstruction are not compared: {incomparable}"] * bool(incomparable)),
        *describe_reproducibility(reproducibility, pairs),
    ]
    return Comparison(summary, differences, reproducibility, pairs, unmatched)


def _paired_differences(pairs: pd.DataFrame) -> pd.DataFrame:
    tables = []
    for name in MEASURES:
        known = pairs[pairs[name].notna()]
        by_group = _with_all(known).groupby(["group", "matched_by"], sort=False)
        table = by_group.agg(
            left=(f"{name}_left", "mean"),
            right=(f"{name}_right", "mean"),
            difference=(name, "mean"),
            spread=(name, "std"),
            left_trials=("left_trials", "sum"),
            right_trials=("right_trials", "sum"),
            pairs=(name, "size"),
        )
        half = t_half_width(table["spread"], table["pairs"])
        tables.append(table.assign(measure=name, half=half).reset_index())
    return _arranged(pd.concat(tables))


def _unpaired_differences(left: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    tables = []
    for name in MEASURES:
        of_sides = []
        for side, trials in zip(SIDES, (left, right), strict=True):
            by_group = _with_all(trials[trials[name].notna()]).groupby("group", sort=False)[name]
            found = by_group.agg(["mean", "std", "count"])
            of_sides.append(found.set_axis([side, f"{side}_spread", f"{side}_trials"], axis=1))
        table = of_sides[0].join(of_sides[1], how="inner").reset_index()
        half = _welch_half_width(
            *(table[f"{side}_{x}"] for x in ("spread", "trials") for side in SIDES)
        )
        difference = table["right"] - table["left"]
        table = table.assign(measure=name, matched_by="group", pairs=0, half=half)
        tables.append(table.assign(difference=difference))
    return _arranged(pd.concat(tables))


def _with_all(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows once as the group of all, and once more as their own groups."""
    return pd.concat([rows.assign(group=ALL), rows])


def _arranged(table: pd.DataFrame) -> pd.DataFrame:
    """Put `ALL` first and each group's measures in one place; a single group is `ALL` again."""
    table = table.assign(rest=table["group"] != ALL).reset_index(drop=True)
    counts = table[["left_trials", "right_trials"]]
    total = counts.groupby([table["measure"], table["matched_by"]]).transform("max")
    table = table[~table["rest"] | (counts < total).any(axis=1)]
    table = table.assign(low=table["difference"] - table["half"])
    table = table.assign(high=table["difference"] + table["half"])
    order = ["rest", "group", "matched_by"]
    arranged = table.sort_values(order, key=naturally, kind="stable", ignore_index=True)
    return arranged[_DIFFERENCES]


def _welch_half_width(
    left_spread: "pd.Series[float]",
    right_spread: "pd.Series[float]",
    left_count: "pd.Series[int]",
    right_count: "pd.Series[int]",
) -> "pd.Series[float]":
    """Half the width of Welch's 95% interval (1947), degrees of freedom by Satterthwaite (1946)."""
    left, right = left_spread**2 / left_count, right_spread**2 / right_count  # squared errors
    freedom = (left + right) ** 2 / (left**2 / (left_count - 1) + right**2 / (right_count - 1))
    half = pd.Series(stdtrit(freedom, 0.975), index=left.index) * np.sqrt(left + right)
    return half.where(left + right != 0, 0.0)


def _reproducibility(pairs: pd.DataFrame) -> pd.DataFrame:
    """See `Comparison.reproducibility`."""
    rows = []
    for name in MEASURES:
        known = pairs[pairs[name].notna()]
        if known.empty:
            continue
        largest = known.iloc[known[name].abs().argmax()]
        rows.append(
            {
                "measure": name,
                "trials": len(known),
                "equal": int((known[name] == 0).sum()),
                "largest": abs(largest[name]),
                "trial_id": largest["left_id"],
                "left": largest[f"{name}_left"],
                "right": largest[f"{name}_right"],
            }
        )
    return pd.DataFrame(rows, columns=_LARGEST)
