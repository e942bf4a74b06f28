"""Data of known dimension: a few Gaussian factors behind a fixed random smooth decoder, with noise.

    g ~ N(0, I_d)                               the d factors of an image
    m(g) = tanh(g W1 + b1) W2 / c               the noise-free image
    x = m(g) + noise * e,  e ~ N(0, I)          the image

W1 is Gaussian with standard deviation curvature/sqrt(d), so the arguments of tanh vary by about
`curvature` whatever d is, and a small curvature gives a nearly linear decoder. b1 is Gaussian with
standard deviation 0.1: enough that the decoder is not odd, m(-g) = -m(g), and so little that its
quadratic part stays small beside the linear one. W2 is standard Gaussian. c is one number: the root
of the variance of tanh(g W1 + b1) W2 over the training images, averaged over the outputs. So the
noise-free training data have variance 1 per output on average (test data nearly), and `noise` is in
units of their standard deviation.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from search_spaces import BadInput
from search_spaces.dataset import ManifoldDataset
from trainables.datasets.image_data import ImageData, recipe_fingerprint
from trainables.datasets.random_streams import Stream, random_stream

VERSION = 1  # raise whenever the same recipe gives other data

BIAS = 0.1  # standard deviation of b1

Values = NDArray[np.float64]


def manifold_fingerprint(spec: ManifoldDataset) -> str:
    """Fingerprint of the recipe: nothing is generated."""
    return recipe_fingerprint(
        {
            "generator": "manifold",
            "version": VERSION,
            "true_dimension": spec.true_dimension,
            "noise": float(spec.noise),
            "curvature": float(spec.curvature),
            "hidden": spec.hidden,
            "outputs": spec.outputs,
            "train_images": spec.train_images,
            "test_images": spec.test_images,
            "seed": spec.seed,
        }
    )


def load_manifold(spec: ManifoldDataset) -> ImageData:
    """Generate the data. Training and test data share the decoder and the scale, not the factors.

    Args:
        spec: Dimension, noise, curvature, sizes and seed; see the module's equations. The same
            seed with another `noise` gives the same factors and decoder.

    Returns:
        float32 values of shape (outputs,), without labels. They are computed in float64, so
        machines agree but for the last bit of few values.

    Raises:
        BadInput: Fewer than two training images, which have no variance to scale by.
    """
    if spec.train_images < 2:
        raise BadInput(f"dataset.train_images: {spec.train_images} is too few; give 2 or more")
    train_factors, train_noise = _draw(spec, spec.train_images, Stream.TRAIN)
    test_factors, test_noise = _draw(spec, spec.test_images, Stream.TEST)

    decode = _random_decoder(spec)
    train, test = decode(train_factors), decode(test_factors)  # (images, outputs)
    scale = np.sqrt(train.var(axis=0).mean())
    return ImageData(
        name=spec.label,
        shape=(spec.outputs,),
        train=(train / scale + spec.noise * train_noise).astype(np.float32),
        test=(test / scale + spec.noise * test_noise).astype(np.float32),
        train_labels=None,
        test_labels=None,
        fingerprint=manifold_fingerprint(spec),
    )


def _draw(spec: ManifoldDataset, images: int, stream: Stream) -> tuple[Values, Values]:
    random = random_stream(spec.seed, stream)
    factors = random.standard_normal((images, spec.true_dimension))
    noise = random.standard_normal((images, spec.outputs))
    return factors, noise


def _random_decoder(spec: ManifoldDataset) -> Callable[[Values], Values]:
    random = random_stream(spec.seed, Stream.DECODER)
    w1 = random.standard_normal((spec.true_dimension, spec.hidden))
    w1 *= spec.curvature / np.sqrt(spec.true_dimension)
    b1 = BIAS * random.standard_normal(spec.hidden)
    w2 = random.standard_normal((spec.hidden, spec.outputs))
    return lambda factors: np.tanh(factors @ w1 + b1) @ w2
