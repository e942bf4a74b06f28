"""What a study records of its trials: statistics always; images, codes and probes if asked for."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, ValidationInfo, field_validator

from search_spaces.errors import nearest_name
from search_spaces.fields import Count, CountOrZero, Flag, Fraction, Positive, SpecModel


class TrajectorySettings(SpecModel):
    """Codes of a few training images along the first epochs (the paper, figure 1).

    Attributes:
        images: The first so many training images of each label; of all, where there are no labels.
        every_steps: Record them each so many steps, from step 0 on, before training.
        epochs: Through so many epochs.
    """

    images: Count = 10
    every_steps: Count = 10
    epochs: Count = 1


class DeteriorationProbe(SpecModel):
    """Noise on one active unit of a trained model, until the unit is given up (figure 14).

    Training goes on after the trial's last epoch, at its learning rate without a schedule, with
    all inactive units held at zero. Each epoch adds noise to the unit's latent variable, until its
    reconstruction gain falls below its KL, times beta. The noise then stays until the unit's
    posterior variance says that it has collapsed, and goes, and training goes on without it.

    Attributes:
        name: Always "deterioration".
        unit: Which active unit, by its KL: "median" (of an even number the larger of both in the
            middle), "largest" or "smallest".
        settling_epochs: Epochs without noise before, for what the learning rate alone changes.
        increment: What each epoch adds to the standard deviation of the noise.
        most: Where the standard deviation ends, and the noise goes, whatever became of the unit.
        collapsed_variance: A unit has collapsed where its mean posterior variance exceeds this.
        collapse_epochs: The noise stays for at most so many epochs after its last increment.
        recovery_epochs: Epochs after the noise is gone.
    """

    name: Literal["deterioration"] = "deterioration"
    unit: Literal["median", "largest", "smallest"] = "median"
    settling_epochs: CountOrZero = 1
    increment: Positive = 0.1
    most: Positive = 5.0
    collapsed_variance: Fraction = 0.9
    collapse_epochs: CountOrZero = 20
    recovery_epochs: CountOrZero = 40

    @field_validator("most")
    @classmethod
    def _leaves_room_for_noise(cls, most: float, others: ValidationInfo) -> float:
        increment = others.data.get("increment")
        if increment is not None and most < increment:
            raise ValueError(
                f"{most:g} is less than one increment of {increment:g}, so there would be no "
                "noise; give as much or more"
            )
        return most


_PROBES = ("deterioration",)


def _named_probe(value: Any) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, dict) and value.get("name", _PROBES[0]) not in _PROBES:
        hint = nearest_name(str(value["name"]), _PROBES)
        raise ValueError(f"{value['name']!r} is not a probe{hint}")
    return value


Probe: TypeAlias = Annotated[
    DeteriorationProbe,
    BeforeValidator(
        _named_probe, json_schema_input_type=Literal["deterioration"] | DeteriorationProbe
    ),
]
"""An experiment on trained models; "deterioration" is short for `{name: deterioration}`."""


class RecordSettings(SpecModel):
    """What a study records of each trial.

    Attributes:
        every: Record the units each so many epochs, from epoch 0 on; 0 records the end only.
        active_variance: A unit is active where the variance of its mean exceeds this.
        active_kl: A unit is active by KL where its mean KL exceeds this (nats).
        reconstruction_gain_images: Images on which the reconstruction gain is computed.
        models: Keep the final weights of every trial.
        samples: Generate so many images from N(0, I) at the end, for the table `samples`.
        reconstructions: Reconstruct the first so many test images at the end, for the same table.
        grid: Decode a grid of so many steps along each of the three units with the greatest Var μ
            (of all, if fewer), all others at zero, at the end, for the same table.
        encodings: Encode the first so many test images at the end, for the table `encodings`.
        trajectory: Encode a few training images along the first epochs, for the same table.
        probe: An experiment on each trial after its training, for the table `probes`.
        layers: The parameters of the net layer by layer, for the table `layers`.
    """

    every: CountOrZero = 0
    active_variance: Positive = 0.01
    active_kl: Positive = 0.1
    reconstruction_gain_images: Count = 2_000
    models: Flag = False
    samples: CountOrZero = 0
    reconstructions: CountOrZero = 0
    grid: CountOrZero = 0
    encodings: CountOrZero = 0
    trajectory: TrajectorySettings | None = None
    probe: Probe | None = None
    layers: Flag = False

    @property
    def further_tables(self) -> tuple[str, ...]:
        """Tables that get rows only because they are asked for here."""
        asked = {
            "samples": self.samples or self.reconstructions or self.grid,
            "encodings": self.encodings or self.trajectory,
            "probes": self.probe,
            "layers": self.layers,
        }
        return tuple(table for table, wanted in asked.items() if wanted)
