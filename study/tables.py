"""The tables of a study: every column's name, type, unit and meaning, declared once.

`trainables` returns arrays and frames with these names, `study` writes them, `analysis` reads
them. Neither torch nor Ray is imported here.
"""

from typing import Final

import pandas as pd
import pyarrow as pa

__all__ = [
    "DATASETS",
    "DONE",
    "ENCODINGS",
    "EPOCHS",
    "FURTHER_TABLES",
    "HYPERPARAMETERS",
    "KEYS",
    "LAYERS",
    "MEASURED",
    "PLAN",
    "PROBES",
    "SAMPLES",
    "SCHEMAS",
    "SPLITS",
    "STATUSES",
    "TRIALS",
    "UNITS",
    "column_dictionary",
    "to_table",
]

DONE: Final = ("completed", "pruned", "diverged")
"""Statuses of trials that are not run again."""

FURTHER_TABLES: Final = ("samples", "encodings", "probes", "layers")
"""Tables of packs that are there only where a spec asks for them."""

STATUSES: Final = (*DONE, "failed")
SPLITS: Final = ("train", "test")

_TEXT = pa.string()
_COUNT = pa.int64()
_NUMBER = pa.float64()
_SINGLE = pa.float32()
_BYTES = pa.binary()
_FLAG = pa.bool_()
_TIME = pa.timestamp("ms", tz="UTC")


def _column(name: str, type_: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, type_, nullable=False, metadata={"description": description})


def _optional(name: str, type_: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, type_, nullable=True, metadata={"description": description})


_STUDY = _column("study", _TEXT, "name of the study")
_TRIAL_ID = _column(
    "trial_id",
    _TEXT,
    "hash of what determines the result: hyperparameters, dataset_fingerprint, numerics_version",
)

_HYPERPARAMETERS = [
    _column("dataset", _TEXT, "dataset: a built-in name, or the user's name for their own array"),
    _column("architecture", _TEXT, "canonical name of the encoder; the decoder mirrors it"),
    _column("family", _TEXT, "dense, conv or linear"),
    _column("depth", _COUNT, "hidden layers of the encoder; 0 for linear"),
    _column("widths", _TEXT, "units or channels per hidden layer, as 256-32-24; empty for linear"),
    _column("latent_dim", _COUNT, "latent variables"),
    _column("beta", _NUMBER, "weight of the KL term: lambda of equation 15, beta of beta-VAE"),
    _column("objective", _TEXT, "what was minimised: elbo, quadratic_penalty or no_sampling"),
    _column("decoder", _TEXT, "likelihood: bernoulli, gaussian or gaussian_learned"),
    _optional(
        "decoder_variance",
        _NUMBER,
        "variance of the Gaussian likelihood per pixel: as set for gaussian; as learned by the "
        "end for gaussian_learned (null where planned or failed); null for bernoulli",
    ),
    _column("learning_rate", _NUMBER, "Adam's learning rate at the start"),
    _column("learning_rate_schedule", _TEXT, "cosine (to 0 over the epochs) or constant"),
    _column("batch_size", _COUNT, "images per minibatch"),
    _column("epochs", _COUNT, "passes over the training images that were asked for"),
    _column("initialisation", _TEXT, "of the weights: glorot or torch"),
    _column("data_seed", _COUNT, "seed of the minibatch order"),
    _column("seed", _COUNT, "seed of the initial weights and of the sampling noise"),
    _column("precision", _TEXT, "float32, float64 or mixed"),
]

HYPERPARAMETERS: Final = tuple(field.name for field in _HYPERPARAMETERS)
"""Names of the columns that `search_spaces.Trial.hyperparameters` fills."""


def _objective_parts(split: str, images: str) -> list[pa.Field]:
    return [
        _optional(
            f"{split}_elbo",
            _NUMBER,
            "evidence lower bound at beta = 1 with the likelihood's normaliser, nats per image, "
            f"mean over {images}: -(reconstruction + KL)",
        ),
        _optional(
            f"{split}_reconstruction",
            _NUMBER,
            "-E_q[log p(x|z)] with the likelihood's normaliser, one sample of z per image, "
            f"nats per image, mean over {images}",
        ),
        _optional(
            f"{split}_kl",
            _NUMBER,
            "KL(q(z|x) || N(0, I)), equation 6 summed over the units, nats per image, "
            f"mean over {images}",
        ),
        _optional(
            f"{split}_mse",
            _NUMBER,
            "squared error of the reconstruction, mean over pixels (values as trained on, images "
            f"in [0, 1]) and over {images}",
        ),
    ]


MEASURED: Final = [
    _optional(
        "epochs_trained",
        _COUNT,
        "epochs that the statistics stand for: all of them, or those before a trial diverged or "
        "was pruned",
    ),
    _optional(
        "active_units",
        _COUNT,
        "units with Var_x[mu(x)] above the spec's record.active_variance, by default 0.01 "
        "(Burda et al. 2015), on the full training set; means nothing where the objective lacks "
        "the KL's variance part",
    ),
    _optional(
        "active_units_kl",
        _COUNT,
        "units with a mean KL above the spec's record.active_kl, by default 0.1 nats per image, "
        "on the full training set",
    ),
    _optional(
        "train_objective",
        _NUMBER,
        "the value minimised, nats per image, mean over the training images; at another beta or "
        "objective it is another quantity",
    ),
    *_objective_parts("train", "the training images"),
    *_objective_parts("test", "the test images"),
    _optional(
        "variance_law_mean",
        _NUMBER,
        "mean over the units of mean_x[sigma^2(x)] + Var_x[mu(x)] (equations 12 and 13: 1 when "
        "converged), on the full training set, variances divided by N",
    ),
    _optional(
        "variance_law_variance",
        _NUMBER,
        "variance over the units of the same sum, divided by the number of units N",
    ),
    _optional("parameters", _COUNT, "trainable parameters of this trial, padding not counted"),
]

TRIALS: Final = pa.schema(
    [
        _STUDY,
        _TRIAL_ID,
        _column("pack_id", _TEXT, "pack the trial was trained in"),
        _column("status", _TEXT, "completed, pruned, diverged (these are done) or failed"),
        _optional("error", _TEXT, "what went wrong, for failed and diverged trials"),
        _HYPERPARAMETERS[0],
        _column("dataset_fingerprint", _TEXT, "hash of the images, their split and their order"),
        *_HYPERPARAMETERS[1:],
        *MEASURED,
        _column("attempt", _COUNT, "1 at the first run of the trial, one more at each retry"),
        _optional("node", _TEXT, "host that trained the pack"),
        _optional("started_at", _TIME, "when the attempt began training (UTC)"),
        _optional(
            "seconds",
            _NUMBER,
            "wall-clock seconds: the trial's equal share of its pack's; sums to device time, but "
            "for that of probes",
        ),
        _optional("device", _TEXT, "what it was trained on: cpu, or the GPU's name"),
        _optional(
            "samples_per_second",
            _NUMBER,
            "training images per second of those seconds, evaluation included; the pack's rate",
        ),
        _column("version", _TEXT, "version of vae-study"),
        _column(
            "numerics_version", _COUNT, "raised whenever the same point would give other numbers"
        ),
    ]
)

UNITS: Final = pa.schema(
    [
        _STUDY,
        _TRIAL_ID,
        _column("epoch", _COUNT, "epochs trained when recorded; 0 is before training"),
        _column("step", _COUNT, "optimiser steps taken when recorded"),
        _column("split", _TEXT, "images the statistics are over, all of them: train or test"),
        _column("unit", _COUNT, "latent variable, from 0"),
        _optional("mean", _NUMBER, "mean_x[mu(x)]; null, as below, where not a number"),
        _optional("mean_variance", _NUMBER, "Var_x[mu(x)], divided by N: sigma^2 of equation 13"),
        _optional("posterior_variance", _NUMBER, "mean_x[sigma^2(x)], equations 12 and 13"),
        _optional("second_moment", _NUMBER, "mean_x[mu(x)^2], equation 12"),
        _optional("kl", _NUMBER, "mean over images of the unit's KL, equation 6, nats per image"),
        _optional(
            "reconstruction_gain",
            _NUMBER,
            "increase of the reconstruction term when the unit is set to zero (section VI), nats "
            "per image, on the first record.reconstruction_gain_images; null if not computed",
        ),
        _column(
            "active",
            _FLAG,
            "mean_variance is above the spec's record.active_variance (Burda et al. 2015)",
        ),
    ]
)

_EPOCH_PARTS = "the epoch's minibatches while the parameters move; null at epoch 0"

EPOCHS: Final = pa.schema(
    [
        _STUDY,
        _TRIAL_ID,
        _column("epoch", _COUNT, "epochs trained, from 1; 0, where recorded, is before training"),
        *_objective_parts("train", _EPOCH_PARTS)[:3],
        _objective_parts("test", "the test images, after the epoch")[0],
        _optional(
            "active_units",
            _COUNT,
            "units with Var_x[mu(x)] above record.active_variance on the test images, after the "
            "epoch",
        ),
        _optional(
            "variance_law_mean",
            _NUMBER,
            "mean over the units of mean_x[sigma^2(x)] + Var_x[mu(x)] (equations 12 and 13) on "
            "the test images, after the epoch, variances divided by N",
        ),
        _optional("seconds", _NUMBER, "wall-clock seconds: the equal share of the pack's"),
    ]
)

PLAN: Final = pa.schema(
    [
        _TRIAL_ID,
        _column("position", _COUNT, "place in the planned order, from 0"),
        _column("part", _TEXT, "part of the spec, the first that has it; empty without parts"),
        _column("stack_group", _COUNT, "trials of one group can be stacked in one pack"),
        *_HYPERPARAMETERS,
    ]
)

DATASETS: Final = pa.schema(
    [
        _column("dataset_fingerprint", _TEXT, "hash of the images, as in `trials`: joins the two"),
        _column("dataset", _TEXT, "name the dataset was described under; in a study, its label"),
        _column("shape", _TEXT, "of one image: 1x28x28 (channels, height, width), or 784 (values)"),
        _column("values_per_image", _COUNT, "values of one image, the product of its shape"),
        _column("train_images", _COUNT, "number of training images"),
        _column("test_images", _COUNT, "number of test images"),
        _column(
            "mean",
            _NUMBER,
            "mean of all values of the training images as trained on (pixels in [0, 1])",
        ),
        _column(
            "total_variance",
            _NUMBER,
            "sum over the values of their variance over the training images, divided by N",
        ),
        _column(
            "quantity",
            _TEXT,
            "what the row holds: eigenvalue (of the training images' covariance, divided by N) or "
            "dimension (a geometric estimate of it)",
        ),
        _column("method", _TEXT, "covariance for eigenvalues, else the estimator, as TwoNN"),
        _column("variant", _TEXT, "which form of the method, in words"),
        _column("component", _COUNT, "of an eigenvalue, 1 for the largest; 0 for a dimension"),
        _optional("value", _NUMBER, "the eigenvalue or dimension; null if undefined: see note"),
        _optional("note", _TEXT, "why there is no value"),
        _column("sample_size", _COUNT, "training images that the value was computed from"),
        _optional(
            "distinct_images", _COUNT, "of these, images left without duplicates; for dimensions"
        ),
        _optional(
            "sample_seed",
            _COUNT,
            "sample is numpy.random.default_rng(seed).choice(train_images, sample_size, "
            "replace=False); null where all training images were used",
        ),
        _optional("parameters", _TEXT, "hyperparameters of the estimator, as JSON"),
        _column("library", _TEXT, "what computed the value, with its version"),
        _column("version", _TEXT, "version of vae-study"),
    ]
)

SAMPLES: Final = pa.schema(
    [
        _STUDY,
        _TRIAL_ID,
        _column(
            "kind",
            _TEXT,
            "generated (decoded from z ~ N(0, I)), grid (from quantiles of N(0, 1) along up to "
            "three units of greatest Var_x[mu(x)], the others at 0) or reconstruction (of a test "
            "image, decoded from its posterior mean); all at the end of training",
        ),
        _column("image", _COUNT, "number of the draw, grid point or test image, from 0"),
        _optional("label", _COUNT, "label of the test image; null where there is none"),
        _column("code", pa.list_(_SINGLE), "z that was decoded, in single precision, by unit"),
        _column("shape", _TEXT, "of the image: 1x28x28 (channels, height, width), or 784 (values)"),
        _column("low", _NUMBER, "value of byte 0 in this row: 0 for pixels"),
        _column("high", _NUMBER, "value of byte 255 in this row: 1 for pixels; linear in between"),
        _column(
            "pixels",
            _BYTES,
            "the decoder's mean with all units, one byte per value, rounded and kept within low "
            "and high: numpy.frombuffer(pixels, numpy.uint8), in the order of shape",
        ),
        _column(
            "without_inactive",
            _BYTES,
            "likewise, with the units set to zero that are not active on the training images",
        ),
        _optional("original", _BYTES, "likewise, the test image itself; null where generated"),
        _optional(
            "largest_difference",
            _NUMBER,
            "largest absolute difference of a value between the images with and without inactive "
            "units, before rounding to bytes",
        ),
    ]
)

ENCODINGS: Final = pa.schema(
    [
        _STUDY,
        _TRIAL_ID,
        _column("epoch", _COUNT, "epochs completed when recorded"),
        _column("step", _COUNT, "optimiser steps taken when recorded"),
        _column(
            "split", _TEXT, "train: a trajectory along the first epochs; test: the final codes"
        ),
        _column("image", _COUNT, "number of the image in its split, from 0"),
        _optional("label", _COUNT, "label of the image; null where there is none"),
        _column("unit", _COUNT, "latent variable, from 0"),
        _optional("mean", _SINGLE, "mu(x), in single precision; null where not a number"),
        _optional("variance", _SINGLE, "sigma^2(x), likewise"),
    ]
)

_PROBE_IMAGES = "over the first record.reconstruction_gain_images training images"

PROBES: Final = pa.schema(
    [
        _STUDY,
        _TRIAL_ID,
        _column("probe", _TEXT, "the experiment: deterioration (section VI, figure 14)"),
        _column("epoch", _COUNT, "epochs of the probe, after the trial's own; 0 is before"),
        _column(
            "phase",
            _TEXT,
            "of the epoch: start (none yet), settling (no noise), deterioration (more noise than "
            "before), collapse (the noise stays) or recovery (the noise is gone)",
        ),
        _column("unit", _COUNT, "the active unit that the noise is added to"),
        _column(
            "noise", _NUMBER, "standard deviation of the Gaussian noise, in the epoch and here"
        ),
        _optional(
            "reconstruction_gain",
            _NUMBER,
            "increase of the reconstruction term when the unit is set to zero instead of sampled "
            f"and blurred, nats per image, {_PROBE_IMAGES}; null, as below, where not a number",
        ),
        _optional(
            "kl",
            _NUMBER,
            f"mean KL of the unit, equation 6, nats per image, {_PROBE_IMAGES}; to be weighed with "
            "beta",
        ),
        _optional("mean_variance", _NUMBER, f"Var_x[mu(x)] of the unit, {_PROBE_IMAGES}"),
        _optional(
            "posterior_variance", _NUMBER, f"mean_x[sigma^2(x)] of the unit, {_PROBE_IMAGES}"
        ),
        _optional(
            "reconstruction",
            _NUMBER,
            "-E_q[log p(x|z)] with the noise and without inactive units, nats per image, "
            f"{_PROBE_IMAGES}",
        ),
        _optional("seconds", _NUMBER, "wall-clock seconds: the equal share of the pack's"),
    ]
)

LAYERS: Final = pa.schema(
    [
        _STUDY,
        _TRIAL_ID,
        _column("position", _COUNT, "place in the net, from 0"),
        _column("layer", _TEXT, "as in a saved model: encoder.0, encoder.0.norm, encoder.mean, …"),
        _column(
            "weight",
            _TEXT,
            "shape of its weight as torch.nn has it, as 32x16x3x3; of the layer's scale for norm",
        ),
        _column("parameters", _COUNT, "trained parameters of the layer"),
        _column(
            "running_statistics",
            _COUNT,
            "numbers that batch normalisation keeps besides, which the paper's figure 7 counts",
        ),
    ]
)

SCHEMAS: Final = {
    "trials": TRIALS,
    "units": UNITS,
    "epochs": EPOCHS,
    "samples": SAMPLES,
    "encodings": ENCODINGS,
    "probes": PROBES,
    "layers": LAYERS,
    "plan": PLAN,
    "datasets": DATASETS,
}

KEYS: Final = {
    "trials": ["trial_id"],
    "units": ["trial_id", "epoch", "split", "unit"],
    "epochs": ["trial_id", "epoch"],
    "samples": ["trial_id", "kind", "image"],
    "encodings": ["trial_id", "step", "split", "image", "unit"],
    "probes": ["trial_id", "probe", "epoch"],
    "layers": ["trial_id", "position"],
    "plan": ["position"],
    "datasets": ["dataset_fingerprint", "quantity", "method", "variant", "component"],
}
"""The columns that tell a table's rows apart, in the order rows are sorted by."""


def to_table(name: str, frame: pd.DataFrame) -> pa.Table:
    """Convert a frame to the declared schema of a table, strictly.

    Whole numbers are taken for float columns, and floats without a fraction for integer columns
    that may be null (pandas turns those into floats); NaN becomes null. Nothing else is cast.

    Args:
        name: A key of `SCHEMAS`.
        frame: Its columns in any order; the index is dropped.

    Returns:
        The table, columns in the schema's order.

    Raises:
        ValueError: A column is missing, unknown, of another type, or null where it must not be.
    """
    schema = SCHEMAS[name]
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"{name}.{twice}: the column is there twice")
    if unknown := sorted(set(frame.columns) - set(schema.names)):
        raise ValueError(f"{name}.{unknown[0]}: no such column in study/tables.py")
    if missing := [column for column in schema.names if column not in frame.columns]:
        raise ValueError(f"{name}.{missing[0]}: the column is missing")
    table = pa.Table.from_arrays(
        [_to_array(name, field, frame[field.name]) for field in schema], schema=schema
    )
    if name == "trials":
        _check_statuses(frame)
    if "split" in schema.names:
        _check_values(frame, f"{name}.split", SPLITS)
    return table.combine_chunks()


def column_dictionary() -> pd.DataFrame:
    """Return every table's columns: table, column, type, nullable, description."""
    return pd.DataFrame(
        [
            {
                "table": name,
                "column": field.name,
                "type": str(field.type),
                "nullable": field.nullable,
                "description": field.metadata[b"description"].decode(),
            }
            for name, schema in SCHEMAS.items()
            for field in schema
        ]
    )


def _to_array(table: str, field: pa.Field, values: pd.Series) -> pa.Array:
    column = f"{table}.{field.name}"
    try:
        array = pa.array(values, from_pandas=True)
        if not _may_become(array.type, field):
            raise pa.ArrowTypeError(f"{array.type} is not {field.type}")
        # Clocks tick in microseconds: a timestamp may lose those, a number may lose nothing.
        array = array.cast(field.type, safe=not pa.types.is_timestamp(field.type))
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(f"{column}: {error}") from error
    if array.null_count and not field.nullable:
        raise ValueError(f"{column}: null or NaN, in a column that must be filled")
    return array


def _may_become(found: pa.DataType, field: pa.Field) -> bool:
    types = pa.types
    if types.is_null(found):
        return True
    if types.is_list(field.type):
        return types.is_list(found) and _may_become(found.value_type, field.type.value_field)
    if types.is_string(field.type):
        return bool(types.is_string(found) or types.is_large_string(found))
    if types.is_floating(field.type):
        return bool(types.is_floating(found) or types.is_integer(found))
    if types.is_integer(field.type):
        return bool(types.is_integer(found) or (field.nullable and types.is_floating(found)))
    if types.is_timestamp(field.type):
        return bool(types.is_timestamp(found) and found.tz is not None)
    return bool(found == field.type)


def _check_values(frame: pd.DataFrame, column: str, allowed: tuple[str, ...]) -> None:
    values = frame[column.rpartition(".")[2]]
    if not values.isin(allowed).all():
        wrong = values[~values.isin(allowed)].iloc[0]
        raise ValueError(f"{column}: {wrong!r} is none of {', '.join(allowed)}")


def _check_statuses(frame: pd.DataFrame) -> None:
    """A completed trial is measured in full; a failed one says why and claims no measurement."""
    _check_values(frame, "trials.status", STATUSES)
    completed, failed = (frame[frame["status"] == status] for status in ("completed", "failed"))
    if failed["error"].isna().any():
        raise ValueError("trials.error: null, for a failed trial")
    for field in MEASURED:
        if completed[field.name].isna().any():
            raise ValueError(f"trials.{field.name}: null or NaN, for a completed trial")
        if failed[field.name].notna().any():
            raise ValueError(f"trials.{field.name}: filled, for a failed trial")
