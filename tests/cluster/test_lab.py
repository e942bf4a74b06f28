"""cluster-onprem.yaml for real: `ray up` on three simulated hosts, and what befalls them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import HOME, PROJECT, Lab, LabError
from tests.cluster.lab_cluster import ADDRESS, TOKEN_MODE, LabCluster
from tests.cluster.lab_requirements import why_not

REASON = why_not()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

# Tasks of one second each that print where they ran; one that is lost runs again elsewhere.
SPREAD = """
import socket, sys, time
import ray

@ray.remote(num_cpus=1, max_retries=10, scheduling_strategy="SPREAD")
def where():
    time.sleep(1)
    return socket.gethostname()

ray.init()
print("RAN ON", sorted(set(ray.get([where.remote() for _ in range(int(sys.argv[1]))]))), flush=True)
"""

# Knocks at the ports of Ray's own protocols, past the dashboard.
KNOCK = """
import sys
import ray
from ray._raylet import GcsClient
from ray.util.client_connect import connect
host = sys.argv[1]
try:
    print("CONTROL: LET IN", len(GcsClient(address=f"{host}:6379").get_all_node_info(timeout=5)))
except Exception as error:
    print("CONTROL: REFUSED", error)
try:
    connect(f"{host}:10001", connection_retries=1)
    print("CLIENT: LET IN", ray.nodes())
except Exception as error:
    print("CLIENT: REFUSED", error)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabCluster]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        cluster = LabCluster(lab)
        (lab.folder / "job").mkdir()
        (lab.folder / "job" / "spread.py").write_text(SPREAD)
        (lab.folder / "knock.py").write_text(KNOCK)
        cluster.up()
        cluster.wait_for(alive=cluster.workers)
        yield cluster


def submit(cluster: LabCluster, tasks: int, *options: str) -> str:
    """Submit the tasks from the launcher, through the tunnel; return what is printed."""
    where = ["--address", ADDRESS, "--working-dir", str(cluster.lab.folder / "job")]
    return cluster.lab.run(
        ["ray", "job", "submit", *where, *options, "--", "python", "spread.py", str(tasks)],
        env=TOKEN_MODE,
        timeout=120,
    ).stdout


def test_a_job_from_the_laptop_runs_on_both_workers_and_not_on_the_head(
    cluster: LabCluster,
) -> None:
    with cluster.dashboard():
        assert "RAN ON ['host2', 'host3']" in submit(cluster, 8)


def test_without_the_right_token_nothing_is_submitted_read_or_deleted(
    cluster: LabCluster,
) -> None:
    with cluster.dashboard():
        submit(cluster, 1, "--submission-id", "mine", "--no-wait")
        job = {"entrypoint": "touch /tmp/intruder"}
        attempts = [
            ("GET", "/api/jobs/", None),
            ("GET", "/api/jobs/mine", None),
            ("GET", "/api/jobs/mine/logs", None),
            ("POST", "/api/jobs/", job),
            ("POST", "/api/jobs/mine/stop", None),
            ("DELETE", "/api/jobs/mine", None),
            ("PUT", "/api/packages/gcs/_ray_pkg_0123456789abcdef.zip", {}),
            ("GET", "/nodes?view=summary", None),
            ("GET", "/api/cluster_status", None),
        ]
        for token in (None, "0" * len(cluster.token)):
            for method, path, body in attempts:
                status, _ = cluster.request(method, ADDRESS + path, token=token, body=body)
                assert status in (401, 403), (token, method, path, status)
        status, text = cluster.request("GET", f"{ADDRESS}/api/jobs/mine", token=cluster.token)
        assert status == 200
        assert json.loads(text)["status"] in ("PENDING", "RUNNING", "SUCCEEDED")
        command = ["ray", "job", "submit", "--address", ADDRESS, "--"]
        for env, let_in in clients(cluster):
            done = cluster.lab.run([*command, "touch", f"/tmp/{let_in}"], env=env, check=False)
            assert (done.returncode == 0) is let_in, done
    assert cluster.head.run("ls /tmp/True /tmp/False", check=False).stdout == "/tmp/True\n"


def clients(cluster: LabCluster) -> list[tuple[dict[str, str], bool]]:
    """Settings of clients that find no token file, and whether they may be let in."""
    wrong = "0" * len(cluster.token)
    return [
        ({"HOME": "/tmp"}, False),
        ({"HOME": "/tmp", **TOKEN_MODE, "RAY_AUTH_TOKEN": wrong}, False),
        ({"HOME": "/tmp", **TOKEN_MODE, "RAY_AUTH_TOKEN": cluster.token}, True),
    ]


def test_only_the_token_opens_the_ports_that_hosts_use_among_themselves(
    cluster: LabCluster,
) -> None:
    knock = [sys.executable, str(cluster.lab.folder / "knock.py"), cluster.head.address]
    for env, let_in in clients(cluster):
        wanted = ["LET IN" if let_in else "REFUSED"] * 2
        # On a busy machine Ray may fail to start the process that serves a client; then the one
        # with the token tries again.
        for _ in range(3 if let_in else 1):
            done = cluster.lab.run(knock, env=env, timeout=100)
            answers = re.findall(r"(?:CONTROL|CLIENT): (LET IN|REFUSED)", done.stdout)
            if answers == wanted:
                break
        assert answers == wanted, done
    for host in cluster.lab.hosts:
        listening = host.run("ss -tlnH | awk '{print $4}'").stdout.split()
        outside = {a.rpartition(":")[2] for a in listening if not a.startswith(("127.", "[::1]"))}
        assert outside >= {"22"}
        assert "8265" not in outside
        for port in outside - {"22"}:
            for path in ("/api/jobs/", "/api/job_agent/jobs/", "/nodes?view=summary"):
                url = f"http://{host.address}:{port}{path}"
                status, text = cluster.request("GET", url, token=None)
                assert status != 200 or text.startswith(("# HELP", "# TYPE")), (url, text[:200])


def test_the_dashboard_is_reached_through_the_tunnel_only(cluster: LabCluster) -> None:
    direct = f"http://{cluster.head.address}:8265/api/version"
    assert cluster.request("GET", direct, token=cluster.token)[0] == 0
    with cluster.dashboard():
        assert cluster.request("GET", f"{ADDRESS}/api/version", token=cluster.token)[0] == 200


def test_hosts_that_fall_silent_are_noticed_and_come_back(cluster: LabCluster) -> None:
    cut, lost = cluster.workers
    with cluster.dashboard():
        submit(cluster, 40, "--submission-id", "cut", "--no-wait")
        deadline = time.monotonic() + 60
        while "ray::where" not in cut.run("ps -eo args").stdout:
            assert time.monotonic() < deadline
        cut.cut()
        assert cluster.wait_for(dead=[cut]) < 15
        command = ["ray", "job", "logs", "--follow", "--address", ADDRESS, "cut"]
        logs = cluster.lab.run(command, env=TOKEN_MODE, timeout=90).stdout
        assert re.search(r"RAN ON \[('host2', )?'host3'\]", logs)  # its tasks ran elsewhere
        cut.restore()
        lost.power_off()
        assert cluster.wait_for(dead=[lost]) < 15
        lost.power_on(blank=True)
        assert lost.run(f"ls {HOME}/.ray", check=False).returncode != 0
        cluster.wait_for(alive=[cut, lost])
        assert "RAN ON ['host2', 'host3']" in submit(cluster, 8)


def test_after_down_no_host_runs_ray(cluster: LabCluster) -> None:
    cluster.down()
    for host in cluster.lab.hosts:
        running = host.run("ps -eo args").stdout
        assert "sshd" in running
        assert not re.search(r"/ray/|ray::|raylet|gcs_server", running), running


def test_nothing_is_left_of_a_lab_whose_test_was_killed(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import pathlib, time
        from tests.cluster.lab import Lab
        with Lab(pathlib.Path({str(tmp_path)!r}), hosts=1) as lab:
            lab.run(["touch", "/home/lab/trace"])
            print(lab.inside(["sh", "-c", "readlink /proc/1/ns/pid"]), flush=True)
            time.sleep(600)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as test:
        assert test.stdout is not None
        namespace = test.stdout.readline().strip()
        assert namespace.startswith("pid:")
        assert namespaces()[namespace] > 1
        test.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while namespace in namespaces():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not Path("/home/lab/trace").exists()


def test_a_lab_ends_at_its_time_limit(tmp_path: Path) -> None:
    with Lab(tmp_path, hosts=1, time_limit=2) as lab:
        with pytest.raises(LabError):
            lab.run(["sleep", "20"])
        with pytest.raises(LabError):
            lab.hosts[0].run("true")


def namespaces() -> dict[str, int]:
    """PID namespaces of this machine's processes, and how many processes each has."""
    found: dict[str, int] = {}
    for process in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            name = os.readlink(process)
        except OSError:  # it has just ended
            continue
        found[name] = found.get(name, 0) + 1
    return found


def test_a_machine_that_lacks_something_says_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.cluster.lab_requirements.SSHD", Path("/nowhere/sshd"))
    assert why_not() == "simulated hosts need /nowhere/sshd"


def test_a_command_that_fails_or_hangs_in_a_lab_says_so(tmp_path: Path) -> None:
    with Lab(tmp_path, hosts=1) as lab:
        with pytest.raises(LabError, match="ended with 3:\nwhy\n"):
            lab.run(["sh", "-c", "echo why; exit 3"])
        with pytest.raises(LabError, match="took over 1 s:\nstarted\n"):
            lab.run(["sh", "-c", "echo started; sleep 77"], timeout=1)
        assert "sleep 77" not in lab.run(["ps", "-eo", "args"]).stdout
        with lab.background(["sleep", "78"]):
            assert "sleep 78" in lab.run(["ps", "-eo", "args"]).stdout
        assert "sleep 78" not in lab.run(["ps", "-eo", "args"]).stdout
