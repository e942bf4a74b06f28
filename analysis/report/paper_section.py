"""The paper's counts and tables in the report, beside those of the study's own nets."""

import pandas as pd

from analysis.charts.kl_by_variance import kl_by_variance_chart
from analysis.charts.paper_counts import paper_counts_chart
from analysis.paper_claims import paper_claims
from analysis.paper_counts import (
    closest_settings,
    closest_with_own_beta,
    dense_pairs,
    paper_counts,
    setting_columns,
    setting_words,
)
from analysis.paper_layers import beside_figure_7, trial_for_figure_7
from analysis.paper_table import beside_paper_table, trial_for_paper_table
from analysis.report.content import Block, Figure, Section, TableBlock
from analysis.report.paper_statements import COUNTS_RECIPE, pairs_statements, paper_statements
from analysis.study_tables import StudyTables

__all__ = ["paper_section"]

MOST_SETTINGS = 20
_FORMATS = {name: "{:.5f}" for name in ("mean_variance", "posterior_variance", "sum")}
_FORMATS |= {f"paper_{name}": form for name, form in _FORMATS.items()}


def paper_section(tables: StudyTables) -> Section | None:
    """Compose the section; None where the study has none of the paper's nets."""
    counts = paper_counts(tables.trials)
    if counts.empty:
        return None
    blocks: list[Block] = [*paper_statements(tables)]
    nets, closest = counts["where"].nunique(), closest_settings(counts)
    blocks.append(
        TableBlock(
            "What the paper claims, and in how many cases it came out here",
            paper_claims(
                tables.trials,
                tables.units,
                differences=tables.sample_differences,
                tiles=tables.tile_counts,
                codes=tables.code_statistics,
                probes=tables.probes,
            ),
            recipe=_claims_recipe(tables),
        )
    )
    blocks.append(
        Figure(
            "paper-counts",
            "Active units of the paper's nets against β: means over seeds, bars from the fewest to "
            "the most. The dashed line is the paper's count.",
            paper_counts_chart(counts),
        )
    )
    if nets > 1 and len(closest):
        most = f" ({MOST_SETTINGS} of {len(closest):,})" if len(closest) > MOST_SETTINGS else ""
        blocks.append(
            TableBlock(
                "Settings under which all of these nets were trained, the closest to the paper's "
                f"counts first{most}: mean active units of each, the largest difference to the "
                "paper, and the sum of all",
                closest.head(MOST_SETTINGS),
                {name: "{:.1f}" for name in [*counts["where"], "farthest", "total"]},
                f"from analysis import closest_settings\n{COUNTS_RECIPE}closest_settings(counts)",
            )
        )
    blocks += _own_beta_table(counts)
    blocks += pairs_statements(dense_pairs(tables.trials))
    for where in ("table I", "table II"):
        blocks += _table_beside(tables, where)
    blocks += _layers_beside(tables)
    blocks.append(
        Figure(
            "kl-by-variance",
            "The paper's figure 13, from its equation 7: the KL of a unit against its σ², as long "
            "as the net keeps ρ = σ / |μ|, with the minima of equation 8. A unit that encodes much "
            "(small ρ) is cheapest near σ² = 0, one that encodes nothing (large ρ) near 1; at each "
            "minimum σ² + μ² = 1.",
            kl_by_variance_chart(),
        )
    )
    return Section("paper", "Beside the paper", tuple(blocks))


def _claims_recipe(tables: StudyTables) -> str:
    """Return the lines that give the claims again, from what the study has recorded."""
    lines, given = [], ["trials", "units"]
    if len(tables.sample_differences):
        lines.append(
            "images = study.samples_of(trials['trial_id'], ['shape', 'largest_difference'])"
        )
        given.append("differences=analysis.sample_differences(images)")
    if len(tables.tile_counts):
        lines.append("there = trials['trial_id'].isin(images['trial_id'])")
        lines.append("on_tiles = analysis.tile_trials(trials[there])['trial_id']")
        given.append("tiles=analysis.tile_counts(study.samples_of(on_tiles))")
    if len(tables.code_statistics):
        given.append("codes=analysis.code_statistics(trials, study.encodings)")
    if len(tables.probes):
        given.append("probes=study.probes")
    return "\n".join(["import analysis", *lines, f"analysis.paper_claims({', '.join(given)})"])


def _own_beta_table(counts: pd.DataFrame) -> list[Block]:
    """Show the closest settings where each net may have its own β."""
    own_beta = closest_with_own_beta(counts)
    if counts["where"].nunique() < 2 or own_beta.empty:
        return []
    shown = own_beta.drop(columns=["dataset", "architecture", "trials", "paper", "difference"])
    return [
        TableBlock(
            "The same where each net may have its own β, which the paper does not state: the "
            "nearest β of each net, mean, fewest and most active units, and mean σ² + Var μ over "
            "the units",
            shown.head(MOST_SETTINGS),
            {name: "{:.1f}" for name in ("mean", "farthest", "total")}
            | {"law_mean": "{:.4f}", "beta": "{:g}", "fewest": "{:.0f}", "most": "{:.0f}"},
            f"from analysis import closest_with_own_beta\n{COUNTS_RECIPE}"
            f"closest_with_own_beta(counts)[{list(shown.columns)}]",
        )
    ]


def _layers_beside(tables: StudyTables) -> list[Block]:
    """Show the convolutional net's layers beside figure 7."""
    trial_id = trial_for_figure_7(tables.trials, tables.layers)
    if trial_id is None:
        return []
    return [
        TableBlock(
            "The paper's figure 7 beside the encoder of paper-conv, layer by layer. Its counts "
            "hold, so three kernels that it labels 3x3 are 2x2.",
            beside_figure_7(tables.layers, trial_id),
            recipe="from analysis import beside_figure_7\n"
            f"beside_figure_7(study.layers, {trial_id!r})",
        )
    ]


def _table_beside(tables: StudyTables, where: str) -> list[Block]:
    """Show the units of a trial of ours beside the paper's."""
    trial_id = trial_for_paper_table(tables.trials, tables.units, where)
    if trial_id is None:
        return []
    trial = tables.trials[tables.trials["trial_id"] == trial_id].iloc[[0]]
    setting = setting_words(trial[setting_columns(tables.trials)]).iloc[0]
    setting += f", {trial['epochs'].iloc[0]} epochs, seed {trial['seed'].iloc[0]}"
    return [
        TableBlock(
            f"The paper's {where}, and the trial with the nearest count that has converged best "
            f"({setting}), both by rank of Var μ. Sums are 1 by the variance law.",
            beside_paper_table(tables.units, trial_id, where),
            _FORMATS,
            "from analysis import beside_paper_table\n"
            f"beside_paper_table(units, {trial_id!r}, {where!r})",
        )
    ]
