"""From a spec to a search that is ready to ask: checked, and with all that is known told."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage

from search_spaces import (
    Architecture,
    BadInput,
    DatasetSpec,
    Goal,
    Part,
    StudySpec,
    Trial,
    named_architecture,
    nearest_name,
)
from search_spaces.architecture_axis import EqualLayers
from search_spaces.optuna_strategy import Comparison, OptunaStrategy
from study.adaptive.search import AdaptiveSearch
from study.adaptive.space import SearchSpace
from study.adaptive.tools import build_pruner, build_sampler, open_storage
from study.planned_trial import PlannedTrial
from study.tables import EPOCHS, MEASURED

__all__ = [
    "adaptive_part",
    "check_strategy",
    "drawn_points",
    "open_search",
    "open_study",
    "representatives",
    "trials_of_rows",
]


def adaptive_part(spec: StudySpec) -> Part | None:
    """Return the search space of a study in which Optuna chooses; None for other studies.

    Raises:
        BadInput: It is one of several parts.
    """
    adaptive = [
        name for name, part in spec.all_parts.items() if isinstance(part.strategy, OptunaStrategy)
    ]
    if not adaptive:
        return None
    if spec.parts is not None:
        raise BadInput(
            f"parts.{adaptive[0]}.strategy: 'optuna' searches the space of a whole study; make "
            "this part a study of its own"
        )
    return spec.all_parts[""]


def check_strategy(part: Part) -> None:
    """Refuse what cannot be sought, or not in this way.

    Raises:
        BadInput: An objective or constraint names no measured column; nothing may vary; there is
            no such sampler or pruner; a pruner would have no values to go by; a first point is
            none of the space.
    """
    strategy, space = part.strategy, SearchSpace(part)
    assert isinstance(strategy, OptunaStrategy)
    measured = [field.name for field in MEASURED]
    named = [(f"objectives.{i}", goal.column) for i, goal in enumerate(strategy.objectives)]
    constraints = [Comparison.parse(text) for text in strategy.constraints]
    named += [(f"constraints.{i}", c.column) for i, c in enumerate(constraints)]
    for field, column in named:
        if column not in measured:
            hint = nearest_name(column, measured)
            raise BadInput(f"strategy.{field}: {column!r} is no measured column of `trials`{hint}")
    if not space.names:
        raise BadInput(
            "axes: each has a single value, so there is nothing for Optuna to choose; give a list "
            "or a range"
        )
    build_sampler(strategy)
    build_pruner(strategy)
    if strategy.pruner is not None:
        data_seeds = part.axes.data_seed.values()
        if len(data_seeds) > 1:
            raise BadInput(
                f"axes.data_seed: {data_seeds} is not allowed with a pruner, which judges a point "
                "by all its seeds at once, and trials of several data_seeds do not train side by "
                "side; give one, or leave the pruner out"
            )
        each_epoch = [f.name for f in EPOCHS if f.name in measured]
        column = strategy.objectives[0].column
        if column not in each_epoch:
            raise BadInput(
                f"strategy.pruner: {strategy.pruner.name!r} goes by the objective after every "
                f"epoch, and {column!r} is known at the end only; seek one of "
                f"{', '.join(each_epoch)}, or leave the pruner out"
            )
        for place, constraint in enumerate(constraints):
            if strategy.prune_on != "objective" and constraint.column not in each_epoch:
                raise BadInput(
                    f"strategy.constraints.{place}: {constraint.column!r} is known at the end "
                    f"only, and {strategy.pruner.name!r} goes by the constraints after every "
                    f"epoch; give comparisons of {', '.join(each_epoch)}, or set "
                    "strategy.prune_on=objective"
                )
    for place, point in enumerate(strategy.first):
        _check_point(f"strategy.first.{place}", point, space)
    if strategy.storage is not None:
        open_storage(strategy.storage)


def representatives(part: Part) -> list[Trial]:
    """Return points with all that may not fit the data: each net and decoder on each dataset.

    Of whole-number axes the ends will do: whatever fits both, fits what lies between.
    """
    axes = part.axes
    architectures = [a for entry in axes.architecture.choices for a in _outermost(entry)]
    smallest = {
        name: min(_ends(axis))
        for name in ("latent_dim", "batch_size", "epochs")
        if (axis := getattr(axes, name)) is not None
    }
    smallest = {"batch_size": part.training.batch_size} | smallest
    return [
        Trial(dataset=dataset, architecture=architecture, decoder=decoder, **smallest)
        for dataset in part.dataset
        for architecture in architectures
        for decoder in axes.decoder.values()
    ]


def _outermost(entry: Any) -> list[Architecture]:
    """Return the architectures of an entry that fit where all of its do."""
    if isinstance(entry, EqualLayers):
        return [entry.build(depth, min(_ends(entry.width))) for depth in _ends(entry.depth)]
    return [entry] if isinstance(entry, Architecture) else entry.values()


def _ends(axis: Any) -> list[Any]:
    if hasattr(axis, "choices"):
        return list(axis.choices)
    return list(axis.range if hasattr(axis, "range") else axis.log_range)


def drawn_points(part: Part) -> list[Trial]:
    """Draw as many points as may be proposed at random, with all their seeds: for an estimate."""
    assert isinstance(part.strategy, OptunaStrategy)
    space = SearchSpace(part)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = (space.suggest(study.ask()) for _ in range(part.strategy.points))
    return [trial for point in points for trial in space.trials(point)]


def open_search(
    spec: StudySpec, journal: Path | BaseStorage, plan: Callable[[Trial], PlannedTrial]
) -> AdaptiveSearch:
    """Open Optuna's study of a spec, or make it.

    Args:
        spec: The study.
        journal: The journal file, or an open storage, where the spec names no database.
        plan: Makes a planned trial of a point and seed.

    Raises:
        BadInput: Its storage cannot be opened.
    """
    part = adaptive_part(spec)
    assert part is not None
    strategy = part.strategy
    assert isinstance(strategy, OptunaStrategy)
    space = SearchSpace(part)
    storage = strategy.storage or journal
    opened = storage if isinstance(storage, BaseStorage) else open_storage(storage)
    study = open_study(spec.study, opened, strategy.objectives)
    study.sampler, study.pruner = build_sampler(strategy), build_pruner(strategy)
    if not study.get_trials(deepcopy=False):
        for point in strategy.first:
            study.enqueue_trial(dict(point))
    return AdaptiveSearch(strategy, space, study, plan)


def open_study(name: str, storage: BaseStorage, objectives: Sequence[Goal]) -> optuna.Study:
    """Open Optuna's study of a name, or make it.

    Raises:
        BadInput: It is there, and seeks something else.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # progress is shown by us
    directions, words = [goal.direction for goal in objectives], [goal.words for goal in objectives]
    study = optuna.create_study(
        study_name=name, storage=storage, directions=directions, load_if_exists=True
    )
    there = study.metric_names
    if there is None and not study.get_trials(deepcopy=False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(words)
    elif there != words:
        raise BadInput(
            f"objectives: Optuna's study {name!r} in this storage is to "
            f"{' and '.join(there or ['reach something else'])}, and this one to "
            f"{' and '.join(words)}; give another storage or name"
        )
    return study


def trials_of_rows(rows: pd.DataFrame, known: Iterable[DatasetSpec]) -> dict[str, Trial]:
    """Return the points of committed rows by trial_id, of those on known datasets."""
    datasets = {dataset.label: dataset for dataset in known}
    fields = [name for name in Trial.model_fields if name not in ("dataset", "architecture")]
    found: dict[str, Trial] = {}
    for row in rows.to_dict("records"):
        if row["dataset"] in datasets:
            values: dict[str, Any] = {name: row[name] for name in fields}
            if row["decoder"] != "gaussian":  # a learned variance is a result
                values["decoder_variance"] = None
            found[str(row["trial_id"])] = Trial(
                dataset=datasets[row["dataset"]],
                architecture=named_architecture(row["architecture"]),
                **values,
            )
    return found


def _check_point(field: str, point: Mapping[str, Any], space: SearchSpace) -> None:
    for name, value in point.items():
        if name not in space.names:
            hint = nearest_name(name, space.names)
            raise BadInput(f"{field}.{name}: is nothing that Optuna may choose{hint}")
        if not space.allows(name, value):
            raise BadInput(f"{field}.{name}: {value!r} is not among the values of its axis")
