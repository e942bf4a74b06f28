"""`list` and `status` about a cluster, over jobs that a fake one has."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from search_spaces import BadInput, load_spec
from study import ledger
from study.cluster.cluster import Cluster
from study.commands.command_line import cli
from study.frozen_spec import freeze
from study.plan_table import write_plan
from study.storage import Folder
from tests.study.cluster.test_jobs import FakeClient, details
from tests.study.plans import planned_trials

AXES = {"architecture": "linear", "latent_dim": 2, "seed": [0, 1, 2]}
ON = ("--address", "http://10.0.0.1:8265")
LAUNCHED = """
cluster_name: a
provider: {type: local, head_ip: 10.0.0.1}
auth: {ssh_user: me}
metadata: {vae_study: {storage: /a/disk/of/the/head}}
"""


class WithLog(FakeClient):
    def get_job_logs(self, job_id: str) -> str:
        return f"{job_id}\n4 s  1/4 trials done, 3 training\n"


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Jobs of the cluster, to be filled."""
    there: list[Any] = []

    @contextmanager
    def connect(cluster: Cluster) -> Iterator[WithLog]:
        yield WithLog(*there)

    monkeypatch.setattr(Cluster, "connect", connect)
    monkeypatch.delenv("VAE_STUDY_STORAGE", raising=False)
    return there


@pytest.fixture
def store(tmp_path: Path, make_pack: Callable[..., Any]) -> Path:
    planned = planned_trials(AXES)
    folder = Folder.at(tmp_path / "store").child("a")
    freeze(folder, load_spec({"study": "a", "dataset": "tiles", "axes": AXES}), {"x": 1})
    write_plan(folder, planned)
    ledger.create_tables(folder)
    ids = [p.trial_id for p in planned]
    ledger.commit(folder, **make_pack("p", ids[:1], failed=ids[1:2]))
    return tmp_path / "store"


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(cli, arguments, standalone_mode=False)


def stored(study: str, attempt: int, storage: Path | str, status: str = "RUNNING") -> Any:
    job = details(study, attempt, status)
    job.metadata["storage"] = str(storage)
    return job


def test_status_from_the_tables(jobs: list[Any], store: Path) -> None:
    jobs += [stored("a", 1, store, "STOPPED"), stored("a", 2, store), stored("b", 1, store)]
    said = invoke("status", "a", *ON).output.splitlines()
    assert said[:2] == ["a: 1 of 3 trials done, 1 failed", f"storage: {store}"]
    assert [line.split(",")[:2] for line in said[2:]] == [
        ["attempt 1: run", " stopped"],
        ["attempt 2: run", " running"],
    ]
    assert "abc" in said[2]


def test_status_from_the_log(jobs: list[Any]) -> None:
    """The tables lie where this machine sees nothing."""
    jobs.append(stored("a", 1, "/a/disk/of/the/cluster"))
    said = invoke("status", "a", *ON).output
    assert said.startswith("a: 4 s  1/4 trials done, 3 training (as of its log)\n")


def test_status_without_a_job(jobs: list[Any], store: Path) -> None:
    """The head was restarted and has forgotten its jobs; the tables have not."""
    said = invoke("status", "a", *ON, "--storage", str(store)).output
    assert "a: 1 of 3 trials done" in said
    assert "it has no job on this cluster" in said
    nothing = invoke("status", "a", *ON)
    assert isinstance(nothing.exception, BadInput)
    assert "'a' has no job on this cluster" in str(nothing.exception)
    nothing = invoke("status", "b", *ON, "--storage", str(store))
    assert isinstance(nothing.exception, BadInput)


def test_status_of_a_new_head_that_has_the_tables_on_its_disk(
    jobs: list[Any], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known here but the launcher's file: the tables are fetched."""
    file = tmp_path / "cluster.yaml"
    file.write_text(LAUNCHED)
    asked: list[Any] = []

    def fetched(cluster: Cluster, study: str, storage: str, *, only_tables: bool) -> Folder:
        asked.append((cluster.file, study, storage, only_tables))
        return Folder.at(store).child(study)

    monkeypatch.setattr("study.commands.status.study_folder", fetched)
    said = invoke("status", "a", "--cluster", str(file)).output
    assert said.startswith("a: 1 of 3 trials done, 1 failed\nstorage: /a/disk/of/the/head\n")
    assert "it has no job on this cluster" in said
    assert asked == [(file, "a", "/a/disk/of/the/head", True)]


def test_list(jobs: list[Any], store: Path) -> None:
    said = invoke("list", *ON).output
    assert said.startswith("no jobs of studies on http://10.0.0.1:8265")
    jobs += [
        stored("a", 1, store, "FAILED"),
        stored("a", 2, store, "SUCCEEDED"),
        stored("b", 1, "/a/disk/of/the/cluster"),
    ]
    said = invoke("list", *ON).output
    assert "vae-study-a-1" not in said, "only the last job"
    header, a, b, *rest = said.splitlines()
    assert header.split() == ["study", "job", "state", "submitted", "ended", "storage"]
    assert a.split()[:3] == ["a", "vae-study-a-2", "succeeded"]
    assert b.split()[:3] == ["b", "vae-study-b-1", "running"]
    assert "/a/disk/of/the/cluster" in rest
    assert any("this machine does not see" in line for line in rest)
    assert any(line.split()[:4] == ["a", "3", "1", "1"] for line in rest)
    elsewhere = invoke("list", *ON, "--storage", "/nowhere").output
    assert "/a/disk/of/the/cluster" in b
    assert elsewhere.splitlines()[-2] == "/nowhere"
