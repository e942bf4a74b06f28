"""The jobs of studies on a cluster: what there is, starting one, stopping one, how it ended."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from search_spaces import BadInput, nearest_name
from study.cluster.errors import ClusterError
from study.commands.options import (
    EXIT_BAD_INPUT,
    EXIT_FAILED_TRIALS,
    EXIT_INFRASTRUCTURE,
    EXIT_INTERRUPTED,
)

if TYPE_CHECKING:
    from study.cluster.job_client import JobClient

__all__ = [
    "StudyJob",
    "check_none_alive",
    "find_job",
    "job_of",
    "start_job",
    "stop_job",
    "study_jobs",
    "without_credentials",
]

ALIVE = ("PENDING", "RUNNING")
ENTRYPOINT = "exec python -m study.cluster.job_entry"
OWN_EXIT_CODES = (0, EXIT_FAILED_TRIALS, EXIT_BAD_INPUT, EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED)
STOP_SECONDS = 120
"""How long a stopped driver may take to leave its packs' checkpoints before Ray kills it."""
QUERY_SHOWN = ("allow_bucket_creation", "endpoint_override", "region", "scheme")


@dataclass(frozen=True)
class StudyJob:
    """One attempt to run a study on a cluster.

    Attributes:
        id: Ray's submission id.
        study: The study.
        attempt: Counted from 1, over all jobs of the study that the cluster remembers.
        kind: run or resume.
        storage: Where the study lies, as the cluster sees it, without credentials.
        source: Digest of the source code that runs.
        state: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        driver_exit_code: What its driver ended with; None while it runs, and where Ray ended it.
        message: What Ray says.
        started: When it was submitted (UTC).
        ended: When it ended; None while it runs.
    """

    id: str
    study: str
    attempt: int
    kind: str
    storage: str
    source: str
    state: str
    driver_exit_code: int | None
    message: str
    started: datetime | None
    ended: datetime | None

    @property
    def alive(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ALIVE

    @property
    def exit_code(self) -> int:
        """The exit code of `vae-study run`, had it run here; what went wrong around it is a 3."""
        if self.state == "SUCCEEDED":
            return 0
        if self.state == "STOPPED":
            return EXIT_INTERRUPTED
        if self.driver_exit_code in OWN_EXIT_CODES:
            return int(self.driver_exit_code)
        return EXIT_INFRASTRUCTURE

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.state != "FAILED":
            return self.state.lower()
        code = self.driver_exit_code
        if code is None:
            return f"failed: {shorten(self.message, 300) or 'Ray does not say why'}"
        if code == 127:
            return "failed: the cluster has no `python` on the PATH that Ray was started with"
        if code < 0 or code > 130:
            return f"failed: its driver was killed by signal {-code if code < 0 else code - 128}"
        return f"failed with exit code {code}"


def study_jobs(client: "JobClient", study: str | None = None) -> list[StudyJob]:
    """Return the jobs of a study, or of all studies, oldest first."""
    jobs = [
        _study_job(details)
        for details in client.list_jobs()
        if details.submission_id and (details.metadata or {}).get("vae_study")
    ]
    found = [job for job in jobs if study in (None, job.study)]
    return sorted(found, key=lambda job: (job.study, job.attempt))


def find_job(client: "JobClient", study: str, attempt: int | None = None) -> StudyJob:
    """Return a study's last job, or the one of that attempt.

    Raises:
        BadInput: There is none.
    """
    everything = study_jobs(client)
    jobs = [job for job in everything if job.study == study]
    if not jobs:
        names = sorted({job.study for job in everything})
        hint = nearest_name(study, names) if names else " (it has no jobs of studies)"
        raise BadInput(f"study: {study!r} has no job on this cluster{hint}")
    if attempt is None:
        return jobs[-1]
    for job in jobs:
        if job.attempt == attempt:
            return job
    there = ", ".join(str(job.attempt) for job in jobs)
    raise BadInput(f"--attempt: {study!r} has no attempt {attempt} (choose from {there})")


def job_of(client: "JobClient", job_id: str) -> StudyJob:
    """Return a job as it is now.

    Raises:
        ClusterError: The cluster does not know it any more.
    """
    return _study_job(client.get_job_info(job_id))


def check_none_alive(client: "JobClient", study: str, option: str) -> None:
    """Refuse a second driver for a study.

    Args:
        client: The cluster.
        study: The study.
        option: The option that names the cluster, for the message.

    Raises:
        BadInput: A job of the study waits or runs.
    """
    for job in study_jobs(client, study):
        if job.alive:
            raise BadInput(
                f"study: {study!r} runs already, as job {job.id} in {job.storage}; "
                f"`vae-study logs {study} --follow{option}` shows it, "
                f"`vae-study stop {study}{option}` stops it"
            )


def start_job(
    client: "JobClient", folder: Path, study: str, kind: str, storage: str, source: str
) -> StudyJob:
    """Send a folder to the cluster and start what is in it.

    Args:
        client: The cluster.
        folder: What `stage` made.
        study: The study.
        kind: run or resume.
        storage: Where the study lies.
        source: Digest of the source code.

    Raises:
        BadInput: Somebody else has started the study at this moment.
        ClusterError: Ray does not take it.
    """
    attempt = 1 + max((job.attempt for job in study_jobs(client, study)), default=0)
    job_id = f"vae-study-{study}-{attempt}"
    try:
        client.submit_job(
            entrypoint=ENTRYPOINT,
            submission_id=job_id,
            runtime_env={
                "working_dir": str(folder),
                # Read by Ray's supervisor of this job, not by the job.
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
            },
            metadata={
                "vae_study": study,
                "attempt": str(attempt),
                "kind": kind,
                "storage": without_credentials(storage),
                "source": source,
            },
        )
    except ClusterError as error:
        if "already exists" in str(error):
            raise BadInput(f"study: {study!r} has just been started by somebody else") from None
        raise
    return job_of(client, job_id)


def stop_job(client: "JobClient", job: StudyJob) -> StudyJob:
    """Stop a job and wait until it has.

    Raises:
        ClusterError: It still runs when it should have been killed.
    """
    client.stop_job(job.id)
    end = monotonic() + STOP_SECONDS + 30
    while (now := job_of(client, job.id)).alive:
        if monotonic() > end:
            raise ClusterError(f"job {job.id} was told to stop and still runs")
        sleep(0.5)
    return now


def without_credentials(storage: str) -> str:
    """Return a URI without what may be a secret in it: user, password, unknown parameters."""
    if "://" not in storage:
        return storage
    parts = urlsplit(storage)
    query = [pair for pair in parse_qsl(parts.query) if pair[0] in QUERY_SHOWN]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, urlencode(query, safe=":/"), ""))


def _study_job(details: Any) -> StudyJob:
    metadata = details.metadata or {}
    return StudyJob(
        id=details.submission_id,
        study=metadata["vae_study"],
        attempt=int(metadata["attempt"]),
        kind=metadata["kind"],
        storage=metadata["storage"],
        source=metadata["source"],
        state=str(details.status.value),
        driver_exit_code=details.driver_exit_code,
        message=details.message or "",
        started=_moment(details.start_time),
        ended=_moment(details.end_time),
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
