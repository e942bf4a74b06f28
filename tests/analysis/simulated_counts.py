"""Simulated studies of a known dimension, and how often the estimator is right about them.

    python -m tests.analysis.simulated_counts --seed 4 --cells

Active units are min(latent_dim, D) plus rounded normal noise. A cell is a standard deviation of
the noise, a number of seeds and a D; it has 200 studies on each grid of latent_dims. Cells, grids
and the tests' seed were fixed before the estimator was tuned, which was done on other seeds.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.intrinsic_dimension import estimate_intrinsic_dimension
from tests.analysis.tables import TRIAL

NOISES = (0.3, 0.7, 1.5)
SEEDS = (3, 5)
DIMENSIONS = tuple(range(3, 31))
REPETITIONS = 200
SEED = 4  # the number

USUAL = (2, 4, 8, 12, 16, 24, 32, 48, 64)
DOUBLING = (2, 4, 8, 16, 32, 64, 128)

Grid = Callable[[int], Sequence[int]]


def _two_above(values: Sequence[int], dimension: int) -> list[int]:
    above = [value for value in values if value > dimension + 2]
    return [value for value in values if value <= above[1]]


LONG_ENOUGH: dict[str, Grid] = {
    "usual": lambda dimension: _two_above(USUAL, dimension),
    "doubling": lambda dimension: _two_above(DOUBLING, dimension),
    "every": lambda dimension: range(1, dimension + 5),
    "just": lambda dimension: (dimension + 3, dimension + 4),
    "long": lambda dimension: (*range(2, dimension + 1, 2), *range(dimension + 3, 41, 4)),
}
"""Grids with two latent_dims above D + 2; "just" has no others, "long" has up to nine."""

TOO_SHORT: dict[str, Grid] = {
    "usual": lambda dimension: [value for value in USUAL if value < dimension],
    "doubling": lambda dimension: [value for value in DOUBLING if value < dimension],
    "every": lambda dimension: range(1, dimension),
    "just": lambda dimension: (dimension - 2, dimension - 1),
}
"""Grids whose largest latent_dim is below D."""


def simulate(
    grid: Grid,
    noise: float,
    seeds: int,
    random: np.random.Generator,
    *,
    clipped: bool = False,
    dimensions: Sequence[int] = DIMENSIONS,
    repetitions: int = REPETITIONS,
) -> pd.DataFrame:
    """The trials of so many studies of each dimension; with `clipped`, counts as real ones are,
    within 0 and latent_dim.

    The architecture tells D, and beta tells the repetition, so each study is a group.
    """
    points = [(dimension, dim) for dimension in dimensions for dim in grid(dimension)]
    rows = np.repeat(points, repetitions * seeds, axis=0)
    truth, latent_dim = rows.T
    place = np.tile(np.arange(repetitions * seeds), len(points))
    active = np.minimum(truth, latent_dim) + np.rint(random.normal(0, noise, len(rows))).astype(int)
    if clipped:
        active = active.clip(0, latent_dim)
    own = {
        "trial_id": np.arange(len(rows)),
        "architecture": "dense-" + pd.Series(truth).astype(str),
        "latent_dim": latent_dim,
        "beta": 1.0 + place // seeds,
        "seed": place % seeds,
        "active_units": active,
    }
    return pd.DataFrame(own).assign(**{name: TRIAL[name] for name in TRIAL if name not in own})


def score(grid: Grid, seed: int = SEED, *, clipped: bool = False) -> pd.DataFrame:
    """A row per cell: the share of studies with each verdict, and how good the intervals are.

    covered and width are over the studies that got an interval.
    """
    random = np.random.default_rng(seed)
    cells = {
        (noise, seeds): score_estimates(
            estimate_intrinsic_dimension(simulate(grid, noise, seeds, random, clipped=clipped))
        )
        for noise in NOISES
        for seeds in SEEDS
    }
    return pd.concat(cells, names=["noise", "seeds"])


def score_estimates(found: pd.DataFrame) -> pd.DataFrame:
    truth = found["architecture"].str.removeprefix("dense-").astype(int).rename("dimension")
    covered = (found["lower"] <= truth) & (truth <= found["upper"])
    return (
        pd.DataFrame(
            {
                "saturated": found["verdict"] == "saturated",
                "not saturated": found["verdict"] == "not saturated",
                "unstable": found["verdict"] == "unstable",
                "covered": covered.where(found["lower"].notna()),
                "width": found["upper"] - found["lower"],
            }
        )
        .astype(float)
        .groupby(truth)
        .mean()
    )


def worst(cells: pd.DataFrame) -> pd.DataFrame:
    """By noise and seeds: the smallest share over D, and the mean width."""
    by_noise = cells.groupby(["noise", "seeds"])
    shares = by_noise[["saturated", "not saturated", "covered"]].min().add_prefix("least ")
    return shares.assign(**{"mean width": by_noise["width"].mean()})


def variants() -> Iterator[tuple[str, Grid, bool]]:
    """Every grid, with counts as drawn and clipped."""
    for kind, grids in (("long enough", LONG_ENOUGH), ("too short", TOO_SHORT)):
        for name, grid in grids.items():
            for clipped in (False, True):
                counts = "clipped" if clipped else "as drawn"
                yield f"{kind}: {name}, counts {counts}", grid, clipped


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--cells", action="store_true", help="print every cell, not the worst only")
    arguments = parser.parse_args()
    for name, grid, clipped in variants():
        cells = score(grid, arguments.seed, clipped=clipped)
        print(f"\n{name}\n{(cells if arguments.cells else worst(cells)).round(3).to_string()}")


if __name__ == "__main__":
    main()
