"""The trials one by one, to sort and filter, each with its units; and what failed, and why."""

import pandas as pd

from analysis.groups import (
    into_ranges,
    range_ends,
    scattered_columns,
    varied_columns,
    with_group_values,
)
from analysis.report.content import Block, Section, Statement, TableBlock, TrialBrowser
from analysis.report.grouping import FORMATS, shown_groups
from analysis.report.notable import MOST_TRIALS, notable_trials
from analysis.study_tables import StudyTables

__all__ = ["failures_section", "trials_section"]

MOST_UNIT_ROWS = 40_000
_MEASURED = [
    "active_units",
    "active_units_kl",
    "test_elbo",
    "test_reconstruction",
    "test_kl",
    "variance_law_mean",
    "variance_law_variance",
    "epochs_trained",
    "seconds",
]
_COUNTS = ["latent_dim", "seed", "active_units", "active_units_kl", "epochs_trained"]
_MOST_ERRORS = 20


def trials_section(tables: StudyTables) -> Section:
    """Show up to 2,000 trials, and the units of as many of them as 40,000 rows hold."""
    trials = tables.trials
    if trials.empty:
        none = Statement("No trial has been committed yet.", warns=True)
        return Section("trials", "Trials", (none,))
    shown = notable_trials(trials)
    varied = [name for name in varied_columns(trials) if name not in ("dataset", "architecture")]
    columns = ["trial_id", "status", "dataset", "architecture", "latent_dim", *varied, "seed"]
    columns += [*_MEASURED, *(["error"] if shown["error"].notna().any() else []), "shown_because"]
    frame = shown[columns].astype(dict.fromkeys(_COUNTS, "Int64"))
    if len(shown) == len(trials):
        frame = frame.drop(columns="shown_because")
    units, without = _fitting_units(tables.units, shown)
    browser = TrialBrowser(frame, units, len(trials), _left_out(len(trials), len(shown), without))
    return Section("trials", "Trials", (browser,))


def _fitting_units(units: pd.DataFrame, shown: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Units of the first shown trials that find room, and how many trials did not."""
    sizes = shown["trial_id"].map(units["trial_id"].value_counts()).fillna(0)
    fits = sizes.cumsum() <= MOST_UNIT_ROWS
    rows = units[units["trial_id"].isin(shown.loc[fits, "trial_id"])]
    return rows.sort_values(["trial_id", "unit"]), int((~fits).sum())


def _left_out(total: int, shown: int, without_units: int) -> str:
    words = []
    if shown < total:
        words.append(
            f"{shown:,} of {total:,} trials are here, at most {MOST_TRIALS:,}: failed, diverged "
            "and pruned ones first, then those farthest from the variance law, then a uniform "
            "sample (column shown_because). All of them are in the trials table."
        )
    if without_units:
        words.append(
            f"The units of {without_units:,} of these trials are left out for size; they are in "
            "the units table."
        )
    return " ".join(words)


def failures_section(tables: StudyTables) -> Section | None:
    """Show what failed or diverged, and why; None where nothing did."""
    trials = tables.trials
    lost = trials[trials["status"].isin(["failed", "diverged"])]
    if lost.empty:
        return None
    errors = (
        lost.assign(error=lost["error"].fillna("").str.slice(0, 300))
        .groupby(["status", "error"])
        .agg(trials=("trial_id", "size"), example=("trial_id", "first"))
        .reset_index()
        .sort_values("trials", ascending=False, ignore_index=True)
    )
    blocks: list[Block] = [
        Statement(
            "{:,} trials failed and {:,} diverged; no estimate counts them.",
            (int((lost["status"] == "failed").sum()), int((lost["status"] == "diverged").sum())),
            "(trials['status'] == 'failed').sum(), (trials['status'] == 'diverged').sum()",
            warns=True,
        ),
        TableBlock(
            f"Why, most frequent first (at most {_MOST_ERRORS} reasons)",
            errors.head(_MOST_ERRORS),
            recipe="trials[trials['status'].isin(['failed', 'diverged'])]"
            "[['trial_id', 'status', 'error']]",
        ),
    ]
    blocks.append(TableBlock("Where", _where(trials).head(_MOST_ERRORS), FORMATS))
    return Section("failures", "Failed and diverged trials", tuple(blocks))


def _where(trials: pd.DataFrame) -> pd.DataFrame:
    """How many trials were lost at which settings, the most first."""
    settings = with_group_values(trials).assign(learning_rate=trials["learning_rate"])
    if "learning_rate" in scattered_columns(trials):
        settings = into_ranges(settings, "learning_rate", (1, 2, 5))
    columns = ["dataset", "architecture", "beta", "learning_rate"]
    columns = [name for column in columns for name in (column, *range_ends(column))]
    columns = [name for name in columns if name in settings]
    where = (
        settings.groupby(columns)["status"]
        .agg(trials="size", lost=lambda status: int(status.isin(["failed", "diverged"]).sum()))
        .reset_index()
    )
    where = where[where["lost"] > 0].sort_values("lost", ascending=False, ignore_index=True)
    return shown_groups(where)
