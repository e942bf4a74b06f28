"""Rows of `layers`: the parameters of a network layer by layer."""

from collections.abc import Sequence

import pandas as pd

from trainables.architectures.parameters import ParameterShape
from trainables.pack import Pack

__all__ = ["layer_rows"]


def layer_rows(pack: Pack, trial_ids: Sequence[str]) -> pd.DataFrame:
    """Count each lane's parameters layer by layer, as the paper's figure 7 does.

    Args:
        pack: Lanes, trained or not.
        trial_ids: Their ids.

    Returns:
        The columns of the table, but for the study.
    """
    rows = []
    for trial, trial_id in zip(pack.trials, trial_ids, strict=True):
        trained = pack.parameter_shapes(trial.latent_dim)
        running = pack.network.buffers()
        layers = dict.fromkeys(map(_layer, trained))
        for position, layer in enumerate(layers):
            own = [shape for shape in trained if _layer(shape) == layer]
            rows.append(
                {
                    "trial_id": trial_id,
                    "position": position,
                    "layer": layer,
                    "weight": "x".join(map(str, own[0].shape)),
                    "parameters": sum(shape.numel for shape in own),
                    "running_statistics": sum(s.numel for s in running if _layer(s) == layer),
                }
            )
    return pd.DataFrame(rows)


def _layer(shape: ParameterShape) -> str:
    """Return the layer of a parameter: what its name has before the last dot."""
    return shape.name.rpartition(".")[0] or shape.name
