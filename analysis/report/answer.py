"""The first lines of a report: how far the study is, the dimensions found, the law."""

import pandas as pd

from analysis.groups import ALWAYS, WHERE_VARIED, describe_group
from analysis.intrinsic_dimension import describe_estimate
from analysis.report.content import Statement
from analysis.report.law_section import law_statements
from analysis.study_tables import StudyTables

__all__ = ["answer", "estimate_statement", "group_query", "progress_statement"]

MOST_GROUPS = 8


def answer(tables: StudyTables, estimates: pd.DataFrame) -> list[Statement]:
    """Say what came out: progress, a line per group (eight at most), and the law in one line.

    Args:
        tables: The study's tables.
        estimates: What `estimate_intrinsic_dimension` says of its completed trials.
    """
    statements = [progress_statement(tables)]
    if estimates.empty:
        return statements
    known_first = estimates.assign(known=estimates["estimate"].isna()).sort_values(
        "known", kind="stable"
    )
    shown = known_first.head(MOST_GROUPS).sort_index()
    statements += [estimate_statement(row) for _, row in shown.iterrows()]
    if len(estimates) > MOST_GROUPS:
        statements.append(
            Statement(
                "{:,} further groups are in the table below.",
                (len(estimates) - MOST_GROUPS,),
                "from analysis import estimate_intrinsic_dimension\n"
                f"len(estimate_intrinsic_dimension(trials)) - {MOST_GROUPS}",
            )
        )
    return [*statements, law_statements(tables)[0]]


def progress_statement(tables: StudyTables) -> Statement:
    """Say how many of the planned trials are done, and how they ended."""
    status = tables.trials["status"].value_counts()
    counts = [int(status.get(name, 0)) for name in ("completed", "diverged", "pruned", "failed")]
    completed, *others = counts
    names = ("diverged", "pruned", "failed")
    words = "".join(
        f", {{{place + 2}:,}} {name}"
        for place, (name, count) in enumerate(zip(names, others, strict=True))
        if count
    )
    open_ = tables.planned - len(tables.trials)
    ending = "; the rest has not run yet, so what follows is provisional." if open_ > 0 else "."
    if completed == 0:
        ending += " Estimates need completed trials, so there is nothing to report yet."
    return Statement(
        "{0:,} of {1:,} trials completed" + words + ending,
        (completed, tables.planned, *others),
        "of = trials['status'].value_counts().reindex(\n"
        "    ['completed', 'diverged', 'pruned', 'failed'], fill_value=0)\n"
        "of.iloc[0], study.planned, *of.iloc[1:]",
        warns=open_ > 0 or completed == 0 or others[0] + others[2] > 0,
    )


def estimate_statement(row: pd.Series) -> Statement:
    """Say one group's intrinsic dimension, or why there is none."""
    text = f"{describe_group(row)}: {describe_estimate(row)}."
    lines = [f"group = trials.query({group_query(row)!r})"]
    names: list[str] = []
    if row["verdict"] == "saturated":
        lines.append(f'plateau = group.query("latent_dim >= {row["plateau_from"]}")')
        names = ["lower", "upper"]
        values = 'plateau["active_units"].mean(), row["lower"], row["upper"]'
        numbers: tuple[float | int, ...] = (float(row["estimate"]), *(float(row[n]) for n in names))
    elif row["verdict"] == "not saturated":
        dims = 'group["latent_dim"].max(), group["latent_dim"].nunique()'
        values = f'row["at_least"], {dims}'
        numbers = tuple(
            int(row[name]) for name in ("at_least", "largest_latent_dim", "latent_dims")
        )
    elif row["verdict"] == "unstable":
        values = 'row["seed_sd"], row["rise"]'
        numbers = (float(row["seed_sd"]), float(row["rise"]))
    else:
        values = 'len(group), group["latent_dim"].nunique()'
        numbers = (int(row["trials"]), int(row["latent_dims"]))
    if "row[" in values:
        lines.insert(0, "from analysis import estimate_intrinsic_dimension")
        lines.append("row = estimate_intrinsic_dimension(group).iloc[0]")
    escaped = text.replace("{", "{{").replace("}", "}}")
    warns = row["verdict"] != "saturated"
    return Statement(escaped, numbers, "\n".join([*lines, values]), warns=warns)


def group_query(row: pd.Series) -> str:
    """Return the pandas query that chooses a group's completed trials."""
    words = ["status == 'completed'"]
    for name in row.index.intersection([*ALWAYS, *WHERE_VARIED], sort=False):
        if pd.isna(row[name]):
            words.append(f"{name}.isna()")
        else:
            value = row[name]
            words.append(f"{name} == {value!r}" if isinstance(value, str) else f"{name} == {value}")
    return " and ".join(words)
