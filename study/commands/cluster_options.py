"""Options of commands that may be about a cluster."""

from pathlib import Path

import click
from click.core import ParameterSource

from study.cluster.cluster import find_cluster
from study.commands.options import Command
from study.storage import Folder

__all__ = ["cluster_options", "cluster_storage_option", "find_study", "given_storage"]


def cluster_options(command: Command) -> Command:
    """Add --cluster and --address, which name a Ray cluster."""
    command = click.option(
        "--address",
        help="Dashboard of a Ray cluster, e.g. http://127.0.0.1:8265.",
    )(command)
    return click.option(
        "--cluster",
        type=click.Path(path_type=Path),
        help="The file that `ray up` was given; its head is reached over SSH.",
    )(command)


def cluster_storage_option(command: Command) -> Command:
    """Add --storage as the cluster sees it, without a default."""
    return click.option(
        "--storage",
        envvar="VAE_STUDY_STORAGE",
        show_envvar=True,
        help="URI (s3://…, gs://…), or folder that all hosts see [default: as the --cluster file "
        "says in metadata.vae_study.storage].",
    )(command)


def given_storage() -> str | None:
    """Return the running command's --storage, None where the user has not said anything."""
    context = click.get_current_context()
    if context.get_parameter_source("storage") is ParameterSource.DEFAULT:
        return None
    storage: str | None = context.params["storage"]
    return storage


def find_study(study: str, storage: str, address: str | None, cluster: Path | None) -> Folder:
    """Return the folder of a study to read: in the storage, or a copy of what a cluster has.

    Raises:
        BadInput: The cluster has no such study, or no way leads to it.
        ClusterError: The cluster cannot be reached.
    """
    if not (address or cluster):
        return Folder.at(storage).child(study)
    from study.cluster.pulling import study_folder

    return study_folder(find_cluster(address, cluster), study, given_storage(), only_tables=True)
