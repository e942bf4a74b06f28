"""Deteriorations in the report: did a unit that noise had made useless come back without it?"""

import pandas as pd

from analysis.charts.deterioration import deterioration_chart, recovery_chart
from analysis.deterioration import (
    COLLAPSED_VARIANCE,
    FOLLOWED,
    RECOVERED_SHARE,
    USED_SHARE,
    deterioration_by_trial,
    deterioration_course,
)
from analysis.deterioration_groups import deterioration_by_group, deterioration_by_schedule
from analysis.group_words import describe_group
from analysis.groups import group_columns, varied_columns, with_group_values
from analysis.report.content import Block, Figure, Section, Statement, TableBlock
from analysis.report.grouping import FORMATS, shown_groups
from analysis.study_tables import StudyTables

__all__ = ["deterioration_section"]

MOST_SCHEDULES = 4
MOST_IN_FULL, MOST_LINES = 3, 20  # trials of a schedule, in either figure
MOST_ROWS = 40
_CLAIM = "The paper finds that sparsity “seems to be reversible, at some extent” (section VI)."
_FOUND = (
    "from analysis import deterioration_by_trial\n"
    "found = deterioration_by_trial(study.probes, trials)\n"
)
_WHY = {
    "never fell below": "in which the gain never fell below β·KL",
    "not followed": "that did not go on without the noise",
    "did not pay before": "whose unit did not pay for itself before the noise",
    "not predicted": "with an objective under which nothing pushes σ² to 1",
    "interrupted": "interrupted by a value that is not a number",
}
_COLUMNS = ["unit", "verdict", "schedule", "initial_gain", "fell_epoch"]
_COLUMNS += ["fell_noise", "collapse_epoch", "used_after", "best_share", "last_share"]
_ONLY_IN_THE_FUNCTION = ["increment", "recovery_epochs", "used_after", "least_share", "most_share"]
_ONLY_IN_THE_FUNCTION += ["least_noise", "most_noise"]
_FORMATS = FORMATS | {name: "{:.3f}" for name in ("initial_gain", "initial_cost")}
_FORMATS |= {name: "{:g}" for name in ("increment", "fell_noise", "least_noise", "most_noise")}
_FORMATS |= {name: "{:z.0%}" for name in ("last_share", "best_share", "least_share", "most_share")}
_FORMATS |= {name: "{:.0f}" for name in ("recovery_epochs", "used_after")}


def deterioration_section(tables: StudyTables) -> Section | None:
    """Compose the section; None where no unit was deteriorated."""
    if tables.probes.empty:
        return None
    found = deterioration_by_trial(tables.probes, tables.trials)
    if found.empty:
        return None
    schedules = deterioration_by_schedule(found)
    blocks: list[Block] = [_claim(found)]
    for _, row in schedules.head(MOST_SCHEDULES).iterrows():
        blocks += _what_followed(row)
    blocks += _without_verdict(found)
    blocks += _figures(tables, found, list(schedules["schedule"].head(MOST_SCHEDULES)))
    blocks += _tables(found, tables.trials)
    return Section("deterioration", "Deterioration of a unit", tuple(blocks))


def _claim(found: pd.DataFrame) -> Statement:
    """Say whether units came back: those that had collapsed under the noise, and the others."""
    followed = found[found["verdict"].isin(FOLLOWED)]
    if followed.empty:
        return Statement(
            f"{_CLAIM} Nothing here can tell: no unit that paid for itself was made worthless by "
            "noise and then trained on without it.",
            warns=True,
        )
    back = followed["verdict"].isin(FOLLOWED[:2])
    collapsed = followed["collapse"] == "under the noise"
    holds = "holds" if back.all() else "holds in part" if back.any() else "does not hold"
    return Statement(
        f"{_CLAIM} Here that {holds}: of {{:,}} units that noise had made cost more than they "
        "bring, {:,} were in use again at the end, without noise. Of the {:,} that had collapsed "
        "under it (mean σ² above {:g}) these are {:,}, of the {:,} others {:,}.",
        (
            len(followed),
            int(back.sum()),
            int(collapsed.sum()),
            COLLAPSED_VARIANCE,
            int((back & collapsed).sum()),
            int((~collapsed).sum()),
            int((back & ~collapsed).sum()),
        ),
        f"{_FOUND}followed = found[found['verdict'].isin({list(FOLLOWED)})]\n"
        f"back = followed['verdict'].isin({list(FOLLOWED[:2])})\n"
        "collapsed = followed['collapse'] == 'under the noise'\n"
        f"len(followed), back.sum(), collapsed.sum(), {COLLAPSED_VARIANCE}, "
        "(back & collapsed).sum(), (~collapsed).sum(), (back & ~collapsed).sum()",
        warns=not back.all(),
    )


def _what_followed(row: pd.Series) -> list[Statement]:
    """Say of one schedule when units fell and collapsed, and then what became of them."""
    what = str(row["schedule"]).split(",")[0].capitalize()
    trials = "trial" if row["trials"] == 1 else "trials"
    text = (
        f"{what} ({{:,}} {trials}, +{{:g}} per epoch): the gain fell below β·KL in {{:,}} of the "
    )
    text += "{:,} whose unit paid for itself before"
    names = ["trials", "increment", "fell", "paid"]
    if row["fell"]:
        noise = ["least_noise", "most_noise"][: 1 if row["least_noise"] == row["most_noise"] else 2]
        text += f", at a noise of {' to '.join(['{:g}'] * len(noise))}; mean σ² then rose above "
        text += "the threshold in {:,} of them under the noise and in {:,} after it"
        names += [*noise, "collapsed", "collapsed_later"]
    statements = [_of_schedule(row, text + ".", names)]
    if pd.isna(row["last_share"]):
        return statements
    text = (
        f"{what}, {{:.0f}} epochs later: {{:,}} had recovered, {{:,}} in part, {{:,}} relapsed and "
    )
    text += "{:,} did not recover. At the end the gain was {:z.0f}% of the initial one"
    names = ["recovery_epochs", "recovered", "recovered_in_part", "relapsed", "did_not_recover"]
    names.append("last_share")
    if row["least_share"] < row["most_share"]:
        text += " (median; {:z.0f}% to {:z.0f}%)"
        names += ["least_share", "most_share"]
    text += ", at its best without noise {:z.0f}%"
    names.append("best_share")
    if not pd.isna(row["used_after"]):
        epochs = "epoch" if row["used_after"] == 1 else "epochs"
        text += f"; units that came into use did so after {{:g}} {epochs}"
        text += " (median)" if row["trials"] > 1 else ""
        names.append("used_after")
    return [*statements, _of_schedule(row, text + ".", names)]


def _of_schedule(row: pd.Series, text: str, names: list[str]) -> Statement:
    """A sentence on numbers of `deterioration_by_schedule`, shares as percentages."""
    return Statement(
        text,
        tuple(row[name] * (100 if name.endswith("share") else 1) for name in names),
        f"{_FOUND}from analysis import deterioration_by_schedule\n"
        f"row = deterioration_by_schedule(found).set_index('schedule').loc[{row['schedule']!r}]\n"
        f"[row[name] * (100 if name.endswith('share') else 1) for name in {names}]",
    )


def _without_verdict(found: pd.DataFrame) -> list[Statement]:
    """Say how many units say nothing of recovery, and why."""
    counts = found.loc[~found["verdict"].isin(FOLLOWED), "verdict"].value_counts()
    if counts.empty:
        return []
    why = ", ".join(f"{{:,}} {_WHY[verdict]}" for verdict in counts.index)
    return [
        Statement(
            f"Without a verdict on recovery are {{:,}} of {{:,}} trials: {why}.",
            (int(counts.sum()), len(found), *map(int, counts)),
            f"{_FOUND}counts = found.loc[~found['verdict'].isin({list(FOLLOWED)}), "
            "'verdict'].value_counts()\n"
            "counts.sum(), len(found), *counts",
            warns=True,
        )
    ]


def _figures(tables: StudyTables, found: pd.DataFrame, schedules: list[str]) -> list[Block]:
    """Figure 14 of the first trials of each schedule, and more of them side by side."""
    of_schedule = [found[found["schedule"] == schedule] for schedule in schedules]
    if not of_schedule:
        return []
    lines = pd.concat([rows.head(MOST_LINES) for rows in of_schedule])
    shown = pd.concat([rows.head(MOST_IN_FULL) for rows in of_schedule])
    course = deterioration_course(
        tables.probes[tables.probes["trial_id"].isin(lines["trial_id"])], tables.trials
    )
    in_full = course[course["trial_id"].isin(shown["trial_id"])]
    return [
        Figure(
            "deterioration",
            "The paper's figure 14: one active unit under noise that grows from epoch to epoch, "
            "all inactive units held at zero. Where the gain falls below β·KL the unit costs more "
            "than it brings, and is given up as σ² rises to 1. All axes are the same. "
            f"Shown are the first {MOST_IN_FULL} trials of each schedule, in the study's order.",
            deterioration_chart(in_full, _titles(shown, tables.trials)),
        ),
        Figure(
            "recovery",
            "The same for up to "
            f"{MOST_LINES} trials of each schedule, from the end of the noise on: the gain as a "
            "share of what it was before the noise, and mean σ² with the level above which a unit "
            "counts as collapsed. A unit that recovers returns to 100% and to a small σ².",
            recovery_chart(course, lines),
        ),
    ]


def _titles(shown: pd.DataFrame, trials: pd.DataFrame) -> "pd.Series[str]":
    """Seed, unit and verdict; below, what was done; and the setting, where there are several."""
    rows = shown.merge(trials.drop_duplicates("trial_id"), on="trial_id")
    groups = group_columns(rows)
    rows = with_group_values(rows)
    several = len(rows[groups].drop_duplicates()) > 1
    titles = [
        f"seed {row['seed']}, unit {row['unit']}: {row['verdict']}\n{row['schedule']}"
        + (f"\n{describe_group(row[groups])}" if several else "")
        for _, row in rows.iterrows()
    ]
    return pd.Series(titles, pd.Index(rows["trial_id"]), dtype="str")


def _tables(found: pd.DataFrame, trials: pd.DataFrame) -> list[Block]:
    """Counts by group, and the trials one by one."""
    blocks: list[Block] = []
    groups = deterioration_by_group(found, trials)
    if len(groups):
        few = groups.drop(columns=_ONLY_IN_THE_FUNCTION)
        most = f" ({MOST_ROWS} of {len(few):,} groups)" if len(few) > MOST_ROWS else ""
        blocks.append(
            TableBlock(
                "How many units paid for themselves before the noise, fell below β·KL and "
                "collapsed under it, or later; and what became of them: at the end recovered ones "
                f"had at least {RECOVERED_SHARE:.0%} of their initial gain and those in part at "
                f"least {USED_SHARE:.0%}, relapsed ones only in between. Shares are medians{most}",
                shown_groups(few.head(MOST_ROWS)),
                _FORMATS,
                f"{_FOUND}from analysis import deterioration_by_group\n"
                "deterioration_by_group(found, trials)"
                f".drop(columns={_ONLY_IN_THE_FUNCTION})",
            )
        )
    probed = trials[trials["trial_id"].isin(found["trial_id"])].drop_duplicates("trial_id")
    told = [name for name in varied_columns(probed) if probed[name].nunique() > 1]
    told += ["latent_dim"] * (probed["latent_dim"].nunique() > 1)
    setting = list(dict.fromkeys([*told, "beta", "seed"]))
    columns = [*setting, *_COLUMNS]
    most = f" (the first {MOST_ROWS} of {len(found):,})" if len(found) > MOST_ROWS else ""
    blocks.append(
        TableBlock(
            f"The trials{most}: gain before the noise (nats per image); the epochs of "
            f"the probe in which the gain fell below β·KL and σ² rose above {COLLAPSED_VARIANCE:g};"
            " after how many epochs without noise the unit was first in use; the largest and the "
            "last gain without noise, of the initial one",
            found.head(MOST_ROWS).merge(probed[["trial_id", *setting]], on="trial_id")[columns],
            _FORMATS,
            f"{_FOUND}found.merge(trials[{['trial_id', *setting]}], on='trial_id')[{columns}]",
        )
    )
    return blocks
