"""Jobs of studies: names, endings, secrets, and logs over connections that break."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from math import inf
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.job_submission import JobStatus

from search_spaces import BadInput
from study.cluster import job_log
from study.cluster.errors import ClusterError
from study.cluster.job_log import follow, last_progress
from study.cluster.jobs import (
    check_none_alive,
    find_job,
    start_job,
    study_jobs,
    without_credentials,
)


def details(study: str, attempt: int, status: str = "SUCCEEDED", **more: Any) -> SimpleNamespace:
    fields: dict[str, Any] = {
        "submission_id": f"vae-study-{study}-{attempt}",
        "status": JobStatus(status),
        "driver_exit_code": None,
        "message": None,
        "start_time": 1_795_000_000_000,
        "end_time": None,
        "metadata": {
            "vae_study": study,
            "attempt": str(attempt),
            "kind": "run",
            "storage": "/nfs/studies",
            "source": "abc",
        },
    }
    return SimpleNamespace(**fields | more)


class FakeClient:
    """A cluster's jobs, as Ray lists them: in no order, and with those of others."""

    def __init__(self, *jobs: SimpleNamespace) -> None:
        others = SimpleNamespace(submission_id="raysubmit_x", metadata={"a": "b"})
        driver = SimpleNamespace(submission_id=None, metadata={})
        self.jobs = [others, *jobs, driver]
        self.submitted: dict[str, Any] = {}
        self.refusal = ""

    def list_jobs(self) -> list[Any]:
        return self.jobs

    def submit_job(self, **arguments: Any) -> None:
        if self.refusal:
            raise ClusterError(self.refusal)
        self.submitted = arguments

    def get_job_info(self, job_id: str) -> Any:
        metadata = self.submitted["metadata"]
        return details(metadata["vae_study"], int(metadata["attempt"]), metadata=metadata)


def client(*jobs: SimpleNamespace) -> Any:
    return FakeClient(*jobs)


def test_jobs_in_order() -> None:
    there = client(*(details("a", n) for n in (10, 2, 1)), details("b", 1))
    assert [job.attempt for job in study_jobs(there, "a")] == [1, 2, 10]
    assert [job.id for job in study_jobs(there)][-1] == "vae-study-b-1"
    assert find_job(there, "a").attempt == 10
    assert find_job(there, "a", 2).id == "vae-study-a-2"
    with pytest.raises(BadInput, match=r"--attempt: 'a' has no attempt 3 \(choose from 1, 2, 10\)"):
        find_job(there, "a", 3)
    with pytest.raises(BadInput, match=r"'c' has no job on this cluster .choose from 'a', 'b'"):
        find_job(there, "c")
    with pytest.raises(BadInput, match="it has no jobs of studies"):
        find_job(client(), "c")


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"])
def test_one_job_at_a_time(status: str) -> None:
    there = client(details("a", 1, status), details("a", 2), details("b", 1, "RUNNING"))
    if status in ("PENDING", "RUNNING"):
        with pytest.raises(BadInput, match="runs already, as job vae-study-a-1 in /nfs/studies"):
            check_none_alive(there, "a", "")
    else:
        check_none_alive(there, "a", "")


def test_starting(tmp_path: Any) -> None:
    there = client(*(details("a", n) for n in (1, 3)))
    job = start_job(there, tmp_path, "a", "resume", "s3://key:secret@b/s?region=x", "src")
    assert (job.id, job.attempt, job.kind, job.source) == ("vae-study-a-4", 4, "resume", "src")
    assert there.submitted["submission_id"] == "vae-study-a-4"
    assert "secret" not in str(there.submitted)
    assert there.submitted["runtime_env"]["working_dir"] == str(tmp_path)
    there.refusal = "Job with submission_id vae-study-a-4 already exists."
    with pytest.raises(BadInput, match="'a' has just been started by somebody else"):
        start_job(there, tmp_path, "a", "run", "/s", "src")
    there.refusal = "disk full"
    with pytest.raises(ClusterError, match="disk full"):
        start_job(there, tmp_path, "a", "run", "/s", "src")


@pytest.mark.parametrize(
    ("status", "code", "message", "exit_code", "said"),
    [
        ("SUCCEEDED", 0, "", 0, "succeeded"),
        ("STOPPED", None, "", 130, "stopped"),
        ("FAILED", 1, "", 1, "failed with exit code 1"),
        ("FAILED", 2, "", 2, "failed with exit code 2"),
        ("FAILED", 3, "", 3, "failed with exit code 3"),
        ("FAILED", 130, "", 130, "failed with exit code 130"),
        ("FAILED", 127, "", 3, "no `python` on the PATH"),
        ("FAILED", -9, "", 3, "killed by signal 9"),
        ("FAILED", 137, "", 3, "killed by signal 9"),
        ("FAILED", 77, "", 3, "failed with exit code 77"),
        ("FAILED", None, "the node\n died " + "x" * 999, 3, "failed: the node died"),
        ("FAILED", None, "", 3, "Ray does not say why"),
    ],
)
def test_endings(status: str, code: int | None, message: str, exit_code: int, said: str) -> None:
    job = study_jobs(client(details("a", 1, status, driver_exit_code=code, message=message)))[0]
    assert not job.alive
    assert job.exit_code == exit_code
    assert said in job.ending
    assert len(job.ending) < 400
    assert "\n" not in job.ending


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("/nfs/studies", "/nfs/studies"),
        ("~/studies", "~/studies"),
        ("s3://bucket/studies", "s3://bucket/studies"),
        ("s3://KEY:SECRET@bucket/studies", "s3://bucket/studies"),
        (
            "s3://KEY:SECRET@b/s?endpoint_override=http://127.0.0.1:5000&scheme=http",
            "s3://b/s?endpoint_override=http://127.0.0.1:5000&scheme=http",
        ),
        ("abfss://c@account.dfs/x?client_secret=SECRET", "abfss://account.dfs/x"),
        ("gs://b/x#SECRET", "gs://b/x"),
    ],
)
def test_storage_without_credentials(storage: str, shown: str) -> None:
    assert without_credentials(storage) == shown


secrets = st.text(min_size=6).map(lambda text: quote(text, safe="")).filter(lambda s: len(s) > 5)


@given(user=secrets, password=secrets, parameter=st.sampled_from(["sas", "access_key", "token"]))
def test_no_secret_is_left(user: str, password: str, parameter: str) -> None:
    shown = without_credentials(f"s3://{user}:{password}@bucket/path?{parameter}={password}")
    assert shown == "s3://bucket/path"


def test_the_last_progress() -> None:
    log = "a\n4 s  1/4 trials done, 3 training\n9 s  2/4 trials done\ntables: x\n"
    assert last_progress(log) == "9 s  2/4 trials done"
    assert last_progress("nothing") is None


class Log:
    """A job with a log of pieces; each connection breaks after some of them, or never."""

    def __init__(self, pieces: list[str], breaks: list[int], error: Exception | None) -> None:
        self.pieces, self.breaks, self.error = pieces, breaks, error
        self.connections = 0

    @contextmanager
    def connect(self) -> Iterator["Log"]:
        self.connections += 1
        yield self

    def get_job_info(self, job_id: str) -> Any:
        over = self.connections > len(self.breaks)
        return details("a", 1, "SUCCEEDED" if over else "RUNNING")

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        broken = self.breaks[self.connections - 1 :][:1]
        for piece in self.pieces[: broken[0] if broken else None]:
            yield piece
        if broken and self.error is not None:
            raise self.error


@given(
    pieces=st.lists(st.text(min_size=1), max_size=8),
    breaks=st.lists(st.integers(0, 8), max_size=5),
    error=st.sampled_from(
        [aiohttp.ClientError("x"), RuntimeError("closed unexpectedly"), TimeoutError(), None]
    ),
)
def test_a_log_is_shown_once(pieces: list[str], breaks: list[int], error: Exception | None) -> None:
    shown: list[str] = []
    log: Any = Log(pieces, breaks, error)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_log, "BETWEEN_SECONDS", 0)
        job = follow(log, "vae-study-a-1", shown.append)
    assert "".join(shown) == "".join(pieces)
    assert job.state == "SUCCEEDED"
    assert log.connections == len(breaks) + 1


def test_a_log_is_cut_into_other_pieces() -> None:
    shown: list[str] = []
    parts = job_log._Shown(shown.append, None)
    for piece, position in (("ab", 0), ("abc", 0), ("de", 3), ("abcd", 0), ("ef", 4)):
        parts.take(piece, position)
    assert "".join(shown) == "abcdef"


def test_following_until() -> None:
    shown: list[str] = []
    endless: Any = Log(["a\n", "it has begun\n", "b\n"], [3] * 9, RuntimeError("x"))
    job = follow(endless, "vae-study-a-1", shown.append, until="has begun")
    assert shown == ["a\n", "it has begun\n"]
    assert job.alive


def test_a_log_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has died in silence is made anew."""
    import asyncio

    class Silent(Log):
        async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
            if self.connections == 1:
                yield "a"
                await asyncio.sleep(100)
            yield "a"
            yield "b"

    monkeypatch.setattr(job_log, "QUIET_SECONDS", 0.2)
    monkeypatch.setattr(job_log, "BETWEEN_SECONDS", 0)
    shown: list[str] = []
    log: Any = Silent([], [0], RuntimeError())
    assert follow(log, "vae-study-a-1", shown.append).state == "SUCCEEDED"
    assert "".join(shown) == "ab"
    assert log.connections == 2


class Clock:
    """A time that passes only where it is slept through, or let pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(job_log, "monotonic", lambda: self.now)
        monkeypatch.setattr(job_log, "sleep", self.let_pass)

    def let_pass(self, seconds: float) -> None:
        self.now += seconds


class Away(Log):
    """A cluster out of reach from its second connection to that one; its log ran for an hour."""

    def __init__(self, clock: Clock, back: float) -> None:
        super().__init__(["a", "b"], [1], RuntimeError("x"))
        self.clock, self.back = clock, back

    @contextmanager
    def connect(self) -> Iterator[Log]:
        self.connections += 1
        if 1 < self.connections < self.back:
            raise ClusterError("no Ray dashboard at x")
        yield self

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        async for piece in super().tail_job_logs(job_id):
            self.clock.let_pass(3600)
            yield piece


def test_a_cluster_away_after_a_long_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience begins when the cluster is gone, not when it was first seen."""
    shown: list[str] = []
    log: Any = Away(Clock(monkeypatch), back=50)
    assert follow(log, "vae-study-a-1", shown.append).state == "SUCCEEDED"
    assert "".join(shown) == "ab"
    assert log.connections == 50


def test_giving_up(monkeypatch: pytest.MonkeyPatch) -> None:
    log: Any = Away(Clock(monkeypatch), back=inf)
    with pytest.raises(ClusterError, match=r"lost sight of job vae-study-a-1 .no Ray dashboard at"):
        follow(log, "vae-study-a-1", lambda text: None)
    assert log.connections - 2 == job_log.PATIENCE_SECONDS / job_log.BETWEEN_SECONDS

    class Forgetful(Log):
        def get_job_info(self, job_id: str) -> Any:
            raise ClusterError("Job vae-study-a-1 does not exist")

    with pytest.raises(ClusterError, match="does not know job vae-study-a-1 any more"):
        follow(Forgetful([], [], RuntimeError()), "vae-study-a-1", lambda text: None)  # type: ignore[arg-type]

    class Locked(Log):
        @contextmanager
        def connect(self) -> Iterator[Log]:
            raise BadInput("token: refused")
            yield self

    with pytest.raises(BadInput, match="token"):
        follow(Locked([], [], RuntimeError()), "vae-study-a-1", lambda text: None)  # type: ignore[arg-type]
