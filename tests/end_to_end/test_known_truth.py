"""Studies of data whose dimension is known, from the command line to the estimate."""

from pathlib import Path

import numpy as np
import pytest

from analysis import estimate_by_rule, estimate_intrinsic_dimension, linear_answers
from study.loading import load_study
from tests.end_to_end.command import succeed

EIGENVALUES = np.array([16.0, 9.0, 4.0, 0.36, 0.16, 0.04, 0.01, 0.0025])
LINEAR = """
study: linear
dataset: {path: gaussian.npy}
axes:
  architecture: linear
  latent_dim: [4, 6, 8]
  beta: [1, 10]
  decoder: gaussian
  decoder_variance: [0.1, 1]
  initialisation: torch
  seed: [0, 1]
training: {epochs: 60, batch_size: 100, learning_rate: 0.01}
"""


@pytest.mark.usefixtures("shared_ray")
def test_linear_vaes_find_what_probabilistic_pca_says(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(random.standard_normal((8, 8)))
    factors = random.standard_normal((6000, 8)) * np.sqrt(EIGENVALUES)
    np.save(tmp_path / "gaussian.npy", (factors @ rotation).astype(np.float32))
    (tmp_path / "linear.yaml").write_text(LINEAR)
    succeed(tmp_path, "run", "linear.yaml")
    succeed(tmp_path, "data", "describe", "--study", "linear", "--no-geometry")
    study = load_study(tmp_path / "studies" / "linear")
    answers = linear_answers(study.trials, study.datasets)
    # Eigenvalues above β·s: 0.1, 1, 1 and 10. Each has a gap of over 50% on either side.
    expected = {(1.0, 0.1): 5, (1.0, 1.0): 3, (10.0, 0.1): 3, (10.0, 1.0): 1}
    assert len(answers) == len(expected)
    for _, row in answers.iterrows():
        truth = expected[row["beta"], row["decoder_variance"]]
        assert row["sharp"]
        assert row["dimension"] == row["active_units"] == truth
    estimates = estimate_intrinsic_dimension(study.trials)
    for _, row in estimates[estimates["verdict"] == "saturated"].iterrows():
        assert row["estimate"] == expected[row["beta"], row["decoder_variance"]]
    assert (estimates["verdict"] == "saturated").sum() >= 3


@pytest.mark.slow
@pytest.mark.long
def test_manifolds_have_their_dimension(tmp_path: Path) -> None:
    """The preset with two seeds and the two largest latent_dims: 12 of its 45 trials."""
    few = ("--set", "axes.latent_dim=[14,20]", "--set", "axes.seed=[0,1]")
    succeed(tmp_path, "run", "known-dimension", *few, timeout=2500)
    study = load_study(tmp_path / "studies" / "known-dimension")
    assert (study.trials["status"] == "completed").all()
    by_rule = estimate_by_rule(study.trials, study.final_units)
    assert len(by_rule) == 9
    for _, row in by_rule.iterrows():
        truth = int(row["dataset"].removeprefix("manifold-"))
        assert (row["verdict"], row["estimate"]) == ("saturated", truth), row["rule"]
        assert row["lower"] <= truth <= row["upper"]
    noise = np.sqrt(study.trials["decoder_variance"].astype(float))
    np.testing.assert_allclose(noise, 1.0, rtol=0.02)
