"""What drives sparsity, in the report: importance of each hyperparameter, and paired effects."""

import math

import pandas as pd

from analysis.charts.sparsity_drivers import importance_chart, paired_effects_chart
from analysis.design_points import design_points
from analysis.importance import FEWEST_TRIALS, hyperparameter_importance
from analysis.paired_effects import describe_effect, paired_effects
from analysis.report.content import Block, Figure, Section, Statement, TableBlock
from analysis.study_tables import StudyTables

__all__ = ["drivers_section"]

MOST_EFFECTS = 40
MOST_SENTENCES = 6
_GRID = "What the seed seems to explain is noise, and so is all that does not exceed it."
_NO_GRID = (
    "The points are no full grid, so settings that change together share what they explain as "
    "chance has it, and what the seed seems to explain may be theirs."
)
_FORMATS = {name: "{:.3f}" for name in ("importance", "low", "high", "difference")}


def drivers_section(tables: StudyTables) -> Section | None:
    """Compose the section; None where no hyperparameter varies."""
    importance = hyperparameter_importance(tables.trials)
    if importance.empty:
        return None
    blocks: list[Block] = []
    if importance["importance"].notna().any():
        used, of = int(importance["trials"].iloc[0]), int(importance["of"].iloc[0])
        sample = f", from a random sample of {used:,} of {of:,} trials" if used < of else ""
        blocks.append(
            Figure(
                "importance",
                "Share of the variance of the active units that each hyperparameter explains by "
                f"itself (functional ANOVA by Optuna{sample}), with 95% intervals. "
                + (_GRID if _is_grid(tables.trials) else _NO_GRID),
                importance_chart(importance),
            )
        )
    else:
        blocks.append(_no_importances(importance))
    effects = paired_effects(tables.trials)
    known = effects[effects["pairs"] > 0]
    if len(known):
        largest = known.reindex(known["difference"].abs().sort_values(ascending=False).index)
        blocks += [
            Statement(
                f"{describe_effect(row)}.".replace("{", "{{").replace("}", "}}"),
                (float(row["difference"]), float(row["low"]), float(row["high"])),
                "from analysis import paired_effects\n"
                "effects = paired_effects(trials)\n"
                f"effect = effects[(effects['hyperparameter'] == {row['hyperparameter']!r})\n"
                f"    & (effects['reference'] == {row['reference']!r})\n"
                f"    & (effects['value'] == {row['value']!r})].iloc[0]\n"
                "effect['difference'], effect['low'], effect['high']",
            )
            for _, row in largest[largest["hyperparameter"] != "latent_dim"]
            .head(MOST_SENTENCES)
            .iterrows()
        ]
        blocks.append(
            Figure(
                "effects",
                "Difference in active units between trials that differ in one hyperparameter and "
                "in nothing else, seeds included: mean over the pairs with its 95% interval. Among "
                "twenty such intervals one misses, so take the largest of many with care.",
                paired_effects_chart(largest.head(MOST_EFFECTS)),
            )
        )
    unpaired = effects[effects["pairs"] == 0]
    blocks += [Statement(f"{describe_effect(row)}.") for _, row in unpaired.iterrows()]
    if len(known):
        more = f" (the {MOST_EFFECTS} largest)" if len(known) > MOST_EFFECTS else ""
        blocks.append(
            TableBlock(
                f"Paired differences{more}",
                largest.head(MOST_EFFECTS),
                _FORMATS,
                "from analysis import paired_effects\npaired_effects(trials)",
            )
        )
    return Section("drivers", "What drives sparsity", tuple(blocks))


def _is_grid(trials: pd.DataFrame) -> bool:
    """Return whether every combination of what varies is among the trials."""
    points = design_points(trials).drop_duplicates()
    return len(points) >= math.prod(points.nunique(dropna=False).tolist())


def _no_importances(importance: pd.DataFrame) -> Statement:
    number = int(importance["trials"].iloc[0])
    if number >= FEWEST_TRIALS:
        return Statement("No importances: all trials have the same active units.", warns=True)
    return Statement(
        f"No importances: {{:,.0f}} trials are too few, {FEWEST_TRIALS} the least.",
        (number,),
        "from analysis import hyperparameter_importance\n"
        "[hyperparameter_importance(trials)['trials'].iloc[0]]",
        warns=True,
    )
