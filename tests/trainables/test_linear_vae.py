"""The linear VAE on real data against probabilistic PCA, unit by unit.

At its optimum, with KL weight β and decoder variance s, unit i is active if and only if the i-th
eigenvalue λ_i of the data covariance exceeds β·s; then mean σ² = β·s/λ_i and Var μ = 1 - β·s/λ_i
(Tipping and Bishop 1999; Lucas et al. 2019, "Don't Blame the ELBO!").
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from search_spaces import NAMED, IdxDataset, Trial
from trainables.datasets import load_dataset
from trainables.device_data import DeviceData
from trainables.pack import Pack
from trainables.statistics import evaluate

MNIST = IdxDataset(name="mnist", test_images=10)
LEARNING_RATES = {1: 2e-3, 3: 2e-3, 6: 6e-3}
"""By the number of active units. Finding a unit just above β·s needs a quiet end of the training,
telling six apart a lively start."""
BETAS = {0.5: 0, 4.0: 1}
"""The same β·s with two decoder variances, and a seed for each."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_linear_vae_finds_the_principal_components(mnist_dir: Path) -> None:
    """One pack of six trials: two β for each of three values of β·s."""
    data = load_dataset(MNIST, mnist_dir)
    pixels = data.train.astype(np.float64) / 255
    eigenvalues = np.linalg.eigvalsh(np.cov(pixels.T, bias=True))[::-1]
    del pixels
    trials, thresholds = [], []
    for count, learning_rate in LEARNING_RATES.items():
        above, below = eigenvalues[count - 1], eigenvalues[count]
        assert above / below > 1.1
        assert count == 1 or eigenvalues[count - 2] / above > 1.1
        for beta, seed in BETAS.items():
            thresholds.append(np.sqrt(above * below))
            trials.append(
                Trial(
                    dataset=MNIST,
                    architecture=NAMED["linear"],
                    latent_dim=10,
                    decoder="gaussian",
                    beta=beta,
                    decoder_variance=thresholds[-1] / beta,
                    learning_rate=learning_rate,
                    batch_size=500,
                    epochs=30,
                    seed=seed,
                )
            )
    pack = Pack(trials, DeviceData.load(data, torch.device("cpu")))
    for _ in range(trials[0].epochs):
        pack.train_epoch()

    found = evaluate(pack, "train")
    law = found.posterior_variance + found.mean_variance
    for lane, threshold in enumerate(thresholds):
        active = found.mean_variance[lane] > 0.01
        expected = threshold / eigenvalues[eigenvalues > threshold]
        assert active.sum() == len(expected) == list(LEARNING_RATES)[lane // len(BETAS)]
        posterior_variance = np.sort(found.posterior_variance[lane][active])
        np.testing.assert_allclose(posterior_variance, expected, rtol=0.02)
        assert law[lane].mean() == pytest.approx(1, abs=0.005)
