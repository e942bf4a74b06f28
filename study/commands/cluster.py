"""`vae-study submit`, `logs`, `stop` and `pull`: studies on a cluster, from a laptop."""

import tempfile
from pathlib import Path
from typing import Any

import click

from search_spaces import BadInput, StudySpec, load_spec, plan_trials
from study.cluster.cluster import Cluster, find_cluster
from study.cluster.errors import ClusterError
from study.cluster.job_entry import AGREED
from study.cluster.jobs import StudyJob, check_none_alive, find_job, start_job, stop_job
from study.cluster.storage import readable_study, storage_for_jobs, storage_of_study
from study.commands.cluster_options import cluster_options, cluster_storage_option, given_storage
from study.commands.options import EXIT_INTERRUPTED, Command, outcome_options, spec_arguments
from study.loading import summarise, trials_to_propose
from study.storage import Folder

__all__ = ["logs", "progress_in", "progress_of", "pull", "resume_on_cluster", "stop", "submit"]


def _job_options(command: Command) -> Command:
    for option in (
        click.option(
            "--data-dir",
            metavar="PATH",
            help="Folder of the cluster's head in which to look for datasets first.",
        ),
        outcome_options,
        click.option("--detach", is_flag=True, help="Do not wait for the end, only for the start."),
    ):
        command = option(command)
    return command


@click.command()
@spec_arguments
@cluster_options
@cluster_storage_option
@_job_options
@click.option("--extend", is_flag=True, help="Add the points that SPEC has and the study has not.")
@click.option(
    "--data-on-cluster",
    is_flag=True,
    help="Dataset paths in SPEC are paths on the cluster: send no data files along.",
)
def submit(
    spec: str,
    overrides: tuple[str, ...],
    address: str | None,
    cluster: Path | None,
    storage: str | None,
    **options: Any,
) -> int:
    """Run SPEC (a file or a preset) on a Ray cluster, as a job, and follow it.

    The driver runs on the cluster: Ctrl-C, or a closed laptop, leaves it running. Sent along are
    this very source code, the spec, and data files that the spec names (up to 96 MiB); the
    cluster needs the same versions of Python, Ray and PyTorch. Other datasets are found or
    downloaded there: --data-dir names a folder there, and VAE_STUDY_DATA of this machine does not
    count. The cluster is given by --cluster or --address, else by RAY_API_SERVER_ADDRESS, else by
    cluster.yaml in this folder. The exit code is that of the study.

    \b
    vae-study submit quickstart --cluster cluster.yaml
    vae-study submit my_study.yaml --set training.epochs=5 --storage s3://bucket/studies
    vae-study submit my_study.yaml --address http://127.0.0.1:8265 --detach
    """
    target = find_cluster(address, cluster)
    loaded = load_spec(spec, overrides)
    proposed = trials_to_propose(loaded)
    trials = len(plan_trials(loaded)) if proposed is None else proposed
    most = "" if proposed is None else "at most "
    click.echo(f"{loaded.study}: {most}{trials} trial{'' if trials == 1 else 's'}", err=True)
    return _start(target, loaded, loaded.study, storage, **options)


def resume_on_cluster(
    study: str,
    address: str | None,
    cluster: Path | None,
    *,
    detach: bool = False,
    data_dir: str | None = None,
    report: bool = True,
    reuse: bool = True,
    retry_failed: bool = False,
) -> int:
    """Go on with a study on a cluster, as a job; return the exit code.

    Args:
        study: The study.
        address: Address of a dashboard.
        cluster: The launcher's file.
        detach: Wait for the start only.
        data_dir: Folder of the cluster's head in which to look for datasets first.
        report: Write the report at the end.
        reuse: Take trials that other studies in the storage have finished from there.
        retry_failed: Run trials again that failed.

    Raises:
        BadInput: It runs already, or nothing says where it lies.
        ClusterError: The cluster cannot be reached.
    """
    return _start(
        find_cluster(address, cluster),
        None,
        study,
        given_storage(),
        detach=detach,
        data_dir=data_dir,
        report=report,
        reuse=reuse,
        retry_failed=retry_failed,
    )


@click.command()
@click.argument("study")
@cluster_options
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends, as `submit` does.")
@click.option("--attempt", type=click.IntRange(1), help="Which of its jobs [default: the last].")
def logs(
    study: str, address: str | None, cluster: Path | None, follow: bool, attempt: int | None
) -> int:
    """Show what the job of STUDY says; with --follow, until it ends, with its exit code.

    \b
    vae-study logs quickstart
    vae-study logs quickstart --follow            Ctrl-C leaves the job running
    vae-study logs quickstart --attempt 1 --address http://127.0.0.1:8265
    """
    target = find_cluster(address, cluster)
    with target.connect() as client:
        job = find_job(client, study, attempt)
        if not follow:
            click.echo(client.get_job_logs(job.id), nl=False)
            return 0
    return _follow(target, job)


@click.command()
@click.argument("study")
@cluster_options
def stop(study: str, address: str | None, cluster: Path | None) -> None:
    """Stop the job of STUDY; its packs leave checkpoints to go on from.

    \b
    vae-study stop quickstart
    vae-study resume quickstart --cluster cluster.yaml       goes on
    """
    target = find_cluster(address, cluster)
    with target.connect() as client:
        job = find_job(client, study)
        if not job.alive:
            click.echo(f"{study}: job {job.id} does not run any more ({job.ending})")
            return
        click.echo(f"{study}: stopping job {job.id}", err=True)
        job = stop_job(client, job)
        from study.cluster.job_log import last_progress

        reached = (
            progress_of(job.storage, study)
            or last_progress(client.get_job_logs(job.id))
            or "no trial done"
        )
    click.echo(f"{study}: {job.ending}; {reached or 'no trial done yet'}")
    click.echo(f"`vae-study resume {study}{target.option or ' --cluster cluster.yaml'}` goes on")


@click.command()
@click.argument("study")
@cluster_options
@cluster_storage_option
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    default=Path("studies"),
    show_default=True,
    help="Local folder of studies.",
)
def pull(
    study: str, address: str | None, cluster: Path | None, storage: str | None, to: Path
) -> None:
    """Copy STUDY from a disk that only the cluster sees, through its head.

    Again, it copies what is new. Studies in a bucket (s3://…) need no copy: the other commands read
    them with --storage.

    \b
    vae-study pull quickstart --cluster cluster.yaml
    vae-study results quickstart
    """
    from study.cluster.pulling import pull_study

    target = find_cluster(address, cluster)
    folder = pull_study(target, study, storage_of_study(target, study, storage), to)
    click.echo(f"{study}: {progress_in(folder)}, in {folder}")


def progress_of(storage: str, study: str) -> str | None:
    """Say how far a study is, if its tables can be read from here; None if they cannot."""
    try:
        folder = readable_study(storage, study)
    except (BadInput, OSError, RuntimeError):  # no credentials here, say
        return None
    return None if folder is None else progress_in(folder)


def progress_in(folder: Folder) -> str:
    """Say how far a study is that can be read from here."""
    row = summarise(folder)
    failed = f", {row.failed} failed" if row.failed else ""
    return f"{row.done} of {row.planned} trials done{failed}"


def _start(
    cluster: Cluster,
    spec: StudySpec | None,
    study: str,
    given: str | None,
    *,
    detach: bool,
    data_dir: str | None,
    report: bool,
    reuse: bool,
    retry_failed: bool,
    extend: bool = False,
    data_on_cluster: bool = False,
) -> int:
    """Send a job that runs a spec, or resumes a study where there is none, and follow it."""
    if spec is None:
        storage = storage_of_study(cluster, study, given)
    else:
        storage = storage_for_jobs(cluster, given)
    if data_dir is not None and not data_dir.startswith(("/", "~/")):
        raise BadInput(f"--data-dir: {data_dir!r} is not the absolute path of a folder on the head")
    from study.cluster.source_tree import SPEC_FILE, stage, with_data_there, with_shipped_data

    kind = "resume" if spec is None else "run"
    options = {
        "--retry-failed": retry_failed,
        "--extend": extend,
        "--no-reuse": not reuse,
        "--no-report": not report,
    }
    command = [kind, study if spec is None else SPEC_FILE, "--storage", storage]
    command += [name for name, wanted in options.items() if wanted]
    command += [] if data_dir is None else ["--data-dir", data_dir]
    files: dict[Path, str] = {}
    if spec is not None:
        spec, files = (with_data_there if data_on_cluster else with_shipped_data)(spec)
    with (
        tempfile.TemporaryDirectory(prefix="vae-study-job-") as folder,
        cluster.connect() as client,
    ):
        check_none_alive(client, study, cluster.option)
        shipment = stage(Path(folder), command, spec, files)
        job = start_job(client, shipment.folder, study, kind, storage, shipment.source)
    click.echo(f"{study}: job {job.id} on {cluster}, results in {job.storage}", err=True)
    return _follow(cluster, job, until=AGREED if detach else None)


def _follow(cluster: Cluster, job: StudyJob, until: str | None = None) -> int:
    from study.cluster.job_log import follow

    again = f"`vae-study logs {job.study} --follow{cluster.option}`"
    try:
        job = follow(cluster, job.id, lambda text: click.echo(text, nl=False), until)
    except KeyboardInterrupt:
        click.echo(f"\ndetached; the job goes on, and {again} shows it", err=True)
        return EXIT_INTERRUPTED
    except ClusterError as error:
        raise ClusterError(f"{error}; {again} looks again") from None
    if job.alive:
        click.echo(f"{job.study}: detached; {again} shows it", err=True)
        return 0
    click.echo(f"{job.study}: {job.ending}", err=True)
    return job.exit_code
