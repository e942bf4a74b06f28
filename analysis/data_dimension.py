"""The dimension of the data found without a VAE, beside the VAE's answer.

Geometric estimators look at distances or local spectra of the data; each measures something else
than active units, and `MEASURES` says what. For linear VAEs probabilistic PCA knows the answer.
"""

from typing import Final

import numpy as np
import pandas as pd

from analysis.group_words import beta_words, describe_setting, naturally
from analysis.groups import range_ends
from analysis.probabilistic_pca import eigenvalues_of, linear_answers

__all__ = ["MEASURES", "cross_checks", "describe_in_words", "geometric_checks"]

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
    settings = [describe_setting(row) for _, row in exact.iterrows()]
    sizes = datasets.drop_duplicates("dataset_fingerprint").set_index("dataset_fingerprint")
    exact = exact.assign(
        method="probabilistic PCA",
        variant=pd.Series(settings, exact.index, dtype="str") + ", " + beta_words(exact),
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
    checks = pd.concat(typed)
    return checks.sort_values("dataset", key=naturally, kind="stable", ignore_index=True)


def _of_vae(estimates: pd.DataFrame) -> pd.DataFrame:
    """Sum up the intrinsic dimensions of each dataset and β."""
    known = estimates.assign(estimate=estimates["estimate"].astype("float64"))
    ends = [end for end in range_ends("beta") if end in estimates]
    found = (
        known.groupby(["dataset", "beta", *ends])["estimate"]
        .agg(value="median", lowest="min", highest="max", saturated="count", groups="size")
        .reset_index()
    )
    of = found["saturated"].astype("str") + " of " + found["groups"].astype("str")
    variants = beta_words(found) + ", " + of + " groups saturated"
    return found.assign(method="VAE", variant=variants, measures=_VAE)


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
