"""From a spec to its trials: every point of a grid, or points drawn at random."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

from search_spaces.architecture import check_shape
from search_spaces.axis import Axis, Choices
from search_spaces.dataset import ManifoldDataset
from search_spaces.errors import BadInput
from search_spaces.optuna_strategy import OptunaStrategy
from search_spaces.spec import Part
from search_spaces.strategy import SEED_AXES, GridStrategy, RandomStrategy
from search_spaces.study_spec import StudySpec
from search_spaces.trial import Decoder, Trial

LARGEST_PLAN = 1_000_000
"""Most trials of a study, so that a misplaced digit is an error rather than a full memory."""

PATIENCE = 1_000_000
"""How many draws in a row may repeat earlier points before a space counts as exhausted."""


def plan_trials(spec: StudySpec) -> list[Trial]:
    """List the trials of a study, all different, always in the same order.

    Parts come in the order of the spec, and a point that two of them have comes with the first.
    Grids are listed with the seed changing fastest, then data_seed, and the dataset slowest.
    Random points come in the order they are drawn, each with all its seeds. Strategy optuna has
    none beforehand: it proposes them as results come in.

    Args:
        spec: The study.

    Returns:
        One trial for each point and each of its seeds.

    Raises:
        BadInput: More trials than `LARGEST_PLAN`; fewer points in the space than are to be drawn;
            an architecture or a decoder that a dataset cannot go through; a point of two parts
            that record different things of it.
    """
    return list(chain.from_iterable(plan_parts(spec).values()))


def plan_parts(spec: StudySpec) -> dict[str, list[Trial]]:
    """List the trials of a study as `plan_trials` does, by the part they belong to.

    Args:
        spec: The study.

    Returns:
        Trials by the name of their part, as in `spec.all_parts`; a point that two parts have is
        listed with the first.

    Raises:
        BadInput: As for `plan_trials`.
    """
    if spec.parts is None:
        return {name: _plan(part) for name, part in spec.all_parts.items()}
    planned: dict[str, list[Trial]] = {}
    owners: dict[Trial, str] = {}
    for name, part in spec.parts.items():
        try:
            trials = _plan(part)
        except BadInput as error:
            raise BadInput(f"parts.{name}.{error}") from None
        planned[name] = []
        for trial in trials:
            owner = owners.setdefault(trial, name)
            if owner == name:
                planned[name].append(trial)
            elif spec.parts[owner].record != part.record:
                raise BadInput(_differently_recorded(trial, owner, name, spec.parts))
        if len(owners) > LARGEST_PLAN:
            raise BadInput(
                f"parts: they make more than {LARGEST_PLAN:,} trials together, the most that a "
                "study has; shorten an axis, or draw fewer points"
            )
    return planned


def _differently_recorded(trial: Trial, first: str, second: str, parts: Mapping[str, Part]) -> str:
    one, other = dict(parts[first].record), dict(parts[second].record)
    field = next(name for name in one if one[name] != other[name])
    default = Trial.model_fields
    telling = ", ".join(
        f"{name} {value}"
        for name, value in trial.hyperparameters().items()
        if name not in default or default[name].is_required() or value != default[name].default
    )
    return (
        f"parts.{second}.record: {field} is {other[field]!r}, and part {first!r}, which has the "
        f"same point ({telling}), has {one[field]!r}; record the same in both, or let their axes "
        "have no point in common"
    )


def _plan(part: Part) -> list[Trial]:
    if isinstance(part.strategy, OptunaStrategy):
        return []
    space = _space(part)
    seeds = {name: getattr(part.axes, name) for name in SEED_AXES}
    if isinstance(part.strategy, GridStrategy):
        _check_number(math.prod(axis.size or 0 for axis in (space | seeds).values()))
        points = list(product(*(axis.values() for axis in space.values())))
    else:
        _check_number(part.strategy.points * math.prod(axis.size or 0 for axis in seeds.values()))
        points = _draw_points(space, part.strategy)
    named_points = [dict(zip(space, point, strict=True)) for point in points]
    _check_data(named_points)
    seed_pairs = list(product(*(axis.values() for axis in seeds.values())))
    return [
        _trial(point, data_seed, seed) for point in named_points for data_seed, seed in seed_pairs
    ]


@dataclass(frozen=True)
class _Likelihoods:
    """The axes decoder and decoder_variance in one: only "gaussian" has a variance to choose."""

    decoder: Axis[Decoder]
    variance: Axis[float] | None

    @property
    def size(self) -> int | None:
        sizes = [self._variances(decoder).size for decoder in self.decoder.values()]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def values(self) -> list[tuple[Decoder, float | None]]:
        return [
            (decoder, variance)
            for decoder in self.decoder.values()
            for variance in self._variances(decoder).values()
        ]

    def draw(self, rng: random.Random) -> tuple[Decoder, float | None]:
        decoder = self.decoder.draw(rng)
        return decoder, self._variances(decoder).draw(rng)

    def _variances(self, decoder: Decoder) -> Axis[float | None]:
        if decoder == "gaussian" and self.variance is not None:
            return self.variance
        return Choices[None](choices=(None,))


def _space(part: Part) -> dict[str, Axis[Any]]:
    """All axes but the seeds, the slowest first; single training settings are axes of one value."""
    axes = part.axes
    training = {
        name: getattr(axes, name) or Choices(choices=(value,)) for name, value in part.training
    }
    return {
        "dataset": Choices(choices=part.dataset),
        "architecture": axes.architecture,
        "latent_dim": axes.latent_dim,
        "beta": axes.beta,
        "objective": axes.objective,
        "likelihood": _Likelihoods(axes.decoder, axes.decoder_variance),
        "initialisation": axes.initialisation,
        **training,
    }


def _draw_points(space: dict[str, Axis[Any]], strategy: RandomStrategy) -> list[tuple[Any, ...]]:
    sizes = [axis.size for axis in space.values()]
    size = math.inf if None in sizes else math.prod(size or 0 for size in sizes)
    if strategy.points > size:
        raise BadInput(
            f"strategy.points: {strategy.points} is not allowed; the space has {size} different "
            f"points, seeds apart: give {size} or fewer, or use strategy 'grid'"
        )
    rng = random.Random(strategy.seed)
    points: dict[tuple[Any, ...], None] = {}
    repeats = 0
    while len(points) < strategy.points:
        point = tuple(axis.draw(rng) for axis in space.values())
        repeats = repeats + 1 if point in points else 0
        points[point] = None
        if repeats == PATIENCE:
            raise BadInput(
                f"strategy.points: {strategy.points} is not allowed; {PATIENCE:,} draws found no "
                f"point beyond the first {len(points)}: give {len(points)} or fewer"
            )
    return list(points)


def _trial(point: dict[str, Any], data_seed: int, seed: int) -> Trial:
    fields = dict(point)
    decoder, variance = fields.pop("likelihood")
    return Trial(
        decoder=decoder, decoder_variance=variance, data_seed=data_seed, seed=seed, **fields
    )


def _check_number(trials: int) -> None:
    if trials > LARGEST_PLAN:
        raise BadInput(
            f"axes: they make {trials:,} trials, and a study has at most {LARGEST_PLAN:,}; "
            "shorten an axis, or draw fewer points"
        )


def _check_data(points: list[dict[str, Any]]) -> None:
    """Refuse combinations that cannot be trained, as far as the spec alone can tell."""
    pairs = {(point["dataset"], point["architecture"]): None for point in points}
    for dataset, architecture in pairs:
        if dataset.shape is not None:
            try:
                check_shape(architecture, dataset.shape)
            except BadInput as error:
                raise BadInput(f"axes.architecture: on {dataset.label!r}, {error}") from None
    for point in points:
        if isinstance(point["dataset"], ManifoldDataset) and point["likelihood"][0] == "bernoulli":
            raise BadInput(
                "axes.decoder: 'bernoulli' is not allowed on a manifold dataset, whose values lie "
                "outside [0, 1]; give 'gaussian' or 'gaussian_learned'"
            )
