"""The `vae-study` command: arguments in, functions of this package called, exit codes out."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.markup import escape
from rich.table import Table

from search_spaces import (
    BadInput,
    json_schema,
    load_spec,
    preset_names,
    preset_path,
)
from study.command_options import Command, data_option, storage_option, wide_console
from study.comparing import compare
from study.data_commands import data
from study.loading import Study, list_studies, load_study, summarise
from study.report_command import report
from study.storage import Folder, StorageError
from study.tables import column_dictionary

__all__ = ["main"]

EXIT_FAILED_TRIALS, EXIT_BAD_INPUT, EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED = 1, 2, 3, 130


def main() -> None:
    """Run; exit 0: done, 1: trials failed, 2: bad input, 3: infrastructure, 130: interrupted."""
    try:
        sys.exit(cli(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BadInput as error:
        click.echo(f"vae-study: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    except (StorageError, ConnectionError) as error:
        click.echo(f"vae-study: {error}; `vae-study resume` goes on from here", err=True)
        sys.exit(EXIT_INFRASTRUCTURE)
    except (KeyboardInterrupt, click.Abort):
        click.echo("vae-study: interrupted; `vae-study resume` goes on from here", err=True)
        sys.exit(EXIT_INTERRUPTED)


def _spec_arguments(command: Command) -> Command:
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Override a field of the spec, e.g. --set training.epochs=5.",
    )(command)
    return click.argument("spec")(command)


def _run_options(command: Command) -> Command:
    for option in (
        click.option("--retry-failed", is_flag=True, help="Run trials again that failed."),
        click.option(
            "--reuse/--no-reuse",
            default=True,
            show_default=True,
            help="Take trials that other studies in the storage have finished from there.",
        ),
        click.option("--address", help="Ray cluster to run on [default: RAY_ADDRESS, else here]."),
        click.option("--cpus", type=click.IntRange(1), help="CPUs to use here [default: all]."),
        click.option(
            "--report/--no-report",
            default=True,
            show_default=True,
            help="Write report.html into the study's folder at the end.",
        ),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="vae-study")
def cli() -> None:
    """Studies of sparsity and intrinsic dimension in variational autoencoders.

    \b
    vae-study run quickstart                  run a preset
    vae-study run my_study.yaml               run a spec of your own
    vae-study run quickstart --set training.epochs=5
    vae-study results quickstart              what came out
    """


@cli.command()
@_spec_arguments
@data_option
@click.option("--cpus", type=click.IntRange(1), help="CPUs to plan for [default: all].")
def plan(spec: str, overrides: tuple[str, ...], data_dir: Path | None, cpus: int | None) -> None:
    """Show what SPEC (a file or a preset) would run: trials, packs, memory, time.

    Nothing is started or written; the time comes from training a few minibatches of each shape.

    \b
    vae-study plan mnist-dense
    vae-study plan my_study.yaml --set training.epochs=5
    """
    from study.estimate import estimate_groups
    from study.packing import PackQueue, trial_costs
    from study.progress import readable_seconds
    from study.run import prepare_study

    prepared = prepare_study(load_spec(spec, overrides), data_dir)
    resources = prepared.spec.resources
    costs = trial_costs(prepared.planned, prepared.datasets)
    workers = max(1, (cpus or os.cpu_count() or 1) // resources.cpus_per_pack)
    queue = PackQueue(
        prepared.planned,
        costs,
        pack_size=resources.pack_size,
        workers=workers,
        memory=_memory() // workers,
        gpu=False,
    )
    groups = estimate_groups(queue, costs, prepared.datasets)
    title = f"{prepared.spec.study}: {len(prepared.planned)} trials"
    table = Table(title=title, title_justify="left")
    for heading in ("dataset", "architecture"):
        table.add_column(heading, no_wrap=True)
    for heading in ("trials", "packs", "lanes", "memory", "CPU time"):
        table.add_column(heading, justify="right")
    for group in groups:
        table.add_row(
            group.dataset,
            group.architecture,
            str(group.trials),
            str(group.packs),
            str(group.lanes),
            f"{group.memory / 2**20:,.0f} MiB",
            readable_seconds(group.seconds),
        )
    console = wide_console()
    console.print(table)
    total = sum(group.seconds for group in groups)
    console.print(
        f"about {readable_seconds(total / min(workers, sum(g.packs for g in groups)))} on "
        f"{workers} CPUs of this machine, evaluation and start-up apart "
        f"({total / 3600:.2f} core hours)",
        highlight=False,
    )


@cli.command()
@_spec_arguments
@storage_option
@data_option
@_run_options
@click.option("--extend", is_flag=True, help="Add the points that SPEC has and the study has not.")
def run(spec: str, overrides: tuple[str, ...], storage: str, report: bool, **options: Any) -> int:
    """Run SPEC (a file or a preset), here or on the Ray cluster this is started on.

    Trials that are done are not run again, so the same command goes on after an interruption.

    \b
    vae-study run quickstart
    vae-study run my_study.yaml --set training.epochs=5 --set study=short
    vae-study run my_study.yaml --extend         after adding values to its axes
    """
    from study.run import run_study

    return _show_results(run_study(load_spec(spec, overrides), storage=storage, **options), report)


@cli.command()
@click.argument("study")
@storage_option
@data_option
@_run_options
def resume(study: str, storage: str, report: bool, **options: Any) -> int:
    """Go on with STUDY where it was interrupted."""
    from study.run import resume_study

    return _show_results(resume_study(study, storage=storage, **options), report)


@cli.command("list")
@storage_option
def list_(storage: str) -> None:
    """List the studies in the storage folder."""
    studies = list_studies(Folder.at(storage))
    if studies.empty:
        click.echo(f"no studies in {storage}; `vae-study run quickstart` makes one")
    else:
        for name in ("created", "updated"):
            studies[name] = studies[name].dt.strftime("%Y-%m-%d %H:%M").fillna("")
        click.echo(studies.to_string(index=False))


@cli.command()
@click.argument("study")
@storage_option
def status(study: str, storage: str) -> None:
    """Show how far STUDY is."""
    folder = Folder.at(storage).child(study)
    load_study(folder)
    row = summarise(folder)
    waiting = row.planned - row.done - row.failed
    click.echo(f"{study}: {row.done} of {row.planned} trials done")
    click.echo(f"failed: {row.failed}, waiting or running: {waiting}")
    for word, moment in (("started", row.created), ("last rows", row.updated)):
        if moment is not None:
            click.echo(f"{word}: {moment:%Y-%m-%d %H:%M:%S} UTC")


@cli.command()
@click.argument("study")
@storage_option
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
    type=click.Choice(["trials", "units", "epochs"]),
    default="trials",
    show_default=True,
    help="Which rows.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.")
def results(study: str, storage: str, format_: str, table: str, output: Path | None) -> None:
    """Show the active units of STUDY, or write its rows.

    \b
    vae-study results quickstart
    vae-study results quickstart --format csv > trials.csv
    vae-study results quickstart --table units --format parquet -o units.parquet
    """
    loaded = load_study(Folder.at(storage).child(study))
    if format_ == "table":
        _print_active_units(loaded.trials)
        return
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


@cli.command()
@click.argument("table", required=False)
def columns(table: str | None) -> None:
    """Explain the columns of all tables, or of TABLE."""
    dictionary = column_dictionary()
    names = list(dictionary["table"].unique())
    if table is not None and table not in names:
        raise BadInput(f"table: {table!r} is not a table (choose from {', '.join(names)})")
    console = wide_console()
    for name, rows in dictionary.groupby("table", sort=False):
        if table in (None, name):
            shown = Table("column", "type", "meaning", title=str(name), title_justify="left")
            for row in rows.itertuples():
                shown.add_row(str(row.column), str(row.type), escape(str(row.description)))
            console.print(shown)


@cli.command()
def presets() -> None:
    """List the presets that `run` and `plan` take by name."""
    for name in preset_names():
        click.echo(f"{name:20} {load_spec(name).description}".rstrip())
        click.echo(f"{'':20} {preset_path(name)}")


@cli.command()
def schema() -> None:
    """Print the JSON schema of specs, with which editors complete and check them."""
    click.echo(json.dumps(json_schema(), indent=2))


for command in (compare, data, report):
    cli.add_command(command)


def _show_results(study: Study, report: bool) -> int:
    """Print what came out and where it lies, write the report; return the exit code."""
    _print_active_units(study.trials)
    click.echo(f"\ntables: {study.folder}/trials, units, epochs (pandas.read_parquet reads each)")
    if report:
        from study.reporting import write_report

        click.echo(f"report: {write_report(study)}")
    return EXIT_FAILED_TRIALS if (study.trials["status"] == "failed").any() else 0


def _print_active_units(trials: pd.DataFrame) -> None:
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
        for _, row in estimate_intrinsic_dimension(completed).iterrows():
            click.echo(f"{describe_group(row)}: {describe_estimate(row)}")
    for name, count in others.items():
        click.echo(f"{count} {'trial' if count == 1 else 'trials'} {name}")


def _memory() -> int:
    return int(0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
