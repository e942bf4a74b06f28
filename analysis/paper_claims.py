"""What the paper claims, and in how many cases of a study it came out: always, in part, or never.

A. Asperti, "Sparsity in Variational Autoencoders". A case is a setting, a pair of trials or a
trial, whichever the claim is about.
"""

from typing import Final, NamedTuple

import pandas as pd

from analysis.deterioration import FOLLOWED, deterioration_by_trial
from analysis.inert_units import INERT, inert_units
from analysis.latent_codes import sampling_pairs
from analysis.paper import PAPER_NETS
from analysis.paper_counts import conv_against_dense, epochs_words, paper_counts
from analysis.sparsity_controls import sparsity_of_controls
from analysis.tile_shares import tile_shares
from analysis.variance_law import law_by_trial

__all__ = ["paper_claims"]

LAW_MEAN, LAW_MEAN_CONVERGED, LAW_VARIANCE_CONVERGED = 0.02, 0.01, 0.001
"""How near to 1 the law's mean over a trial's units is to be, and how small their variance."""

FREQUENTLY: Final = 0.1
"""The share of images that is taken for the paper's "frequently"."""

_COLUMNS: Final = ["claim", "where", "held", "cases", "counted", "verdict"]


class _Claim(NamedTuple):
    claim: str
    where: str
    held: "pd.Series[bool]"  # one per case
    counted: str


def paper_claims(
    trials: pd.DataFrame,
    units: pd.DataFrame,
    *,
    differences: pd.DataFrame | None = None,
    tiles: pd.DataFrame | None = None,
    codes: pd.DataFrame | None = None,
    probes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Say for each of the paper's claims in how many cases it holds.

    Args:
        trials: The `trials` table.
        units: The `units` table, whole or final.
        differences: What `sample_differences` makes of the samples.
        tiles: What `tile_counts` makes of them.
        codes: What `code_statistics` makes of the encodings.
        probes: The `probes` table.

    Returns:
        One row per claim that the study has a case of: claim; where the paper makes it; held, the
        cases in which it holds; cases; counted, what a case is; and verdict: "always", "in part",
        "never".
    """
    claims = [*_counts(trials), *_law(trials, units), *_controls(trials, units)]
    if differences is not None and len(differences):
        claims += _inert(inert_units(trials, units, differences))
    if tiles is not None and len(tiles):
        claims += _counting(tile_shares(trials, tiles))
    if codes is not None and len(codes):
        claims += _spherical(sampling_pairs(trials, codes))
    if probes is not None and len(probes):
        claims += _reversible(deterioration_by_trial(probes, trials))
    rows = [
        (claim.claim, claim.where, int(claim.held.sum()), len(claim.held), claim.counted)
        for claim in claims
        if len(claim.held)
    ]
    found = pd.DataFrame(rows, columns=_COLUMNS[:-1])
    verdict = (found["held"] > 0).map({True: "in part", False: "never"}).astype("str")
    return found.assign(verdict=verdict.mask(found["held"] == found["cases"], "always"))


def _counts(trials: pd.DataFrame) -> list[_Claim]:
    counts = paper_counts(trials)
    claims = []
    for net in PAPER_NETS:
        near = counts.loc[counts["where"] == net.where, "difference"].abs() <= 1
        words = f"{net.active} ± 1 of {net.latent_dim} units are active: {net.architecture}"
        claims.append(_Claim(f"{words} on {net.dataset}", net.where, near, "settings"))
    both = conv_against_dense(counts)
    for dataset, rows in both.groupby("dataset"):
        more = rows["difference"] > 0
        words = f"the convolutional net ({epochs_words(rows, 'conv')}) keeps more units than the "
        words += f"dense one ({epochs_words(rows, 'dense')}) on {dataset}"
        claims.append(_Claim(words, "section IV-B", more, "settings"))
    return claims


def _law(trials: pd.DataFrame, units: pd.DataFrame) -> list[_Claim]:
    # Others have units too: one that diverged at once is as it was drawn, where the law holds.
    completed = trials[trials["status"] == "completed"]
    law = law_by_trial(completed, units)
    known = law[law["predicted"] & law["law_mean"].notna()]
    off = (known["law_mean"] - 1).abs()
    converged = known["verdict"] == "converged"
    held = (off <= LAW_MEAN_CONVERGED) & (known["law_variance"] <= LAW_VARIANCE_CONVERGED)
    return [
        _Claim(
            f"mean σ² + Var μ averages 1 over the units, within {LAW_MEAN:.0%}",
            "equation 13",
            off <= LAW_MEAN,
            "trials",
        ),
        _Claim(
            f"once converged, within {LAW_MEAN_CONVERGED:.0%} and with a variance of at most "
            f"{LAW_VARIANCE_CONVERGED:g}",
            "equation 13",
            held[converged],
            "trials",
        ),
    ]


def _controls(trials: pd.DataFrame, units: pd.DataFrame) -> list[_Claim]:
    pairs = sparsity_of_controls(trials, units)
    return [
        _Claim(
            "with the quadratic penalty in place of the KL, all units are in use",
            "section VI-A",
            pairs["in_use"] == pairs["latent_dim"],
            "pairs",
        ),
        _Claim(
            "with the quadratic penalty in place of the KL, more units are in use",
            "section VI-A",
            pairs["difference"] > 0,
            "pairs",
        ),
    ]


def _inert(found: pd.DataFrame) -> list[_Claim]:
    sparse = found[found["inactive"] > 0]
    words = f"inactive units are ignored: without them no pixel changes by more than {INERT:g}"
    converged = sparse["verdict"] == "converged"
    return [
        _Claim(words, "figure 6", sparse["inert"], "trials"),
        _Claim(f"{words}, once converged", "figure 6", sparse.loc[converged, "inert"], "trials"),
    ]


def _counting(shares: pd.DataFrame) -> list[_Claim]:
    generated = shares[(shares["images_of"] == "generated") & (shares["family"] == "conv")]
    often = generated["over_three"] >= FREQUENTLY
    words = f"more than three tiles in {FREQUENTLY:.0%} or more of the images"
    return [_Claim(f"the convolutional net draws {words}", "section V-A", often, "settings")]


def _spherical(pairs: pd.DataFrame) -> list[_Claim]:
    senses = {
        "henze_zirkler": ("nearer to a Gaussian in shape", -1),
        "axis_ratio": ("with more equal axes", -1),
        "prior_covered": ("filling more of the prior", 1),
    }
    return [
        _Claim(
            f"with sampling in training codes are more spherical: {words}",
            "figure 3",
            sign * (pairs[f"{name}_with"] - pairs[f"{name}_without"]) > 0,
            "pairs",
        )
        for name, (words, sign) in senses.items()
    ]


def _reversible(found: pd.DataFrame) -> list[_Claim]:
    fell = found[found["verdict"].isin(FOLLOWED)]
    collapsed = fell["collapse_epoch"].notna()
    recovered = fell["verdict"].isin(["recovered", "recovered in part"])
    return [
        _Claim(
            "a unit whose gain falls below β·KL collapses: mean σ² goes above 0.9",
            "figure 14",
            collapsed,
            "trials",
        ),
        _Claim(
            "sparsity is reversible, at some extent: without noise the unit is in use again",
            "figure 14",
            recovered,
            "trials",
        ),
    ]
