"""The intrinsic dimension in the report: curves, three activity rules, thresholds, and β."""

import pandas as pd

from analysis.activity import LEAST_GAIN, sensitivity_at_plateau, threshold_sensitivity
from analysis.charts.active_units import MOST_BETAS, active_units_chart, drawn_against
from analysis.charts.dimension_by_beta import dimension_by_beta_chart
from analysis.charts.thresholds import thresholds_chart
from analysis.dimension_by_beta import beta_of_drops, dimension_by_beta
from analysis.group_words import naturally, setting_labels
from analysis.groups import group_columns, has_variance_part, scattered_columns
from analysis.intrinsic_dimension import estimate_by_rule
from analysis.report.content import Block, Figure, Section, Statement, TableBlock
from analysis.report.grouping import FORMATS, shown_groups
from analysis.study_tables import StudyTables

__all__ = ["dimension_section"]

MOST_GROUPS = 60
_RULES = {
    "variance": "Var μ > {:g}",
    "kl": "KL > {:g} nats",
    "gain": "gain > β·KL",
}


def dimension_section(tables: StudyTables, estimates: pd.DataFrame) -> Section:
    """Compose the section from the tables and what `estimate_intrinsic_dimension` says of them."""
    completed = tables.trials[tables.trials["status"] == "completed"]
    if completed.empty:
        none = Statement("No trial has completed yet, so there are no active units.", warns=True)
        return Section("dimension", "Intrinsic dimension", (none,))
    counted = completed[has_variance_part(completed)]
    blocks: list[Block] = [_curves(counted, estimates)] if len(counted) else []
    if len(counted) < len(completed):
        blocks.append(_controls_statement(completed, counted))
    blocks += _by_rule(tables, completed)
    blocks += _by_beta(estimates)
    blocks += _thresholds(tables, estimates)
    return Section("dimension", "Intrinsic dimension", tuple(blocks))


def _controls_statement(completed: pd.DataFrame, counted: pd.DataFrame) -> Statement:
    return Statement(
        "{:,} of {:,} completed trials are controls: without the KL's variance part (another "
        "objective, or a β of zero) the scale of the latent space is arbitrary, so counts by Var μ "
        "or by KL mean nothing and are left out.",
        (len(completed) - len(counted), len(completed)),
        "done = trials.query(\"status == 'completed'\")\n"
        "len(done.query(\"objective != 'elbo' or beta == 0\")), len(done)",
    )


def _curves(completed: pd.DataFrame, estimates: pd.DataFrame) -> Figure:
    against = drawn_against(completed)
    differ = "in seeds and in what groups mix" if scattered_columns(completed) else "in seeds only"
    caption = f"Points are means over trials that differ {differ}, bars span the fewest and the "
    if against == "beta":
        caption = f"Active units against β. {caption}most."
    else:
        betas = estimates["beta"].nunique()
        what = "ranges of β" if "beta_from" in estimates else "β"
        caption = (
            f"Active units against latent_dim. {caption}most; on the dashed diagonal every unit is "
            "active. Where the count stops growing it has reached the intrinsic dimension: the "
            "bands are its 95% intervals, over the latent dimensions that they were taken from."
        )
        if betas > MOST_BETAS:
            caption += f" Of {betas} {what}, {MOST_BETAS} are drawn."
    return Figure("active-units", caption, active_units_chart(completed, estimates))


def _by_rule(tables: StudyTables, completed: pd.DataFrame) -> list[Block]:
    by_rule = estimate_by_rule(
        completed, tables.units, variance=tables.active_variance, kl=tables.active_kl
    )
    if by_rule.empty:
        return []
    groups = group_columns(completed)
    cells = by_rule.assign(answer=[_short(row) for _, row in by_rule.iterrows()])
    wide = cells.set_index([*groups, "rule"])["answer"].unstack("rule")
    limits = {"variance": tables.active_variance, "kl": tables.active_kl, "gain": 0.0}
    headings = {rule: words.format(limits[rule]) for rule, words in _RULES.items()}
    wide = wide.reindex(columns=list(_RULES)).rename(columns=headings).reset_index()
    wide = wide.sort_values(groups, key=naturally, ignore_index=True)
    many = f" (the first {MOST_GROUPS} of {len(wide):,} groups)" if len(wide) > MOST_GROUPS else ""
    table = TableBlock(
        "Intrinsic dimension, with its 95% interval, under three rules for what is active"
        f"{many}. The last is the paper's section VI: a unit pays for itself; where the objective "
        "lacks the KL's variance part, only that means anything, relative to the trial's whole "
        f"gain. Gains up to {LEAST_GAIN:g} nats, which is chance, do not count.",
        shown_groups(wide.head(MOST_GROUPS)),
        FORMATS,
        "from analysis import estimate_by_rule\n"
        "done = trials.query(\"status == 'completed'\")\n"
        f"estimate_by_rule(done, units, variance={tables.active_variance:g}, "
        f"kl={tables.active_kl:g})",
    )
    return [table, *_disagreements(by_rule, groups, tables)]


def _short(row: pd.Series) -> str:
    if row["verdict"] == "saturated":
        return f"{row['estimate']:.1f} ({row['lower']:.1f} to {row['upper']:.1f})"
    if row["verdict"] == "not saturated":
        return f"at least {row['at_least']}"
    return str(row["verdict"])


def _disagreements(by_rule: pd.DataFrame, groups: list[str], tables: StudyTables) -> list[Block]:
    """Say where units count as active that do not pay for themselves, or the other way round."""
    wide = by_rule.set_index([*groups, "rule"])["estimate"].unstack("rule")
    if not {"variance", "gain"} <= set(wide.columns):
        return []
    both = wide[["variance", "gain"]].dropna()
    more = int((both["variance"] - both["gain"] > 0.5).sum())
    fewer = int((both["gain"] - both["variance"] > 0.5).sum())
    if more + fewer == 0:
        return []
    return [
        Statement(
            "In {:,} of {:,} groups with a number under both, the rule on Var μ counts over half a "
            "unit more than pays for its KL (often units that have not finished dying: train "
            "longer), in {:,} over half a unit less.",
            (more, len(both), fewer),
            "from analysis import estimate_by_rule, group_columns\n"
            "done = trials.query(\"status == 'completed'\")\n"
            f"by_rule = estimate_by_rule(done, units, variance={tables.active_variance:g}, "
            f"kl={tables.active_kl:g})\n"
            "keys = [*group_columns(done), 'rule']\n"
            "both = by_rule.set_index(keys)['estimate'].unstack('rule')"
            "[['variance', 'gain']].dropna()\n"
            "off = both['variance'] - both['gain']\n"
            "(off > 0.5).sum(), len(both), (off < -0.5).sum()",
            warns=True,
        )
    ]


def _by_beta(estimates: pd.DataFrame) -> list[Block]:
    curve = dimension_by_beta(estimates)
    swept = (estimates["latent_dims"] > 1).any()  # else all are bounds, from the counts above
    if curve.empty or estimates["beta"].nunique() < 2 or not swept:
        return []
    blocks: list[Block] = [
        Figure(
            "dimension-by-beta",
            "Intrinsic dimension against β, with 95% intervals. Triangles are lower bounds, where "
            "latent_dim does not reach far enough to tell.",
            dimension_by_beta_chart(curve),
        )
    ]
    drops = beta_of_drops(estimates)
    if len(drops):
        blocks.append(
            TableBlock(
                "The β at which the dimension drops by one",
                shown_groups(drops.head(MOST_GROUPS)),
                FORMATS | dict.fromkeys(["beta", "lower", "upper"], "{:.3g}"),
                recipe="from analysis import beta_of_drops, estimate_intrinsic_dimension\n"
                "beta_of_drops(estimate_intrinsic_dimension(trials))",
            )
        )
    return blocks


def _thresholds(tables: StudyTables, estimates: pd.DataFrame) -> list[Block]:
    plateau = sensitivity_at_plateau(threshold_sensitivity(tables.trials, tables.units), estimates)
    if plateau.empty:
        return []
    return [
        Figure(
            "thresholds",
            "How the count on the plateau moves with the threshold of each rule. Where a curve is "
            "flat around the threshold in use (dashed), active and inactive units are clearly "
            "apart.",
            thresholds_chart(
                plateau.assign(setting=setting_labels(plateau)),
                {"variance": tables.active_variance, "kl": tables.active_kl, "gain": 1.0},
            ),
        )
    ]
