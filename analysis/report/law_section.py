"""The variance law in the report: over all units, by group, by trial, and the controls apart."""

import pandas as pd

from analysis.charts.variance_law import bin_law, law_density, law_residual_chart, law_scatter
from analysis.law_residuals import residual_by
from analysis.law_units import law_units
from analysis.report.content import Block, Figure, Section, Statement, TableBlock
from analysis.report.grouping import FORMATS, shown_groups
from analysis.study_tables import StudyTables
from analysis.variance_law import (
    MEAN_TOLERANCE,
    UNIT_TOLERANCE,
    law_by_group,
    law_by_trial,
    law_controls,
    law_overall,
)

__all__ = ["law_section", "law_statements"]

MOST_POINTS = 3_000
MOST_GROUPS = 40
_FORMATS = FORMATS | {
    "law_mean": "{:.4f}",
    "law_variance": "{:.5f}",
    "second_mean": "{:.4f}",
    "second_variance": "{:.5f}",
    "posterior_variance": "{:.4f}",
    "mean_variance": "{:.4f}",
}

PREDICTED = """\
law = trials.query("status == 'completed' and objective == 'elbo' and beta > 0")
law = units.merge(law[["trial_id", "latent_dim", "beta"]].drop_duplicates("trial_id"))
law["law"] = law["posterior_variance"] + law["mean_variance"]
law["second"] = law["posterior_variance"] + law["second_moment"]
"""
"""The lines that every recipe of this section starts with."""


def law_statements(tables: StudyTables) -> list[Statement]:
    """Say how well the law holds over all units, and for how many trials."""
    overall = law_overall(tables.trials, tables.units).iloc[0]
    if overall["units"] == 0:
        return [
            Statement(
                "No completed trial has an objective for which the variance law is predicted, so "
                "there is nothing to check it on.",
                warns=True,
            )
        ]
    verdicts = law_by_trial(tables.trials, tables.units)["verdict"].value_counts()
    converged, longer = int(verdicts.get("converged", 0)), int(verdicts.get("train longer", 0))
    by_unit = (
        f'{PREDICTED}off = (law["second"] - 1).groupby(law["trial_id"])'
        '.agg(["mean", "min", "max"])\n'
        f'settled = (off["mean"].abs() <= {MEAN_TOLERANCE}) '
        f'& (off[["min", "max"]].abs().max(axis=1) <= {UNIT_TOLERANCE})\n'
        "settled.sum(), (~settled).sum()"
    )
    return [
        Statement(
            "The variance law: mean σ² + Var μ has mean {:.4f} and variance {:.5f} over {:,} units "
            "of {:,} trials (predicted: 1 and 0).",
            (
                float(overall["law_mean"]),
                float(overall["law_variance"]),
                int(overall["units"]),
                int(overall["trials"]),
            ),
            PREDICTED + 'law["law"].mean(), law["law"].var(ddof=0), len(law), '
            'law["trial_id"].nunique()',
        ),
        Statement(
            "With the second moment, mean σ² + mean μ², which is what is exactly stationary: mean "
            "{:.4f}, variance {:.5f}.",
            (float(overall["second_mean"]), float(overall["second_variance"])),
            PREDICTED + 'law["second"].mean(), law["second"].var(ddof=0)',
        ),
        Statement(
            "Trials that have converged by the second moment: {:,}; that should train longer: "
            "{:,}. Converged are those in which mean σ² + mean μ² differs from 1 by at most "
            f"{MEAN_TOLERANCE:g} on average and by at most {UNIT_TOLERANCE:g} in every unit.",
            (converged, longer),
            by_unit,
            warns=longer > converged,
        ),
    ]


def law_section(tables: StudyTables) -> Section:
    """Compose the section."""
    blocks: list[Block] = list(law_statements(tables))
    units = law_units(tables.trials, tables.units)
    if len(units):
        blocks += [_picture(units, tables.trials), *_residuals(tables), _groups_table(tables)]
    controls = law_controls(tables.trials, tables.units)
    if len(controls):
        blocks.append(
            TableBlock(
                "Controls, for which the law is not predicted: what they do instead",
                shown_groups(controls),
                _FORMATS,
                "from analysis import law_controls\nlaw_controls(trials, units)",
            )
        )
    return Section("law", "Variance law", tuple(blocks))


def _picture(units: pd.DataFrame, trials: pd.DataFrame) -> Figure:
    line = "The line is Var μ = 1 − mean σ². Inactive units sit at its lower right end, active "
    line += "ones at the upper left; units off the line, or between the ends, are still moving."
    if len(units) <= MOST_POINTS:
        return Figure("variance-law", f"Every unit of every trial. {line}", law_scatter(units))
    bins = bin_law(units)
    return Figure(
        "variance-law",
        f"All {len(units):,} units, counted in squares: too many to draw one by one. {line}",
        law_density(bins),
    )


def _residuals(tables: StudyTables) -> list[Block]:
    blocks: list[Block] = []
    for column, words in (
        ("beta", "β"),
        ("latent_dim", "latent_dim"),
        ("active", "whether the unit is active"),
        ("kl", "the unit's KL"),
        ("epochs_trained", "epochs trained"),
    ):
        summary = residual_by(tables.trials, tables.units, column)
        if summary["label"].nunique() > 1:
            caption = f"What is left of the law, mean σ² + mean μ² − 1, against {words}."
            name = f"law-residual-{column.replace('_', '-')}"
            blocks.append(Figure(name, caption, law_residual_chart(summary)))
    return blocks


def _groups_table(tables: StudyTables) -> TableBlock:
    groups = law_by_group(tables.trials, tables.units)
    most = ""
    if len(groups) > MOST_GROUPS:
        far = (groups["second_mean"] - 1).abs().nlargest(MOST_GROUPS).index
        most = f"; of {len(groups):,} groups the {MOST_GROUPS} farthest from 1"
        groups = groups.loc[far]
    return TableBlock(
        f"Mean and variance over all units of each group's trials{most}",
        shown_groups(groups).drop(columns="objective", errors="ignore"),
        _FORMATS,
        "from analysis import law_by_group\nlaw_by_group(trials, units)",
    )
