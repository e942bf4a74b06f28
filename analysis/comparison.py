"""Two studies, or two groups of one, side by side: trial by trial where trials have a partner."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from analysis.groups import ALWAYS, has_variance_part
from analysis.sparsity_drivers import SEEDS, design_points, t_half_width

__all__ = ["ALL", "MEASURES", "Comparison", "compare_trials"]

MEASURES: Final = {
    "active_units": "active units",
    "test_elbo": "test ELBO (nats per image)",
    "test_kl": "test KL (nats per image)",
    "test_reconstruction": "test reconstruction (nats per image)",
    "variance_law_mean": "variance law, mean over units",
}
"""What is compared, in words. A higher ELBO is better, a higher reconstruction term worse."""

ALL: Final = "all"
"""The group of all trials."""

CONDITIONS: Final = ("device", "numerics_version", "version")
"""What may differ between runs of one point, and move its numbers."""

Match = Literal["auto", "trial_id", "point", "group"]

SIDES: Final = ("left", "right")

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
            right_trials, pairs (0 where unpaired). Groups have rows where there are several.
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
    law to compare. Equal trial_ids promise equal results: see `Comparison.reproducibility`.

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
    sides, hyperparameters = _sides(left, right)
    differing = _differing(*sides, [*hyperparameters, *CONDITIONS])
    shared = [name for name in hyperparameters if name not in differing]
    pairs = _pairs(*sides, shared, match)
    groups = _group_columns(pd.concat(sides), shared)
    pairs.insert(0, "group", _group_words(pairs, groups))
    averaged = pairs["left_trials"] + pairs["right_trials"] > 2
    if match == "auto" and (pairs.empty or (len(pairs) == 1 and averaged.all())):
        pairs, match = pairs.head(0), "group"
    if match == "group":
        grouped = (side.assign(group=_group_words(side, groups)) for side in sides)
        differences = _unpaired_differences(*grouped)
    else:
        differences = _paired_differences(pairs)
    reproducibility = _reproducibility(pairs[pairs["matched_by"] == "trial_id"])
    unmatched = _unmatched((left, right), sides, pairs, shared)
    summary = [
        *(_describe_side(*side) for side in zip(names, (left, right), strict=True)),
        *(f"they differ in {name}: {values}" for name, values in differing.items()),
        *_describe_matching(pairs, unmatched, names, [x for x in differing if x not in CONDITIONS]),
        *_describe_differences(differences, names),
        *_describe_reproducibility(reproducibility, pairs),
    ]
    return Comparison(summary, differences, reproducibility, pairs, unmatched)


def _sides(
    left: pd.DataFrame, right: pd.DataFrame
) -> tuple[tuple[pd.DataFrame, pd.DataFrame], list[str]]:
    """Completed trials, each once, at their points; and the names of the hyperparameters."""
    kept = [
        trials[trials["status"] == "completed"].drop_duplicates("trial_id").assign(side=side)
        for side, trials in enumerate((left, right))
    ]
    both = pd.concat(kept, ignore_index=True)
    points = design_points(both)
    measures = both[list(MEASURES)].astype(float)
    for name in ("active_units", "variance_law_mean"):
        measures[name] = measures[name].where(has_variance_part(both))
    carried = both[["trial_id", "started_at", *CONDITIONS]]
    table = pd.concat([carried, points, measures], axis=1)
    return (table[both["side"] == 0], table[both["side"] == 1]), list(points.columns)


def _differing(left: pd.DataFrame, right: pd.DataFrame, names: list[str]) -> dict[str, str]:
    """Those of which the two sides share no value, in words."""
    if left.empty or right.empty:
        return {}
    return {
        name: f"{_listed(left[name])} against {_listed(right[name])}"
        for name in names
        if not left[name].drop_duplicates().isin(right[name].drop_duplicates()).any()
    }


def _listed(values: "pd.Series[Any]", most: int = 5) -> str:
    found = values.drop_duplicates().sort_values()
    words = [f"{value:g}" if isinstance(value, float) else str(value) for value in found]
    return ", ".join([*words[:most], *(["…"] if len(words) > most else [])])


def _pairs(
    left: pd.DataFrame, right: pd.DataFrame, shared: list[str], match: Match
) -> pd.DataFrame:
    """One row per pair; see `Comparison.pairs`."""
    both = left["trial_id"].isin(right["trial_id"]) & (match in ("auto", "trial_id"))
    ids = left.loc[both, "trial_id"]
    is_left, is_right = left["trial_id"].isin(ids), right["trial_id"].isin(ids)
    same_id = _joined(left[is_left], right[is_right], ["trial_id"], shared)
    if match not in ("auto", "point") or not shared:
        is_left, is_right = is_left | True, is_right | True
    same_point = _joined(left[~is_left], right[~is_right], shared or ["trial_id"], shared)
    tables = [same_id.assign(matched_by="trial_id"), same_point.assign(matched_by="point")]
    return pd.concat(tables, ignore_index=True)


def _joined(
    left: pd.DataFrame, right: pd.DataFrame, on: list[str], shared: list[str]
) -> pd.DataFrame:
    """Average each side's trials that are equal in some columns, and join the sides on these."""
    first = [name for name in shared if name not in on]
    tables = []
    for side, trials in zip(SIDES, (left, right), strict=True):
        equal = trials.assign(id=trials["trial_id"]).groupby(on, dropna=False, sort=False)
        table = equal[list(MEASURES)].mean().add_suffix(f"_{side}")
        table[f"{side}_id"] = equal["id"].first()
        table[f"{side}_trials"] = equal.size()
        table[f"{side}_start"] = equal["started_at"].first()
        if side == "left":
            table[first] = equal[first].first()
        tables.append(table.reset_index())
    joined = tables[0].merge(tables[1], on=on)
    # Two lanes of one pack start together, but a trial and its like do so only as one run.
    joined["one_run"] = (joined.pop("left_start") == joined.pop("right_start")) & (
        joined["left_id"] == joined["right_id"]
    )
    for name in MEASURES:
        joined[name] = joined[f"{name}_right"] - joined[f"{name}_left"]
    return joined.drop(columns="trial_id", errors="ignore")


def _group_columns(trials: pd.DataFrame, shared: list[str]) -> list[str]:
    """What makes groups: hyperparameters that both sides share, but latent_dim and the seeds."""
    return [
        name
        for name in shared
        if name not in ("latent_dim", *SEEDS)
        and (name in ALWAYS or trials[name].nunique(dropna=False) > 1)
    ]


def _group_words(rows: pd.DataFrame, groups: list[str]) -> "pd.Series[str]":
    """Each row's group: "dense-256-32-24 on mnist, β = 1, initialisation torch"."""
    words = pd.Series("", index=rows.index, dtype="str")
    for name in sorted(groups, key=["architecture", "dataset", "beta", *groups].index):
        value = rows[name].map("{:.12g}".format) if rows[name].dtype.kind in "if" else rows[name]
        label = {"architecture": "", "dataset": "on ", "beta": "β = "}.get(name, f"{name} ")
        separator = words.map(bool).map({False: "", True: " " if name == "dataset" else ", "})
        words = words + separator + (label + value.astype("str")).where(rows[name].notna(), "")
    return words


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
    arranged = table.sort_values(["rest", "group", "matched_by"], kind="stable", ignore_index=True)
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


def _unmatched(
    tables: tuple[pd.DataFrame, pd.DataFrame],
    sides: tuple[pd.DataFrame, pd.DataFrame],
    pairs: pd.DataFrame,
    shared: list[str],
) -> pd.DataFrame:
    """See `Comparison.unmatched`."""
    points = pairs.loc[pairs["matched_by"] == "point", shared].drop_duplicates()
    found = []
    for place, (trials, side) in enumerate(zip(tables, sides, strict=True)):
        matched = pairs.loc[pairs["matched_by"] == "trial_id", "left_id"]
        alone = side[~side["trial_id"].isin(matched)]
        if not points.empty:
            alone = alone[~alone["trial_id"].isin(alone.merge(points)["trial_id"])]
        rest = trials[
            (trials["status"] != "completed") | trials["trial_id"].isin(alone["trial_id"])
        ]
        rest = rest[["trial_id", "status"]].drop_duplicates()
        others = tables[1 - place].drop_duplicates("trial_id").set_index("trial_id")["status"]
        there = rest["trial_id"].map(others)
        reason = np.where(there.isna(), "no partner", there.astype("str") + " on the other side")
        reason = np.where(rest["status"] == "completed", reason, rest["status"])
        found.append(rest.assign(side=SIDES[place], reason=reason))
    return pd.concat(found, ignore_index=True)[["side", "trial_id", "status", "reason"]]


def _describe_side(name: str, trials: pd.DataFrame) -> str:
    counts = trials["status"].value_counts()
    rest = [f"{count} {status}" for status, count in counts.items() if status != "completed"]
    completed = f"{name}: {counts.get('completed', 0)} of {len(trials)} trials completed"
    return ", ".join([completed, *rest])


def _describe_matching(
    pairs: pd.DataFrame, unmatched: pd.DataFrame, names: tuple[str, str], parted_by: list[str]
) -> Iterator[str]:
    same = f"in all but {' and '.join(parted_by)}" if parted_by else "in all hyperparameters"
    ways = {"trial_id": "trials with equal ids", "point": f"points that are equal {same}"}
    for way, found in pairs.groupby("matched_by", sort=False):
        trials = [int(found[f"{side}_trials"].sum()) for side in SIDES]
        averages = f" (means of {trials[0]} and {trials[1]} trials)" * (max(trials) > len(found))
        yield f"{len(found)} pairs of {ways[str(way)]}{averages}"
    if len(pairs):
        alone = [int((unmatched["side"] == side).sum()) for side in SIDES]
        yield f"without partner: {alone[0]} trials of {names[0]}, {alone[1]} of {names[1]}"


def _describe_differences(differences: pd.DataFrame, names: tuple[str, str]) -> Iterator[str]:
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


def _describe_reproducibility(reproducibility: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
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
