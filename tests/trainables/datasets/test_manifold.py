"""Data of known dimension, against what linear algebra says of the recipe."""

from typing import Any

import numpy as np
import pytest

from search_spaces import BadInput, ManifoldDataset
from trainables.datasets import dataset_fingerprint, load_dataset


def manifold(**settings: Any) -> Any:
    defaults = {"true_dimension": 3, "outputs": 200, "train_images": 3000, "test_images": 1000}
    return load_dataset(ManifoldDataset(**{**defaults, **settings}))


def spectrum(values: Any) -> Any:
    """Eigenvalues of the covariance, descending."""
    return np.linalg.eigvalsh(np.cov(values, rowvar=False, bias=True))[::-1]


def test_form() -> None:
    data = manifold()
    assert data.shape == (200,)
    assert data.train.shape == (3000, 200)
    assert data.test.shape == (1000, 200)
    assert data.train.dtype == data.test.dtype == np.float32
    assert data.train_labels is None
    assert data.test_labels is None
    assert data.name == "manifold-3"
    both = np.concatenate([data.train, data.test])
    assert data.value_range == (both.min(), both.max())


@pytest.mark.parametrize("dimension", [1, 3, 10])
@pytest.mark.parametrize("curvature", [0.1, 0.5, 2.0])
def test_noise_free_variance_is_one_on_average(dimension: int, curvature: float) -> None:
    data = manifold(true_dimension=dimension, curvature=curvature, noise=0.0)
    assert data.train.var(axis=0).mean() == pytest.approx(1, abs=1e-6)
    assert data.test.var(axis=0).mean() == pytest.approx(1, abs=0.25)


def test_hidden_units_bound_the_rank_and_curvature_uses_it() -> None:
    eigenvalues = spectrum(manifold(noise=0.0, hidden=40, curvature=2.0).train)
    assert eigenvalues[39] > 1e-6 * eigenvalues[0]
    assert eigenvalues[40] < 1e-10 * eigenvalues[0]


@pytest.mark.parametrize("dimension", [1, 3, 10])
def test_little_curvature_leaves_a_plane_of_the_true_dimension(dimension: int) -> None:
    eigenvalues = spectrum(manifold(true_dimension=dimension, noise=0.0, curvature=0.01).train)
    assert eigenvalues[:dimension].sum() == pytest.approx(200, rel=1e-3)
    assert eigenvalues[dimension] < 1e-3 * eigenvalues[dimension - 1]


def test_neighbourhoods_are_of_the_true_dimension() -> None:
    """Local PCA: among images of near factors, d directions hold nearly all the variance."""
    data = manifold(true_dimension=2, noise=0.0, train_images=20_000).train
    distance = ((data - data[0]) ** 2).sum(axis=1)
    eigenvalues = spectrum(data[np.argsort(distance)[:40]])
    assert eigenvalues[:2].sum() > 0.97 * eigenvalues.sum()
    assert eigenvalues[1] > 0.05 * eigenvalues[0]


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_noise_is_white_and_of_the_given_size(noise: float) -> None:
    clean, noisy = manifold(noise=0.0), manifold(noise=noise)
    for part in ("train", "test"):
        residual = getattr(noisy, part) - getattr(clean, part)  # same seed, same factors
        assert residual.std() == pytest.approx(noise, rel=0.01)
        assert abs(residual.mean()) < 0.01 * noise
        neighbours = np.corrcoef(residual[:, :-1].ravel(), residual[:, 1:].ravel())[0, 1]
        assert abs(neighbours) < 0.01


def test_parts_share_the_decoder_but_not_the_factors() -> None:
    data = manifold(noise=0.0)
    assert not np.array_equal(data.train[:1000], data.test)
    _, _, axes = np.linalg.svd(data.train - data.train.mean(axis=0), full_matrices=False)
    centred = data.test - data.train.mean(axis=0)
    inside = centred @ axes[:20].T
    assert (inside**2).sum() > 0.999 * (centred**2).sum()


def test_seeds() -> None:
    np.testing.assert_array_equal(manifold().train, manifold().train)
    np.testing.assert_array_equal(manifold().train, manifold(test_images=5).train)
    assert not np.allclose(manifold().train, manifold(seed=1).train)


def test_the_recipe_against_a_plain_loop() -> None:
    """The module's equations, spelled out for one image after another."""
    data = manifold(train_images=50, test_images=7, noise=0.3, hidden=11, curvature=0.7, seed=9)

    def stream(key: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(9, spawn_key=(key,))))

    decoder = stream(2)
    w1 = decoder.standard_normal((3, 11)) * 0.7 / 3**0.5
    b1 = decoder.standard_normal(11) * 0.1
    w2 = decoder.standard_normal((11, 200))
    train, test = stream(0), stream(1)
    train_factors, test_factors = train.standard_normal((50, 3)), test.standard_normal((7, 3))
    clean = np.array([np.tanh(g @ w1 + b1) @ w2 for g in train_factors])
    clean_test = np.array([np.tanh(g @ w1 + b1) @ w2 for g in test_factors])
    scale = np.mean([np.var(clean[:, output]) for output in range(200)]) ** 0.5
    expected = clean / scale + 0.3 * train.standard_normal((50, 200))
    expected_test = clean_test / scale + 0.3 * test.standard_normal((7, 200))
    np.testing.assert_allclose(data.train, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(data.test, expected_test, rtol=1e-5, atol=1e-6)


def test_the_same_recipe_gives_the_same_data_for_ever() -> None:
    """If this fails, the numbers of the generator have changed: raise manifold.VERSION."""
    data = manifold(train_images=20, test_images=2)
    assert [*data.train[0, :3], *data.test[0, :2]] == pytest.approx(
        [-0.672374, -2.714844, 1.251976, 1.622584, -0.304788], rel=1e-5
    )


def test_one_training_image_has_no_variance() -> None:
    with pytest.raises(BadInput, match=r"dataset\.train_images: 1"):
        manifold(train_images=1)


def test_fingerprints_follow_the_recipe() -> None:
    spec = ManifoldDataset(true_dimension=2, train_images=10, test_images=5)
    assert load_dataset(spec).fingerprint == dataset_fingerprint(spec)
    updates: list[dict[str, Any]] = [
        {"true_dimension": 3},
        {"noise": 0.2},
        {"curvature": 1.0},
        {"hidden": 64},
        {"outputs": 100},
        {"train_images": 11},
        {"test_images": 6},
        {"seed": 1},
    ]
    changed = [spec.model_copy(update=update) for update in updates]
    assert len({dataset_fingerprint(other) for other in [spec, *changed]}) == 9
    whole = spec.model_copy(update={"noise": 1})
    assert dataset_fingerprint(whole) == dataset_fingerprint(spec.model_copy(update={"noise": 1.0}))
