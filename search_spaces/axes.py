"""The axes of a search space, and the settings that stand still while they vary."""

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from search_spaces.architecture_axis import ArchitectureAxis
from search_spaces.axis import ChoiceAxis, Choices, NumberAxis
from search_spaces.fields import Count, LearningRate, Positive, PositiveOrZero, Seed, SpecModel
from search_spaces.trial import (
    Decoder,
    Initialisation,
    LearningRateSchedule,
    Objective,
    Precision,
    default_decoder_variance,
)


def _default_variances(data: dict[str, Any]) -> Choices[float] | None:
    decoders: Choices[Decoder] = data["decoder"]
    variances = [default_decoder_variance(decoder) for decoder in decoders.choices]
    given = tuple(variance for variance in variances if variance is not None)
    return Choices[Positive](choices=given) if given else None


class Axes(SpecModel):
    """The axes of a study's search space; each takes a value, a list or a mapping.

    The fields are those of `Trial`. The last five may stand under `training` instead, where they
    hold one value; None here means that they do.
    """

    architecture: ArchitectureAxis
    latent_dim: NumberAxis[Count]
    beta: NumberAxis[PositiveOrZero] = Choices[PositiveOrZero](choices=(1.0,))
    objective: ChoiceAxis[Objective] = Choices[Objective](choices=("elbo",))
    decoder: ChoiceAxis[Decoder] = Choices[Decoder](choices=("bernoulli",))
    decoder_variance: NumberAxis[Positive] | None = Field(default_factory=_default_variances)
    initialisation: ChoiceAxis[Initialisation] = Choices[Initialisation](choices=("glorot",))
    data_seed: NumberAxis[Seed] = Choices[Seed](choices=(0,))
    seed: NumberAxis[Seed] = Choices[Seed](choices=(0,))
    learning_rate: NumberAxis[LearningRate] | None = None
    learning_rate_schedule: ChoiceAxis[LearningRateSchedule] | None = None
    batch_size: NumberAxis[Count] | None = None
    epochs: NumberAxis[Count] | None = None
    precision: ChoiceAxis[Precision] | None = None

    @field_validator("decoder_variance")
    @classmethod
    def _belongs_to_gaussian(cls, variance: Any, others: ValidationInfo) -> Any:
        decoder: Choices[Decoder] | None = others.data.get("decoder")
        if decoder is not None and ("gaussian" in decoder.choices) != (variance is not None):
            raise ValueError(
                "belongs to decoder 'gaussian' and to no other, and axes.decoder is "
                f"{list(decoder.choices)}; give both or neither"
            )
        return variance


class TrainingSettings(SpecModel):
    """How every trial is trained; see `Trial` for the fields."""

    epochs: Count = 20
    batch_size: Count = 128
    learning_rate: LearningRate = 1e-3
    learning_rate_schedule: LearningRateSchedule = "cosine"
    precision: Precision = "float32"
