"""Copies of studies through a head: real rsync, over an ssh that runs commands on this machine."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from search_spaces import BadInput, load_spec
from study import ledger
from study.cluster import head_ssh, pulling
from study.cluster.cluster import Cluster
from study.cluster.errors import ClusterError
from study.cluster.pulling import ORIGIN_FILE, pull_study
from study.commands.command_line import cli
from study.frozen_spec import freeze
from study.loading import load_study
from study.plan_table import write_plan
from study.storage import Folder
from tests.study.plans import planned_trials

MakePack = Callable[..., dict[str, Any]]

AXES = {"architecture": "linear", "latent_dim": 2, "seed": list(range(6))}
IDS = [p.trial_id for p in planned_trials(AXES)]

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")


@pytest.fixture(autouse=True)
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ssh that logs in nowhere; what is asked of it is written down."""
    tools = tmp_path / "tools"
    tools.mkdir()
    _script(
        tools / "ssh",
        f'echo "$@" >>{tmp_path}/asked\n'
        'while [ "$1" != head ]; do shift; done; shift\n'
        'exec sh -c "$*"',
    )
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("VAE_STUDY_CACHE", str(tmp_path / "cache"))
    return tools


@pytest.fixture
def remote(tmp_path: Path, make_pack: MakePack) -> Folder:
    """A study on the cluster's disk, whose path has a space; 2 of 6 trials are done."""
    folder = Folder.at(tmp_path / "far away").child("mine")
    freeze(folder, load_spec({"study": "mine", "dataset": "tiles", "axes": AXES}), {"version": "1"})
    write_plan(folder, planned_trials(AXES))
    ledger.create_tables(folder)
    ledger.commit(folder, **make_pack("p", IDS[:2]))
    folder.write_whole("checkpoints/p.safetensors", b"large")
    folder.write_whole("models/x.safetensors", b"model")
    Path(folder.full("units/.half.parquet.0.tmp")).write_bytes(b"half")
    Path(folder.full(".driver.lock")).touch()
    return folder


@pytest.fixture
def cluster(tmp_path: Path, remote: Folder) -> Cluster:
    file = tmp_path / "own.yaml"
    file.write_text(
        "cluster_name: lab\n"
        "provider: {type: local, head_ip: head}\n"
        "auth:\n  ssh_user: me\n  ssh_private_key: ~/key\n"
        "  ssh_proxy_command: ssh -W %h:%p 'jump host'\n"
        f"metadata: {{vae_study: {{storage: {tmp_path / 'far away'}}}}}\n"
    )
    return Cluster(file=file)


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def pull(cluster: Cluster, to: Path, **options: Any) -> Folder:
    assert cluster.storage is not None
    return pull_study(cluster, "mine", cluster.storage, to, **options)


def seen(folder: Folder | Path, name: str) -> dict[str, bytes]:
    """Visible files of a table."""
    place = Folder.at(folder)
    return {file: place.read_bytes(f"{name}/{file}") for file in place.files(name)}


def check_whole(folder: Folder | Path, at_least: int = 0) -> int:
    """Every trial that a copy shows has its units and epochs; returns how many there are."""
    study = load_study(folder)
    trials = set(study.trials["trial_id"])
    assert set(study.units["trial_id"]) == set(study.epochs["trial_id"]) == trials
    assert len(trials) >= at_least
    return len(trials)


def test_a_copy_is_the_study(cluster: Cluster, remote: Folder, tmp_path: Path) -> None:
    copy = pull(cluster, tmp_path / "here")
    assert copy.path == str(tmp_path / "here" / "mine")
    for name in ("trials", "units", "epochs", "plan", "models"):
        assert seen(copy, name) == seen(remote, name)
        assert seen(copy, name)
    assert copy.read_bytes("study.yaml") == remote.read_bytes("study.yaml")
    hidden = [path.name for path in Path(copy.path).rglob(".*")]
    assert hidden == [ORIGIN_FILE]
    assert not copy.exists("checkpoints")
    pd.testing.assert_frame_equal(load_study(copy).units, load_study(remote).units)
    asked = (tmp_path / "asked").read_text()
    assert f"-i {Path.home()}/key" in asked
    assert "ProxyCommand=ssh -W %h:%p 'jump host'" in asked
    assert "BatchMode=yes" in asked


def test_a_copy_whose_mark_was_never_finished_is_made(cluster: Cluster, tmp_path: Path) -> None:
    target = tmp_path / "here" / "mine"
    target.mkdir(parents=True)
    target.joinpath(ORIGIN_FILE).with_suffix(".new").touch()
    assert load_study(pull(cluster, tmp_path / "here")).trials.size


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"origin'])
def test_a_damaged_mark_is_named(cluster: Cluster, tmp_path: Path, content: str) -> None:
    mark = Path(pull(cluster, tmp_path / "here").path) / ORIGIN_FILE
    mark.write_text(content)
    with pytest.raises(BadInput, match=f"{mark} is damaged; remove {mark.parent}, and"):
        pull(cluster, tmp_path / "here")


def test_again_it_is_brought_up_to_date(
    cluster: Cluster, remote: Folder, tmp_path: Path, make_pack: MakePack
) -> None:
    copy = Path(pull(cluster, tmp_path / "here").path)
    (copy / "report.html").write_text("written here")
    (copy / "figures").mkdir()
    (copy / "figures" / "mine.png").write_bytes(b"mine")
    before = (copy / "trials" / "p.parquet").stat().st_ino
    ledger.commit(remote, **make_pack("q", IDS[2:4], failed=[IDS[4]]))
    ledger.write_table(remote, "units/orphan.parquet", ledger.SCHEMAS["units"].empty_table())
    pull(cluster, tmp_path / "here")
    assert "orphan.parquet" in seen(copy, "units")
    # Cleaned up there, and a failed trial is being run again.
    remote.delete("units/orphan.parquet")
    ledger.forget_failed(remote, [IDS[4]])
    pull(cluster, tmp_path / "here")
    for name in ("trials", "units", "epochs"):
        assert seen(copy, name) == seen(remote, name)
    assert check_whole(copy) == 4
    assert (copy / "report.html").read_text() == "written here"
    assert (copy / "figures" / "mine.png").read_bytes() == b"mine"
    assert (copy / "trials" / "p.parquet").stat().st_ino == before, "sent again in vain"


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("first", [True, False])
def test_an_interrupted_copy_is_repaired(
    call: int,
    first: bool,
    cluster: Cluster,
    remote: Folder,
    tmp_path: Path,
    make_pack: MakePack,
    fake_ssh: Path,
) -> None:
    """The connection breaks in one of the two transfers, after some of its files."""
    here = tmp_path / "here"
    if not first:
        pull(cluster, here)
    ledger.commit(remote, **make_pack("q", IDS[2:5]))
    real = shutil.which("rsync", path=os.environ["PATH"])
    _script(
        fake_ssh / "rsync",
        f"n=$(($(cat {tmp_path}/calls 2>/dev/null || echo 0) + 1)); echo $n >{tmp_path}/calls\n"
        f'[ $n = {call} ] || exec {real} "$@"\n'
        f'{real} --max-size=3000 "$@"; echo "connection reset" >&2; exit 12',
    )
    with pytest.raises(ClusterError, match="connection reset"):
        pull(cluster, here)
    if not first:
        assert check_whole(here / "mine") in (2, 5)
    else:
        with pytest.raises(BadInput, match="is not a study"):
            load_study(here / "mine")
    (fake_ssh / "rsync").unlink()
    pull(cluster, here)
    assert check_whole(here / "mine") == 5
    assert not (here / "mine" / pulling.STAGING).exists()


@pytest.mark.parametrize("stop_at", range(4))
def test_killed_while_files_are_put_in_place(
    stop_at: int,
    cluster: Cluster,
    remote: Folder,
    tmp_path: Path,
    make_pack: MakePack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = tmp_path / "here"
    pull(cluster, here)
    ledger.commit(remote, **make_pack("q", IDS[2:4]))
    ledger.commit(remote, **make_pack("r", IDS[4:]))
    replace, calls = os.replace, []

    def die(*paths: Any) -> None:
        calls.append(paths)
        if len(calls) > stop_at:
            raise KeyboardInterrupt
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(pulling.os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            pull(cluster, here)
    check_whole(here / "mine", at_least=2)
    pull(cluster, here)
    assert check_whole(here / "mine") == 6


def test_a_study_that_runs(
    cluster: Cluster,
    remote: Folder,
    tmp_path: Path,
    make_pack: MakePack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Packs are committed between the transfers: their trials wait for the next copy."""
    fetch, packs = pulling.fetch, iter([("q", IDS[2:3]), ("r", IDS[3:4])])

    def commit_then_fetch(*arguments: Any) -> None:
        fetch(*arguments)
        ledger.commit(remote, **make_pack(*next(packs)))

    monkeypatch.setattr(pulling, "fetch", commit_then_fetch)
    copy = pull(cluster, tmp_path / "here")
    assert check_whole(copy) == 2
    monkeypatch.undo()
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}{os.pathsep}{os.environ['PATH']}")
    assert check_whole(pull(cluster, tmp_path / "here")) == 4


def test_other_folders_are_left_alone(
    cluster: Cluster, remote: Folder, tmp_path: Path, make_pack: MakePack
) -> None:
    """A study of the same name that was run here, one of another cluster, one that went on here."""
    here = tmp_path / "here"
    shutil.copytree(remote.path, here / "mine")
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match="no copy of a cluster's study"):
        pull(cluster, here)
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before

    other = tmp_path / "other.yaml"
    assert cluster.file is not None
    other.write_text(cluster.file.read_text().replace("name: lab", "name: other"))
    pull(Cluster(file=other), tmp_path / "there")
    with pytest.raises(BadInput, match=r"is a copy of other:.*far away/mine; give another folder"):
        pull(cluster, tmp_path / "there")

    copy = pull(cluster, tmp_path / "resumed")
    ledger.commit(copy, **make_pack("local", IDS[2:4]))
    with pytest.raises(BadInput, match=r"trials/local\.parquet.*it was run here"):
        pull(cluster, tmp_path / "resumed")
    assert check_whole(copy) == 4


def test_what_cannot_be_copied(cluster: Cluster, remote: Folder, tmp_path: Path) -> None:
    far = str(tmp_path / "far away")
    with pytest.raises(BadInput, match=r"results mine --storage s3://b/studies` needs no copy"):
        pull_study(cluster, "mine", "s3://b/studies", tmp_path / "here")
    with pytest.raises(BadInput, match=r"far away/yours is not on the head \(me@head\)"):
        pull_study(cluster, "yours", far, tmp_path / "here")
    Path(far, "empty").mkdir()
    with pytest.raises(BadInput, match=r"far away/empty' on the head .* is not a study"):
        pull_study(cluster, "empty", far, tmp_path / "here")
    with pytest.raises(BadInput, match="give --cluster with the file that `ray up` was given"):
        pull_study(Cluster(address="http://127.0.0.1:8265"), "mine", far, tmp_path / "here")
    (tmp_path / "a-file").touch()
    with pytest.raises(BadInput, match=r"--to: .* cannot be written"):
        pull_study(cluster, "mine", far, tmp_path / "a-file")
    assert not (tmp_path / "here" / "mine").exists()


def test_a_head_that_is_not_there(cluster: Cluster, tmp_path: Path, fake_ssh: Path) -> None:
    _script(fake_ssh / "ssh", "echo 'ssh: connect to host head port 22: No route' >&2; exit 255")
    with pytest.raises(
        ClusterError, match=r"no connection to the cluster's head me@head: .*No rou"
    ):
        pull(cluster, tmp_path / "here")


SSH = "ssh: connect to host head port 22: No route to host"
RSYNC = [
    "rsync: [Receiver] safe_write failed to write 6 bytes to fd 4: Broken pipe (32)",
    "rsync: connection unexpectedly closed (0 bytes received so far) [Receiver]",
    "rsync error: unexplained error (code 255) at io.c(231) [Receiver=3.2.7]",
]


@pytest.mark.parametrize(
    "said",
    [[SSH, *RSYNC], [RSYNC[0], SSH, *RSYNC[1:]], [*RSYNC, SSH], [SSH], [SSH, RSYNC[0], RSYNC[2]]],
)
def test_ssh_knows_why_there_is_no_connection(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """On a busy machine rsync may write to an ssh that is gone, before or after ssh says why."""
    ended = subprocess.CompletedProcess([], 255, "", "\n".join(said) + "\n")
    monkeypatch.setattr(head_ssh.subprocess, "run", lambda *arguments, **options: ended)
    with pytest.raises(ClusterError, match=r"no connection to the cluster's head me@head: ssh: "):
        pull(cluster, tmp_path / "here")


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)


def test_the_commands(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_pack: MakePack
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAE_STUDY_STORAGE", raising=False)
    pulled = invoke("pull", "mine", "--cluster", "own.yaml")
    assert pulled.exception is None, pulled.exception
    assert "mine: 2 of 6 trials done, in" in pulled.output
    assert check_whole(tmp_path / "studies" / "mine") == 2
    # Results and the report renew a copy in the cache; models stay where they are.
    ledger.commit(Folder.at(tmp_path / "far away" / "mine"), **make_pack("q", IDS[2:5]))
    results = invoke("results", "mine", "--cluster", "own.yaml", "--format", "csv")
    assert results.exception is None, results.exception
    assert len(results.output.splitlines()) == 1 + 5
    report = invoke("report", "mine", "--cluster", "own.yaml", "-o", "out.html")
    assert report.exception is None, report.exception
    assert IDS[4] in (tmp_path / "out.html").read_text()
    [copy] = (tmp_path / "cache" / "pulled").glob("*/mine")
    assert check_whole(copy) == 5
    assert not (copy / "models").exists()
    # Another storage than the file's, and the local one as ever.
    elsewhere = invoke("results", "mine", "--cluster", "own.yaml", "--storage", "/nowhere")
    assert "/nowhere/mine is not on the head" in str(elsewhere.exception)
    assert invoke("results", "mine", "--format", "csv").output.count("\n") == 1 + 2
