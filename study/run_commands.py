"""`vae-study plan`, `run` and `resume`: what a spec would do, and doing it."""

import os
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from search_spaces import BadInput, load_spec
from study.command_options import (
    EXIT_FAILED_TRIALS,
    Command,
    data_option,
    storage_option,
    wide_console,
)
from study.loading import Study
from study.results_command import print_active_units

__all__ = ["plan", "resume", "run"]


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


@click.command()
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


@click.command()
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

    if (options["address"] or "").startswith(("http://", "https://")):
        raise BadInput("--address: a dashboard takes jobs; `vae-study submit` sends one there")
    return _show_results(run_study(load_spec(spec, overrides), storage=storage, **options), report)


@click.command()
@click.argument("study")
@storage_option
@data_option
@_run_options
@click.option(
    "--cluster",
    type=click.Path(path_type=Path),
    help="Resume as a job on a Ray cluster: the file that `ray up` was given.",
)
@click.option("--detach", is_flag=True, help="Do not wait for the end of the job.")
def resume(
    study: str,
    storage: str,
    report: bool,
    address: str | None,
    cluster: Path | None,
    detach: bool,
    data_dir: Path | None,
    cpus: int | None,
    **options: Any,
) -> int:
    """Go on with STUDY where it was interrupted.

    With --cluster, or with a dashboard's address, it goes on as a job on that cluster, as after
    `submit`; --data-dir is then a folder of the cluster's head.

    \b
    vae-study resume quickstart
    vae-study resume quickstart --cluster cluster.yaml
    vae-study resume quickstart --address http://127.0.0.1:8265 --detach
    """
    if cluster or (address or "").startswith(("http://", "https://")):
        from study.cluster_commands import resume_on_cluster

        if cpus is not None:
            raise BadInput("--cpus: it is for this machine; a cluster's packs use all it has")
        data = None if data_dir is None else str(data_dir)
        return resume_on_cluster(
            study, address, cluster, detach=detach, data_dir=data, report=report, **options
        )
    if detach:
        raise BadInput("--detach: it is for jobs on a cluster; give --cluster or --address with it")
    from study.run import resume_study

    options |= {"address": address, "data_dir": data_dir, "cpus": cpus}

    return _show_results(resume_study(study, storage=storage, **options), report)


def _show_results(study: Study, report: bool) -> int:
    """Print what came out and where it lies, write the report; return the exit code."""
    print_active_units(study.trials)
    tables = f"{study.folder.child('trials')}, units, epochs"
    click.echo(f"\ntables: {tables} (pandas.read_parquet reads each)")
    if report:
        from study.reporting import write_report

        click.echo(f"report: {write_report(study)}")
    return EXIT_FAILED_TRIALS if (study.trials["status"] == "failed").any() else 0


def _memory() -> int:
    return int(0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
