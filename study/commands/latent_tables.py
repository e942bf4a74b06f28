"""What a report needs to show latent spaces: codes of a few trials, statistics of all."""

import pandas as pd

from analysis.latent_codes import code_statistics, trials_to_show
from study.loading import Study

__all__ = ["latent_tables"]

TRIALS_AT_ONCE = 20  # 5,000 codes of 16 units each are 1.6 million rows


def latent_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Read the fields of `StudyTables` that are about codes, a few trials at a time."""
    encoded = study.trials_with("encodings")
    gridded = study.trials_with("samples", kind="grid")
    samples = study.samples_of(_shown(study, gridded))
    return {
        "encodings": study.encodings_of(_shown(study, encoded)),
        "grids": samples[samples["kind"] == "grid"].reset_index(drop=True),
        "code_statistics": _statistics(study, encoded),
    }


def _shown(study: Study, with_rows: list[str]) -> list[str]:
    return list(trials_to_show(study.trials, with_rows)["trial_id"])


def _statistics(study: Study, trial_ids: list[str]) -> pd.DataFrame:
    trials = study.trials[study.trials["trial_id"].isin(trial_ids)]
    ordered = list(trials.sort_values("pack_id", kind="stable")["trial_id"])  # read together
    parts = [code_statistics(trials, study.encodings_of([]))]
    for start in range(0, len(ordered), TRIALS_AT_ONCE):
        rows = study.encodings_of(ordered[start : start + TRIALS_AT_ONCE])
        parts.append(code_statistics(trials, rows))
    return pd.concat(parts).sort_values("trial_id", ignore_index=True)
