"""What the report says about the paper's counts: for which settings they come out."""

import pandas as pd

from analysis.paper import PAPER_NETS, PaperNet
from analysis.paper_counts import (
    closest_settings,
    closest_with_own_beta,
    conv_against_dense,
    paper_counts,
    setting_template,
)
from analysis.report.content import Statement
from analysis.sparsity_controls import sparsity_of_controls
from analysis.study_tables import StudyTables

__all__ = ["COUNTS_RECIPE", "pairs_statements", "paper_statements"]

COUNTS_RECIPE = "from analysis import paper_counts\ncounts = paper_counts(trials)\n"
"""The lines on which other recipes about counts build."""


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


def pairs_statements(pairs: pd.DataFrame) -> list[Statement]:
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
        f"{COUNTS_RECIPE}counts = counts[counts['where'] == {net.where!r}]\n"
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
        f"from analysis import closest_settings\n{COUNTS_RECIPE}"
        "best = closest_settings(counts).iloc[0]\n"
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
        f"from analysis import closest_with_own_beta\n{COUNTS_RECIPE}"
        "best = closest_with_own_beta(counts).drop_duplicates('where')\n"
        f"*best[{names}].iloc[0], *best[['mean', 'beta']].to_numpy().ravel(), "
        "best['farthest'].iloc[0]",
        warns=bool(best["farthest"].iloc[0] > 1),
    )


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
                f"from analysis import conv_against_dense\n{COUNTS_RECIPE}"
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
