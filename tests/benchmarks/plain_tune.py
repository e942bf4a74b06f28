"""A study as a user would write it for Ray Tune: one function trainable, one trial per model.

python -m tests.benchmarks.plain_tune --images 60000 --epochs 3 --out plain.parquet

Tune is left at its defaults (a fresh actor per trial, its own loggers), and quiet.
"""

import argparse
import logging
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from numpy.typing import NDArray
from ray import tune

from search_spaces import NAMED, IdxDataset, TilesDataset
from tests.benchmarks.plain_vae import (
    loader_batches,
    memory_batches,
    plain_epoch,
    plain_model,
    plain_statistics,
)
from trainables.datasets import load_dataset

ARCHITECTURE = NAMED["paper-dense-mnist"]
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
ACTIVE_VARIANCE = 0.01
GAIN_IMAGES = 2_000
PER_UNIT = (
    "mean",
    "mean_variance",
    "posterior_variance",
    "second_moment",
    "kl",
    "reconstruction_gain",
)


def train(
    config: dict[str, Any], images: Mapping[str, NDArray[Any]], epochs: int, loader: str
) -> None:
    """Train one configuration, report every epoch, and measure all units after the last."""
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    train_images, test_images = (torch.tensor(images[split]) for split in ("train", "test"))
    encoder, decoder = plain_model(ARCHITECTURE, config["latent_dim"])
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    if loader == "memory":
        batches = partial(memory_batches, train_images, BATCH_SIZE)
    else:
        data_loader = loader_batches(train_images, BATCH_SIZE)
        batches = partial(iter, data_loader)
    for epoch in range(1, epochs + 1):
        train_elbo = plain_epoch(encoder, decoder, optimizer, batches(), config["beta"])
        gain_images = GAIN_IMAGES if epoch == epochs else 0
        test = plain_statistics(encoder, decoder, test_images, gain_images)
        result: dict[str, Any] = {
            "epoch": epoch,
            "train_elbo": train_elbo,
            "test_elbo": test["elbo"].item(),
            "active_units": active_units(test),
        }
        if epoch == epochs:
            final = plain_statistics(encoder, decoder, train_images, gain_images)
            result["final"] = {"train": summary(final), "test": summary(test)}
        tune.report(result)


def active_units(statistics: Mapping[str, torch.Tensor]) -> int:
    """Units whose mean varies over the images (Burda et al. 2015)."""
    return int((statistics["mean_variance"] > ACTIVE_VARIANCE).sum())


def summary(statistics: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """A split's statistics as plain values, those of the units as one dict per unit."""
    columns = zip(*(statistics[name].tolist() for name in PER_UNIT), strict=True)
    return {
        "elbo": statistics["elbo"].item(),
        "reconstruction": statistics["reconstruction"].item(),
        "kl": statistics["kl"].sum().item(),
        "active_units": active_units(statistics),
        "units": [
            {"unit": unit, **dict(zip(PER_UNIT, values, strict=True))}
            for unit, values in enumerate(columns)
        ],
    }


def trial_row(result: tune.Result) -> dict[str, Any]:
    """All that a trial measured: its config and summaries, its epochs and units as lists."""
    metrics, final = result.metrics, result.metrics["final"]
    names = ["epoch", "train_elbo", "test_elbo", "active_units"]
    row: dict[str, Any] = {"trial_id": metrics["trial_id"], **metrics["config"], "units": []}
    for split, statistics in final.items():
        row |= {f"{split}_{name}": statistics[name] for name in ("elbo", "reconstruction", "kl")}
        row["units"] += [{"split": split, **unit} for unit in statistics["units"]]
    return row | {
        "active_units": final["train"]["active_units"],
        "epochs": result.metrics_dataframe[names].to_dict("records"),
    }


def main() -> None:
    """Run the grid and write one Parquet file with a row per trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="mnist", help="mnist, fashion_mnist, kmnist or tiles")
    parser.add_argument("--images", type=int, default=60_000, help="training images")
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--latent-dims", type=int, nargs="+", default=[4, 8, 12, 16])
    parser.add_argument("--betas", type=float, nargs="+", default=[0.5, 1.0, 1.5, 2.0])
    parser.add_argument("--seeds", type=int, default=4, help="how many, from 0")
    parser.add_argument("--loader", choices=["memory", "dataloader"], default="memory")
    parser.add_argument("--cpus", type=int, help="CPUs to use; all by default")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    options = parser.parse_args()
    sizes = {"train_images": options.images, "test_images": options.test_images}
    data = load_dataset(
        TilesDataset(**sizes)
        if options.dataset == "tiles"
        else IdxDataset(name=options.dataset, **sizes)
    )
    ray.init("local", num_cpus=options.cpus, log_to_driver=False, logging_level=logging.ERROR)
    trainable = tune.with_parameters(
        train,
        images={"train": data.train, "test": data.test},
        epochs=options.epochs,
        loader=options.loader,
    )
    with tempfile.TemporaryDirectory(prefix="plain-tune-") as scratch:
        results = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={
                "latent_dim": tune.grid_search(options.latent_dims),
                "beta": tune.grid_search(options.betas),
                "seed": tune.grid_search(list(range(options.seeds))),
            },
            run_config=tune.RunConfig(storage_path=scratch, verbose=0),
        ).fit()
        if results.num_errors:
            raise SystemExit(f"{results.num_errors} trials failed: {results.errors[0]}")
        rows = [trial_row(result) for result in results]
    pq.write_table(pa.Table.from_pylist(rows), options.out)


if __name__ == "__main__":
    main()
