"""What an adaptive search found, in sentences: the best point, how points ended, what was saved."""

from typing import Any, Final

import pandas as pd

from analysis.pruning import pruning_savings
from analysis.report.content import Number, Statement
from analysis.search_goals import Goal, Search
from analysis.search_points import pareto_front, search_points, seed_spread
from analysis.search_words import BARE, column_words, goal_words, number_format, parameters_of
from analysis.study_tables import StudyTables

__all__ = [
    "best_statements",
    "constraint_words",
    "outcome_statement",
    "points_recipe",
    "saving_statement",
    "searched_points",
    "seeds_statement",
]

MOST_DATASETS: Final = 4


def searched_points(tables: StudyTables) -> pd.DataFrame:
    """Return the points of a study's search."""
    search = tables.search
    assert search is not None
    return search_points(tables.trials, search.goals, search.constraints, seeds=search.seeds)


def points_recipe(search: Search) -> str:
    """Return the lines that give the points of a search again."""
    goals = [tuple(goal if goal.target is not None else goal[:2]) for goal in search.goals]
    constraints = [tuple(constraint) for constraint in search.constraints]
    return (
        "from analysis import search_points\n"
        f"goals, constraints = {goals!r}, {constraints!r}\n"
        f"points = search_points(trials, goals, constraints, seeds={search.seeds})\n"
    )


def constraint_words(search: Search) -> str:
    """Return the constraints in words: "active_units <= 8 and train_kl <= 20"."""
    return " and ".join(constraint.words for constraint in search.constraints)


def best_statements(search: Search, points: pd.DataFrame) -> list[Statement]:
    """Say which point is the best, or how many are on the front; of each dataset, four at most."""
    completed = points[points["outcome"] == "completed"]
    if completed.empty:
        aim = " and ".join(goal.words for goal in search.goals)
        return [Statement(_escaped(f"No point of the search ({aim}) has completed."), warns=True)]
    datasets = list(completed["dataset"].unique())
    statements = []
    for dataset in datasets[:MOST_DATASETS]:
        of_dataset = points[points["dataset"] == dataset]
        name = dataset if len(datasets) > 1 else None
        if not of_dataset["feasible"].any():
            statements.append(_closest(search, of_dataset, name))
        elif len(search.goals) == 1:
            statements.append(_best(search, of_dataset, name))
        else:
            statements.append(_front(search, of_dataset, name))
    return statements


def _best(search: Search, of_dataset: pd.DataFrame, dataset: str | None) -> Statement:
    (goal,) = search.goals
    good = of_dataset[of_dataset["feasible"]]
    best = good[pareto_front(good, [goal])].iloc[0]
    satisfying = f" that satisfy {constraint_words(search)}" if search.constraints else ""
    over_seeds = best["trials"] > 1
    seeds = [int(best["trials"])] if over_seeds else []
    words, numbers, columns = _parameters(of_dataset, best)
    return Statement(
        _escaped(f"Best{_on(dataset)} of ")
        + "{:,} completed points"
        + _escaped(f"{satisfying} ({goal.words}): {goal_words(goal)} = ")
        + f"{{:{number_format(good[goal.name])}}}"
        + (", the mean over {:,} seeds," if over_seeds else "")
        + f" at {words}.",
        (
            len(good),
            float(best[goal.name]),
            *seeds,
            *numbers,
        ),
        f"{points_recipe(search)}good = points[points['feasible']{_of(dataset)}]\n"
        f"best = good.loc[good[{goal.name!r}].{_extreme(goal)}()]\n"
        f"(len(good), best[{goal.name!r}], "
        + "".join(f"best[{name!r}], " for name in [*(["trials"] if over_seeds else []), *columns])
        + ")",
    )


def _closest(search: Search, of_dataset: pd.DataFrame, dataset: str | None) -> Statement:
    """Where no point satisfies the constraints: how close one came."""
    done = of_dataset[of_dataset["outcome"] == "completed"]
    columns = [constraint.column for constraint in search.constraints]
    recipe = (
        f"{points_recipe(search)}done = points[(points['outcome'] == 'completed'){_of(dataset)}]\n"
    )
    text = _escaped(f"{_begin(dataset)}one of ")
    text += "{:,} completed points" + _escaped(f" satisfies {constraint_words(search)}")
    if done["violation"].isna().all():  # a measured value that is no number
        return Statement(f"{text}.", (len(done),), f"{recipe}len(done)", warns=True)
    close = done.loc[done["violation"] == done["violation"].min()].iloc[0]
    words, numbers, names = _parameters(of_dataset, close)
    came = " and ".join(f"{_escaped(column_words(name))} {{:g}}" for name in columns)
    return Statement(
        f"{text}; closest comes {words} with {came}.",
        (len(done), *numbers, *(float(close[name]) for name in columns)),
        f"{recipe}close = done.loc[done['violation'].idxmin()]\n"
        "(len(done), " + "".join(f"close[{name!r}], " for name in [*names, *columns]) + ")",
        warns=True,
    )


def _front(search: Search, of_dataset: pd.DataFrame, dataset: str | None) -> Statement:
    """How many points no other beats, and how far they reach in each goal."""
    front = of_dataset[pareto_front(of_dataset, search.goals)]
    aims = " and ".join(goal.words for goal in search.goals)
    satisfying = f" that satisfy {constraint_words(search)}" if search.constraints else ""
    reach, numbers, columns = [], [], []
    for goal in search.goals:
        form = number_format(front[goal.name])
        reach.append(f"{_escaped(goal_words(goal))} from {{:{form}}} to {{:{form}}}")
        numbers += [float(front[goal.name].min()), float(front[goal.name].max())]
        columns.append(goal.name)
    feasible = of_dataset["feasible"].sum()
    return Statement(
        _escaped(f"{_begin(dataset)}o point beats ")
        + "{:,} of the {:,} completed points"
        + _escaped(f"{satisfying} ({aims}): ")
        + "this Pareto front spans "
        + " and ".join(reach)
        + ".",
        (len(front), int(feasible), *numbers),
        f"from analysis import pareto_front\n{points_recipe(search)}"
        f"of_dataset = points[points['feasible']{_of(dataset)}]\n"
        "front = of_dataset[pareto_front(of_dataset, goals)]\n"
        "(len(front), len(of_dataset), "
        + "".join(f"front[{c!r}].min(), front[{c!r}].max(), " for c in columns)
        + ")",
    )


def outcome_statement(search: Search, points: pd.DataFrame) -> Statement:
    """Say how many points completed, were pruned, failed, and violate the constraints."""
    outcome = points["outcome"]
    completed = int((outcome == "completed").sum())
    numbers: list[Number] = [len(points), search.points, completed]
    lines = ["len(points)", str(search.points), "(points['outcome'] == 'completed').sum()"]
    words = "{:,} of {:,} points tried: {:,} completed"
    for name, text in (
        ("pruned", "{:,} pruned"),
        ("failed", "{:,} failed or diverged"),
        ("unfinished", "{:,} still without all their seeds"),
    ):
        if count := int((outcome == name).sum()):
            words += f", {text}"
            numbers.append(count)
            lines.append(f"(points['outcome'] == {name!r}).sum()")
    if search.constraints and completed:
        words += "; {:,} of the completed ones violate " + _escaped(constraint_words(search))
        numbers.append(completed - int(points["feasible"].sum()))
        lines.append("((points['outcome'] == 'completed') & ~points['feasible']).sum()")
    recipe = points_recipe(search) + "(" + ",\n ".join(lines) + ")"
    return Statement(f"{words}.", tuple(numbers), recipe, warns=bool((outcome == "failed").any()))


def saving_statement(search: Search, trials: pd.DataFrame) -> Statement | None:
    """Say what pruning spared; None where nothing was pruned and nobody would."""
    savings = pruning_savings(trials)
    if not savings["pruned"]:
        if search.pruner is None:
            return None
        return Statement(_escaped(f"The pruner {search.pruner} has given up no trial so far."))
    return Statement(
        "{:,.0f} epochs were trained; without pruning it would have been {:,.0f}. So {:,.0f} "
        "epochs, {:.0f}%, were saved, on {:,.0f} pruned trials. In time that is about {:,.0f} s, "
        "beside {:,.0f} s spent: an estimate, at the pace of the epochs that those trials did "
        "train.",
        (
            float(savings["epochs_trained"]),
            float(savings["epochs_without"]),
            float(savings["epochs_saved"]),
            100 * float(savings["share"]),
            float(savings["pruned"]),
            float(savings["seconds_saved"]),
            float(savings["seconds"]),
        ),
        "pruned = trials['status'] == 'pruned'\n"
        "trained = trials['epochs_trained'].fillna(0)\n"
        "saved = (trials['epochs'] - trained)[pruned]\n"
        "pace = trials['seconds'] / trials['epochs_trained']\n"
        "without = trained.sum() + saved.sum()\n"
        "(trained.sum(), without, saved.sum(), 100 * saved.sum() / without, pruned.sum(),\n"
        " (pace * saved).sum(), trials['seconds'].sum())",
    )


def seeds_statement(search: Search, points: pd.DataFrame, trials: pd.DataFrame) -> Statement | None:
    """Say how much of a difference between points is the seed; None where there are no values."""
    (goal, *others) = search.goals
    good = points[points["feasible"]]
    if others or goal.target is not None or len(good) < 2:
        return None
    if search.seeds == 1:
        return Statement(
            "One seed per point: how much of a difference between points is luck is not known.",
            warns=True,
        )
    deviation, of_mean, counted = seed_spread(trials, points, goal.column)
    best = (goal.sign * good[goal.name]).min()
    close = int((goal.sign * good[goal.name] - best <= 2 * of_mean).sum()) - 1
    form = number_format(pd.Series([deviation, of_mean]))
    return Statement(
        "Seeds of one point differ by a standard deviation of "
        f"{{:{form}}} ({{:,}} points), so a point's mean is uncertain by {{:{form}}}; {{:,}} "
        "further points are within twice that of the best, which a search finds partly by luck.",
        (deviation, counted, of_mean, close),
        f"from analysis import seed_spread\n{points_recipe(search)}"
        f"deviation, of_mean, counted = seed_spread(trials, points, {goal.column!r})\n"
        f"good = points.loc[points['feasible'], {goal.name!r}]\n"
        f"gap = (good - good.{'max' if goal.direction == 'maximise' else 'min'}()).abs()\n"
        "(deviation, counted, of_mean, (gap <= 2 * of_mean).sum() - 1)",
    )


def _parameters(
    points: pd.DataFrame, point: "pd.Series[Any]"
) -> tuple[str, list[Number], list[str]]:
    """A point's parameters: words with a hole for each number, the numbers, and their columns."""
    words: list[str] = []
    numbers: list[Number] = []
    columns: list[str] = []
    for name in map(str, parameters_of(points)):
        value = point[name]
        if pd.isna(value):
            continue
        label = "" if name in BARE else f"{column_words(name)} "
        if isinstance(value, str):
            words.append(label + _escaped(value))
        else:
            words.append(label + "{:.3g}")
            numbers.append(value)
            columns.append(name)
    return ", ".join(words), numbers, columns


def _on(dataset: str | None) -> str:
    return "" if dataset is None else f" on {dataset}"


def _begin(dataset: str | None) -> str:
    return "N" if dataset is None else f"On {dataset}, n"


def _of(dataset: str | None) -> str:
    return "" if dataset is None else f" & (points['dataset'] == {dataset!r})"


def _extreme(goal: Goal) -> str:
    return "idxmax" if goal.direction == "maximise" else "idxmin"


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
