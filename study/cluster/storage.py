"""Where the studies of a cluster lie."""

from search_spaces import BadInput
from study.cluster.cluster import Cluster
from study.cluster.jobs import find_job
from study.frozen_spec import SPEC_FILE
from study.storage import Folder

__all__ = ["readable_study", "storage_for_jobs", "storage_of_study"]


def storage_for_jobs(cluster: Cluster, given: str | None) -> str:
    """Return where a job's study goes: as the user says, else as the launcher's file says.

    Raises:
        BadInput: Neither says, or it is a path that means nothing on a cluster.
    """
    storage = given or cluster.storage
    if storage is None:
        raise BadInput(
            "--storage: where shall the cluster put the study? Give --storage, set "
            "VAE_STUDY_STORAGE, or write `metadata: {vae_study: {storage: …}}` into the "
            "launcher's file: a URI such as s3://bucket/studies, or a folder that all hosts see"
        )
    if "://" not in storage and not storage.startswith(("/", "~/")):
        raise BadInput(
            f"storage: {storage!r} is relative to a folder of this machine; give a URI such as "
            "s3://bucket/studies, or the absolute path of a folder that all hosts see"
        )
    return storage


def storage_of_study(cluster: Cluster, study: str, given: str | None) -> str:
    """Return where a study lies: as the user says, the launcher's file, or its last job.

    Raises:
        BadInput: The study has no job, and nobody else says.
        ClusterError: The cluster cannot be reached.
    """
    if given or cluster.storage:
        return storage_for_jobs(cluster, given)
    with cluster.connect() as client:
        return find_job(client, study).storage


def readable_study(storage: str, study: str) -> Folder | None:
    """Return a study's folder if it can be read from here: a URI, or a disk mounted here too."""
    if storage.startswith("~"):
        return None
    folder = Folder.at(storage).child(study)
    return folder if folder.exists(SPEC_FILE) else None
