"""`vae-study results`: the active units of a study, or its rows."""

import sys
from pathlib import Path

import click
import pandas as pd

from search_spaces import BadInput
from study.commands.cluster_options import cluster_options, find_study
from study.commands.options import storage_option
from study.loading import load_study
from study.tables import FURTHER_TABLES

__all__ = ["print_active_units", "results"]

MOST_ESTIMATES = 20  # lines on a terminal


@click.command()
@click.argument("study")
@storage_option
@cluster_options
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="`table` sums up; the others hold the rows.",
)
@click.option(
    "--table",
    type=click.Choice(["trials", "units", "epochs", *FURTHER_TABLES]),
    default="trials",
    show_default=True,
    help="Which rows.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.")
def results(
    study: str,
    storage: str,
    address: str | None,
    cluster: Path | None,
    format_: str,
    table: str,
    output: Path | None,
) -> None:
    """Show the active units of STUDY, or write its rows.

    With --cluster, tables that lie on a disk that only the cluster sees are copied first.

    \b
    vae-study results quickstart
    vae-study results quickstart --cluster cluster.yaml
    vae-study results quickstart --format csv > trials.csv
    vae-study results quickstart --table units --format parquet -o units.parquet
    """
    if format_ == "table" and output is not None:
        raise BadInput(f"--output: {output} is for rows; give --format csv, json or parquet too")
    if format_ == "table" and table != "trials":
        raise BadInput(f"--table: {table} are rows; give --format csv, json or parquet too")
    loaded = load_study(find_study(study, storage, address, cluster))
    if format_ == "table":
        print_active_units(loaded.trials)
        return
    if table == "samples" and format_ != "parquet":
        raise BadInput(f"--format: {format_} cannot hold the bytes of images; give parquet")
    rows: pd.DataFrame = getattr(loaded, table)
    target = sys.stdout if output is None else output
    try:
        if format_ == "parquet":
            if output is None:
                raise BadInput("--output: parquet needs a file, e.g. -o trials.parquet")
            rows.to_parquet(output, index=False)
        elif format_ == "csv":
            rows.to_csv(target, index=False)
        else:
            rows.to_json(target, orient="records", date_format="iso", double_precision=15)
    except OSError as error:
        if output is None:  # whoever read standard output has gone; click knows what to do
            raise
        raise BadInput(
            f"--output: {output} cannot be written ({error.strerror or error})"
        ) from None


def print_active_units(trials: pd.DataFrame) -> None:
    """Print the table of active units and the intrinsic dimensions to standard output."""
    from analysis import active_units_table, describe_group
    from analysis.intrinsic_dimension import describe_estimate, estimate_intrinsic_dimension

    completed = trials[trials["status"] == "completed"]
    others = trials.loc[trials["status"] != "completed", "status"].value_counts()
    if completed.empty:
        click.echo("no completed trials yet")
    else:
        click.echo("active units by latent_dim: mean over seeds (smallest-largest)\n")
        click.echo(active_units_table(completed).to_string())
        click.echo("\nintrinsic dimension")
        estimates = estimate_intrinsic_dimension(completed)
        swept = estimates[estimates["latent_dims"] > 1]
        for _, row in swept.head(MOST_ESTIMATES).iterrows():
            click.echo(f"{describe_group(row)}: {describe_estimate(row)}")
        if len(swept) > MOST_ESTIMATES:
            click.echo(f"and {len(swept) - MOST_ESTIMATES:,} more groups, which the report lists")
        if len(estimates) > len(swept):
            click.echo(
                f"{len(estimates) - len(swept):,} of {len(estimates):,} groups have one latent_dim "
                "only, which says nothing of it"
            )
    for name, count in others.items():
        click.echo(f"{count} {'trial' if count == 1 else 'trials'} {name}")
