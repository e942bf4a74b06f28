"""What drives sparsity: how much, and which way, each hyperparameter moves the active units."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis.groups import ALWAYS, WHERE_VARIED, has_variance_part, with_group_values

__all__ = [
    "SEEDS",
    "describe_effect",
    "design_points",
    "hyperparameter_importance",
    "paired_effects",
    "t_half_width",
]

SEEDS: Final = ("seed", "data_seed")
"""What repetitions differ in: its importance is the noise that others have to exceed."""

FEWEST_TRIALS: Final = 10
"""Below this a forest says nothing."""

MOST_NAMES: Final = 20
"""Names of one hyperparameter, the most frequent ones, that are paired each with each."""

HYPERPARAMETERS: Final = (*ALWAYS, "latent_dim", *WHERE_VARIED, *SEEDS)

_IMPORTANCE = ["hyperparameter", "values", "importance", "low", "high", "trials", "of", "verdict"]
_EFFECTS = dict.fromkeys(["hyperparameter", "reference", "value"], "str")
_EFFECTS |= dict.fromkeys(["difference", "low", "high"], "float64")
_EFFECTS |= {"pairs": "int64", "verdict": "str"}


def design_points(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the hyperparameters of each trial in a form in which equal points compare equal.

    Args:
        trials: The `trials` table of one study, or of several.

    Returns:
        One row per trial, on its index; one column per hyperparameter. A decoder's variance is part
        of the decoder ("gaussian 0.1") where decoders vary, since only one of them has it; a
        learned one is a result, and left out. Datasets of one name and several fingerprints are
        told apart. Family, depth and widths are in the architecture's name. Numbers are rounded to
        12 digits, so that 0.5 from a list and from a log range are one.
    """
    points = with_group_values(trials)[list(HYPERPARAMETERS)]
    points = points.assign(decoder_variance=pd.to_numeric(points["decoder_variance"]))
    for name in ("beta", "learning_rate", "decoder_variance"):
        rounded = {value: float(f"{value:.12g}") for value in points[name].dropna().unique()}
        points[name] = points[name].map(rounded).astype(float)
    if points["decoder"].nunique() > 1:
        variance = points.pop("decoder_variance")
        with_variance = points["decoder"] + " " + variance.astype("str")
        points["decoder"] = points["decoder"].where(variance.isna(), with_variance)
    fingerprint = trials["dataset_fingerprint"]
    prints = fingerprint.groupby(trials["dataset"]).transform("nunique")
    named = trials["dataset"] + " (" + fingerprint.astype("str") + ")"
    return points.assign(dataset=points["dataset"].where(prints < 2, named))


def hyperparameter_importance(
    trials: pd.DataFrame,
    target: str = "active_units",
    *,
    trees: int = 64,
    largest_sample: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Estimate which share of the target's variance each varied hyperparameter explains by itself.

    Functional ANOVA on a random forest (Hutter, Hoos, Leyton-Brown 2014, "An Efficient Approach
    for Assessing Hyperparameter Importance"), Optuna's `FanovaImportanceEvaluator`. It measures
    main effects: the variance of the target's mean given this hyperparameter, divided by the
    target's whole variance; every value of a hyperparameter weighs the same. What the shares lack
    to 1 is joint effects and noise. The seed is a hyperparameter like the others here. It has no
    effect of its own, so what it appears to explain is noise; so is any importance not above it.

    Each hyperparameter's values are numbered in order and the forest sees the numbers, of names
    and seeds too. On a full grid that is the classical ANOVA: where that gives 0.728, 0.122, 0.022
    and 0.004 on 630 simulated trials, Optuna finds 0.727, 0.121, 0.022 and 0.004 on the numbers;
    on the values as they are (long intervals weigh more) 0.519, 0.216, 0.069 and 0.012; on
    categories (which it codes as independent bits) 0.860, 0.013, 0.006 and 0.001. PED-ANOVA
    answers another question: what the trials with the fewest active units have in common.

    Each tree is grown on its own bootstrap sample of the trials. The importance is the mean over
    the trees, the 95% interval 1.96 standard deviations over them to each side, within [0, 1]. In
    simulations of 27 to 420 trials it held the true share in 87% to 100% of cases, and no
    hyperparameter without effect was called above the noise. Hyperparameters that change only
    together share their effect arbitrarily: see `paired_effects`.

    Args:
        trials: The `trials` table; completed trials count. For counts of active units, trials whose
            objective lacks the KL's variance part are left out: thresholds mean nothing there.
        target: A column of numbers.
        trees: Trees, that is bootstrap samples.
        largest_sample: Of more trials than these, a random sample of that size is used.
        seed: Of the forest and of the sample: the same trials give the same answer.

    Returns:
        One row per varied hyperparameter, the largest importance first: hyperparameter; values (how
        many different ones); importance; low and high; trials (used) and of (how many there were);
        verdict. NaN, with a verdict that says why, where the trials do not support a number.
    """
    counted = _countable(trials, target)
    points = _varied(design_points(counted))
    number = min(len(counted), largest_sample)
    sample = points.sample(number, random_state=seed).sort_index()
    values = counted.loc[sample.index, target].to_numpy(float)
    known = pd.DataFrame({"values": points.nunique(dropna=False), "trials": number})
    known = known.assign(of=len(counted), importance=np.nan, low=np.nan, high=np.nan)
    if number < FEWEST_TRIALS:
        known["verdict"] = f"too few trials: {number}, where {FEWEST_TRIALS} are the least"
    elif np.ptp(values) == 0:
        known["verdict"] = f"nothing to explain: {target} is {values[0]:g} in all trials"
    else:
        shares = _tree_shares(sample, values, trees, seed)
        known["importance"] = shares.mean()
        known["low"] = (shares.mean() - 1.96 * shares.std(ddof=1)).clip(lower=0)
        known["high"] = (shares.mean() + 1.96 * shares.std(ddof=1)).clip(upper=1)
        known["verdict"] = _importance_verdicts(known)
    known = known.sort_values("importance", ascending=False, kind="stable")
    return known.rename_axis("hyperparameter").reset_index()[_IMPORTANCE]


def paired_effects(trials: pd.DataFrame) -> pd.DataFrame:
    """Compare the active units of trials that differ in one hyperparameter only.

    Two trials are a pair if they are equal in everything else, seeds included. Numbers are compared
    with the next larger value that the same setting was tried with, names (the `MOST_NAMES` most
    frequent) each with each. Where families (dense, conv) hold several architectures, they are
    compared too, each as the mean of its architectures.

    The interval is Student's t over the pairs' differences (95%, not adjusted for the number of
    comparisons). It is for the mean over the settings of this study, and wide where these disagree;
    other settings may behave otherwise. Differences that are all equal give it no width.

    Args:
        trials: The `trials` table; completed trials count, but for those whose objective lacks the
            KL's variance part: thresholds mean nothing there.

    Returns:
        One row per two values that have pairs: hyperparameter, reference and value (as text),
        difference (active units at value minus those at reference, mean over the pairs), low and
        high, pairs, verdict. A varied hyperparameter without any pair has one row that says so,
        with neither values nor numbers. Seeds are what pairs share and have no rows.
    """
    counted = _countable(trials, "active_units")
    points = _varied(design_points(counted))
    units = counted["active_units"].astype(float)
    tested = [name for name in points.columns if name not in SEEDS]
    effects = [_effects_of(points, units, name) for name in tested]
    family = counted["family"]
    if "architecture" in tested and 1 < family.nunique() < points["architecture"].nunique():
        by_family = points.drop(columns="architecture").assign(family=family)
        effects.append(_effects_of(by_family, units, "family"))
    if not effects:
        return pd.DataFrame(columns=list(_EFFECTS)).astype(_EFFECTS)
    return pd.concat(effects, ignore_index=True)[list(_EFFECTS)].astype(_EFFECTS)


def describe_effect(effect: "pd.Series[Any]") -> str:
    """Put a row of `paired_effects` into words.

    "conv-4 keeps 2.5 more units than dense-16, 95% CI 1.8 to 3.2, 24 pairs"
    """
    name, verdict = effect["hyperparameter"], effect["verdict"]
    if effect["pairs"] == 0:
        return f"{name}: {verdict}"
    value, reference = effect["value"], effect["reference"]
    if not value[0].isalpha():  # a number says little without its name
        value, reference = f"{name} {value}", f"{name} {reference}"
    difference, low, high = effect["difference"], effect["low"], effect["high"]
    if difference < 0:
        low, high = -high, -low
    amount = f"{abs(difference):.1f}"
    keeps = f"{amount} {'more' if difference > 0 else 'fewer'} units than"
    if amount == "0.0":
        keeps = "as many units as"
    if effect["pairs"] == 1:
        interval = verdict
    elif low == high:
        interval = f"in each of {effect['pairs']} pairs"
    else:
        interval = f"95% CI {low:.1f} to {high:.1f}, {effect['pairs']} pairs"
    doubt = f": {verdict}" if verdict == "no difference shown" and low < high else ""
    return f"{value} keeps {keeps} {reference}, {interval}{doubt}"


def t_half_width(spread: Any, count: Any) -> Any:
    """Return half the width of the 95% t interval of a mean; NaN for fewer than two values.

    Args:
        spread: Standard deviation of the values (divided by N - 1), number or array.
        count: How many there are.
    """
    count = np.asarray(count, dtype=float)
    quantile = stdtrit(np.maximum(count - 1, 1), 0.975)
    return np.where(count > 1, quantile * spread / np.sqrt(np.maximum(count, 1)), np.nan)


def _countable(trials: pd.DataFrame, target: str) -> pd.DataFrame:
    """Completed trials with a target, each once; for active units only where these mean a thing."""
    kept = (trials["status"] == "completed") & trials[target].notna()
    if target.startswith("active_units"):
        kept &= has_variance_part(trials)
    once = trials[kept].drop_duplicates("trial_id")
    return once.sort_values("trial_id", ignore_index=True)  # files may be read in any order


def _varied(points: pd.DataFrame) -> pd.DataFrame:
    return points.loc[:, points.nunique(dropna=False) > 1]


def _numbered(values: "pd.Series[Any]") -> "pd.Series[int]":
    """Number the values in order, from 0."""
    return values.rank(method="dense", na_option="bottom").astype("int64") - 1


def _tree_shares(
    points: pd.DataFrame, values: NDArray[np.float64], trees: int, seed: int
) -> pd.DataFrame:
    """Each tree's shares of the variance: one row per tree, one column per hyperparameter."""
    from optuna.distributions import FloatDistribution
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.trial import create_trial

    numbers = points.apply(_numbered)
    # Half a level wider on both sides than the numbers: every level then has the same weight.
    spaces = {name: FloatDistribution(-0.5, numbers[name].max() + 0.5) for name in numbers.columns}
    with _quiet_optuna() as optuna:
        study = optuna.create_study()
        study.add_trials(
            create_trial(
                params=dict(zip(spaces, row, strict=True)), distributions=dict(spaces), value=value
            )
            for row, value in zip(numbers.to_numpy().tolist(), values.tolist(), strict=True)
        )
        shares = []
        for tree in range(trees):
            # A forest of one tree, since Optuna keeps the spread over a forest's trees to itself.
            evaluator = FanovaImportanceEvaluator(n_trees=1, seed=seed + tree)
            try:
                shares.append(evaluator.evaluate(study))
            except RuntimeError:  # the bootstrap sample holds a single value; forests skip it too
                continue
    return pd.DataFrame(shares, columns=points.columns, dtype=float)


@contextmanager
def _quiet_optuna() -> Iterator[Any]:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def _importance_verdicts(known: pd.DataFrame) -> list[str]:
    seeds = known.index.isin(SEEDS)
    if not seeds.any():
        return ["one seed only: the noise is not known"] * len(known)
    floor = known["importance"][seeds].max()
    above = np.where(known["low"] > floor, "above the noise", "not above the noise")
    return list(np.where(seeds, "noise", above))


def _effects_of(points: pd.DataFrame, units: "pd.Series[float]", name: str) -> pd.DataFrame:
    """The rows of one hyperparameter."""
    others = [other for other in points.columns if other != name]
    levels = points[name].drop_duplicates().sort_values(ignore_index=True)
    setting = _numbered_groups(points, [other for other in others if other not in SEEDS])
    cells = pd.DataFrame(
        {
            "setting": setting,
            "context": _numbered_groups(points, others),
            "level": _numbered(points[name]),
            "units": units,
        }
    )
    # A point may be there twice, from studies with numerics of their own, and a family as often as
    # it has architectures: take the mean.
    cells = cells.groupby(["setting", "context", "level"])[["units"]].mean().reset_index()
    is_number = pd.api.types.is_numeric_dtype(levels)
    words = levels.map("{:.12g}".format) if is_number else levels
    partners = _next_levels(cells) if is_number else _other_levels(cells)
    pairs = cells.merge(partners, on=["setting", "level"]).merge(
        cells.rename(columns={"level": "partner"}),
        on=["setting", "context", "partner"],
        suffixes=("_reference", "_value"),
    )
    pairs["difference"] = pairs["units_value"] - pairs["units_reference"]
    differences = pairs.groupby(["level", "partner"])["difference"]
    found = differences.agg(["mean", "std", "count"]).reset_index()
    half = t_half_width(found["std"], found["count"])
    effects = pd.DataFrame(
        {
            "reference": found["level"].map(words),
            "value": found["partner"].map(words),
            "difference": found["mean"],
            "low": found["mean"] - half,
            "high": found["mean"] + half,
            "pairs": found["count"],
        }
    )
    effects["verdict"] = _effect_verdicts(effects)
    if effects.empty:
        effects = pd.DataFrame(index=[0], columns=list(_EFFECTS)).assign(pairs=0)
        effects["verdict"] = f"no pairs: no two trials differ in {name} alone"
    return effects.assign(hyperparameter=name)


def _numbered_groups(points: pd.DataFrame, columns: list[str]) -> "pd.Series[int]":
    if not columns:
        return pd.Series(0, index=points.index)
    return points.groupby(columns, dropna=False).ngroup()


def _next_levels(cells: pd.DataFrame) -> pd.DataFrame:
    """The next larger level that each setting was tried with: setting, level, partner.

    A setting has several seeds: a level that failed for one of them is not leapt over.
    """
    tried = cells[["setting", "level"]].drop_duplicates().sort_values(["setting", "level"])
    tried["partner"] = tried.groupby("setting")["level"].shift(-1)
    return tried.dropna().astype("int64")


def _other_levels(cells: pd.DataFrame) -> pd.DataFrame:
    """Every two of a setting's levels, each two once: setting, level, partner."""
    frequent = cells["level"].value_counts().index[:MOST_NAMES]
    tried = cells.loc[cells["level"].isin(frequent), ["setting", "level"]].drop_duplicates()
    both = tried.merge(tried.rename(columns={"level": "partner"}), on="setting")
    return both[both["level"] < both["partner"]]


def _effect_verdicts(effects: pd.DataFrame) -> NDArray[np.str_]:
    verdicts = np.where(effects["high"] < 0, "fewer units", "no difference shown")
    verdicts = np.where(effects["low"] > 0, "more units", verdicts)
    return np.where(effects["pairs"] == 1, "one pair: no interval", verdicts)
