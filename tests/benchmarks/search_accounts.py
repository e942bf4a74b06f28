"""What two searches found, and what for: the accounts of their tables."""

import math
import statistics
from dataclasses import dataclass

import pandas as pd

__all__ = [
    "SHARE",
    "WITHIN",
    "Comparison",
    "Pair",
    "compare",
    "feasible",
    "progress",
    "relative_gap",
]

WITHIN, SHARE = 0.01, 0.25
"""What is to be reached: random's best value within 1%, with a quarter of its epochs."""


@dataclass(frozen=True)
class Pair:
    """A random study and another one. Values are -test_elbo; infinite where nothing is feasible.

    Attributes:
        best: Least value of random's feasible trials.
        feasible: How many of its trials are.
        epochs: Epochs that it trained.
        reached: Least value of the other study within a quarter of these.
        within_after: Epochs after which it was first within 1% of random's best; infinite where it
            never was.
        trained: Epochs that it trained until its end.
        trials: Its trials.
        pruned: How many of these were pruned.
    """

    best: float
    feasible: int
    epochs: int
    reached: float
    within_after: float
    trained: int
    trials: int
    pruned: int

    @property
    def gap(self) -> float:
        """By what part of random's best the value that was reached is worse."""
        return relative_gap(self.reached, self.best)

    @property
    def share(self) -> float:
        """Part of random's epochs after which the other study was within 1%."""
        return self.within_after / self.epochs


@dataclass(frozen=True)
class Comparison:
    """All pairs of random and another side, and their medians.

    Attributes:
        pairs: In the order of the seeds.
        gap: The median gap; of an even number, the worse of the middle two, as below.
        share: The median share of epochs.
        met: Whether the median pair was within 1% with a quarter of the epochs.
    """

    pairs: list[Pair]
    gap: float
    share: float
    met: bool

    @classmethod
    def of(cls, pairs: list[Pair]) -> "Comparison":
        """Compare pairs."""
        gap = statistics.median_high(pair.gap for pair in pairs)
        share = statistics.median_high(pair.share for pair in pairs)
        return cls(pairs, gap, share, gap <= WITHIN and share <= SHARE)


def progress(trials: pd.DataFrame, most_active: int) -> pd.DataFrame:
    """Return what a study had found, and what it had spent, whenever a pack was finished.

    A pack counts with all of its epochs from when it is started, those of the packs that train at
    the same time included: what is known when one is finished was not to be had for less.

    Args:
        trials: The table.
        most_active: Active units that a feasible trial has at most.

    Returns:
        One row per pack in the order of finishing: epochs (trained in all packs started by then,
        whatever became of their trials) and best (-test_elbo of the best feasible trial so far,
        infinite where there is none).
    """
    failed = trials["status"] == "failed"
    if failed.any():
        raise RuntimeError(f"{failed.sum()} trials failed\n{trials.loc[failed, 'error']}")
    spent = trials["epochs_trained"] + (trials["status"] == "diverged")  # in a last epoch, lost
    value = (-trials["test_elbo"]).where(feasible(trials, most_active), math.inf)
    packs = (
        trials.assign(spent=spent, value=value)
        .groupby("pack_id")
        .agg(
            start=("started_at", "min"),
            seconds=("seconds", "sum"),  # a pack's, in equal shares
            spent=("spent", "sum"),
            value=("value", "min"),
        )
    )
    packs["finish"] = packs["start"] + pd.to_timedelta(packs["seconds"], unit="s")
    packs = packs.sort_values("finish", ignore_index=True)
    started = [packs.loc[packs["start"] <= finish, "spent"].sum() for finish in packs["finish"]]
    return pd.DataFrame({"epochs": started, "best": packs["value"].cummin()}).astype(
        {"epochs": int, "best": float}
    )


def compare(random: pd.DataFrame, other: pd.DataFrame, most_active: int) -> Pair:
    """Compare the `trials` of a random study with those of another one."""
    whole, ours = progress(random, most_active), progress(other, most_active)
    best, epochs = whole["best"].iloc[-1], int(whole["epochs"].max())
    affordable = ours.loc[ours["epochs"] <= SHARE * epochs, "best"]
    near = [relative_gap(value, best) <= WITHIN for value in ours["best"]]
    return Pair(
        best=float(best),
        feasible=int(feasible(random, most_active).sum()),
        epochs=epochs,
        reached=float(affordable.min()) if len(affordable) else math.inf,
        within_after=float(ours.loc[near, "epochs"].min()) if any(near) else math.inf,
        trained=int(ours["epochs"].max()),
        trials=len(other),
        pruned=int((other["status"] == "pruned").sum()),
    )


def relative_gap(value: float, best: float) -> float:
    """Return by what part of the best a value is worse; negative where it is better."""
    if math.isinf(value):
        return math.inf
    return -math.inf if math.isinf(best) else (value - best) / abs(best)


def feasible(trials: pd.DataFrame, most_active: int) -> "pd.Series[bool]":
    """Return which trials were trained to their end and have no more active units than allowed."""
    return (trials["status"] == "completed") & (trials["active_units"] <= most_active)
