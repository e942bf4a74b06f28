"""Rows of `encodings`: where images lie in latent space, at the end and along the first steps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from search_spaces import RecordSettings, TrajectorySettings
from trainables.pack import Pack
from trainables.statistics import CHUNK

__all__ = ["Trajectory", "final_encodings"]

Codes = NDArray[np.float32]
Indices = NDArray[np.int64]


def final_encodings(pack: Pack, trial_ids: Sequence[str], record: RecordSettings) -> pd.DataFrame:
    """Encode the first `record.encodings` test images, or all if there are fewer.

    Returns:
        The columns of the table, but for the study.
    """
    images = np.arange(min(record.encodings, pack.data.images("test")))
    mean, variance = _encode(pack, "test", images)
    step = pack.epoch * pack.steps_per_epoch
    frames = [
        _frame(pack, trial_id, lane, step, "test", images, mean, variance)
        for lane, trial_id in enumerate(trial_ids)
    ]
    return pd.concat(frames, ignore_index=True)


class Trajectory:
    """Looks at the codes of a few training images while a pack trains an epoch.

    `Pack.train_epoch` calls it after each step.
    """

    def __init__(self, pack: Pack, settings: TrajectorySettings) -> None:
        """Follow a pack from where it is; where training begins, look at once."""
        self._pack = pack
        self._every = settings.every_steps
        self._images = _first_of_each_label(pack, settings.images)
        self._seen: list[tuple[int, Codes, Codes]] = []
        if pack.epoch == 0:
            self(0)

    def __call__(self, step: int) -> None:
        """Encode the images, if it is time.

        Args:
            step: Steps taken since the start of training.
        """
        if step % self._every == 0:
            self._seen.append((step, *_encode(self._pack, "train", self._images)))

    def rows(self, trial_ids: Sequence[str], lanes: Sequence[int]) -> pd.DataFrame:
        """Return what was seen of some lanes: the columns of the table, but for the study."""
        frames = [
            _frame(self._pack, trial_ids[lane], lane, step, "train", self._images, mean, variance)
            for step, mean, variance in self._seen
            for lane in lanes
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _first_of_each_label(pack: Pack, images: int) -> Indices:
    """Return the first training images of each label, or of all where there are no labels."""
    labels = pack.data.labels.get("train")
    if labels is None:
        return np.arange(min(images, pack.data.images("train")))
    firsts = [np.flatnonzero(labels == label)[:images] for label in np.unique(labels)]
    return np.sort(np.concatenate(firsts))


@torch.no_grad()
def _encode(pack: Pack, split: str, images: Indices) -> tuple[Codes, Codes]:
    """Return posterior mean and variance of some images, each (lanes, images, latent_dim)."""
    means, variances = [], []
    rows = torch.from_numpy(images).to(pack.device)
    for chunk in torch.split(rows, CHUNK):
        mean, log_variance = pack.engine.encode(pack.data.batch(split, chunk, pack.dtype))
        means.append(mean.float().cpu().numpy().copy())
        variances.append(log_variance.exp().float().cpu().numpy())
    return np.concatenate(means, axis=1), np.concatenate(variances, axis=1)


def _frame(
    pack: Pack,
    trial_id: str,
    lane: int,
    step: int,
    split: str,
    images: Indices,
    mean: Codes,
    variance: Codes,
) -> pd.DataFrame:
    """Return the rows of one lane at one step, padding left out."""
    latent_dim = pack.trials[lane].latent_dim
    labels = pack.data.labels.get(split)
    shown = [None] * len(images) if labels is None else labels[images]
    return pd.DataFrame(
        {
            "trial_id": trial_id,
            "epoch": step // pack.steps_per_epoch,
            "step": step,
            "split": split,
            "image": np.repeat(images, latent_dim),
            "label": np.repeat(np.asarray(shown), latent_dim),
            "unit": np.tile(np.arange(latent_dim), len(images)),
            "mean": mean[lane, :, :latent_dim].ravel(),
            "variance": variance[lane, :, :latent_dim].ravel(),
        }
    )
