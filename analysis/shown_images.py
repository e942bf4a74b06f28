"""Which trials a report shows images of: one of each net on each dataset, by a fixed rule."""

from typing import Final

import pandas as pd

from analysis.group_words import naturally

__all__ = ["IMAGES_SHOWN", "MOST_SHEETS", "trials_to_show"]

MOST_SHEETS: Final = 8
IMAGES_SHOWN: Final = 16  # of each kind: the first


def trials_to_show(trials: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """Choose one trial of each dataset, architecture and objective.

    Of its completed trials with generated or reconstructed images: those with the likelihood that
    most of them have (ELBOs of different likelihoods cannot be compared), of these the longest
    trained, of these those with both active and inactive units, if any, and of these the one with
    the highest test ELBO.

    Args:
        trials: The `trials` table.
        differences: What `analysis.sample_differences` makes of the samples.

    Returns:
        Their rows of `trials`, in natural order; of more than eight dataset, architecture and
        objective combinations, the eight with most such trials.
    """
    kinds = ["dataset", "architecture", "objective"]
    pictured = differences["kind"].isin(["generated", "reconstruction"])
    chosen = trials[
        (trials["status"] == "completed")
        & trials["trial_id"].isin(differences.loc[pictured, "trial_id"])
    ]
    chosen = chosen.assign(
        alike=chosen.groupby([*kinds, "decoder"])["trial_id"].transform("size"),
        of_kind=chosen.groupby(kinds)["trial_id"].transform("size"),
        sparse=chosen["active_units"].between(1, chosen["latent_dim"] - 1),
    )
    best = ["alike", "decoder", "epochs", "sparse", "test_elbo", "trial_id"]
    ordered = chosen.sort_values(best, ascending=[False, True, False, False, False, True])
    first = ordered.groupby(kinds, sort=False).head(1)
    first = first.sort_values(kinds, key=naturally)
    shown = first.sort_values("of_kind", ascending=False, kind="stable").head(MOST_SHEETS)
    shown = shown.sort_values(kinds, key=naturally, ignore_index=True)
    return shown.drop(columns=["alike", "of_kind", "sparse"])
