"""Which trials of two sides belong together: by their ids, else by their points."""

from collections.abc import Collection
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from analysis.design_points import SEEDS, design_points
from analysis.group_words import naturally
from analysis.groups import ALWAYS, has_variance_part, scattered_columns

__all__ = [
    "CONDITIONS",
    "MEASURES",
    "OF_LIKELIHOOD",
    "SIDES",
    "Match",
    "comparable_sides",
    "differing_hyperparameters",
    "group_words",
    "other_nats",
    "pair_trials",
    "shared_group_columns",
    "unmatched_trials",
]

MEASURES: Final = {
    "active_units": "active units",
    "test_elbo": "test ELBO (nats per image)",
    "test_kl": "test KL (nats per image)",
    "test_reconstruction": "test reconstruction (nats per image)",
    "variance_law_mean": "variance law, mean over units",
}
"""What is compared, in words. A higher ELBO is better, a higher reconstruction term worse."""

OF_LIKELIHOOD: Final = ("test_elbo", "test_reconstruction")
"""Those of them that are densities of the data."""

CONDITIONS: Final = ("device", "numerics_version", "version")
"""What may differ between runs of one point, and move its numbers."""

Match = Literal["auto", "trial_id", "point", "group"]

SIDES: Final = ("left", "right")


def comparable_sides(
    left: pd.DataFrame, right: pd.DataFrame
) -> tuple[tuple[pd.DataFrame, pd.DataFrame], list[str], list[str]]:
    """Prepare two trials tables for a comparison.

    Returns:
        Both sides' completed trials, each once, at their points; the names of the hyperparameters;
        and those of them that have too many values to make groups.
    """
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
    scattered = scattered_columns(both)
    if "decoder_variance" in scattered and "decoder_variance" not in points:
        scattered.append("decoder")  # whose name it is part of
    sides = table[both["side"] == 0], table[both["side"] == 1]
    return sides, list(points.columns), scattered


def other_nats(left: pd.DataFrame, right: pd.DataFrame, differing: Collection[str]) -> str:
    """Say why ELBOs of two sides mean nothing beside each other; "" where they do.

    Args:
        left: A side of `comparable_sides`.
        right: The other one.
        differing: What `differing_hyperparameters` names.
    """
    if "dataset" in differing:
        return "nats of one dataset are not those of another"
    if "decoder" in differing:  # densities, whatever their variance, and probabilities
        decoders = pd.concat([left["decoder"], right["decoder"]])
        if decoders.str.startswith("gaussian").nunique() > 1:
            return "nats of one likelihood are not those of another"
    return ""


def differing_hyperparameters(
    left: pd.DataFrame, right: pd.DataFrame, names: list[str]
) -> dict[str, str]:
    """Return the hyperparameters of which the two sides share no value, with both in words."""
    if left.empty or right.empty:
        return {}
    return {
        name: f"{_listed(left[name])} against {_listed(right[name])}"
        for name in names
        if not left[name].drop_duplicates().isin(right[name].drop_duplicates()).any()
    }


def _listed(values: "pd.Series[Any]", most: int = 5) -> str:
    found = values.drop_duplicates().sort_values(key=naturally)
    words = [f"{value:g}" if isinstance(value, float) else str(value) for value in found]
    return ", ".join([*words[:most], *(["…"] if len(words) > most else [])])


def pair_trials(
    left: pd.DataFrame, right: pd.DataFrame, shared: list[str], match: Match
) -> pd.DataFrame:
    """Pair trials by their ids, else by their points.

    Args:
        left: A side of `comparable_sides`.
        right: The other one.
        shared: Hyperparameters that have to be equal for points to be.
        match: Which ways are allowed.

    Returns:
        One row per pair; see `analysis.comparison.Comparison`.
    """
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


def shared_group_columns(trials: pd.DataFrame, shared: list[str]) -> list[str]:
    """Name what makes groups: hyperparameters that both sides share, but latent_dim and seeds."""
    return [
        name
        for name in shared
        if name not in ("latent_dim", *SEEDS)
        and (name in ALWAYS or trials[name].nunique(dropna=False) > 1)
    ]


def group_words(rows: pd.DataFrame, groups: list[str]) -> "pd.Series[str]":
    """Return each row's group: "dense-256-32-24 on mnist, β = 1, initialisation torch"."""
    words = pd.Series("", index=rows.index, dtype="str")
    for name in sorted(groups, key=["architecture", "dataset", "beta", *groups].index):
        value = rows[name].map("{:.12g}".format) if rows[name].dtype.kind in "if" else rows[name]
        label = {"architecture": "", "dataset": "on ", "beta": "β = "}.get(name, f"{name} ")
        separator = words.map(bool).map({False: "", True: " " if name == "dataset" else ", "})
        words = words + separator + (label + value.astype("str")).where(rows[name].notna(), "")
    return words


def unmatched_trials(
    tables: tuple[pd.DataFrame, pd.DataFrame],
    sides: tuple[pd.DataFrame, pd.DataFrame],
    pairs: pd.DataFrame,
    shared: list[str],
) -> pd.DataFrame:
    """List the trials without a partner; see `analysis.comparison.Comparison`.

    Args:
        tables: Both sides' `trials` tables.
        sides: What `comparable_sides` made of them.
        pairs: What `pair_trials` found.
        shared: What points were compared by.
    """
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
