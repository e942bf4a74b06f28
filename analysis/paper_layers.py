"""The layers of a study's own net beside the paper's figure 7."""

import pandas as pd

from analysis.paper import PAPER_ENCODER, PAPER_NETS

__all__ = ["beside_figure_7", "trial_for_figure_7"]


def trial_for_figure_7(trials: pd.DataFrame, layers: pd.DataFrame) -> str | None:
    """Choose a trial of the paper's convolutional net whose layers were recorded.

    All of them have the same layers, so it is the first by trial_id.

    Returns:
        Its trial_id; None if there is none.
    """
    (net,) = [net for net in PAPER_NETS if net.where == "figure 7"]
    chosen = trials[
        (trials["architecture"] == net.architecture) & (trials["latent_dim"] == net.latent_dim)
    ]
    found = chosen["trial_id"][chosen["trial_id"].isin(layers["trial_id"])]
    return None if found.empty else str(found.min())


def beside_figure_7(layers: pd.DataFrame, trial_id: str) -> pd.DataFrame:
    """Put the encoder's layers that have parameters beside those of figure 7, in order.

    Args:
        layers: The `layers` table.
        trial_id: A trial of the paper's convolutional net.

    Returns:
        One row per layer: the paper's layer, output and parameters (`paper_…`), which count the
        running statistics of batch normalisation; and of ours layer, weight (the shape of it),
        parameters, running_statistics and total, the sum of both.
    """
    ours = layers[(layers["trial_id"] == trial_id) & layers["layer"].str.startswith("encoder.")]
    ours = ours.sort_values("position", ignore_index=True)
    columns = ["paper_layer", "paper_output", "paper_parameters"]
    paper = pd.DataFrame(PAPER_ENCODER, columns=columns)
    kept = ours[["layer", "weight", "parameters", "running_statistics"]]
    total = kept["parameters"] + kept["running_statistics"]
    return paper.join(kept.assign(total=total), how="outer")
