"""Codes and grids of hand-made trials, as `encodings` and `samples` have them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from analysis.latent_codes import code_statistics
from analysis.study_tables import StudyTables
from study.tables import DATASETS, ENCODINGS, EPOCHS, SAMPLES, UNITS, to_table
from tests.analysis.tables import trials_of

LABELS = 10


def codes_of(
    trial_id: str,
    mean: np.ndarray,
    variance: np.ndarray | float = 0.01,
    *,
    split: str = "test",
    step: int = 1_000,
    labels: bool = True,
) -> pd.DataFrame:
    """Rows of `encodings` of one trial at one step; mean has the shape (images, units)."""
    images, units = mean.shape
    image = np.repeat(np.arange(images), units)
    frame = pd.DataFrame(
        {
            "study": "test",
            "trial_id": trial_id,
            "epoch": step // 100,
            "step": step,
            "split": split,
            "image": image,
            "label": image % LABELS if labels else None,
            "unit": np.tile(np.arange(units), images),
            "mean": mean.astype(np.float32).ravel(),
            "variance": np.broadcast_to(variance, mean.shape).astype(np.float32).ravel(),
        }
    )
    return to_table("encodings", frame).to_pandas()


def gaussian_codes(units: int, images: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((images, units))


def star_codes(units: int, images: int = 200, seed: int = 0) -> np.ndarray:
    """Codes along the axes, narrower than the prior: neither Gaussian nor where the prior is."""
    generator = np.random.default_rng(seed)
    arms = np.eye(units)[generator.integers(units, size=images)]
    along = 0.4 * generator.standard_t(4, size=(images, 1))
    return along * arms + 0.02 * generator.standard_normal((images, units))


def grid_of(trial_id: str, steps: int, units: int, latent_dim: int, size: int = 3) -> pd.DataFrame:
    """Rows of `samples` of the kind grid; the pixels of an image are all the image's number."""
    quantiles = norm.ppf((np.arange(steps) + 0.5) / steps)
    points = np.stack(np.meshgrid(*[quantiles] * units, indexing="ij"), axis=-1).reshape(-1, units)
    codes = np.zeros((len(points), latent_dim))
    codes[:, latent_dim - units :] = points
    row = {"study": "test", "trial_id": trial_id, "kind": "grid", "shape": f"1x{size}x{size}"}
    rows: list[dict[str, Any]] = [
        row
        | {"image": image, "label": None, "code": code.astype(np.float32), "low": 0.0, "high": 1.0}
        | {"pixels": bytes([image % 256] * size**2)}
        | {"without_inactive": bytes(size**2), "original": None, "largest_difference": 0.0}
        for image, code in enumerate(codes)
    ]
    return pd.DataFrame(rows)[SAMPLES.names]


def study_of(
    trials: pd.DataFrame, encodings: list[pd.DataFrame], grids: list[pd.DataFrame] | None = None
) -> StudyTables:
    """A study with these tables alone."""
    none = ENCODINGS.empty_table().to_pandas()
    codes = pd.concat([none.astype(encodings[0].dtypes), *encodings]) if encodings else none
    empty = SAMPLES.empty_table().to_pandas()
    tables = StudyTables(
        study="test",
        location="studies/test",
        description="",
        planned=len(trials),
        trials=trials,
        units=UNITS.empty_table().to_pandas(),
        shown_units=UNITS.empty_table().to_pandas(),
        shown_epochs=EPOCHS.empty_table().to_pandas(),
        datasets=DATASETS.empty_table().to_pandas(),
        active_variance=0.01,
        active_kl=0.1,
        spec="study: test",
        versions={},
        encodings=codes.reset_index(drop=True),
        grids=pd.concat(grids, ignore_index=True) if grids else empty,
    )
    return replace(tables, code_statistics=code_statistics(trials, tables.encodings))


def trials_with_and_without(seeds: int = 3, latent_dim: int = 3) -> pd.DataFrame:
    """Trials of both objectives, seed by seed: ids with-0, without-0, with-1, …."""
    return trials_of(
        [
            {
                "trial_id": f"{word}-{seed}",
                "objective": objective,
                "seed": seed,
                "latent_dim": latent_dim,
                "dataset_fingerprint": "f" * 16,
            }
            for seed in range(seeds)
            for word, objective in (("with", "elbo"), ("without", "no_sampling"))
        ]
    )
