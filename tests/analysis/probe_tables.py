"""Deteriorations as tables, made by hand: each epoch of a unit as few letters and numbers."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from study.tables import PROBES

PHASES = {"s": "settling", "d": "deterioration", "c": "collapse", "r": "recovery"}
PROBE = {"study": "test", "probe": "deterioration", "unit": 5, "reconstruction": 90.0}

Epoch = tuple[str, float | None, float | None]
"""Letter of the phase, gain in nats and mean σ², which the KL hangs on here (`kl_of`)."""


def kl_of(variance: float) -> float:
    """What a unit of this σ² costs in these tables, in nats: 2 at σ² = 0 and 0 at 1."""
    return 2 * (1 - variance)


def probe_of(
    trial_id: str, start: Epoch, epochs: Sequence[Epoch], increment: float = 0.25, **columns: Any
) -> pd.DataFrame:
    """The rows of one trial's deterioration, from before the probe on."""
    rows, noise = [], 0.0
    for number, (letter, gain, variance) in enumerate([start, *epochs]):
        noise = {"d": noise + increment, "c": noise}.get(letter, 0.0)
        rows.append(
            PROBE
            | {
                "trial_id": trial_id,
                "epoch": number,
                "phase": PHASES[letter] if number else "start",
                "noise": noise,
                "reconstruction_gain": gain,
                "kl": None if variance is None else kl_of(variance),
                "mean_variance": None if variance is None else 1 - variance,
                "posterior_variance": variance,
                "seconds": 0.5,
            }
            | columns
        )
    numbers = dict.fromkeys(["reconstruction_gain", "kl", "mean_variance"], "float64")
    frame = pd.DataFrame(rows, columns=PROBES.names)
    return frame.astype(numbers | {"posterior_variance": "float64"})


START: Epoch = ("s", 4.0, 0.1)  # 4 nats for 1.8: the unit pays for itself
PAYS: Epoch = ("d", 3.0, 0.2)
FALLS: Epoch = ("d", 1.0, 0.3)  # costs 1.4
GOES: Epoch = ("c", 0.3, 0.7)
GONE: Epoch = ("c", 0.0, 0.95)
LOST: Epoch = ("r", 0.001, 0.99)  # for 0.02
BACK: Epoch = ("r", 3.0, 0.2)
PARTLY: Epoch = ("r", 1.0, 0.6)  # a quarter of 4, for 0.8
COURSES: dict[str, list[Epoch]] = {
    "recovered": [("s", 4.0, 0.1), PAYS, FALLS, GOES, GONE, LOST, PARTLY, BACK],
    "recovered in part": [PAYS, FALLS, GOES, GONE, LOST, BACK, PARTLY],
    "relapsed": [PAYS, FALLS, BACK, PARTLY, LOST],
    "did not recover": [PAYS, FALLS, GOES, GONE, LOST, LOST, ("r", 0.3, 0.86)],
    "never fell below": [PAYS, PAYS, PAYS, BACK],
    "not followed": [PAYS, FALLS, GOES, GONE],
    "did not pay before": [("s", 1.0, 0.1), FALLS, BACK],
    "interrupted": [PAYS, FALLS, GOES, ("c", None, None)],
}
"""A course for each verdict but that of trials in which none is predicted."""
