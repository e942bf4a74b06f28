"""The exact dimension for linear VAEs, and trained linear VAEs beside it.

Probabilistic PCA is a linear VAE's optimum: with KL weight β and a Gaussian decoder of variance s
there is one active unit per eigenvalue λ of the data's covariance above β·s, with mean σ² = β·s/λ
(Tipping and Bishop 1999; Lucas et al. 2019, "Don't Blame the ELBO!").
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.group_words import naturally
from analysis.groups import (
    RANGED,
    group_columns,
    has_variance_part,
    range_ends,
    with_group_values,
)

__all__ = [
    "SHARP",
    "PcaDimension",
    "eigenvalues_of",
    "linear_answers",
    "optimal_variance",
    "pca_dimension",
]

SHARP: Final = 0.1
"""Relative distance of the neighbouring eigenvalues from β·s at which training finds the count."""


@dataclass(frozen=True)
class PcaDimension:
    """How many eigenvalues lie above a threshold, and how clearly.

    Attributes:
        dimension: Eigenvalues λ above the threshold β·s.
        threshold: β·s.
        gap_above: λ/(β·s) − 1 of the last eigenvalue that counts; infinite if none does.
        gap_below: β·s/λ − 1 of the first that does not; infinite if there is none above 0.
    """

    dimension: int
    threshold: float
    gap_above: float
    gap_below: float

    @property
    def sharp(self) -> bool:
        """Whether both gaps are at least 10%: nearer eigenvalues take very long to train."""
        return min(self.gap_above, self.gap_below) >= SHARP


def pca_dimension(eigenvalues: ArrayLike, beta: float, variance: float) -> PcaDimension:
    """Count the active units of a linear VAE at its optimum, latent variables unlimited.

    Args:
        eigenvalues: Of the data's covariance (divided by N), in any order.
        beta: Weight of the KL term, above 0: without one, no unit is switched off.
        variance: The Gaussian decoder's variance s per pixel, above 0.

    Returns:
        The count: unit i is active if and only if λ_i > β·s (Lucas et al. 2019; with fewer latent
        variables, all of them are).

    Raises:
        ValueError: beta or variance is not above 0.
    """
    if not (beta > 0 and variance > 0):
        raise ValueError(f"β = {beta} and s = {variance}: both have to be above 0")
    spectrum, threshold = _descending(eigenvalues), beta * variance
    above, below = spectrum[spectrum > threshold], spectrum[spectrum <= threshold]
    return PcaDimension(
        dimension=len(above),
        threshold=threshold,
        gap_above=above[-1] / threshold - 1 if len(above) else np.inf,
        gap_below=threshold / below[0] - 1 if len(below) and below[0] > 0 else np.inf,
    )


def optimal_variance(
    eigenvalues: ArrayLike, beta: float, latent_dim: int | None = None
) -> float | None:
    """Return the decoder variance that a linear VAE learns together with its weights.

    With k active units the objective is stationary in s where

        s = (sum of λ_j over j > k) / (d − β·k),

    d the number of values per image; for β = 1 that is the mean of the discarded eigenvalues
    (Tipping and Bishop 1999, equation 8). And k depends on s: the eigenvalues above β·s among the
    first latent_dim. Both hold where Σ_{i ≤ latent_dim} min(β, λ_i/s) + Σ_{i > latent_dim} λ_i/s
    equals d. The sum falls with s, so there is one such s, or none; unit i is active if and only
    if the sum at s = λ_i/β is below d.

    Where β times the number of eigenvalues above 0 is at most d, as for β = 1, the sum over all
    components never exceeds d, so without a limit on latent_dim there is no s: every further unit
    lets s fall enough to pay for the unit.

    Args:
        eigenvalues: Of the data's covariance (divided by N), all d of them, zeros included.
        beta: Weight of the KL term, above 0.
        latent_dim: Number of latent variables; unlimited if not given.

    Returns:
        s, or None where the objective has no minimum: s falls to 0.
    """
    spectrum = _descending(eigenvalues)
    values = len(spectrum)
    discarded = np.append(np.cumsum(spectrum[::-1])[::-1], 0.0)  # [k]: sum of λ_j over j > k
    first = spectrum[:latent_dim]
    first = first[first > 0]
    if discarded[len(first)] == 0 and beta * len(first) <= values:
        return None  # the sum never exceeds d, however small s is
    units = np.arange(1, len(first) + 1)
    active = int((beta * (units + discarded[units] / first) < values).sum())
    return float(discarded[active] / (values - beta * active))


def eigenvalues_of(datasets: pd.DataFrame, fingerprint: str) -> NDArray[np.float64]:
    """Return a dataset's covariance eigenvalues from the largest; empty where it has none."""
    rows = datasets[
        (datasets["dataset_fingerprint"] == fingerprint) & (datasets["quantity"] == "eigenvalue")
    ]
    return _descending(rows.drop_duplicates("component")["value"])


def linear_answers(trials: pd.DataFrame, datasets: pd.DataFrame) -> pd.DataFrame:
    """Hold linear VAEs against probabilistic PCA.

    Args:
        trials: The `trials` table; completed trials of the family "linear" with a Gaussian decoder
            and the whole KL count, each once.
        datasets: The `datasets` table.

    Returns:
        One row per group: `group_columns`, dataset_fingerprint, decoder, decoder_variance;
        dimension (the exact count, latent variables unlimited), threshold (β·s), gap_above,
        gap_below and sharp, as in `PcaDimension`; latent_dim (the group's largest),
        expected_active_units and expected_variance (the exact count and s for it), active_units and
        found_variance (means over the trials there), trials (how many); note.
        What is not known is null, and note says why; so is what differs within a range of β or s.
    """
    columns = [*group_columns(trials), "dataset_fingerprint", "decoder", "decoder_variance"]
    columns = list(dict.fromkeys(columns))
    chosen = (
        (trials["status"] == "completed")
        & (trials["family"] == "linear")
        & trials["decoder"].isin(["gaussian", "gaussian_learned"])
        & has_variance_part(trials)
    )
    variance = trials["decoder_variance"].astype("float64")
    linear = with_group_values(trials).assign(own_beta=trials["beta"], own_variance=variance)
    linear = linear[chosen].drop_duplicates("trial_id").sort_values(columns, key=naturally)
    rows = []
    for _, group in linear.groupby(columns, dropna=False, sort=False):
        widest = group[group["latent_dim"] == group["latent_dim"].max()]
        spectrum = eigenvalues_of(datasets, str(group["dataset_fingerprint"].iloc[0]))
        row = {
            **group.iloc[0][columns],
            "latent_dim": int(widest["latent_dim"].iloc[0]),
            "active_units": float(widest["active_units"].astype("float64").mean()),
            "trials": len(widest),
            "found_variance": widest["own_variance"].mean(),
        }
        rows.append(row | _exact_of_group(spectrum, group, row))
    exact = ["dimension", "threshold", "gap_above", "gap_below", "sharp"]
    expected = ["latent_dim", "expected_active_units", "expected_variance"]
    found = ["active_units", "found_variance", "trials", "note"]
    answers = pd.DataFrame(rows, columns=[*columns, *exact, *expected, *found])
    whole = ["dimension", "latent_dim", "expected_active_units", "trials"]
    return answers.astype(dict.fromkeys(whole, "Int64") | {"sharp": "boolean", "note": "str"})


def _exact_of_group(
    spectrum: NDArray[np.float64], group: pd.DataFrame, row: dict[str, Any]
) -> dict[str, Any]:
    """The exact answer for a group; of a range of β or s, in the note what it runs through."""
    if not any(end in group for name in RANGED for end in range_ends(name)):
        return _exact(spectrum, row)
    own = group.assign(beta=group["own_beta"], decoder_variance=group["own_variance"])
    own = own.assign(latent_dim=row["latent_dim"])
    points = own[["beta", "decoder", "decoder_variance", "latent_dim"]].drop_duplicates()
    answers = [_exact(spectrum, dict(point)) for _, point in points.iterrows()]
    counts = sorted(answer["dimension"] for answer in answers if "dimension" in answer)
    if not counts:
        return {"note": answers[0]["note"]}
    through = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    return {"note": f"{through} at the values of β·s that were tried"}


def _exact(spectrum: NDArray[np.float64], group: dict[str, Any]) -> dict[str, Any]:
    """The exact answer for a group, as far as there is one."""
    beta, latent_dim = group["beta"], group["latent_dim"]
    if not len(spectrum):
        return {"note": "no eigenvalues yet: `vae-study data describe --study` computes them"}
    if group["decoder"] == "gaussian_learned":
        variance = optimal_variance(spectrum, beta, latent_dim)
        unlimited = optimal_variance(spectrum, beta)
    else:
        variance = unlimited = float(group["decoder_variance"])
    if variance is None:
        return {"note": "no optimum: so many units leave no error, and the learned variance is 0"}
    active = pca_dimension(spectrum, beta, variance).dimension
    answer: dict[str, Any] = {
        "expected_variance": variance,
        "expected_active_units": min(active, latent_dim),
    }
    if unlimited is None:
        return answer | {
            "note": f"a learned variance, at β up to {len(spectrum) / (spectrum > 0).sum():.3g}, "
            "falls with every further unit until that unit pays for itself: the count is "
            "latent_dim and says nothing of the data"
        }
    count = pca_dimension(spectrum, beta, unlimited)
    if count.dimension > latent_dim:
        note = f"more than the largest latent_dim, {latent_dim}"
    elif not count.sharp:
        note = f"an eigenvalue lies within {SHARP:.0%} of β·s: hard to train"
    else:
        note = None
    return answer | {**asdict(count), "sharp": count.sharp, "note": note}


def _descending(eigenvalues: ArrayLike) -> NDArray[np.float64]:
    return np.sort(np.asarray(eigenvalues, dtype=np.float64))[::-1]
