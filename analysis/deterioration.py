"""What became of a unit under noise, and after it: the paper's section VI and figure 14.

"Contrarily to what is frequently believed, sparsity seems to be reversible, at some extent": noise
on the latent variable makes the unit cost more than it brings, the KL pushes its σ² to 1, and once
the noise is gone the unit comes back, or does not.
"""

from typing import Final

import numpy as np
import pandas as pd

from analysis.groups import has_variance_part

__all__ = [
    "COLLAPSED_VARIANCE",
    "FOLLOWED",
    "RECOVERED_SHARE",
    "USED_SHARE",
    "VERDICTS",
    "deterioration_by_trial",
    "deterioration_course",
]

COLLAPSED_VARIANCE: Final = 0.9
USED_SHARE: Final = 0.1
RECOVERED_SHARE: Final = 0.5

FOLLOWED: Final = ("recovered", "recovered in part", "relapsed", "did not recover")
"""Verdicts on units that no longer paid for themselves, and were watched after the noise."""

VERDICTS: Final = (
    *FOLLOWED,
    "never fell below",
    "not followed",
    "did not pay before",
    "not predicted",
    "interrupted",
)
_BEFORE = ("start", "settling")
_COUNTS = ["probe_epochs", "fell_epoch", "held_epochs", "collapse_epoch", "recovery_epochs"]
_COUNTS += ["used_after", "recovered_after", "best_after"]


def deterioration_course(probes: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs of each deterioration, with what tells how the unit does.

    A row is the state after an epoch, under that epoch's noise; both the gain and β·KL are parts of
    what the trial minimises, in nats per image of its own likelihood.

    Args:
        probes: The `probes` table, whole or of some trials.
        trials: The `trials` table, with these trials in it.

    Returns:
        The rows of `probes` that are deteriorations of these trials, in the order of `trials` and
        by epoch, with further columns: cost, β·KL; share, the gain as a share of the initial one,
        which is that of the last epoch before the noise (null where that is not above zero); and
        since_noise, epochs since the last one with noise: 0 in that one, from 1 on after it,
        negative before.
    """
    distinct = trials.drop_duplicates("trial_id")
    beta = distinct[["trial_id", "beta"]].assign(place=range(len(distinct)))
    rows = probes[probes["probe"] == "deterioration"].merge(beta, on="trial_id")
    rows = rows.sort_values(["place", "epoch"], ignore_index=True)
    rows["cost"] = rows["beta"] * rows["kl"]
    initial = _last(rows, rows["phase"].isin(_BEFORE))["reconstruction_gain"]
    initial = initial.where(initial > 0).reindex(rows["trial_id"])
    rows["share"] = rows["reconstruction_gain"] / initial.to_numpy()
    ended = _last(rows, rows["phase"] != "recovery")["epoch"].reindex(rows["trial_id"])
    rows["since_noise"] = rows["epoch"] - ended.to_numpy()
    return rows.drop(columns=["beta", "place"])


def deterioration_by_trial(
    probes: pd.DataFrame,
    trials: pd.DataFrame,
    collapsed_variance: float = COLLAPSED_VARIANCE,
    used_share: float = USED_SHARE,
    recovered_share: float = RECOVERED_SHARE,
) -> pd.DataFrame:
    """Return what became of the unit of each deterioration, and whether it recovered.

    A unit that is given up has a gain and a KL of nearly zero, and either may be the larger. So a
    unit counts as in use where its gain is at least β·KL and at least a share of the initial gain.

    Args:
        probes: The `probes` table.
        trials: The `trials` table.
        collapsed_variance: The unit has collapsed where its mean σ² exceeds this.
        used_share: A unit in use has at least this share of its initial gain.
        recovered_share: One that has recovered has at least this share.

    Returns:
        One row per trial with a deterioration, in the order of `trials`. Epochs are those of the
        probe; what did not happen is null.

        trial_id, unit; probe_epochs, those of the whole probe.
        schedule: what was done with the noise, in words, as the table shows it: whether it stayed
            until the unit had collapsed (it does not tell whether it was meant to), and, where
            trials differ in that, by how much it grew and how long they went on without it. Null
            where the probe was interrupted.
        increment: what each epoch added to the standard deviation of the noise.
        initial_gain, initial_cost: before the noise, nats per image; the cost is β·KL.
        fell_epoch, fell_noise: when the gain fell below β·KL, and the standard deviation of the
            noise that did it.
        held_epochs: how many epochs the noise stayed after that.
        collapse_epoch: from that on, the first with mean σ² above `collapsed_variance`.
        collapse: "under the noise", "after it" or "never" (null where the gain never fell).
        recovery_epochs: epochs after the noise was gone; used_after and recovered_after: how many
            it took until the unit was first in use, and first had recovered; best_share and
            best_after, the largest gain after the noise as a share of the initial one, and when;
            last_share, that of the last epoch.
        verdict: of the last epoch: recovered; recovered in part (in use); relapsed (not in use,
            though it was after the noise); did not recover; or why there is none: never fell below
            (gain ≥ β·KL under the most noise), not followed (no epochs after the noise), did not
            pay before (gain < β·KL without noise), not predicted (the objective has no variance
            part, so nothing pushes σ² to 1), interrupted (a measurement is not a number).
    """
    rows = deterioration_course(probes, trials)
    pays = rows["reconstruction_gain"] >= rows["cost"]
    used = pays & (rows["share"] >= used_share)
    rows = rows.assign(pays=pays, used=used, recovered=used & (rows["share"] >= recovered_share))
    found = _before_noise(rows).join([_fall(rows, collapsed_variance), _recovery(rows)])
    measured = rows["cost"].notna() & rows["reconstruction_gain"].notna()
    interrupted = (~measured).groupby(rows["trial_id"]).any().reindex(found.index)
    predicted = has_variance_part(trials).set_axis(trials["trial_id"])
    predicted = predicted[~predicted.index.duplicated()].reindex(found.index)
    found["verdict"] = _verdicts(found, predicted, interrupted)
    increments = _first(rows, rows["phase"] == "deterioration")["noise"]
    found.insert(2, "increment", increments.reindex(found.index))
    found.insert(2, "schedule", _schedules(found[~interrupted]).reindex(found.index))
    found["collapse"] = found["collapse"].where(found["fell_epoch"].notna())
    found[_COUNTS] = found[_COUNTS].astype("Int64")
    return found.drop(columns=["pays", "used", "recovered"]).reset_index()


def _before_noise(rows: pd.DataFrame) -> pd.DataFrame:
    """The unit, and what it brought and cost before the noise, by trial in the order of `rows`."""
    before = _last(rows, rows["phase"].isin(_BEFORE))
    names = {"reconstruction_gain": "initial_gain", "cost": "initial_cost", "pays": "pays"}
    found = before[["unit", *names]].rename(columns=names)
    found.insert(1, "probe_epochs", _last(rows)["epoch"])
    return found


def _fall(rows: pd.DataFrame, collapsed_variance: float) -> pd.DataFrame:
    """When the unit no longer paid for itself, and when it had collapsed, by trial."""
    fails = rows["reconstruction_gain"] < rows["cost"]
    fell = _first(rows, (rows["phase"] == "deterioration") & fails)
    since = fell["epoch"].reindex(rows["trial_id"]).to_numpy()
    given_up = rows["posterior_variance"] > collapsed_variance
    gone = _first(rows, (rows["epoch"] >= since) & given_up)
    found = fell[["epoch", "noise"]].rename(columns={"epoch": "fell_epoch", "noise": "fell_noise"})
    held = rows.loc[rows["phase"] == "collapse", "trial_id"].value_counts()
    found["held_epochs"] = held.reindex(found.index, fill_value=0)
    found["collapse_epoch"] = gone["epoch"]
    under = (gone["since_noise"] <= 0).map({True: "under the noise", False: "after it"})
    found["collapse"] = under.reindex(found.index).fillna("never")
    return found


def _recovery(rows: pd.DataFrame) -> pd.DataFrame:
    """What followed once the noise was gone, by trial."""
    after = rows[rows["phase"] == "recovery"]
    last, best = _last(after), after.sort_values("share", ascending=False, kind="stable")
    found = last[["since_noise"]].rename(columns={"since_noise": "recovery_epochs"})
    for name in ("used", "recovered"):
        found[f"{name}_after"] = _first(after, after[name])["since_noise"]
    best = _first(best, best["share"].notna())
    found["best_share"], found["best_after"] = best["share"], best["since_noise"]
    return found.join(last[["share", "used", "recovered"]].rename(columns={"share": "last_share"}))


def _verdicts(
    found: pd.DataFrame, predicted: "pd.Series[bool]", interrupted: "pd.Series[bool]"
) -> "pd.Series[str]":
    """The first of these that is true of a trial."""
    words = np.select(
        [
            interrupted,
            ~predicted,
            ~found["pays"],
            found["fell_epoch"].isna(),
            found["recovery_epochs"].isna(),
            found["recovered"].eq(True),
            found["used"].eq(True),
            found["used_after"].notna(),
        ],
        [
            "interrupted",
            "not predicted",
            "did not pay before",
            "never fell below",
            "not followed",
            "recovered",
            "recovered in part",
            "relapsed",
        ],
        "did not recover",
    )
    return pd.Series(words, found.index, dtype="str")


def _schedules(found: pd.DataFrame) -> "pd.Series[str]":
    """What was done with the noise, in words."""
    then = np.select(
        [found["fell_epoch"].isna(), found["collapse"] == "under the noise"],
        ["noise to its end", "noise until the collapse"],
        "noise until before the collapse",
    )
    words = pd.Series(then, found.index, dtype="str")
    for name, form in (("increment", ", +{:g} per epoch"), ("recovery_epochs", ", {:.0f} epochs")):
        values = found[name].fillna(0)
        if values.nunique() > 1:
            words += values.map(form.format)
    return words


def _first(rows: pd.DataFrame, chosen: "pd.Series[bool]") -> pd.DataFrame:
    """The first of the chosen rows of each trial, by trial_id."""
    return rows[chosen].drop_duplicates("trial_id").set_index("trial_id")


def _last(rows: pd.DataFrame, chosen: "pd.Series[bool] | None" = None) -> pd.DataFrame:
    """The last of the chosen rows of each trial, or of all, by trial_id."""
    rows = rows if chosen is None else rows[chosen]
    return rows.drop_duplicates("trial_id", keep="last").set_index("trial_id")
