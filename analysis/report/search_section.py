"""An adaptive search in the report: what it found, how it got there, what pruning spared."""

from typing import Final

import pandas as pd

from analysis.charts.pareto import MOST_PAIRS, pareto_chart
from analysis.charts.search_history import search_history_chart
from analysis.charts.search_pruning import search_pruning_chart
from analysis.charts.sparsity_drivers import importance_chart
from analysis.importance import hyperparameter_importance
from analysis.points_to_follow import improvements, points_to_follow, points_to_show
from analysis.pruning import points_by_epoch, values_by_epoch
from analysis.report.content import Block, Figure, Section, Statement, TableBlock
from analysis.report.search_statements import (
    best_statements,
    outcome_statement,
    points_recipe,
    saving_statement,
    searched_points,
    seeds_statement,
)
from analysis.search_goals import Search
from analysis.search_points import pareto_front
from analysis.search_words import column_words, goal_words, number_format, parameters_of
from analysis.study_tables import StudyTables

__all__ = ["search_answer", "search_section"]

MOST_DATASETS: Final = 3
MOST_ROWS: Final = 30
BEST_ROWS: Final = 10
_NO_GRID: Final = (
    "These points are no grid: they crowd where the search hoped for good values, and only those "
    "that completed count. So this says what made the difference among them, not in the whole "
    "space: what the search settled early seems to matter little, and a few very bad points can be "
    "most of the variance."
)


def search_answer(tables: StudyTables) -> list[Statement]:
    """Say what a search found; nothing where it is not Optuna that chooses."""
    if tables.search is None or tables.trials.empty:
        return []
    return best_statements(tables.search, searched_points(tables))


def search_section(tables: StudyTables) -> Section | None:
    """Compose the section; None where it is not Optuna that chooses, or nothing is there yet."""
    search = tables.search
    if search is None or tables.trials.empty:
        return None
    points = searched_points(tables)
    blocks: list[Block | None] = [
        *best_statements(search, points),
        outcome_statement(search, points),
        saving_statement(search, tables.trials),
        seeds_statement(search, points, tables.trials),
    ]
    datasets = list(points["dataset"].unique())
    if len(datasets) > 1:
        blocks.append(_datasets_statement(search, datasets))
    for dataset in datasets[:MOST_DATASETS]:
        of_dataset = points[points["dataset"] == dataset]
        name = dataset if len(datasets) > 1 else None
        blocks += _history(search, of_dataset, name)
        blocks += _front(search, points, of_dataset, name)
        blocks += _pruning(tables, search, of_dataset, name)
    blocks += _importances(tables.trials, search)
    return Section("search", "Search", tuple(block for block in blocks if block is not None))


def _datasets_statement(search: Search, datasets: list[str]) -> Statement:
    goals = " and ".join(dict.fromkeys(column_words(goal.column) for goal in search.goals))
    more = ""
    if len(datasets) > MOST_DATASETS:
        more = " Charts show the three of them that were tried first."
    return Statement(
        f"Optuna compared points on different datasets with each other; {goals} of one dataset "
        f"says nothing beside that of another, so each is shown by itself.{more}",
        warns=True,
    )


def _named(name: str, dataset: str | None) -> str:
    """A figure's name, in which a dataset's is a part where there are several."""
    return name if dataset is None else f"{name}-{dataset}"


def _on(dataset: str | None) -> str:
    return "" if dataset is None else f" on {dataset}"


def _history(search: Search, points: pd.DataFrame, dataset: str | None) -> list[Block]:
    if len(points) < 2 or not (points["outcome"] == "completed").any():
        return []
    keep = pd.Series(False, index=points.index)
    for goal in search.goals:
        keep |= improvements(points, goal)
    shown = points_to_show(points, keep)
    by_epochs = points["epochs_trained"].nunique() > 1
    words = [
        f"The course of the search{_on(dataset)}: each completed point's value, the mean over its "
        f"{'seeds' if search.seeds > 1 else 'one seed'}, and {_line(search, points)}"
    ]
    if len(search.goals) > 1:
        words.append("Each goal by itself: the best of one is not that of another.")
    if by_epochs:
        words.append(
            "Points stand at the epochs that all points up to them had trained, since they do not "
            "cost the same: one that was pruned early has hardly moved the search on."
        )
    words.append(
        "The order is that in which training began; points of one pack were proposed together, "
        "without each other's results."
    )
    if points["outcome"].isin(["pruned", "failed"]).any():
        words.append("Marks below are points that have no final value.")
    words.append(_left_out(len(points), len(shown), "those that improved on all before them"))
    chart = search_history_chart(
        shown, list(search.goals), constrained=bool(search.constraints), by_epochs=by_epochs
    )
    return [Figure(_named("search-history", dataset), " ".join(filter(None, words)), chart)]


def _line(search: Search, points: pd.DataFrame) -> str:
    if not points["feasible"].any():
        return "no line of the best so far, since none satisfies the constraints."
    whose = ", of points that satisfy the constraints" if search.constraints else ""
    return f"the best so far as a line{whose}."


def _left_out(total: int, shown: int, kept: str) -> str:
    if shown == total:
        return ""
    return f"Of {total:,} points {shown:,} are drawn: {kept}, and others spread evenly."


def _front(
    search: Search, points: pd.DataFrame, of_dataset: pd.DataFrame, dataset: str | None
) -> list[Block]:
    """The front of several goals with its points; of one goal, its best points."""
    good = of_dataset[of_dataset["feasible"]]
    if good.empty:
        return []
    goals = list(search.goals)
    if len(goals) == 1:
        return [_best_points(search, points, good, dataset)]
    front = pareto_front(of_dataset, goals)
    best = of_dataset[front]
    shown = points_to_show(of_dataset[of_dataset["outcome"] == "completed"], front)
    pairs = "" if len(goals) == 2 else " Each panel shows two of the goals"
    if len(goals) > 2:
        number = len(goals) * (len(goals) - 1) // 2
        pairs += "." if number <= MOST_PAIRS else f", {MOST_PAIRS} of {number} pairs."
        pairs += " A point of the front that lies behind others in one is better in another goal."
    completed = int((of_dataset["outcome"] == "completed").sum())
    left_out = _left_out(completed, len(shown), "the front, as far as there is room")
    return [
        Figure(
            _named("search-pareto", dataset),
            f"The Pareto front{_on(dataset)}: no point is as good as one of these in every goal "
            f"and better in one. Numbers are those of the table below. Axes leave out points far "
            f"worse than most.{pairs} {left_out}".strip(),
            pareto_chart(shown, front[shown.index], goals),
        ),
        TableBlock(
            f"Points of the front{_on(dataset)}" + _first_of(len(best), MOST_ROWS),
            _table(search, points, best.sort_values(goals[0].name)).head(MOST_ROWS),
            _formats(search, best),
            f"from analysis import pareto_front\n{points_recipe(search)}"
            + ("" if dataset is None else f"points = points[points['dataset'] == {dataset!r}]\n")
            + "points[pareto_front(points, goals)]",
        ),
    ]


def _best_points(
    search: Search, points: pd.DataFrame, good: pd.DataFrame, dataset: str | None
) -> TableBlock:
    (goal,) = search.goals
    ascending = goal.direction != "maximise"
    best = good.sort_values(goal.name, ascending=ascending, kind="stable").head(BEST_ROWS)
    chosen = "" if dataset is None else f" & (points['dataset'] == {dataset!r})"
    return TableBlock(
        f"The best points{_on(dataset)}" + _first_of(len(good), BEST_ROWS),
        _table(search, points, best),
        _formats(search, good),
        f"{points_recipe(search)}good = points[points['feasible']{chosen}]\n"
        f"good.sort_values({goal.name!r}, ascending={ascending}, kind='stable')"
        f".head({BEST_ROWS})",
    )


def _first_of(total: int, most: int) -> str:
    return f", the first {most} of {total:,}" if total > most else ""


def _table(search: Search, points: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Points with what was sought, and the parameters in which points differ."""
    sought = [name for goal in search.goals for name in (goal.name, goal.column)]
    sought += [constraint.column for constraint in search.constraints]
    parameters = [name for name in parameters_of(points) if name != "dataset"]
    return rows[list(dict.fromkeys(["point", *sought, *parameters, "trials"]))]


def _formats(search: Search, rows: pd.DataFrame) -> dict[str, str]:
    names = [name for goal in search.goals for name in (goal.name, goal.column)]
    names += [constraint.column for constraint in search.constraints]
    formats = {name: f"{{:{number_format(rows[name])}}}" for name in names}
    return formats | dict.fromkeys(("beta", "learning_rate", "decoder_variance"), "{:.4g}")


def _pruning(
    tables: StudyTables, search: Search, points: pd.DataFrame, dataset: str | None
) -> list[Block]:
    """Curves of the points and how many went on, where some were given up."""
    (goal, *_) = search.goals
    by_epoch = points_by_epoch(points)
    if not (points["outcome"] == "pruned").any() or tables.search_epochs.empty:
        return []
    shown = points_to_follow(points, goal)
    values = values_by_epoch(shown, tables.search_epochs, goal)
    if values.empty:
        return []
    best = points.loc[pareto_front(points, [goal]), "point"].min()
    drawn = values["point"].nunique()
    trained = int((points["reached"] > 0).sum())
    left_out = _left_out(trained, drawn, "those that were the best when they came")
    return [
        Figure(
            _named("search-pruning", dataset),
            f"Above, {goal_words(goal)} of the points{_on(dataset)} after each epoch, mean over "
            f"the seeds: what the pruner {search.pruner} goes by. A line that ends with a dot was "
            "given up there. Below, how many points trained each epoch; the dashed line is how "
            "many would have without pruning, and what lies between was saved. "
            f"{left_out}".strip(),
            search_pruning_chart(values, points, by_epoch, goal, best),
        )
    ]


def _importances(trials: pd.DataFrame, search: Search) -> list[Block]:
    blocks: list[Block] = []
    columns = list(dict.fromkeys(goal.column for goal in search.goals))
    for column in columns:
        importance = hyperparameter_importance(trials, column)
        if importance.empty:
            continue
        words = column_words(column)
        if not importance["importance"].notna().any():
            why = importance["verdict"].iloc[0].partition(":")[0]
            blocks.append(Statement(f"No importances for {words}: {why}.", warns=True))
            continue
        used, of = int(importance["trials"].iloc[0]), int(importance["of"].iloc[0])
        sample = f", from a random sample of {used:,} of {of:,} trials" if used < of else ""
        caveat = "With the same reservation." if any(map(_is_figure, blocks)) else _NO_GRID
        blocks.append(
            Figure(
                "search-importance" + (f"-{column.replace('_', '-')}" if len(columns) > 1 else ""),
                f"Share of the variance of {words} that each hyperparameter explains by itself "
                f"(functional ANOVA by Optuna{sample}), with 95% intervals. {caveat}",
                importance_chart(importance, words),
            )
        )
    return blocks


def _is_figure(block: Block) -> bool:
    return isinstance(block, Figure)
