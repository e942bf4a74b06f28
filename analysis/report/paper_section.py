"""The paper's counts and tables in the report, beside those of the study's own nets."""

import pandas as pd

from analysis.charts.kl_by_variance import kl_by_variance_chart
from analysis.charts.paper_counts import paper_counts_chart
from analysis.paper import PAPER_NETS, PaperNet
from analysis.paper_claims import paper_claims
from analysis.paper_counts import (
    closest_settings,
    closest_with_own_beta,
    conv_against_dense,
    dense_pairs,
    paper_counts,
    setting_columns,
    setting_template,
    setting_words,
)
from analysis.paper_layers import beside_figure_7, trial_for_figure_7
from analysis.paper_table import beside_paper_table, trial_for_paper_table
from analysis.report.content import Block, Figure, Section, Statement, TableBlock
from analysis.sparsity_controls import sparsity_of_controls
from analysis.study_tables import StudyTables

__all__ = ["paper_section", "paper_statements"]

MOST_SETTINGS = 20
_COUNTS = "from analysis import paper_counts\ncounts = paper_counts(trials)\n"
_FORMATS = {name: "{:.5f}" for name in ("mean_variance", "posterior_variance", "sum")}
_FORMATS |= {f"paper_{name}": form for name, form in _FORMATS.items()}


def paper_statements(tables: StudyTables) -> list[Statement]:
    """Say for which settings the paper's counts come out; empty without any of its nets."""
    counts = paper_counts(tables.trials)
    statements = [
        _count_statement(counts[counts["where"] == net.where], net)
        for net in PAPER_NETS
        if (counts["where"] == net.where).any()
    ]
    closest = closest_settings(counts)
    if len(statements) > 1 and len(closest):
        statements.append(_closest_statement(counts, closest))
        own_beta = closest_with_own_beta(counts)
        if own_beta["farthest"].iloc[0] < closest["farthest"].iloc[0]:
            statements.append(_own_beta_statement(own_beta))
    statements += _conv_statements(conv_against_dense(counts))
    return statements + _control_statements(sparsity_of_controls(tables.trials, tables.units))


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
                f"from analysis import closest_settings\n{_COUNTS}closest_settings(counts)",
            )
        )
    blocks += _own_beta_table(counts)
    blocks += _pairs_statement(dense_pairs(tables.trials))
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


def _count_statement(counts: pd.DataFrame, net: PaperNet) -> Statement:
    """Say under how many settings a net has the paper's count, and which is closest to it."""
    near = int((counts["difference"].abs() <= 1).sum())
    best = counts.iloc[int(counts["difference"].abs().to_numpy().argmin())]
    words, names = setting_template(best)
    return Statement(
        f"{net.architecture} on {net.dataset} ({net.where}): the paper has {{:d}} of {{:d}} units "
        "active. Settings within one of that: {:,} of the {:,} tried. Closest is "
        f"{words}, with {{:.1f}} units ({{:.0f}} to {{:.0f}}, {{:,}} trials).",
        (
            net.active,
            net.latent_dim,
            near,
            len(counts),
            *(float(best[name]) for name in names),
            float(best["mean"]),
            float(best["fewest"]),
            float(best["most"]),
            int(best["trials"]),
        ),
        f"{_COUNTS}counts = counts[counts['where'] == {net.where!r}]\n"
        "best = counts.iloc[counts['difference'].abs().argmin()]\n"
        f"best['paper'], {net.latent_dim}, (counts['difference'].abs() <= 1).sum(), len(counts), "
        f"*best[{[*names, 'mean', 'fewest', 'most', 'trials']}]",
        warns=near == 0,
    )


def _closest_statement(counts: pd.DataFrame, closest: pd.DataFrame) -> Statement:
    """Say which one setting comes closest to all counts at once."""
    best = closest.iloc[0]
    words, names = setting_template(best)
    nets = [net for net in PAPER_NETS if net.where in closest.columns]
    ours = ", ".join("{:.1f}" for _ in nets)
    theirs = ", ".join("{:d}" for _ in nets)
    places = ", ".join(net.where for net in nets)
    return Statement(
        f"Closest to all of these counts at once ({places}) is {words}: {ours} units against the "
        f"paper's {theirs}. The farthest is off by {{:.1f}}.",
        (
            *(float(best[name]) for name in names),
            *(float(best[net.where]) for net in nets),
            *(net.active for net in nets),
            float(best["farthest"]),
        ),
        f"from analysis import closest_settings\n{_COUNTS}best = closest_settings(counts).iloc[0]\n"
        f"nets = {[net.where for net in nets]}\n"
        "paper = counts.drop_duplicates('where').set_index('where')['paper']\n"
        f"*best[{names}], *best[nets], *paper[nets], best['farthest']",
        warns=bool(best["farthest"] > 1),
    )


def _own_beta_statement(own_beta: pd.DataFrame) -> Statement:
    """Say which one setting comes closest where each net may have its own β."""
    best = own_beta.drop_duplicates("where")  # of which each setting has all
    words, names = setting_template(best.iloc[0].drop("beta"))
    said = f" is {words}" if words else ""
    ours = ", ".join(f"{{:.1f}} units at β = {{:g}} ({where})" for where in best["where"])
    return Statement(
        f"With a β for each net, all else equal, the closest to all of them{said}: {ours}. The "
        "farthest is off by {:.1f}.",
        (
            *(float(best[name].iloc[0]) for name in names),
            *best[["mean", "beta"]].to_numpy(float).ravel(),
            float(best["farthest"].iloc[0]),
        ),
        f"from analysis import closest_with_own_beta\n{_COUNTS}"
        "best = closest_with_own_beta(counts).drop_duplicates('where')\n"
        f"*best[{names}].iloc[0], *best[['mean', 'beta']].to_numpy().ravel(), "
        "best['farthest'].iloc[0]",
        warns=bool(best["farthest"].iloc[0] > 1),
    )


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
            f"from analysis import closest_with_own_beta\n{_COUNTS}"
            f"closest_with_own_beta(counts)[{list(shown.columns)}]",
        )
    ]


def _pairs_statement(pairs: pd.DataFrame) -> list[Statement]:
    """Say how near to the law both dense nets come where both have the paper's counts."""
    near = int((pairs["farthest"] <= 1).sum())
    if near == 0:
        return []
    best = pairs.iloc[0]
    words, names = setting_template(best)
    alike = f"{words}, " if words else ""
    names += ["epochs", "mnist_beta", "tiles_beta", "mnist_units", "tiles_units", "law_mean"]
    return [
        Statement(
            "The paper's dense nets, trained alike but for β: both are within one of its counts "
            "in {:,} of {:,} pairs of β. Nearest to the variance law among these is "
            f"{alike}{{:,.0f}} epochs, β = {{:g}} on mnist and {{:g}} on tiles: {{:.1f}} and "
            "{:.1f} units, and over the units of both mean σ² + Var μ = {:.4f}.",
            (near, len(pairs), *(float(best[name]) for name in names)),
            "from analysis import dense_pairs\npairs = dense_pairs(trials)\n"
            f"(pairs['farthest'] <= 1).sum(), len(pairs), *pairs.iloc[0][{names}]",
        )
    ]


def _conv_statements(both: pd.DataFrame) -> list[Statement]:
    """Say under how many settings the convolutional net keeps more units, by dataset."""
    statements = []
    for dataset, rows in both.groupby("dataset"):
        more, fewer = int((rows["difference"] > 0).sum()), int((rows["difference"] < 0).sum())
        conv, dense = (_trained_for(rows, f"{net}_epochs") for net in ("conv", "dense"))
        alike = (rows["conv_epochs"] == rows["dense_epochs"]).all()
        caution = "" if alike else " Units on their way out count: fewer epochs leave more of them."
        statements.append(
            Statement(
                f"The paper finds less sparsity in convolutional nets. On {dataset} its "
                f"convolutional net, after {conv[0]}, keeps more units than its dense one, after "
                f"{dense[0]}, under {{:,}} of {{:,}} settings and fewer under {{:,}}; mean "
                f"difference {{:+.1f}} units.{caution}",
                (*conv[1], *dense[1], more, len(rows), fewer, float(rows["difference"].mean())),
                f"from analysis import conv_against_dense\n{_COUNTS}"
                "both = conv_against_dense(counts)\n"
                f"both = both[both['dataset'] == {dataset!r}]\n"
                "more = both['difference']\n"
                f"{conv[2]}, {dense[2]}, (more > 0).sum(), len(both), (more < 0).sum(), "
                "more.mean()",
                warns=more < len(rows),
            )
        )
    return statements


def _trained_for(both: pd.DataFrame, column: str) -> tuple[str, tuple[int, ...], str]:
    """Return a template for how long a net was trained, its numbers, and pandas for these."""
    first, last = int(both[column].min()), int(both[column].max())
    if first == last:
        return "{:,} epochs", (first,), f"both[{column!r}].min()"
    ends = f"both[{column!r}].min(), both[{column!r}].max()"
    return "{:,} to {:,} epochs", (first, last), ends


def _control_statements(pairs: pd.DataFrame) -> list[Statement]:
    """Say how many units are in use without the KL's variance part, and with it, by dataset."""
    statements = []
    for dataset, rows in pairs.groupby("dataset"):
        more = int((rows["difference"] > 0).sum())
        statements.append(
            Statement(
                "Without the KL's variance part, says the paper, sparsity disappears. With the "
                f"quadratic penalty in its place {{:.1f}} units are in use on {dataset}, "
                "{:.1f} with the whole KL: more in {:,} of {:,} pairs of trials that differ in "
                "this alone. In use are units with more than a hundredth of the trial's "
                "reconstruction gain, since no other rule means anything without the KL.",
                (
                    float(rows["in_use"].mean()),
                    float(rows["elbo_in_use"].mean()),
                    more,
                    len(rows),
                ),
                "from analysis import sparsity_of_controls\n"
                "pairs = sparsity_of_controls(trials, units)\n"
                f"pairs = pairs[pairs['dataset'] == {dataset!r}]\n"
                "pairs['in_use'].mean(), pairs['elbo_in_use'].mean(), "
                "(pairs['difference'] > 0).sum(), len(pairs)",
                warns=more < len(rows),
            )
        )
    return statements


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
