"""Studies as jobs on a real Ray cluster with token authentication, from a laptop's command line."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from study.cluster import job_entry, source_tree
from study.commands.command_line import cli
from tests.end_to_end.command import (
    VAE_STUDY,
    assert_same_numbers,
    contents,
    left_over,
    pack_workers,
    succeed,
    table,
    vae_study,
    wait_until,
    write_spec,
)
from tests.end_to_end.ray_head import TOKEN, RayHead, ray_head
from tests.end_to_end.ssh_host import ssh_host
from tests.end_to_end.ssh_host import why_not as ssh_host_missing
from tests.s3_server import CREDENTIALS, s3_server

SMALL = {
    "study": "small",
    "dataset": {"name": "tiles", "train_images": 300, "test_images": 100},
    "axes": {"architecture": "linear", "latent_dim": [2, 4], "seed": [0, 1]},
    "training": {"epochs": 2},
}
LONG = {
    "study": "long",
    "dataset": {"name": "tiles", "train_images": 1000, "test_images": 100},
    "axes": {"architecture": "paper-dense-tiles", "latent_dim": [4, 8], "seed": [0, 1, 2, 3]},
    "training": {"epochs": 20},
    "resources": {"pack_size": 2},
}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    with ray_head(tmp_path_factory.mktemp("head"), **CREDENTIALS) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the laptop and the cluster see."""
    return tmp_path_factory.mktemp("shared")


def on(head: RayHead, folder: Path, *arguments: str | Path, **options: Any) -> Any:
    """Run a command with the cluster's address and the token."""
    options.setdefault("env", head.environment())
    return vae_study(folder, *arguments, "--address", head.address, **options)


def test_a_study_from_the_spec_to_the_results(head: RayHead, shared: Path, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, SMALL | {"training": {"epochs": 9}})
    shorter, storage = ("--set", "training.epochs=2"), ("--storage", shared / "studies")
    ran = on(head, tmp_path, "submit", spec, *shorter, *storage, report=True)
    assert ran.returncode == 0, ran.stderr
    assert "small: 4 trials" in ran.stderr
    assert "vae-study-small-1" in ran.stderr
    assert job_entry.AGREED in ran.stdout
    assert "4/4 trials done" in ran.stdout
    assert "active units by latent_dim" in ran.stdout
    trials = table(shared, "small", "trials")
    assert list(trials["status"]) == ["completed"] * 4
    assert set(trials["epochs"]) == {2}
    assert set(trials["version"]) == {source_tree.version("vae-study")}
    assert (shared / "studies" / "small" / "report.html").is_file()
    assert not left_over(shared / "studies" / "small")
    # The laptop's folder has no study: nothing was run here.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spec.yaml"]

    assert "4 of 4 trials done" in on(head, tmp_path, "status", "small").stdout
    status = on(head, tmp_path, "status", "small").stdout
    assert re.search(r"attempt 1: run, succeeded, .*job vae-study-small-1, source \w{16}", status)
    listed = on(head, tmp_path, "list").stdout
    assert re.search(r"small +vae-study-small-1 +succeeded ", listed)
    assert re.search(rf"{shared}/studies\n(.*\n)* *small +4 +4 +0", listed)
    assert on(head, tmp_path, "logs", "small").stdout == ran.stdout
    again = on(head, tmp_path, "logs", "small", "--follow", "--attempt", "1")
    assert (again.returncode, again.stdout) == (0, ran.stdout)
    missing = on(head, tmp_path, "logs", "small", "--attempt", "7")
    assert missing.returncode == 2
    assert "choose from 1" in missing.stderr
    stopped = on(head, tmp_path, "stop", "small")
    assert stopped.returncode == 0
    assert "does not run any more (succeeded)" in stopped.stdout
    # Submitted again, it has nothing to do.
    ran = on(head, tmp_path, "submit", spec, *shorter, *storage)
    assert ran.returncode == 0
    assert "all 4 trials are done already" in ran.stdout
    assert "vae-study-small-2" in ran.stderr


@pytest.mark.slow
def test_detach_attach_stop_and_resume(head: RayHead, shared: Path, tmp_path: Path) -> None:
    # As many packs as run at a time, so that no worker is between two when it is stopped. Tune
    # gives a worker 5 s to leave a checkpoint, which may be too short on a busy machine.
    resources = {"pack_size": 4, "checkpoint_seconds": 1}
    longer = {"training": {"epochs": 32}, "resources": resources}
    spec = write_spec(tmp_path, LONG | longer)
    storage = ("--storage", shared / "studies")
    ran = on(head, tmp_path, "submit", spec, "--detach", *storage)
    assert ran.returncode == 0, ran.stderr
    assert "vae-study logs long --follow --address" in ran.stderr
    assert job_entry.AGREED in ran.stdout
    assert "trials done" not in ran.stdout

    [driver] = wait_until(head.drivers, what="a driver")
    workers = wait_until(lambda: both(pack_workers_of(head)), what="two packs")
    # However slow the commands are, the study must not be over before it is stopped.
    with slowed(workers):
        second = on(head, tmp_path, "submit", spec, *storage)
        assert second.returncode == 2
        assert "runs already, as job vae-study-long-1" in second.stderr
        assert "Traceback" not in second.stderr
        # Follow, then Ctrl-C: the job goes on.
        with subprocess.Popen(
            [VAE_STUDY, "logs", "long", "--follow", "--address", head.address],
            **{"cwd": tmp_path, "env": head.environment(), "text": True},  # type: ignore[call-overload]
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as follower:
            assert job_entry.AGREED in "".join(follower.stdout.readline() for _ in range(3))
            follower.send_signal(signal.SIGINT)
            _, said = follower.communicate(timeout=30)
        assert follower.returncode == 130
        assert "the job goes on, and `vae-study logs long --follow --address" in said
        assert "Traceback" not in said
        assert head.drivers() == [driver]
        wait_until(lambda: " training in " in on(head, tmp_path, "logs", "long").stdout, 300)
        assert "attempt 1: run, running" in on(head, tmp_path, "status", "long").stdout

    stopped = on(head, tmp_path, "stop", "long")
    assert stopped.returncode == 0, stopped.stderr
    assert re.search(r"long: stopped; \d+ of 8 trials done", stopped.stdout)
    assert f"vae-study resume long --address {head.address}" in stopped.stdout
    assert not head.drivers()
    done = len(table(shared, "long", "trials"))
    assert done < 8, "it was over before it was stopped; nothing is shown"
    assert list((shared / "studies/long/checkpoints").glob("*.safetensors"))
    assert on(head, tmp_path, "logs", "long", "--follow").returncode == 130

    resumed = on(head, tmp_path, "resume", "long")  # the cluster knows where it lies
    assert resumed.returncode == 0, resumed.stderr
    assert "8/8 trials done" in resumed.stdout
    assert "attempt 2: resume, succeeded" in on(head, tmp_path, "status", "long").stdout
    assert on(head, tmp_path, "logs", "long", "--attempt", "1").stdout != resumed.stdout
    assert not left_over(shared / "studies" / "long")
    succeed(tmp_path, "run", spec, "--cpus", "2")
    assert_same_numbers(shared, tmp_path, "long")


@pytest.mark.slow
def test_a_closed_laptop_harms_nothing(head: RayHead, shared: Path, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, LONG | {"study": "alone", "training": {"epochs": 3}})
    with subprocess.Popen(
        [VAE_STUDY, "submit", spec, "--storage", shared / "studies", "--address", head.address],
        **{"cwd": tmp_path, "env": head.environment()},  # type: ignore[call-overload]
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as laptop:
        wait_until(head.drivers, what="a driver")
        laptop.kill()
    followed = on(head, tmp_path, "logs", "alone", "--follow")
    assert followed.returncode == 0, followed.stderr
    assert "8/8 trials done" in followed.stdout


def test_a_killed_driver_is_told_and_resumed(head: RayHead, shared: Path, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, LONG | {"study": "killed", "training": {"epochs": 6}})
    on(head, tmp_path, "submit", spec, "--detach", "--storage", shared / "studies")
    [driver] = wait_until(head.drivers, what="a driver")
    wait_until(lambda: pack_workers_of(head), what="packs")
    subprocess.run(["kill", "-9", str(driver)], check=True)
    followed = on(head, tmp_path, "logs", "killed", "--follow")
    assert followed.returncode == 3
    assert "its driver was killed by signal 9" in followed.stderr
    assert on(head, tmp_path, "resume", "killed").returncode == 0
    assert len(table(shared, "killed", "trials")) == 8


def test_the_job_s_exit_code_and_message(head: RayHead, shared: Path, tmp_path: Path) -> None:
    """What only the cluster can know is bad input too: here, a file that it lacks."""
    spec = write_spec(
        tmp_path, SMALL | {"study": "no-data", "dataset": {"path": "/nowhere/faces.npz"}}
    )
    storage = ("--storage", shared / "studies")
    ran = on(head, tmp_path, "submit", spec, "--data-on-cluster", *storage)
    assert ran.returncode == 2
    assert "/nowhere/faces.npz" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr
    ran = on(head, tmp_path, "submit", spec, *storage)
    assert ran.returncode == 2
    assert "/nowhere/faces.npz cannot be read (No such file or directory)" in ran.stderr
    assert "--data-on-cluster" in ran.stderr
    # The first was a job, the second was refused here.
    assert (
        "attempt 1: run, failed with exit code 2" in on(head, tmp_path, "status", "no-data").stdout
    )


@pytest.mark.slow
def test_a_user_s_own_file_goes_along(head: RayHead, shared: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "faces.npz", images=images)
    spec = write_spec(
        tmp_path,
        SMALL | {"study": "own", "dataset": {"path": "faces.npz"}, "training": {"epochs": 2}},
    )
    storage = ("--storage", shared / "studies")
    ran = on(head, tmp_path, "submit", spec, *storage)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert set(table(shared, "own", "trials")["dataset"]) == {"faces"}
    [copy] = (head.home / ".cache/vae-study/shipped").glob("*/faces.npz")
    assert copy.read_bytes() == (tmp_path / "faces.npz").read_bytes()
    # A head that was replaced has no copy: the same command brings it again, to the same place.
    copy.unlink()
    resumed = on(head, tmp_path, "resume", "own")
    assert resumed.returncode == 2
    assert str(copy) in resumed.stdout
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "faces.npz").rename(tmp_path / "elsewhere" / "faces.npz")
    again = on(head, tmp_path / "elsewhere", "submit", spec, *storage)
    assert again.returncode == 0, again.stdout
    assert "all 4 trials are done already" in again.stdout
    assert copy.exists()
    # The numbers are those of a run on the laptop.
    succeed(tmp_path / "elsewhere", "run", spec, "--cpus", "2")
    assert_same_numbers(shared, tmp_path / "elsewhere", "own")


@pytest.mark.slow
def test_to_a_bucket(head: RayHead, tmp_path: Path) -> None:
    """The job has the rights of the head's machine; the laptop needs its own to read by URL."""
    with s3_server() as server:
        storage = ("--storage", server.uri())
        spec = write_spec(tmp_path, SMALL | {"study": "bucket"})
        ran = on(head, tmp_path, "submit", spec, *storage, report=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "4/4 trials done" in ran.stdout
        stranger = on(head, tmp_path, "status", "bucket")
        assert "4/4 trials done, " in stranger.stdout
        assert "(as of its log)" in stranger.stdout
        env = head.environment(**CREDENTIALS)
        assert "4 of 4 trials done" in on(head, tmp_path, "status", "bucket", env=env).stdout
        rows = succeed(tmp_path, "results", "bucket", *storage, "--format", "csv", env=env)
        assert len(rows.splitlines()) == 5
        assert "studies/bucket/report.html" in server.list_keys()
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


@pytest.mark.parametrize(
    ("name", "there", "refused"),
    [
        ("torch", "2.9.1", True),
        pytest.param("ray", "2.59.0", True, marks=pytest.mark.slow),
        pytest.param("python", "3.10", True, marks=pytest.mark.slow),
        pytest.param("torch", "{}+cu128", False, marks=pytest.mark.slow),
    ],
)
def test_other_versions_are_refused(
    name: str,
    there: str,
    refused: bool,
    head: RayHead,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The manifest says that the laptop has other versions than it has."""
    ours = job_entry.cluster_versions()
    claimed = there.format(ours[name].partition("+")[0])
    monkeypatch.setattr(source_tree, "cluster_versions", lambda: ours | {name: claimed})
    monkeypatch.setenv("HOME", str(head.home))
    spec = write_spec(tmp_path, SMALL | {"study": f"other-{name}-{refused}".lower()})
    options = ("--address", head.address, "--storage", str(shared / "studies"))
    runner = CliRunner()
    ran: Result = runner.invoke(cli, ["submit", str(spec), *options], standalone_mode=False)
    assert ran.return_value == (2 if refused else 0), ran.output
    if refused:
        assert f"has {name} {ours[name]}, and this job was submitted with {name} {claimed}" in (
            " ".join(ran.output.split())
        )
        assert "trials done" not in ran.output
        assert not (shared / "studies" / f"other-{name}-true").exists()
        detached = runner.invoke(
            cli, ["submit", str(spec), *options, "--detach"], standalone_mode=False
        )
        assert detached.return_value == 2, "detaching does not hide it"


@pytest.mark.slow
@pytest.mark.skipif(ssh_host_missing() is not None, reason=str(ssh_host_missing()))
def test_through_the_head_s_ssh(head: RayHead, tmp_path: Path) -> None:
    """With the launcher's file alone: a tunnel for each command, and tables by rsync."""
    store = tmp_path / "disk of the cluster"
    env = head.environment(VAE_STUDY_CACHE=str(tmp_path / "cache"))
    with ssh_host(tmp_path / "ssh") as host:
        host.cluster_file(tmp_path / "cluster.yaml", storage=str(store), dashboard_port=head.port)
        spec = write_spec(tmp_path, SMALL | {"study": "far"})
        said = succeed(tmp_path, "submit", spec, env=env)  # ./cluster.yaml
        assert "4/4 trials done" in said
        assert host.connections() == [], "a tunnel outlives its command"
        through = ("--cluster", "cluster.yaml")
        assert "attempt 1: run, succeeded" in succeed(tmp_path, "status", "far", *through, env=env)
        assert succeed(tmp_path, "logs", "far", env=env) == said
        csv = succeed(tmp_path, "results", "far", *through, "--format", "csv", env=env)
        assert len(csv.splitlines()) == 5
        assert "4 of 4 trials done" in succeed(tmp_path, "pull", "far", env=env)
        for name in ("trials", "units", "epochs"):
            there = contents(store / "far" / name)
            assert contents(tmp_path / "studies" / "far" / name) == there
        # With a bare address there is no way to the tables, and a message that says so.
        bare = on(head, tmp_path, "results", "far", env=env)
        assert bare.returncode == 2
        assert "give --cluster with the file that `ray up` was given" in bare.stderr

        long = write_spec(tmp_path, LONG | {"study": "far-long"}, "long.yaml")
        succeed(tmp_path, "submit", long, "--detach", env=env)
        with subprocess.Popen(
            [VAE_STUDY, "logs", "far-long", "--follow"],
            **{"cwd": tmp_path, "env": env, "stdout": subprocess.PIPE},  # type: ignore[call-overload]
        ) as follower:
            follower.stdout.readline()
            assert len(host.connections()) == 1
            follower.kill()
        wait_until(lambda: not host.connections(), 15, "the tunnel of a killed command closes")
        assert "stopped" in succeed(tmp_path, "stop", "far-long", env=env)
    start = time.monotonic()
    gone = vae_study(tmp_path, "logs", "far", env=env)
    assert gone.returncode == 3
    assert "no connection to the cluster's head root@" in gone.stderr
    assert "Connection refused" in gone.stderr
    assert time.monotonic() - start < 30


def test_the_token_is_stored_nowhere(head: RayHead, shared: Path, tmp_path: Path) -> None:
    """After all of the above: not in results, logs, or what was sent."""
    with_token = [
        name
        for folder in (shared, head.session)
        for name, content in contents(folder).items()
        if TOKEN.encode() in content
    ]
    assert with_token == []
    assert contents(shared), "there is something to look through"


def test_a_folder_of_this_machine_is_refused(head: RayHead, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, SMALL)
    for arguments, said in (
        ((), "where shall the cluster put the study?"),
        (("--storage", "studies"), "'studies' is relative to a folder of this machine"),
        (("--storage", "/x", "--data-dir", "data"), "--data-dir: 'data' is not the absolute path"),
    ):
        ran = on(head, tmp_path, "submit", spec, *arguments)
        assert ran.returncode == 2
        assert said in ran.stderr


def both(pids: list[int]) -> list[int]:
    """The two processes that are waited for, once they are two."""
    return pids if len(pids) == 2 else []


@contextmanager
def slowed(pids: list[int]) -> Iterator[None]:
    """Let processes stand still most of the time; Ray takes those that never answer for dead."""
    over = threading.Event()

    def slow() -> None:
        while not over.wait(0.05):
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            over.wait(2)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def pack_workers_of(head: RayHead) -> list[int]:
    """Processes on the cluster that train packs."""
    raylets = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"raylet/raylet" in command and str(head.session).encode() in command:
            raylets.append(int(entry.name))
    return [worker for raylet in raylets for worker in pack_workers(raylet)]
