"""The `vae-study data` commands: which datasets there are, fetching them, describing them."""

from pathlib import Path

import click
import pandas as pd
from rich.markup import escape
from rich.table import Table

from search_spaces import BadInput, nearest_name
from study.commands.options import data_option, storage_option, wide_console
from study.loading import load_study
from study.storage import Folder

__all__ = ["data"]


@click.group()
def data() -> None:
    """Datasets: what there is, fetching them, and what is known of them."""


@data.command("list")
@data_option
def data_list(data_dir: Path | None) -> None:
    """List the datasets and where they were found."""
    from trainables.datasets import list_datasets

    shown = Table("dataset", "status", "what it is", "where")
    for info in list_datasets(data_dir):
        shown.add_row(info.name, info.status, info.description, escape(str(info.where or "")))
    wide_console().print(shown)


@data.command("fetch")
@click.argument("name")
@data_option
def data_fetch(name: str, data_dir: Path | None) -> None:
    """Download dataset NAME into the cache, unless it is there, and check it."""
    from trainables.datasets import fetch_dataset

    click.echo(fetch_dataset(name, data_dir))


@data.command("describe")
@click.argument("name", required=False)
@click.option("--study", help="Describe the datasets of this study, and store that with it.")
@storage_option
@data_option
@click.option(
    "--geometry/--no-geometry",
    default=True,
    show_default=True,
    help="Estimate the dimension with scikit-dimension, too.",
)
@click.option(
    "--sample-size",
    type=click.IntRange(2),
    default=5000,
    show_default=True,
    help="Training images that the estimators see.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Seed of the draw of these images.",
)
@click.option("--again", is_flag=True, help="Compute and replace what is stored.")
def data_describe(
    name: str | None,
    study: str | None,
    storage: str,
    data_dir: Path | None,
    geometry: bool,
    sample_size: int,
    seed: int,
    again: bool,
) -> None:
    """Show what is known of dataset NAME: covariance eigenvalues, estimates of its dimension.

    NAME is a built-in dataset, a file, or what stands in a spec; with --study, the label of one of
    its datasets, or nothing for all of them.

    \b
    vae-study data describe mnist
    vae-study data describe faces.npz --sample-size 2000
    vae-study data describe '{name: manifold, true_dimension: 5}'
    vae-study data describe --study mnist-dense
    """
    from study.data_description import Sample, dataset_named, describe_dataset

    if study is not None:
        folder = Folder.at(storage).child(study)
        by_label = {dataset.label: dataset for dataset in load_study(folder).spec.datasets}
        if name is not None and name not in by_label:
            raise BadInput(f"name: {study!r} has no dataset {name!r}{nearest_name(name, by_label)}")
        datasets = [by_label[name]] if name is not None else list(by_label.values())
    elif name is None:
        raise BadInput("name: give a dataset, as in `vae-study data describe mnist`, or --study")
    else:
        folder, datasets = None, [dataset_named(name)]
    for dataset in datasets:
        described = describe_dataset(
            dataset,
            data_dir=data_dir,
            folder=folder,
            sample=Sample(sample_size, seed) if geometry else None,
            again=again,
            say=lambda line: click.echo(line, err=True),
        )
        _print_description(described)
    if folder is not None:
        click.echo(f"\ntable: {folder.child('datasets')} (pandas.read_parquet reads it)")


def _print_description(described: pd.DataFrame) -> None:
    from analysis.data_dimension import describe_in_words, geometric_checks

    click.echo(f"\n{describe_in_words(described)}")
    estimates = geometric_checks(described)
    if estimates.empty:
        return
    shown = Table("method", "variant", "dimension", "images", "what it measures")
    for _, row in estimates.iterrows():
        value = "-" if pd.isna(row["value"]) else f"{row['value']:.1f}"
        measures = row["measures"] if pd.isna(row["note"]) else row["note"]
        images = f"{int(row['distinct_images']):,}"
        shown.add_row(row["method"], row["variant"], value, images, escape(measures))
    wide_console().print(shown)
