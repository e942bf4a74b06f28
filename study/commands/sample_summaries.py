"""What a report needs of the table `samples`: read some trials at a time, as pixels take room."""

from collections.abc import Collection, Iterator

import pandas as pd

from analysis.counting import tile_counts, tile_trials
from analysis.inert_units import sample_differences
from analysis.shown_images import IMAGES_SHOWN, trials_to_show
from study.loading import Study

__all__ = ["sample_summaries"]

TRIALS_AT_A_TIME = 500  # without pixels: 100 MB with 1,000 images each
PICTURED_AT_A_TIME = 20  # with pixels: as much


def sample_summaries(study: Study) -> dict[str, pd.DataFrame]:
    """Return the fields of `StudyTables` that come from the samples; they may have no rows."""
    files = {name.removesuffix(".parquet") for name in study.folder.files("samples", ".parquet")}
    there = study.trials[study.trials["pack_id"].isin(files)]
    light = ["shape", "largest_difference"]
    differences = _of_all(
        sample_differences(rows) for rows in _batches(study, there, TRIALS_AT_A_TIME, light)
    )
    counted = tile_trials(there)
    heavy = ["shape", "label", "low", "high", "pixels", "original"]
    counts = _of_all(
        tile_counts(rows) for rows in _batches(study, counted, PICTURED_AT_A_TIME, heavy)
    )
    shown = trials_to_show(there, differences)["trial_id"]
    return {
        "sample_differences": differences,
        "shown_samples": _first_images(study, shown),
        "tile_counts": counts,
    }


def _batches(
    study: Study, trials: pd.DataFrame, at_a_time: int, columns: list[str]
) -> Iterator[pd.DataFrame]:
    """Yield all rows of some trials, then of the next; at least once, so that columns are known."""
    ids = trials.sort_values("pack_id", kind="stable")["trial_id"]  # so that packs are read once
    for start in range(0, max(1, len(ids)), at_a_time):
        yield study.samples_of(ids.iloc[start : start + at_a_time], columns)


def _of_all(parts: Iterator[pd.DataFrame]) -> pd.DataFrame:
    """Join the parts; each is sorted, and has all rows of its trials."""
    return pd.concat(list(parts)).sort_values("trial_id", kind="stable", ignore_index=True)


def _first_images(study: Study, trial_ids: Collection[str]) -> pd.DataFrame:
    rows = study.samples_of(trial_ids)
    kept = rows["kind"].isin(["generated", "reconstruction"]) & (rows["image"] < IMAGES_SHOWN)
    return rows[kept].reset_index(drop=True)
