"""From a spec to its trials: every point of a grid, or points drawn at random."""

import math
import random
from dataclasses import dataclass
from itertools import product
from typing import Any

from search_spaces.architecture import check_shape
from search_spaces.axis import Axis, Choices
from search_spaces.dataset import ManifoldDataset
from search_spaces.errors import BadInput
from search_spaces.spec import SEED_AXES, GridStrategy, RandomStrategy, StudySpec
from search_spaces.trial import Decoder, Trial

LARGEST_PLAN = 1_000_000
"""Most trials of a study, so that a misplaced digit is an error rather than a full memory."""

PATIENCE = 1_000_000
"""How many draws in a row may repeat earlier points before a space counts as exhausted."""


def plan_trials(spec: StudySpec) -> list[Trial]:
    """List the trials of a study, all different, always in the same order.

    Grids are listed with the seed changing fastest, then data_seed, and the dataset slowest.
    Random points come in the order they are drawn, each with all its seeds.

    Args:
        spec: The study.

    Returns:
        One trial for each point and each of its seeds.

    Raises:
        BadInput: More trials than `LARGEST_PLAN`; fewer points in the space than are to be drawn;
            an architecture or a decoder that a dataset cannot go through.
    """
    space = _space(spec)
    seeds = {name: getattr(spec.axes, name) for name in SEED_AXES}
    if isinstance(spec.strategy, GridStrategy):
        _check_number(math.prod(axis.size or 0 for axis in (space | seeds).values()))
        points = list(product(*(axis.values() for axis in space.values())))
    else:
        _check_number(spec.strategy.points * math.prod(axis.size or 0 for axis in seeds.values()))
        points = _draw_points(space, spec.strategy)
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


def _space(spec: StudySpec) -> dict[str, Axis[Any]]:
    """All axes but the seeds, the slowest first; single training settings are axes of one value."""
    axes = spec.axes
    training = {
        name: getattr(axes, name) or Choices(choices=(value,)) for name, value in spec.training
    }
    return {
        "dataset": Choices(choices=spec.dataset),
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
