"""The course of a deterioration: from epoch to epoch, what one lane's probe does next.

Phases follow each other; those of no epochs are left out.

    settling        training goes on, with the inactive units held at zero
    deterioration   before each epoch the noise grows, until gain < β·KL (or it cannot grow)
    collapse        the noise stays, until mean σ² says that the unit is given up
    recovery        the noise is gone
"""

from dataclasses import dataclass, replace
from math import ceil

from search_spaces import DeteriorationProbe

__all__ = ["ProbedLane", "UnitState", "epochs_left", "expected_epochs", "go_on", "next_epoch"]

_FIRST = "settling"
_AFTER = {"settling": "deterioration", "deterioration": "collapse", "collapse": "recovery"}
_EXPECTED_NOISE = 2.5
"""Codes have a standard deviation of 1 at most, but the net enlarges them against the noise: the
median units of the paper's dense net on MNIST fell below β·KL at 1.9 to 2.4 (β = 1, six seeds)."""


@dataclass(frozen=True)
class UnitState:
    """How the unit does after an epoch.

    Attributes:
        reconstruction_gain: Nats per image.
        cost: β times its KL, nats per image.
        posterior_variance: Mean over the images of σ².
    """

    reconstruction_gain: float
    cost: float
    posterior_variance: float


@dataclass(frozen=True)
class ProbedLane:
    """One lane's probe between two epochs; all values are those of JSON.

    Attributes:
        unit: The unit that is blurred.
        active: All units that are not held at zero.
        phase: Of the epoch behind it, or of the one ahead once `go_on` has decided.
        epoch: Epochs of the probe behind it.
        epochs_in_phase: Likewise, of the phase.
        noise: Standard deviation of the noise.
    """

    unit: int
    active: list[int]
    phase: str = _FIRST
    epoch: int = 0
    epochs_in_phase: int = 0
    noise: float = 0.0


def next_epoch(lane: ProbedLane, settings: DeteriorationProbe) -> ProbedLane:
    """Return the lane as it goes through the next epoch, with that epoch's noise."""
    done = lane.epochs_in_phase + 1
    noise = done * settings.increment if lane.phase == "deterioration" else lane.noise
    return replace(lane, epoch=lane.epoch + 1, epochs_in_phase=done, noise=noise)


def go_on(lane: ProbedLane, unit: UnitState, settings: DeteriorationProbe) -> ProbedLane | None:
    """Return the lane in the phase of its next epoch; None where the probe is over."""
    while _is_over(lane, unit, settings):
        if lane.phase == "recovery":
            return None
        phase = _AFTER[lane.phase]
        noise = 0.0 if phase == "recovery" else lane.noise
        lane = replace(lane, phase=phase, epochs_in_phase=0, noise=noise)
    return lane


def expected_epochs(settings: DeteriorationProbe) -> int:
    """Return how many epochs a probe is expected to take: what estimates of its time count.

    It errs on the long side: the noise is expected to grow to what drowned the best units seen,
    and then to stay for all of `collapse_epochs`. A unit that holds out longer takes more.
    """
    return epochs_left(ProbedLane(0, [0]), settings)


def epochs_left(lane: ProbedLane, settings: DeteriorationProbe) -> int:
    """Return how many epochs a probe that goes on is still expected to take, at least one."""
    noisy = ceil(min(_EXPECTED_NOISE, settings.most) / settings.increment - 1e-9)
    expected = {
        "settling": settings.settling_epochs,
        "deterioration": max(1, noisy),
        "collapse": settings.collapse_epochs,
        "recovery": settings.recovery_epochs,
    }
    phases = list(expected)
    later = sum(expected[phase] for phase in phases[phases.index(lane.phase) + 1 :])
    return max(1, max(0, expected[lane.phase] - lane.epochs_in_phase) + later)


def _is_over(lane: ProbedLane, unit: UnitState, settings: DeteriorationProbe) -> bool:
    done = lane.epochs_in_phase
    pays = unit.reconstruction_gain >= unit.cost
    match lane.phase:
        case "settling":
            return done >= settings.settling_epochs
        case "deterioration":
            most = settings.most * (1 + 1e-9)  # 3 · 0.1 is more than 0.3
            # The unit that never paid for itself gets its first noise all the same.
            return (done > 0 and not pays) or (done + 1) * settings.increment > most
        case "collapse":
            never_failed = done == 0 and pays
            gone = unit.posterior_variance > settings.collapsed_variance
            return never_failed or gone or done >= settings.collapse_epochs
        case _:
            return done >= settings.recovery_epochs
