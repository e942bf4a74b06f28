"""How near codes are to a Gaussian, to a sphere and to the prior, as numbers.

"Spherical" in the paper's figure 3 may mean three things, and they are measured apart:

- **Gaussian in shape**, whatever its place, width and axes: `henze_zirkler`, `mardia_skewness` and
  `mardia_kurtosis`. No invertible linear map of the codes changes these. The first sees any
  departure from a Gaussian; the others say of what kind it is. With thousands of codes even a small
  departure has a p-value of 0, so what compares two trials is the statistic.
- **As wide in all directions**: `axis_ratio`, which is 1 for a sphere.
- **Where the prior N(0, I) is**: `prior_kl`, and `prior_covered`, which alone of all of
  these sees gaps. Generation draws from the prior.

All take codes of shape (images, units). Codes that fill no volume (a unit is constant, or follows
from others, or there are too few images) have no shape: statistics are then NaN.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import chi2, lognorm, norm

__all__ = [
    "NormalityTest",
    "axis_ratio",
    "henze_zirkler",
    "mardia_kurtosis",
    "mardia_skewness",
    "prior_covered",
    "prior_kl",
]

Codes = NDArray[np.float64]

PAIRS_AT_ONCE = 100_000  # as many as stay in a core's cache
SINGULAR = 1e-12  # smallest eigenvalue of the covariance, of the largest
NEIGHBOURLY = 0.95
PRIOR_DRAWS = 2_000


@dataclass(frozen=True)
class NormalityTest:
    """A test of the hypothesis that codes are draws from some Gaussian.

    Attributes:
        statistic: What is measured; NaN where the codes fill no volume.
        p_value: How probable as large a departure is for draws from a Gaussian, approximately.
    """

    statistic: float
    p_value: float


def henze_zirkler(codes: "NDArray[np.float64]") -> NormalityTest:
    """Measure how far codes are from a Gaussian of any mean and covariance.

    The statistic is n times the squared distance between the characteristic functions of the
    standardised codes and of N(0, I), weighted by a Gaussian of variance β²; β is Henze and
    Zirkler's, for the number of images. Draws from a Gaussian give about 1 or less, and everything
    else a value that grows in proportion to n: compare trials with equally many images. Time grows
    with n².

    Source: N. Henze, B. Zirkler, "A class of invariant consistent tests for multivariate
    normality", Communications in Statistics 19 (1990), 3595-3617; the p-value is by their lognormal
    approximation.
    """
    white = _standardised(codes)
    if white is None:
        return NormalityTest(np.nan, np.nan)
    n, d = white.shape
    squared = ((2 * d + 1) * n / 4) ** (2 / (d + 4)) / 2  # β²
    lengths = (white**2).sum(1)
    pairs = 0.0
    for rows in _row_blocks(n):
        distances = lengths[rows, None] + lengths - 2 * white[rows] @ white.T
        pairs += np.exp(-0.5 * squared * distances).sum()
    single = np.exp(-0.5 * squared / (1 + squared) * lengths).mean()
    statistic = n * (
        pairs / n**2 - 2 * (1 + squared) ** (-d / 2) * single + (1 + 2 * squared) ** (-d / 2)
    )
    mean, variance = _henze_zirkler_moments(squared, d)
    spread = np.log1p(variance / mean**2)
    p_value = lognorm.sf(statistic, np.sqrt(spread), scale=mean * np.exp(-0.5 * spread))
    return NormalityTest(float(statistic), float(p_value))


def mardia_skewness(codes: "NDArray[np.float64]") -> NormalityTest:
    """Measure how lopsided codes are: Mardia's b₁, about 0 for draws from a Gaussian.

    The sum of the squared third moments of the standardised codes, which is the mean over all pairs
    of images of the cubed inner product.

    Source: K. V. Mardia, "Measures of multivariate skewness and kurtosis with applications",
    Biometrika 57 (1970), 519-530.
    """
    white = _standardised(codes)
    if white is None:
        return NormalityTest(np.nan, np.nan)
    n, d = white.shape
    thirds = ((white * white[:, [unit]]).T @ white / n for unit in range(d))
    skewness = float(sum((third**2).sum() for third in thirds))
    p_value = chi2.sf(n * skewness / 6, d * (d + 1) * (d + 2) / 6)
    return NormalityTest(skewness, float(p_value))


def mardia_kurtosis(codes: "NDArray[np.float64]") -> NormalityTest:
    """Measure how heavy the tails of codes are: Mardia's b₂, about d(d + 2) for a Gaussian.

    The mean fourth power of the standardised codes' lengths; d is the number of units. Below is
    flatter than a Gaussian, above has heavier tails; the p-value counts both.

    Source: as for `mardia_skewness`.
    """
    white = _standardised(codes)
    if white is None:
        return NormalityTest(np.nan, np.nan)
    n, d = white.shape
    kurtosis = float(((white**2).sum(1) ** 2).mean())
    excess = (kurtosis - d * (d + 2)) / np.sqrt(8 * d * (d + 2) / n)
    return NormalityTest(kurtosis, float(2 * norm.sf(abs(excess))))


def axis_ratio(codes: "NDArray[np.float64]") -> float:
    """Return how much longer the longest axis of the codes is than the shortest; 1 for a sphere.

    Axes are the standard deviations along the principal directions, so rotations do not matter. A
    single unit has one axis, and no ratio: NaN.
    """
    if codes.shape[1] == 1 or _standardised(codes) is None:
        return np.nan
    variances = np.linalg.eigvalsh(_covariance(codes))
    return float(np.sqrt(variances[-1] / variances[0]))


def prior_kl(codes: "NDArray[np.float64]", variance: "NDArray[np.float64] | None" = None) -> float:
    """Return the KL from N(0, I) of the Gaussian with the codes' mean and covariance, in nats.

    Args:
        codes: Posterior means, (images, units).
        variance: Posterior variances, likewise, where training samples: the aggregate posterior,
            q(z) = mean over x of q(z|x), then has the covariance Cov μ + diag(mean σ²). Without
            them that of the means.
    """
    if _standardised(codes) is None:
        return np.nan
    covariance = _covariance(codes)
    if variance is not None:
        covariance = covariance + np.diag(variance.mean(0))
    mean, d = codes.mean(0), codes.shape[1]
    log_volume = np.linalg.slogdet(covariance)[1]
    return float(0.5 * (np.trace(covariance) + mean @ mean - d - log_volume))


def prior_covered(codes: "NDArray[np.float64]", draws: int = PRIOR_DRAWS, seed: int = 0) -> float:
    """Return which share of the prior N(0, I) lies where there are codes.

    It is the share of draws from the prior whose nearest code is no farther than 95% of the codes
    are from the nearest other one. If the codes are themselves draws from the prior, it is 0.95 but
    for chance. It makes no assumption on the shape, and falls where the codes leave gaps or are
    narrower than the prior. It takes seconds for thousands of codes of tens of units. Recall of
    generative models is measured alike (T. Kynkäänniemi et al., NeurIPS 2019), with other radii.

    Args:
        codes: Posterior means, (images, units).
        draws: So many draws.
        seed: Of the draws: the same codes give the same number.
    """
    if _standardised(codes) is None:
        return np.nan
    tree = cKDTree(codes)
    apart = tree.query(codes, k=2)[0][:, 1]  # the nearest is the code itself
    prior = np.random.default_rng(seed).standard_normal((draws, codes.shape[1]))
    return float((tree.query(prior)[0] <= np.quantile(apart, NEIGHBOURLY)).mean())


def _covariance(codes: Codes) -> Codes:
    centred = codes - codes.mean(0)
    return np.asarray(centred.T @ centred / len(codes))


def _standardised(codes: Codes) -> Codes | None:
    """Return the codes with mean 0 and covariance I; None where they fill no volume."""
    n, d = codes.shape
    if d == 0 or n <= d or not np.isfinite(codes).all():
        return None
    variances, axes = np.linalg.eigh(_covariance(codes))
    if variances[0] <= SINGULAR * variances[-1]:
        return None
    return np.asarray((codes - codes.mean(0)) @ axes / np.sqrt(variances))


def _row_blocks(rows: int) -> Iterator[slice]:
    step = max(1, PAIRS_AT_ONCE // rows)
    return (slice(start, start + step) for start in range(0, rows, step))


def _henze_zirkler_moments(squared: float, d: int) -> tuple[float, float]:
    """Return mean and variance of the statistic for draws from a Gaussian, given β²."""
    fourth, eighth = squared**2, squared**4
    a, w = 1 + 2 * squared, (1 + squared) * (1 + 3 * squared)
    mean = 1 - a ** (-d / 2) * (1 + d * squared / a + d * (d + 2) * fourth / (2 * a**2))
    variance = 2 * (1 + 4 * squared) ** (-d / 2)
    variance += 2 * a**-d * (1 + 2 * d * fourth / a**2 + 3 * d * (d + 2) * eighth / (4 * a**4))
    variance -= (
        4 * w ** (-d / 2) * (1 + 3 * d * fourth / (2 * w) + d * (d + 2) * eighth / (2 * w**2))
    )
    return mean, variance
