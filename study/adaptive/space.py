"""The axes of a spec as Optuna's parameters, there and back."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search_spaces import Architecture, Part, Trial
from search_spaces.architecture_axis import EqualLayers
from search_spaces.axis import Choices, LogRange, Range

__all__ = ["SHAPE_AXES", "SearchSpace"]

SHAPE_AXES = ("dataset", "architecture", "decoder", "batch_size", "epochs", "precision")
"""Axes that trials of one pack have in common; the others may differ from lane to lane."""

_TRAINING = ("learning_rate", "learning_rate_schedule", "batch_size", "epochs", "precision")

Condition = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class _Parameter:
    """One parameter of Optuna's.

    Attributes:
        name: As Optuna shows it.
        axis: The axis that it belongs to.
        distribution: Its values.
        of_trial: Its value in a trial.
        applies: Whether it is there, given the parameters before it.
        to_readable: From what Optuna proposes to the value that the trial has.
    """

    name: str
    axis: str
    distribution: BaseDistribution
    of_trial: Callable[[Trial], Any]
    applies: Condition = lambda parameters: True
    to_readable: Callable[[Any], Any] = lambda value: value


class SearchSpace:
    """The points of a part, seeds apart, as Optuna's parameters.

    Axes of a single value are no parameters. Where an entry of the architectures has a depth and a
    width, these are parameters of their own, and so is the decoder's variance: they exist only
    where their entry, or the Gaussian decoder, is chosen.
    """

    def __init__(self, part: Part) -> None:
        """Read the axes of a part."""
        self._part = part
        self._entries = _entries(part)
        self._parameters = list(self._all_parameters())

    @property
    def seeds(self) -> int:
        """Trials of a point."""
        axes = self._part.axes
        return len(axes.data_seed.values()) * len(axes.seed.values())

    @property
    def names(self) -> list[str]:
        """All parameters, those that exist under a condition among them."""
        return [parameter.name for parameter in self._parameters]

    @property
    def shape_names(self) -> list[str]:
        """Parameters that all trials of a pack have in common."""
        return [p.name for p in self._parameters if p.axis in SHAPE_AXES]

    def allows(self, name: str, value: Any) -> bool:
        """Whether Optuna might choose a value of a parameter."""
        (parameter,) = [p for p in self._parameters if p.name == name]
        return _holds(parameter.distribution, value)

    def suggest(self, proposal: optuna.Trial) -> dict[str, Any]:
        """Let Optuna choose a value of each parameter.

        Returns:
            Values by parameter, those that apply.
        """
        chosen: dict[str, Any] = {}
        for parameter in self._parameters:
            if parameter.applies(chosen):
                chosen[parameter.name] = parameter.to_readable(_suggest(proposal, parameter))
        return chosen

    def readable(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters, as Optuna keeps them, as our trials have them: rounded."""
        by_name = {parameter.name: parameter for parameter in self._parameters}
        return {name: by_name[name].to_readable(value) for name, value in parameters.items()}

    def trials(self, parameters: Mapping[str, Any]) -> list[Trial]:
        """Return the trials of a point: one for each of its seeds."""
        axes, training = self._part.axes, self._part.training

        def value(name: str) -> Any:
            if name in parameters:
                return parameters[name]
            axis = getattr(axes, name)
            return getattr(training, name) if axis is None else axis.values()[0]

        decoder = value("decoder")
        labels = {dataset.label: dataset for dataset in self._part.dataset}
        fields = {
            "dataset": labels[parameters.get("dataset", next(iter(labels)))],
            "architecture": self._architecture(parameters),
            "decoder": decoder,
            "decoder_variance": value("decoder_variance") if decoder == "gaussian" else None,
            **{name: value(name) for name in ("latent_dim", "beta", "objective")},
            **{name: value(name) for name in ("initialisation", *_TRAINING)},
        }
        seeds = product(axes.data_seed.values(), axes.seed.values())
        return [Trial(**fields, data_seed=data_seed, seed=seed) for data_seed, seed in seeds]

    def parameters_of(self, trial: Trial) -> dict[str, Any] | None:
        """Return the parameters of a trial's point; None where it is not a point of this space."""
        found, misfits = self._read(trial)
        return None if misfits else found

    def misfits(self, trial: Trial) -> list[str]:
        """Return what keeps a trial from being a point of this space: names of its settings."""
        return self._read(trial)[1]

    def _read(self, trial: Trial) -> tuple[dict[str, Any], list[str]]:
        """Return a trial's values by parameter, and what is not as all points have it."""
        found: dict[str, Any] = {}
        misfits: list[str] = []
        for parameter in self._parameters:
            if parameter.applies(found):
                value = parameter.of_trial(trial)
                if value is None or not _holds(parameter.distribution, value):
                    misfits.append(parameter.name)
                if value is not None:
                    found[parameter.name] = value
        own, seeds = self.trials(found)[0], {"seed", "data_seed"}
        names = [name for name in Trial.model_fields if name not in {*seeds, *misfits}]
        fixed = [name for name in names if getattr(own, name) != getattr(trial, name)]
        return found, misfits + fixed

    def distributions(self, parameters: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """Return the distributions of those parameters that a point has."""
        return {p.name: p.distribution for p in self._parameters if p.name in parameters}

    def _all_parameters(self) -> Iterator[_Parameter]:
        labels = [dataset.label for dataset in self._part.dataset]
        if len(labels) > 1:
            distribution = CategoricalDistribution(labels)
            yield _Parameter("dataset", "dataset", distribution, lambda trial: trial.dataset.label)
        yield from self._architecture_parameters()
        for name in ("latent_dim", "beta", "objective", "decoder"):
            yield from _of_axis(name, getattr(self._part.axes, name))
        decoders = self._part.axes.decoder.choices
        gaussian: Condition = lambda found: found.get("decoder", decoders[0]) == "gaussian"  # noqa: E731
        if "gaussian" in decoders:
            yield from _of_axis("decoder_variance", self._part.axes.decoder_variance, gaussian)
        for name in ("initialisation", *_TRAINING):
            yield from _of_axis(name, getattr(self._part.axes, name))

    def _architecture_parameters(self) -> Iterator[_Parameter]:
        if len(self._entries) > 1:
            distribution = CategoricalDistribution(list(self._entries))
            yield _Parameter("architecture", "architecture", distribution, self._entry_of)
        for label, entry in self._entries.items():
            if isinstance(entry, EqualLayers):
                prefix = f"{label.replace(' ', '_')}_" if len(self._entries) > 1 else ""
                applies = _chosen(label) if prefix else _always
                sizes = (("depth", entry.depth, _depth), ("width", entry.width, _width))
                for name, axis, of_trial in sizes:
                    yield from _of_axis(prefix + name, axis, applies, of_trial, "architecture")

    def _architecture(self, parameters: Mapping[str, Any]) -> Architecture:
        label = parameters.get("architecture", next(iter(self._entries)))
        entry = self._entries[label]
        if isinstance(entry, Architecture):
            return entry
        prefix = f"{label.replace(' ', '_')}_" if len(self._entries) > 1 else ""
        sizes = [
            parameters.get(f"{prefix}{name}", axis.values()[0])
            for name, axis in (("depth", entry.depth), ("width", entry.width))
        ]
        return entry.build(*sizes)

    def _entry_of(self, trial: Trial) -> str | None:
        for label, entry in self._entries.items():
            if entry == trial.architecture:
                return label
        for label, entry in self._entries.items():
            if isinstance(entry, EqualLayers) and _is_of(entry, trial):
                return label
        return None


def _suggest(proposal: optuna.Trial, parameter: _Parameter) -> Any:
    name, values = parameter.name, parameter.distribution
    if isinstance(values, IntDistribution):
        return proposal.suggest_int(name, values.low, values.high, step=values.step, log=values.log)
    if isinstance(values, FloatDistribution):
        ends = values.low, values.high
        return proposal.suggest_float(name, *ends, step=values.step, log=values.log)
    assert isinstance(values, CategoricalDistribution)
    return proposal.suggest_categorical(name, values.choices)


def _always(parameters: Mapping[str, Any]) -> bool:
    return True


def _chosen(label: str) -> Condition:
    return lambda parameters: parameters.get("architecture") == label


def _depth(trial: Trial) -> int:
    return trial.architecture.depth


def _width(trial: Trial) -> int | None:
    widths = set(trial.architecture.widths)
    return widths.pop() if len(widths) == 1 else None


def _entries(part: Part) -> dict[str, Architecture | EqualLayers]:
    """Return the architectures to choose from: by name, or where layers are equal by family."""
    entries: dict[str, Architecture | EqualLayers] = {}
    for entry in part.axes.architecture.choices:
        if isinstance(entry, EqualLayers):
            label = f"{entry.family} layers"
            same = sum(known.startswith(label) for known in entries)
            entries[f"{label} {same + 1}" if same else label] = entry
        else:
            listed = [entry] if isinstance(entry, Architecture) else entry.values()
            entries |= {architecture.name: architecture for architecture in listed}
    return entries


def _of_axis(
    name: str,
    axis: Any,
    applies: Condition = _always,
    of_trial: Callable[[Trial], Any] | None = None,
    belongs_to: str | None = None,
) -> Iterator[_Parameter]:
    """Return the parameter of an axis; none where it holds one value, or stands elsewhere."""
    if axis is None or axis.size == 1:
        return
    read = of_trial or (lambda trial: getattr(trial, name))
    readable = axis.readable if isinstance(axis, (Range, LogRange)) else (lambda value: value)
    yield _Parameter(name, belongs_to or name, _distribution(axis), read, applies, readable)


def _distribution(axis: Any) -> BaseDistribution:
    """Return where an axis's values come from.

    Listed values are Optuna's categories, which have no order; ranges have one.
    """
    if isinstance(axis, Choices):
        return CategoricalDistribution(axis.choices)
    if isinstance(axis, LogRange):
        low, high = axis.log_range
        if axis.count is not None:
            return CategoricalDistribution(axis.values())
        whole = isinstance(low, int)
        return (
            IntDistribution(low, high, log=True)
            if whole
            else FloatDistribution(low, high, log=True)
        )
    low, high = axis.range
    if axis.step is None and axis.count is None:
        return IntDistribution(low, high) if isinstance(low, int) else FloatDistribution(low, high)
    values = axis.values()
    steps = {round(b - a, 12) for a, b in pairwise(values)}
    if len(steps) > 1:  # whole numbers that were rounded
        return CategoricalDistribution(values)
    kind = IntDistribution if isinstance(low, int) else FloatDistribution
    with warnings.catch_warnings():  # of an end that the steps miss by rounding
        warnings.simplefilter("ignore", UserWarning)
        return kind(values[0], values[-1], step=steps.pop())


def _is_of(entry: EqualLayers, trial: Trial) -> bool:
    sizes = (entry.depth, _depth(trial)), (entry.width, _width(trial))
    return entry.family == trial.architecture.family and all(
        size is not None and _holds(_distribution(axis), size) for axis, size in sizes
    )


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except ValueError:  # no number at all
        return False
