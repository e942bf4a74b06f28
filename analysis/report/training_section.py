"""How training went: counts and the law by epoch, the units' evolution, rate and distortion."""

import pandas as pd

from analysis.charts.evolution import evolution_chart, learning_chart
from analysis.charts.rate_distortion import rate_distortion_chart
from analysis.group_words import describe_group, naturally, without_common
from analysis.groups import group_columns, with_group_values
from analysis.report.content import Block, Figure, Section, Statement
from analysis.report.notable import notable_trials
from analysis.study_tables import StudyTables

__all__ = ["representative_trials", "training_section"]

MOST_CURVES = 7  # as many as the palette has colours
MOST_EVOLUTIONS = 3
MOST_UNITS_DRAWN = 64


def representative_trials(trials: pd.DataFrame, most: int = MOST_CURVES) -> pd.DataFrame:
    """Choose one trial of each of `most` groups, spread over all of them.

    Of a group, the completed trial with the largest latent_dim and, of these, the smallest seed.
    """
    completed = with_group_values(trials[trials["status"] == "completed"])
    groups = group_columns(completed)
    ordered = completed.sort_values(["latent_dim", "seed"], ascending=[False, True])
    first = ordered.groupby(groups, dropna=False).head(1)
    first = first.sort_values(groups, key=naturally, ignore_index=True)
    if len(first) <= most:
        return first
    return first.iloc[[round(i * (len(first) - 1) / (most - 1)) for i in range(most)]]


def training_section(tables: StudyTables) -> Section:
    """Compose the section from the representative trials' history."""
    shown = representative_trials(tables.trials)
    shown = shown[shown["trial_id"].isin(tables.shown_epochs["trial_id"])]
    completed = tables.trials[tables.trials["status"] == "completed"]
    groups = shown[[*group_columns(completed), "latent_dim"]].set_axis(shown["trial_id"])
    if shown.empty:
        none = Statement("No trial has completed yet, so there are no curves.", warns=True)
        return Section("training", "Training", (none,))
    labels, common = _labels(groups)
    blocks: list[Block] = [
        Figure(
            "learning",
            "One trial of each group (of at most seven groups, spread over all): the one with the "
            "largest latent_dim. A count that still falls, or a law still far from 1, says that "
            f"more epochs would change the answer.{common}",
            learning_chart(tables.shown_epochs, labels),
        ),
        *_evolution(tables.shown_units, groups),
        _rate_distortion(tables.trials),
    ]
    return Section("training", "Training", tuple(blocks))


def _labels(groups: pd.DataFrame) -> tuple["pd.Series[str]", str]:
    """Return what to call trials, by trial_id, and a sentence on what they have in common."""
    apart, common = without_common(groups)
    words = [
        f"{describe_group(group)}, latent_dim {group['latent_dim']}"
        for _, group in apart.iterrows()
    ]
    labels = pd.Series(words, index=groups.index, dtype="str")
    return labels, f" All have {common}." if common else ""


def _evolution(units: pd.DataFrame, groups: pd.DataFrame) -> list[Block]:
    train = units[(units["split"] == "train") & (units["unit"] < MOST_UNITS_DRAWN)]
    recorded = train.groupby("trial_id")["epoch"].nunique()
    drawn = [trial_id for trial_id in groups.index if recorded.get(trial_id, 0) > 1]
    if not drawn:
        return [
            Statement(
                "The evolution of each unit was not recorded; `record: {{every: 1}}` in the spec "
                "records the units after every epoch."
            )
        ]
    labels, common = _labels(groups.loc[drawn[:MOST_EVOLUTIONS]])
    chart = evolution_chart(train[train["trial_id"].isin(labels.index)], labels)
    caption = (
        "Each unit along training (the paper's figure 5, whose “variance of latent variables” may "
        "mean either quantity). An active unit ends with Var μ near 1 and mean σ² near 0, an "
        f"inactive one the other way round; units on the way between have not converged.{common}"
    )
    return [Figure("evolution", caption, chart)]


def _rate_distortion(trials: pd.DataFrame) -> Figure:
    completed = trials[trials["status"] == "completed"]
    shown = notable_trials(completed)
    which = "every completed trial" if len(shown) == len(completed) else f"{len(shown):,} trials"
    return Figure(
        "rate-distortion",
        f"Rate against distortion on the test images, {which}. The ELBO is minus the sum of both "
        "axes, so trials of equal ELBO lie on falling diagonals.",
        rate_distortion_chart(shown),
    )
