"""The first lines of a report: how far the study is, the dimensions found, the law."""

import pandas as pd

from analysis.group_words import describe_group
from analysis.groups import ALWAYS, ANY, WHERE_VARIED, range_ends
from analysis.intrinsic_dimension import VERDICTS, describe_estimate
from analysis.report.content import Statement
from analysis.report.grouping import grouping_statements
from analysis.report.law_section import law_statements
from analysis.report.paper_statements import paper_statements
from analysis.report.search_section import search_answer
from analysis.study_tables import StudyTables

__all__ = ["answer", "estimate_statement", "progress_statement", "trials_query"]

MOST_GROUPS = 8
ESTIMATES = (
    "from analysis import estimate_intrinsic_dimension\n"
    "estimates = estimate_intrinsic_dimension(trials.query(\"status == 'completed'\"))"
)


def answer(tables: StudyTables, estimates: pd.DataFrame) -> list[Statement]:
    """Say what came out: progress, what a search found, eight groups, the paper's nets, the law.

    That most trials should train longer is said here as well, since every number hangs on it.
    Of more than eight groups, those without a number are counted and not listed, unless all are;
    nor are those with one latent_dim, which say nothing of a dimension.

    Args:
        tables: The study's tables.
        estimates: What `estimate_intrinsic_dimension` says of its completed trials.
    """
    statements = [progress_statement(tables), *search_answer(tables)]
    if estimates.empty:
        return statements
    statements += grouping_statements(tables.trials[tables.trials["status"] == "completed"])
    shown = _most_telling(estimates)
    statements += [estimate_statement(row) for _, row in shown.iterrows()]
    if len(estimates) > len(shown):
        statements.append(_further_statement(estimates, shown))
    statements += paper_statements(tables)
    law, *details = law_statements(tables)
    return [*statements, law, *(statement for statement in details if statement.warns)]


def _most_telling(estimates: pd.DataFrame) -> pd.DataFrame:
    """The groups to name: those with the best verdicts, in the order of the estimates."""
    swept = estimates["latent_dims"] > 1
    if len(estimates) == 1 or (len(estimates) <= MOST_GROUPS and swept.any()):
        return estimates
    rank = estimates["verdict"].map({verdict: place for place, verdict in enumerate(VERDICTS)})
    some = estimates[swept & (rank < len(VERDICTS) - 1)]
    best = rank[some.index].sort_values(kind="stable").index[:MOST_GROUPS]
    return estimates.loc[best].sort_index() if len(some) else estimates[swept].head(MOST_GROUPS)


def _further_statement(estimates: pd.DataFrame, shown: pd.DataFrame) -> Statement:
    """Say how many groups are not named, and how many of all have too few trials to say a thing."""
    if shown.empty:
        return Statement(
            "None of the {:,} groups has more than one latent_dim, so nothing can be said of an "
            "intrinsic dimension; their counts are in the table below.",
            (len(estimates),),
            f"{ESTIMATES}\nlen(estimates)",
        )
    few = int((estimates["verdict"] == "too few trials").sum())
    return Statement(
        "{:,} further groups are in the table below; {:,} of all {:,} have too few trials.",
        (len(estimates) - len(shown), few, len(estimates)),
        f"{ESTIMATES}\n"
        f"len(estimates) - {len(shown)}, (estimates['verdict'] == 'too few trials').sum(), "
        "len(estimates)",
        warns=few > 0,
    )


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
    lines = [f"group = trials.query({trials_query(row)!r})"]
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
    elif row["trials"] == 0 and row["trials_without_count"] > 0:
        values = "len(group)"
        numbers = (int(row["trials_without_count"]),)
    else:
        values = 'len(group), group["latent_dim"].nunique()'
        numbers = (int(row["trials"]), int(row["latent_dims"]))
    if "row[" in values:
        lines += [ESTIMATES, f"row = estimates.query({_query(row)!r}).iloc[0]"]
    escaped = text.replace("{", "{{").replace("}", "}}")
    warns = row["verdict"] != "saturated"
    return Statement(escaped, numbers, "\n".join([*lines, values]), warns=warns)


def trials_query(row: pd.Series) -> str:
    """Return the pandas query that chooses a group's completed trials.

    Args:
        row: Of a table with the columns that `group_columns` names.
    """
    words = ["status == 'completed'"]
    for name in row.index.intersection([*ALWAYS, *WHERE_VARIED], sort=False):
        low, high = range_ends(name)
        if low in row.index and row[low] < row[high]:
            words.append(f"{row[low]} <= {name} < {row[high]}")
        elif name == "architecture" and row[name].startswith(ANY):
            words.append(f"family == {row[name].removeprefix(ANY)!r}")
        elif not pd.isna(row[name]):  # else another column, the decoder, tells why it is null
            words.append(_equals(row, name))
    return " and ".join(words)


def _query(row: pd.Series) -> str:
    """Return the pandas query that chooses a group's row among the estimates."""
    names = [name for column in (*ALWAYS, *WHERE_VARIED) for name in (column, *range_ends(column))]
    return " and ".join(_equals(row, name) for name in names if name in row.index)


def _equals(row: pd.Series, name: str) -> str:
    value = row[name]
    if pd.isna(value):
        return f"{name}.isna()"
    return f"{name} == {value!r}" if isinstance(value, str) else f"{name} == {value}"
