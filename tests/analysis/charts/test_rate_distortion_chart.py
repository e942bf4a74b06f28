import pandas as pd
import pytest

from analysis.charts.rate_distortion import rate_distortion_chart
from tests.analysis.tables import trials_of


@pytest.mark.parametrize(
    ("decoders", "panels"),
    [
        (["bernoulli"], ["mnist", "tiles"]),
        (
            ["bernoulli", "gaussian"],
            ["mnist, bernoulli", "mnist, gaussian", "tiles, bernoulli", "tiles, gaussian"],
        ),
    ],
)
def test_each_likelihood_has_its_own_scale(decoders: list[str], panels: list[str]) -> None:
    trials = trials_of(
        [
            {"dataset": dataset, "decoder": decoder, "latent_dim": 8, "active_units": 5}
            for dataset in ("tiles", "mnist")
            for decoder in decoders
        ]
    )
    content = rate_distortion_chart(trials).to_dict()
    assert content["facet"]["sort"] == panels
    assert content["resolve"]["scale"] == {"x": "independent", "y": "independent"}
    (rows,) = content["datasets"].values()
    assert sorted(pd.DataFrame(rows)["panel"]) == panels
