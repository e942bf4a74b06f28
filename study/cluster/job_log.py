"""The log of a job: following it over connections that come and go."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from time import monotonic, sleep
from typing import TYPE_CHECKING, cast

import aiohttp

from study.cluster.cluster import Cluster
from study.cluster.errors import ClusterError
from study.cluster.jobs import StudyJob, job_of

if TYPE_CHECKING:
    from study.cluster.job_client import JobClient

__all__ = ["follow", "last_progress"]

QUIET_SECONDS = 60.0
"""A log this long without a word is asked for again: the connection may be dead."""
PATIENCE_SECONDS = 120.0
"""How long a cluster may be out of reach before following it is given up."""
BETWEEN_SECONDS = 2.0


def follow(
    cluster: Cluster, job_id: str, write: Callable[[str], None], until: str | None = None
) -> StudyJob:
    """Show a job's log as it grows, until the job ends.

    The connection may break and come back: the log goes on where it was.

    Args:
        cluster: Where the job is.
        job_id: The job.
        write: Takes each piece of the log.
        until: Return, though the job goes on, once this has been shown.

    Returns:
        The job, ended, or still running where `until` was shown.

    Raises:
        ClusterError: The cluster stays out of reach, or has forgotten the job.
    """
    shown = _Shown(write, until)
    away_since: float | None = None
    while True:
        try:
            with cluster.connect() as client:
                job = job_of(client, job_id)
                away_since = None
                asyncio.run(_tail(client, job_id, shown))
                job = job_of(client, job_id)
                if shown.found or not job.alive:
                    return job
        except (ClusterError, aiohttp.ClientError, RuntimeError, TimeoutError) as error:
            forgotten = "does not exist" in str(error)
            away_since = away_since or monotonic()
            if forgotten or monotonic() - away_since > PATIENCE_SECONDS:
                raise _lost(job_id, error, forgotten) from None
        sleep(BETWEEN_SECONDS)


def last_progress(log: str) -> str | None:
    """Return the last line of a log that says how far the study is."""
    lines = [line for line in log.splitlines() if re.search(r"\d+/\d+ trials done", line)]
    return lines[-1] if lines else None


class _Shown:
    """How much of a log has been shown. A log is read again from its beginning each time."""

    def __init__(self, write: Callable[[str], None], until: str | None) -> None:
        self._write = write
        self._until = until
        self._length = 0
        self.found = False

    def take(self, piece: str, position: int) -> None:
        """Show what is new in a piece of the log that begins at a position."""
        new = piece[max(0, self._length - position) :]
        self._length = max(self._length, position + len(piece))
        if new:
            self._write(new)
        self.found = self.found or (self._until is not None and self._until in piece)


async def _tail(client: "JobClient", job_id: str, shown: _Shown) -> None:
    position = 0
    # Ray declares an iterator, and returns a generator, which must be closed.
    async with aclosing(cast(AsyncGenerator[str], client.tail_job_logs(job_id))) as pieces:
        while not shown.found:
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            shown.take(piece, position)
            position += len(piece)


def _lost(job_id: str, error: Exception, forgotten: bool) -> ClusterError:
    if forgotten:
        return ClusterError(
            f"the cluster does not know job {job_id} any more: its head was restarted, which ends "
            "its jobs"
        )
    return ClusterError(f"lost sight of job {job_id} ({error}); it goes on if the cluster does")
