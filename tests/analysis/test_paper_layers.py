"""Figure 7 beside recorded layers: those of a real net, built by the trainer."""

import pandas as pd

from analysis import beside_figure_7
from analysis.paper import PAPER_ENCODER
from analysis.paper_layers import trial_for_figure_7
from search_spaces import NAMED
from tests.analysis.tables import trials_of
from tests.trainables.small_packs import on_cpu, small_images, small_trial
from trainables.layers import layer_rows
from trainables.pack import Pack


def layers_of(latent_dim: int, trial_id: str) -> pd.DataFrame:
    trial = small_trial(architecture=NAMED["paper-conv"], latent_dim=latent_dim)
    return layer_rows(Pack([trial], on_cpu(small_images((1, 28, 28)))), [trial_id])


def test_every_layer_has_the_papers_parameters() -> None:
    layers = pd.concat([layers_of(16, "b"), layers_of(8, "a")])
    beside = beside_figure_7(layers.sample(frac=1, random_state=0), "b")
    assert len(beside) == len(PAPER_ENCODER)
    assert beside["total"].tolist() == beside["paper_parameters"].tolist()
    other = beside_figure_7(layers, "a")
    assert other["total"].tolist()[-2:] == [264, 264]


def test_a_net_of_other_depth_shows_the_rest_empty() -> None:
    layers = layers_of(16, "a")
    fewer = beside_figure_7(layers[layers["layer"] != "encoder.mean"], "a")
    assert fewer["layer"].isna().tolist() == [False] * 13 + [True]


def test_the_trial_is_one_of_the_papers_net_with_layers() -> None:
    net = {"dataset": "mnist", "architecture": "paper-conv", "latent_dim": 16}
    trials = trials_of([net, net, net | {"latent_dim": 8}, net | {"architecture": "conv-4"}])
    ids = trials["trial_id"].tolist()
    assert trial_for_figure_7(trials, pd.DataFrame({"trial_id": ids[1:]})) == ids[1]
    assert trial_for_figure_7(trials, pd.DataFrame({"trial_id": ids[2:]})) is None
