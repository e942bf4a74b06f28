"""One point of a search space: everything that determines a result, and the id made from it."""

import json
from hashlib import sha256
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.architecture import Architecture
from search_spaces.dataset import DatasetSpec
from search_spaces.fields import Count, LearningRate, Positive, PositiveOrZero, Seed

Objective = Literal["elbo", "quadratic_penalty", "no_sampling"]
Decoder = Literal["bernoulli", "gaussian", "gaussian_learned"]
LearningRateSchedule = Literal["cosine", "constant"]
Initialisation = Literal["glorot", "torch"]
Precision = Literal["float32", "float64", "mixed"]


class Trial(BaseModel):
    """One point of a search space, seeds included. Immutable and hashable.

    Attributes:
        dataset: What it learns from.
        architecture: Encoder layers; the decoder mirrors them.
        latent_dim: Number of latent variables.
        beta: Weight of the KL term (the paper's lambda, equation 15).
        objective: "elbo"; "quadratic_penalty" (the KL without its variance part, a penalty on the
            means only); "no_sampling" (the decoder sees the mean during training).
        decoder: Likelihood: "bernoulli", "gaussian" with a fixed variance, or "gaussian_learned"
            with one learned variance.
        decoder_variance: Variance of the "gaussian" decoder, 1 by default; None for the others.
        learning_rate: Step size of Adam at the start.
        learning_rate_schedule: "cosine" (to zero at the last step) or "constant".
        batch_size: Images per step.
        epochs: Passes over the training set.
        initialisation: How the weights start: "glorot" or "torch" (PyTorch's default).
        data_seed: Seed of the minibatch order.
        seed: Seed of initial weights and reparametrisation noise.
        precision: "float32", "float64", or "mixed": float32, but while it trains the factors of
            products are rounded to bfloat16 (CPUs) or TF32 (GPUs).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: DatasetSpec
    architecture: Architecture
    latent_dim: Count
    beta: PositiveOrZero = 1.0
    objective: Objective = "elbo"
    decoder: Decoder = "bernoulli"
    decoder_variance: Positive | None = Field(
        default_factory=lambda data: default_decoder_variance(data["decoder"])
    )
    learning_rate: LearningRate = 1e-3
    learning_rate_schedule: LearningRateSchedule = "cosine"
    batch_size: Count = 128
    epochs: Count = 20
    initialisation: Initialisation = "glorot"
    data_seed: Seed = 0
    seed: Seed = 0
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _variance_belongs_to_gaussian(self) -> "Trial":
        if (self.decoder == "gaussian") != (self.decoder_variance is not None):
            raise ValueError(
                f"decoder_variance {self.decoder_variance} does not go with decoder "
                f"{self.decoder!r}; give a variance to 'gaussian', and to no other decoder"
            )
        return self

    def hyperparameters(self) -> dict[str, str | int | float | None]:
        """The trial as one flat row, with the columns of the `trials` table in their order.

        Returns:
            Column names and values; `dataset` is the dataset's label, `architecture` its name and
            `widths` the layers joined by hyphens ("" for the linear architecture).
        """
        values = dict(self)
        del values["dataset"], values["architecture"]
        return {
            "dataset": self.dataset.label,
            "architecture": self.architecture.name,
            "family": self.architecture.family,
            "depth": self.architecture.depth,
            "widths": "-".join(map(str, self.architecture.widths)),
            **values,
        }


def default_decoder_variance(decoder: str | None) -> float | None:
    """The variance a decoder has unless told otherwise: 1 for "gaussian", None for the others."""
    return 1.0 if decoder == "gaussian" else None


_DEFAULTS = {
    name: field.default
    for name, field in Trial.model_fields.items()
    if not field.is_required() and field.default_factory is None
}


def trial_id(trial: Trial, dataset_fingerprint: str, numerics_version: int) -> str:
    """Name a point by what determines its result, so that any study finds it again.

    The id is a hash of the hyperparameters that differ from their defaults (a field added later
    leaves old ids alone), the data's fingerprint in place of the dataset's recipe, and the version
    of the numerics.

    Args:
        trial: The point.
        dataset_fingerprint: Hash of the data itself.
        numerics_version: Raised whenever the same point would give other numbers.

    Returns:
        20 hexadecimal digits (80 bits) of a SHA-256.
    """
    values = dict(trial)
    del values["dataset"]
    values["architecture"] = trial.architecture.name
    if values["decoder_variance"] == default_decoder_variance(trial.decoder):
        del values["decoder_variance"]
    telling = {
        # Adding zero turns -0.0, which equals 0.0, into it.
        name: value + 0.0 if isinstance(value, float) else value
        for name, value in values.items()
        if name not in _DEFAULTS or value != _DEFAULTS[name]
    }
    content = {
        "hyperparameters": telling,
        "dataset": dataset_fingerprint,
        "numerics_version": numerics_version,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(canonical.encode()).hexdigest()[:20]


StackKey = tuple[DatasetSpec, Architecture, str, int, int, int, str]


def stack_key(trial: Trial) -> StackKey:
    """What trials must share to be stacked into one pack.

    Lanes of a pack may differ in all else: latent_dim, beta, objective, decoder_variance,
    learning rate and its schedule, initialisation and seed.

    Returns:
        dataset, architecture, decoder, batch_size, epochs, data_seed and precision.
    """
    return (
        trial.dataset,
        trial.architecture,
        trial.decoder,
        trial.batch_size,
        trial.epochs,
        trial.data_seed,
        trial.precision,
    )
