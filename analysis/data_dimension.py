"""The dimension of the data found without a VAE, to hold the VAE's answer against.

Two kinds of answer. Geometric estimators look at distances or local spectra of the data; each
measures something else than active units, and `MEASURES` says what. Probabilistic PCA is exact:
a linear VAE with KL weight β and a Gaussian decoder of variance s has, at its optimum, one active
unit per eigenvalue λ of the data's covariance above β·s, with mean σ² = β·s/λ (Tipping and Bishop
1999; Lucas et al. 2019, "Don't Blame the ELBO!").
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.groups import describe_setting, group_columns, has_variance_part, with_group_values

__all__ = [
    "MEASURES",
    "SHARP",
    "PcaDimension",
    "cross_checks",
    "describe_in_words",
    "eigenvalues_of",
    "geometric_checks",
    "linear_answers",
    "optimal_variance",
    "pca_dimension",
]

SHARP: Final = 0.1
"""Relative distance of the neighbouring eigenvalues from β·s at which training finds the count."""

MEASURES: Final = {
    ("TwoNN", "linear fit"): (
        "ratio of the distances to the two nearest images (Facco et al. 2017): the dimension at "
        "the smallest scale, where noise counts as well"
    ),
    ("MLE", "20 neighbours"): (
        "growth of the distances to 20 neighbours (Levina and Bickel 2004): the dimension at a "
        "small scale; too low where the dimension is high, too high where there is noise"
    ),
    ("CorrInt", "10 to 20 neighbours"): (
        "growth of the number of pairs with their distance (Grassberger and Procaccia 1983): dense "
        "regions weigh most; too low where the dimension is high"
    ),
    ("lPCA", "whole sample"): (
        "covariance eigenvalues above 5% of the largest (Fukunaga and Olsen 1971), all images "
        "together: the flat space that holds the data, so curvature adds to it"
    ),
    ("lPCA", "100 neighbours"): (
        "covariance eigenvalues above 5% of the largest among 100 neighbouring images, mean over "
        "500 such places: the tangent space; noise that fills it drives the number to 99"
    ),
}
"""By method and variant, as the `datasets` table has them."""

_EXACT = (
    "units that a linear VAE keeps at its optimum: covariance eigenvalues above β·s (Lucas et al. "
    "2019); exact, for the linear model"
)
_VAE = "units with Var μ above its threshold, where more latent variables add none"
_ROW = ["dataset_fingerprint", "quantity", "method", "variant", "component"]


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
        What is not known is null, and note says why.
    """
    columns = [*group_columns(trials), "dataset_fingerprint", "decoder", "decoder_variance"]
    columns = list(dict.fromkeys(columns))
    chosen = (
        (trials["status"] == "completed")
        & (trials["family"] == "linear")
        & trials["decoder"].isin(["gaussian", "gaussian_learned"])
        & has_variance_part(trials)
    )
    linear = trials[chosen].drop_duplicates("trial_id")
    linear = linear.assign(found_variance=linear["decoder_variance"].astype("float64"))
    linear = with_group_values(linear)
    rows = []
    for _, group in linear.groupby(columns, dropna=False):
        widest = group[group["latent_dim"] == group["latent_dim"].max()]
        spectrum = eigenvalues_of(datasets, str(group["dataset_fingerprint"].iloc[0]))
        row = {
            **group.iloc[0][columns],
            "latent_dim": int(widest["latent_dim"].iloc[0]),
            "active_units": float(widest["active_units"].astype("float64").mean()),
            "trials": len(widest),
            "found_variance": widest["found_variance"].mean(),
        }
        rows.append(row | _exact(spectrum, row))
    exact = ["dimension", "threshold", "gap_above", "gap_below", "sharp"]
    expected = ["latent_dim", "expected_active_units", "expected_variance"]
    found = ["active_units", "found_variance", "trials", "note"]
    answers = pd.DataFrame(rows, columns=[*columns, *exact, *expected, *found])
    whole = ["dimension", "latent_dim", "expected_active_units", "trials"]
    return answers.astype(dict.fromkeys(whole, "Int64") | {"sharp": "boolean", "note": "str"})


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


def geometric_checks(datasets: pd.DataFrame) -> pd.DataFrame:
    """Return the geometric estimates: the rows of `datasets` for them, and what each measures."""
    rows = datasets[datasets["quantity"] == "dimension"]
    rows = rows.drop_duplicates([*_ROW, "sample_size", "sample_seed", "library"])
    keys = zip(rows["method"], rows["variant"], strict=True)
    measures = pd.Series([MEASURES.get(key, "") for key in keys], rows.index, dtype="str")
    return rows.assign(measures=measures).reset_index(drop=True)


def cross_checks(
    trials: pd.DataFrame, datasets: pd.DataFrame, estimates: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Put the answers from outside beside the VAE's: one row per dataset, method and variant.

    Args:
        trials: The `trials` table.
        datasets: The `datasets` table; datasets of which there is no trial are left out, unless
            there are no trials at all.
        estimates: What `estimate_intrinsic_dimension` says of the trials, for the VAE's rows.

    Returns:
        dataset, method, variant, value; lowest and highest (for the VAE, over the saturated groups
        of one β, of which value is the median), active_units (for probabilistic PCA, what the
        linear VAEs of that row have at their largest latent_dim), sample_size (images; null for the
        VAE), note and measures.
    """
    geometric = geometric_checks(datasets)
    if not trials.empty:
        labels = trials[["dataset", "dataset_fingerprint"]].drop_duplicates()
        geometric = geometric.drop(columns="dataset").merge(labels, on="dataset_fingerprint")
    exact = linear_answers(trials, datasets)
    settings = [f"{describe_setting(row)}, β = {row['beta']:g}" for _, row in exact.iterrows()]
    sizes = datasets.drop_duplicates("dataset_fingerprint").set_index("dataset_fingerprint")
    exact = exact.assign(
        method="probabilistic PCA",
        variant=pd.Series(settings, exact.index, dtype="str"),
        value=exact["dimension"],
        sample_size=exact["dataset_fingerprint"].map(sizes["train_images"]),
        measures=_EXACT,
    )
    parts = [geometric, exact, *([] if estimates is None else [_of_vae(estimates)])]
    columns = ["dataset", "method", "variant", "value", "lowest", "highest", "active_units"]
    rows = [part.reindex(columns=[*columns, "sample_size", "note", "measures"]) for part in parts]
    numbers = dict.fromkeys(columns[3:], "float64")
    texts = dict.fromkeys(["dataset", "method", "variant", "note", "measures"], "str")
    typed = [part.astype({**numbers, **texts, "sample_size": "Int64"}) for part in rows]
    return pd.concat(typed).sort_values("dataset", kind="stable", ignore_index=True)


def _of_vae(estimates: pd.DataFrame) -> pd.DataFrame:
    """Sum up the intrinsic dimensions of each dataset and β."""
    known = estimates.assign(estimate=estimates["estimate"].astype("float64"))
    found = (
        known.groupby(["dataset", "beta"])["estimate"]
        .agg(value="median", lowest="min", highest="max", saturated="count", groups="size")
        .reset_index()
    )
    variants = [
        f"β = {row.beta:g}, {row.saturated} of {row.groups} groups saturated"
        for row in found.itertuples(index=False)
    ]
    return found.assign(
        method="VAE", variant=pd.Series(variants, found.index, dtype="str"), measures=_VAE
    )


def describe_in_words(described: pd.DataFrame) -> str:
    """Sum up the facts and the eigenvalues of one dataset, from its `datasets` rows."""
    facts = described.iloc[0]
    spectrum = eigenvalues_of(described, facts["dataset_fingerprint"])
    largest = ", ".join(f"{value:.4g}" for value in spectrum[:8])
    lines = [
        f"{facts['dataset']} ({facts['dataset_fingerprint']}): {facts['train_images']:,} training "
        f"and {facts['test_images']:,} test images of {facts['shape']}",
        f"mean {facts['mean']:.4g}, total variance {facts['total_variance']:.4g}",
        f"covariance eigenvalues: {largest}{', …' if len(spectrum) > 8 else ''}",
    ]
    if spectrum.sum() > 0:
        share = np.cumsum(spectrum) / spectrum.sum()
        parts = [f"{level:.0%} in {(share < level).sum() + 1}" for level in (0.5, 0.9, 0.95, 0.99)]
        lines.append(f"share of the variance: {', '.join(parts)} of {len(spectrum)} components")
    return "\n".join(lines)


def _descending(eigenvalues: ArrayLike) -> NDArray[np.float64]:
    return np.sort(np.asarray(eigenvalues, dtype=np.float64))[::-1]
