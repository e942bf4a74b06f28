"""What the codes of a study say of the paper's figures 1 and 3, in sentences with recipes."""

from collections.abc import Iterator

import pandas as pd

from analysis.latent_codes import OBJECTIVES, pair_columns, sampling_pairs
from analysis.pairing import group_words
from analysis.report.content import Number, Statement
from analysis.study_tables import StudyTables

__all__ = ["latent_statements"]

MOST_GROUPS = 3
SMALL_VARIANCE = 0.1
PEAK = 1.5  # of the variance at the first step: worth telling

_STATISTICS = (
    "from analysis import code_statistics, sampling_pairs\n"
    "statistics = code_statistics(trials, study.encodings)\n"
)
_PAIRS = f"{_STATISTICS}pairs = sampling_pairs(trials, statistics)\n"
_SENSES = {
    "henze_zirkler": ("Gaussian shape", -1),
    "axis_ratio": ("equal axes", -1),
    "prior_covered": ("filling the prior", 1),
}
"""What "spherical" may mean, and which sign of a difference is nearer to it."""


def latent_statements(tables: StudyTables, shown: pd.DataFrame) -> list[Statement]:
    """Say how spherical codes are, with and without sampling, and how their variance fell."""
    statements: list[Statement] = []
    if len(tables.code_statistics):
        pairs = sampling_pairs(tables.trials, tables.code_statistics)
        if len(pairs):
            statements += [_claim(pairs), *_by_group(pairs)]
        else:
            statements += _without_pairs(tables)
        statements += _left_out(tables)
    return statements + [_variance_along(tables, trial) for trial in _with_ways(tables, shown)]


def _claim(pairs: pd.DataFrame) -> Statement:
    """Say in how many pairs the paper's claim holds, sense by sense."""
    nearer = [int(_nearer(pairs, name).sum()) for name in _SENSES]
    holds = [
        words
        for (words, _), count in zip(_SENSES.values(), nearer, strict=True)
        if count == len(pairs)
    ]
    others = [words for words, _ in _SENSES.values() if words not in holds]
    verdict = f"It holds throughout for {_and(holds)}" if holds else "It holds throughout for none"
    verdict += f", but not for {_and(others)}." if holds and others else "."
    return Statement(
        "The paper's figure 3 finds codes of “much more spherical shape” where training samples. "
        "Of {:,} pairs of trials that differ in sampling alone, the one with sampling has codes "
        "more Gaussian in shape in {:,}, axes more equal in {:,}, and fills more of the prior in "
        f"{{:,}}. {verdict}",
        (len(pairs), *nearer),
        f"{_PAIRS}len(pairs), "
        + ", ".join(
            f"(pairs['{name}_with'] {'<' if sign < 0 else '>'} pairs['{name}_without']).sum()"
            for name, (_, sign) in _SENSES.items()
        ),
        warns=bool(others),
    )


def _nearer(pairs: pd.DataFrame, name: str) -> "pd.Series[bool]":
    difference = pairs[f"{name}_with"] - pairs[f"{name}_without"]
    return difference * _SENSES[name][1] > 0


def _by_group(pairs: pd.DataFrame) -> Iterator[Statement]:
    """Give means over seeds, and their spread, for the first groups of pairs."""
    columns = pair_columns(pairs)
    groups = pairs.groupby(columns, sort=False, dropna=False)
    for values, group in list(groups)[:MOST_GROUPS]:
        first = group.iloc[[0]]
        others = [name for name in columns if name != "beta"]
        words = f"{group_words(first, others).iloc[0]}, β = {first['beta'].iloc[0]:g}"
        names = [
            f"{name}_{side}"
            for name in ("henze_zirkler", "axis_ratio", "prior_covered", "spread")
            for side in ("with", "without")
        ]
        yield _group_statement(group, words, names, dict(zip(columns, values, strict=True)))


def _group_statement(
    group: pd.DataFrame, words: str, names: list[str], where: dict[str, object]
) -> Statement:
    several = len(group) > 1
    forms, numbers, formulas = [], [], []
    for name in names:
        percent, form = ("100 * ", "{:.0f}%") if "covered" in name else ("", "{:.2f}")
        scale = 100 if percent else 1
        form = "{:.1f}" if "henze" in name else form
        numbers.append(float(scale * group[name].mean()))
        formulas.append(f"{percent}pairs[{name!r}].mean()")
        if several:
            form = form.removesuffix("%") + " ± " + form
            numbers.append(float(scale * group[name].std()))
            formulas.append(f"{percent}pairs[{name!r}].std()")
        forms.append(form)
    spread = ", mean ± standard deviation over {:,} pairs" if several else ""
    numbers += [len(group)] if several else []
    formulas += ["len(pairs)"] if several else []
    chosen = {name: value for name, value in where.items() if value == value}  # null is not itself
    keep = "".join(f"pairs = pairs[pairs[{n!r}] == {v!r}]\n" for n, v in chosen.items())
    missing = [name for name in where if name not in chosen]
    keep += "".join(f"pairs = pairs[pairs[{name!r}].isna()]\n" for name in missing)
    return Statement(
        f"{words}: with sampling and without, Henze and Zirkler's statistic is {forms[0]} and "
        f"{forms[1]} (about one for a Gaussian), the longest axis {forms[2]} and {forms[3]} times "
        f"the shortest; {forms[4]} and {forms[5]} of the prior lie among the codes, which are "
        f"{forms[6]} and {forms[7]} times as wide as the prior{spread}.",
        tuple(numbers),
        f"{_PAIRS}{keep}{', '.join(formulas)}",
    )


def _without_pairs(tables: StudyTables) -> Iterator[Statement]:
    """Give medians over the trials of each objective, where none has a counterpart."""
    objective = tables.trials.drop_duplicates("trial_id").set_index("trial_id")["objective"]
    measured = tables.code_statistics.dropna(subset=list(_SENSES))
    for name, words in OBJECTIVES.items():
        rows = measured[measured["trial_id"].map(objective) == name]
        if rows.empty:
            continue
        yield Statement(
            f"Codes of {{:,}} {_trials(len(rows))} of the objective {name} ({words}), medians: "
            "Henze and Zirkler's statistic is {:.1f} (about one for a Gaussian), the longest axis "
            "{:.2f} times the shortest, and {:.0f}% of the prior lie among the codes.",
            (
                len(rows),
                float(rows["henze_zirkler"].median()),
                float(rows["axis_ratio"].median()),
                float(100 * rows["prior_covered"].median()),
            ),
            f"{_STATISTICS}statistics = statistics.dropna(subset={list(_SENSES)})\n"
            f"chosen = trials.loc[trials['objective'] == {name!r}, 'trial_id']\n"
            "statistics = statistics[statistics['trial_id'].isin(chosen)]\n"
            "len(statistics), statistics['henze_zirkler'].median(), "
            "statistics['axis_ratio'].median(), 100 * statistics['prior_covered'].median()",
        )


def _left_out(tables: StudyTables) -> list[Statement]:
    left_out = tables.code_statistics["left_out"]
    trials = int((left_out > 0).sum())
    if trials == 0:
        return []
    return [
        Statement(
            f"{{:,}} images of {{:,}} {_trials(trials)} have codes that are not numbers, and are "
            "left out.",
            (int(left_out.sum()), trials),
            f"{_STATISTICS}left_out = statistics['left_out']\nleft_out.sum(), (left_out > 0).sum()",
            warns=True,
        )
    ]


def _with_ways(tables: StudyTables, shown: pd.DataFrame) -> Iterator["pd.Series"]:
    """Yield the shown trials with a trajectory, one of each group."""
    if tables.encodings.empty:
        return
    train = tables.encodings[tables.encodings["split"] == "train"]
    for _, trial in shown.drop_duplicates("shown_group").iterrows():
        if (train["trial_id"] == trial["trial_id"]).any():
            yield trial


def _variance_along(tables: StudyTables, trial: "pd.Series") -> Statement:
    """Say how the posterior variance fell along the trajectory: the paper's figure 1."""
    codes = tables.encodings.query(f"trial_id == {trial['trial_id']!r} and split == 'train'")
    variance = codes["variance"].astype(float).groupby(codes["step"]).mean()
    sentences = "is {:.2f} at step {:,}"
    numbers: list[Number] = [float(variance.iloc[0]), int(variance.index[0])]
    formulas = "variance.iloc[0], variance.index[0]"
    if variance.max() > PEAK * variance.iloc[0]:
        sentences += ", rises to {:.2f} by step {:,}"
        numbers += [float(variance.max()), int(variance.index[int(variance.to_numpy().argmax())])]
        formulas += ", variance.max(), variance.idxmax()"
    small = variance.index[variance < SMALL_VARIANCE]
    if len(small):
        sentences += f", is first below {SMALL_VARIANCE} at step {{:,}}"
        numbers.append(int(small[0]))
        formulas += f", variance.index[variance < {SMALL_VARIANCE}][0]"
    numbers += [float(variance.iloc[-1]), int(variance.index[-1])]
    formulas += ", variance.iloc[-1], variance.index[-1]"
    where = f"{trial['architecture']} on {trial['dataset']}, latent_dim {trial['latent_dim']}"
    return Statement(
        f"{where}, β = {trial['beta']:g}: along the trajectories of figure 1, where the paper sees "
        f"it near one and then very small values, mean σ² {sentences}, and {{:.3f}} at the last "
        "recorded step, {:,}.",
        tuple(numbers),
        f"codes = study.encodings.query(\"trial_id == '{trial['trial_id']}' and "
        "split == 'train'\")\n"
        "variance = codes['variance'].astype(float).groupby(codes['step']).mean()\n"
        f"{formulas}",
    )


def _trials(number: int) -> str:
    return "trial" if number == 1 else "trials"


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
