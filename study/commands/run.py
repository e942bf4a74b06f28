"""`vae-study run` and `resume`: do what a spec says, here or on the Ray cluster around."""

from pathlib import Path
from typing import Any

import click

from search_spaces import BadInput, load_spec
from study.commands.options import (
    EXIT_FAILED_TRIALS,
    Command,
    data_option,
    outcome_options,
    spec_arguments,
    storage_option,
)
from study.commands.results import print_active_units
from study.loading import Study

__all__ = ["resume", "run"]


def _run_options(command: Command) -> Command:
    for option in (
        outcome_options,
        click.option("--address", help="Ray cluster to run on [default: RAY_ADDRESS, else here]."),
        click.option("--cpus", type=click.IntRange(1), help="CPUs to use here [default: all]."),
    ):
        command = option(command)
    return command


@click.command()
@spec_arguments
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
    vae-study run my_study.yaml --extend         after adding values to its axes, or parts
    vae-study run paper --part dense-mnist       one part of it; with --extend, later, the others
    vae-study run paper --set scale=small        the spec's own overrides of this name
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
        from study.commands.cluster import resume_on_cluster

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
        from study.commands.reporting import write_report

        click.echo(f"report: {write_report(study)}")
    return EXIT_FAILED_TRIALS if (study.trials["status"] == "failed").any() else 0
