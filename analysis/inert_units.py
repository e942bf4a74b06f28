"""Are inactive units inert? What changes in generated images when they are set to zero.

The paper, section IV-A and figure 6: inactive variables "are completely ignored by the generator",
images with and without them "are indistinguishable".
"""

from typing import Final

import pandas as pd

from analysis.groups import has_variance_part
from analysis.variance_law import law_by_trial

__all__ = ["INERT", "inert_units", "sample_differences"]

INERT: Final = 0.02
"""The largest change of a pixel that counts as none: 5 of 255 steps from black to white."""

_NAMES: Final = (
    "dataset",
    "architecture",
    "latent_dim",
    "beta",
    "decoder",
    "initialisation",
    "seed",
    "epochs",
)


def sample_differences(samples: pd.DataFrame) -> pd.DataFrame:
    """Return by how much inactive units change the images of each trial at most.

    Args:
        samples: Rows of the `samples` table, all images of a trial among them. Of the columns only
            trial_id, kind, image, shape and largest_difference are needed.

    Returns:
        One row per trial and kind of image: trial_id, kind, shape; images, how many; changed, in
        how many of them a value changes by more than `INERT`; largest_difference over all their
        values, in the units of the data (pixels are in [0, 1]); null where that of an image is.
    """
    names = ["trial_id", "kind", "shape"]
    grouped = samples.groupby(names)
    largest = grouped["largest_difference"].max()
    complete = grouped["largest_difference"].count() == grouped.size()
    changed = (samples["largest_difference"] > INERT).groupby([samples[name] for name in names])
    found = {"images": grouped.size(), "changed": changed.sum()}
    found["largest_difference"] = largest.where(complete).astype("float64")
    return pd.DataFrame(found).reset_index()


def inert_units(
    trials: pd.DataFrame, units: pd.DataFrame, differences: pd.DataFrame
) -> pd.DataFrame:
    """Tell of each trial whether its inactive units are inert, and whether it has converged.

    Args:
        trials: The `trials` table.
        units: The `units` table, whole or final.
        differences: What `sample_differences` makes of their samples.

    Returns:
        One row per completed trial with generated images whose objective ties the scale of its
        units, so that "inactive" means something: dataset, architecture, latent_dim, beta, decoder,
        initialisation, seed, epochs and trial_id; inactive, how many units are; images, changed
        and largest_difference, as generated with and without them; inert, whether that stays within
        `INERT`; worst_residual, |mean σ² + mean μ² - 1| of the unit farthest from the variance law,
        and verdict, as in `law_by_trial`. Trials without inactive units are among them: nothing was
        set to zero in these, which says nothing. Trials whose images have values that are no
        numbers are not.
    """
    generated = differences[differences["kind"] == "generated"].dropna()
    once = trials.drop_duplicates("trial_id")
    once = once[(once["status"] == "completed") & has_variance_part(once)]
    once = once[once["trial_id"].isin(generated["trial_id"])]
    laws = law_by_trial(once, units)[["trial_id", "worst_residual", "verdict"]]
    counted = once[[*_NAMES, "trial_id"]].assign(inactive=once["latent_dim"] - once["active_units"])
    found = counted.merge(
        generated[["trial_id", "images", "changed", "largest_difference"]], on="trial_id"
    )
    found["inert"] = found["largest_difference"] <= INERT
    found = found.merge(laws, on="trial_id")
    return found.assign(worst_residual=found["worst_residual"].abs().astype("float64"))
