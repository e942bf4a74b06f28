"""`vae-study list` and `status`: which studies there are and how far, here or on a cluster."""

from datetime import datetime
from pathlib import Path

import click
import pandas as pd

from study.cluster.cluster import Cluster, find_cluster
from study.cluster.jobs import find_job, study_jobs, without_credentials
from study.cluster.pulling import study_folder
from study.commands.cluster import progress_in, progress_of
from study.commands.cluster_options import cluster_options, given_storage
from study.commands.options import storage_option
from study.loading import list_studies, load_study, summarise
from study.storage import Folder

__all__ = ["list_", "status"]


@click.command("list")
@storage_option
@cluster_options
def list_(storage: str, address: str | None, cluster: Path | None) -> None:
    """List the studies in the storage folder; on a cluster, with the last job of each.

    \b
    vae-study list
    vae-study list --storage s3://bucket/studies
    vae-study list --cluster cluster.yaml
    """
    if address or cluster:
        _list_on(find_cluster(address, cluster))
    else:
        _list_storage(storage)


@click.command()
@click.argument("study")
@storage_option
@cluster_options
def status(study: str, storage: str, address: str | None, cluster: Path | None) -> None:
    """Show how far STUDY is; on a cluster, with its jobs.

    \b
    vae-study status quickstart
    vae-study status quickstart --cluster cluster.yaml
    """
    if address or cluster:
        _status_of_jobs(find_cluster(address, cluster), study)
        return
    folder = Folder.at(storage).child(study)
    load_study(folder)
    row = summarise(folder)
    waiting = row.planned - row.done - row.failed
    click.echo(f"{study}: {row.done} of {row.planned} trials done")
    click.echo(f"failed: {row.failed}, waiting or running: {waiting}")
    for word, moment in (("started", row.created), ("last rows", row.updated)):
        if moment is not None:
            click.echo(f"{word}: {moment:%Y-%m-%d %H:%M:%S} UTC")


def _list_storage(storage: str) -> None:
    folder = Folder.at(storage)
    studies = list_studies(folder)
    if studies.empty:
        click.echo(f"no studies in {folder}; `vae-study run quickstart` makes one")
    else:
        for name in ("created", "updated"):
            studies[name] = studies[name].dt.strftime("%Y-%m-%d %H:%M").fillna("")
        click.echo(studies.to_string(index=False))


def _list_on(cluster: Cluster) -> None:
    """Show the last job of each study, and the studies where the cluster keeps them."""
    with cluster.connect() as client:
        last = {job.study: job for job in study_jobs(client)}
    rows = [
        {
            "study": job.study,
            "job": job.id,
            "state": job.state.lower(),
            "submitted": _minute(job.started),
            "ended": _minute(job.ended),
            "storage": job.storage,
        }
        for job in last.values()
    ]
    none = f"no jobs of studies on {cluster}; `vae-study submit quickstart` starts one"
    click.echo(pd.DataFrame(rows).to_string(index=False) if rows else none)
    given = given_storage() or cluster.storage
    for storage in [given] if given else sorted({job.storage for job in last.values()}):
        click.echo(f"\n{without_credentials(storage)}")
        if "://" in storage or Path(storage).is_dir():
            _list_storage(storage)
        else:
            click.echo("a folder that this machine does not see; `vae-study pull` copies from it")


def _status_of_jobs(cluster: Cluster, study: str) -> None:
    from study.cluster.job_log import last_progress  # imports aiohttp, which only clusters need

    with cluster.connect() as client:
        jobs = study_jobs(client, study)
        storage = given_storage() or cluster.storage or find_job(client, study).storage
        reached = progress_of(storage, study)
        if reached is None and (jobs or cluster.file is None):
            line = last_progress(client.get_job_logs(find_job(client, study).id))
            reached = f"{line} (as of its log)" if line else "nothing known yet of its trials"
    if reached is None:  # a new head knows no jobs, but the tables are where they were
        reached = progress_in(study_folder(cluster, study, storage, only_tables=True))
    click.echo(f"{study}: {reached}")
    click.echo(f"storage: {without_credentials(storage)}")
    for job in jobs:
        ended = f" to {_minute(job.ended)}" if job.ended else ""
        click.echo(
            f"attempt {job.attempt}: {job.kind}, {job.ending}, {_minute(job.started)}{ended} UTC, "
            f"job {job.id}, source {job.source}"
        )
    if not jobs:
        click.echo("it has no job on this cluster")


def _minute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
