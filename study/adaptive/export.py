"""The tables of any study as a study of Optuna's: for its dashboard and plots, or to go on from."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.storages import BaseStorage

from search_spaces import BadInput, Goal, Trial, plan_parts
from study.adaptive.opening import adaptive_part, open_study, trials_of_rows
from study.adaptive.outcome import TRIAL_IDS, Outcomes
from study.adaptive.space import SearchSpace
from study.loading import Study
from study.tables import DONE

__all__ = ["ExportCounts", "export_to_optuna"]

LOG_FROM: float = 10.0
"""A planned study's positive numbers count as a logarithmic range where it is as wide as this."""

_TOLD_BY_ARCHITECTURE = ("family", "depth", "widths")


@dataclass(frozen=True)
class ExportCounts:
    """What an export came to, in points: all but seed and data_seed.

    Attributes:
        added: Points that Optuna's study has now.
        there: Points that it had already.
        unfinished: Points left out, since not all their seeds are done.
    """

    added: int
    there: int
    unfinished: int


@dataclass(frozen=True)
class _Point:
    """One point: the trials it has with all its seeds, and what Optuna is to call it."""

    members: tuple[Trial, ...]
    parameters: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]


def export_to_optuna(
    study: Study,
    storage: BaseStorage,
    name: str,
    objectives: Sequence[Goal],
    constraints: Sequence[str] = (),
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> ExportCounts:
    """Add the finished points of a study to Optuna's study of a name, which is made if need be.

    A study in which Optuna chose keeps its parameters, so Optuna can go on with it. Other studies
    have one parameter for each setting that varies: numbers as ranges, logarithmic ones where they
    span a factor of 10, all else as categories.

    Args:
        study: The study.
        storage: Optuna's storage.
        name: Of Optuna's study.
        objectives: What its values are; a mean over seeds each.
        constraints: Comparisons that good points fulfil.
        progress: Follows the points as they are added.

    Raises:
        BadInput: Optuna's study of that name has other objectives, or parameters.
    """
    outcomes = Outcomes(objectives, constraints)
    target = open_study(name, storage, objectives)
    trials = study.trials
    # One that failed may be run again, but where Optuna chose it.
    final = DONE if adaptive_part(study.spec) is None else (*DONE, "failed")
    there = trials[trials["status"].isin(final)]
    ids = {trial: i for i, trial in trials_of_rows(there, study.spec.datasets).items()}
    points = list(_points(study, list(ids)))
    finished = [point for point in points if all(member in ids for member in point.members)]
    known = {tuple(t.user_attrs.get(TRIAL_IDS, ())) for t in target.get_trials(deepcopy=False)}
    named = {tuple(ids[member] for member in point.members): point for point in finished}
    new = {members: point for members, point in named.items() if members not in known}
    _check_parameters(target, new.values())
    epochs = pd.DataFrame(columns=["trial_id"])
    if outcomes.followed is not None:
        epochs = study.epochs_of([trial_id for members in new for trial_id in members])
    of_trial = {str(trial_id): rows for trial_id, rows in epochs.groupby("trial_id")}
    rows_of = trials.set_index("trial_id", drop=False)
    for members, point in progress(new.items()):
        own = [of_trial[trial_id] for trial_id in members if trial_id in of_trial]
        frozen = outcomes.frozen(
            rows_of.loc[list(members)],
            pd.concat(own) if own else epochs,
            point.parameters,
            point.distributions,
            {TRIAL_IDS: list(members)},
        )
        target.add_trial(frozen)
    return ExportCounts(len(new), len(finished) - len(new), len(points) - len(finished))


def _check_parameters(target: optuna.Study, points: Iterable[_Point]) -> None:
    """Refuse parameters that Optuna could not compare with those that it has."""
    there = target.get_trials(deepcopy=False)
    known = {name: d for trial in there for name, d in trial.distributions.items()}
    own = {name: d for point in points for name, d in point.distributions.items()}
    for name in sorted(known.keys() & own.keys()):
        try:
            check_distribution_compatibility(known[name], own[name])
        except ValueError:
            raise BadInput(
                f"--name: {name!r} is {known[name]} in Optuna's study {target.study_name!r}, and "
                f"{own[name]} here; give another name"
            ) from None


def _points(study: Study, finished: Sequence[Trial]) -> Iterator[_Point]:
    part = adaptive_part(study.spec)
    if part is None:
        yield from _planned_points(study)
        return
    space = SearchSpace(part)
    seen: set[tuple[Trial, ...]] = set()
    for trial in finished:
        parameters = space.parameters_of(trial)
        assert parameters is not None  # the study consists of such points
        members = tuple(space.trials(parameters))
        if members not in seen:
            seen.add(members)
            yield _Point(members, parameters, space.distributions(parameters))


def _planned_points(study: Study) -> Iterator[_Point]:
    members: dict[Trial, list[Trial]] = {}
    for trials in plan_parts(study.spec).values():
        for trial in trials:
            members.setdefault(trial.model_copy(update={"seed": 0, "data_seed": 0}), []).append(
                trial
            )
    settings = {point: _settings(point) for point in members}
    distributions = _distributions(list(settings.values()))
    for point, own in members.items():
        values = {n: settings[point][n] for n in distributions if settings[point][n] is not None}
        yield _Point(tuple(own), values, {name: distributions[name] for name in values})


def _settings(trial: Trial) -> dict[str, Any]:
    without = {*_TOLD_BY_ARCHITECTURE, "seed", "data_seed"}
    return {name: v for name, v in trial.hyperparameters().items() if name not in without}


def _distributions(settings: Sequence[Mapping[str, Any]]) -> dict[str, BaseDistribution]:
    """Return where the values of each setting that varies are from, those that not all have too."""
    found: dict[str, BaseDistribution] = {}
    for name in settings[0]:
        values = sorted({point[name] for point in settings} - {None})
        if len(values) > 1:
            found[name] = _distribution(values)
    return found


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    low, high = values[0], values[-1]
    if isinstance(low, str):
        return CategoricalDistribution(values)
    log = low > 0 and high / low >= LOG_FROM
    if all(isinstance(value, int) for value in values):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)
