"""A Ray cluster of one head, as `ray start --head` makes it, with token authentication.

Its Python has all that vae-study depends on, but not vae-study itself: what a job runs must have
come with the job.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.command import descendants, environment, free_port, kill, wait_until

TOKEN = "a3f1c05b9d7e42688f60b1d2c4e5a798"


@dataclass(frozen=True)
class RayHead:
    """A running head.

    Attributes:
        port: The dashboard's, on 127.0.0.1.
        home: Home folder of its processes, and of commands that know the token.
        session: Ray's folder with logs and sockets.
    """

    port: int
    home: Path
    session: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a laptop that has the token."""
        return environment(HOME=str(self.home), **more)

    def drivers(self) -> list[int]:
        """Processes that drive studies as jobs."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                here = str((entry / "cwd").readlink()).startswith(str(self.session))
            except OSError:
                continue
            if here and b"study.cluster.job_entry" in arguments:
                found.append(int(entry.name))
        return found


@contextmanager
def ray_head(folder: Path, cpus: int = 2, **more: str) -> Iterator[RayHead]:
    """Start a head; its processes are killed at the end, and no others.

    Args:
        folder: Where its files go.
        cpus: CPUs that it has.
        more: Variables of its environment.
    """
    home = folder / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text(TOKEN)
    python = _python_without_us(folder / "cluster-python")
    session = Path(tempfile.mkdtemp(prefix="vae-ray-"))  # paths of sockets must be short
    dashboard, client = free_port(), free_port()
    command = [
        *(str(python), "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--port", "0", "--num-cpus", str(cpus), "--temp-dir", str(session)),
        *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
        *("--dashboard-agent-listen-port", "0", "--dashboard-agent-grpc-port", "0"),
        *("--metrics-export-port", "0", "--ray-client-server-port", str(client)),
        *("--object-store-memory", "100000000", "--disable-usage-stats"),
    ]
    variables = environment(
        HOME=str(home),
        RAY_AUTH_MODE="token",
        RAY_JOB_STOP_WAIT_TIME_S="60",  # as in the cluster files: time to write checkpoints
        PATH=f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        **more,
    )
    variables.pop("PYTHONPATH", None)
    with (folder / "ray.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=variables, cwd=folder, start_new_session=True
        )

    def is_alive() -> bool:
        assert process.poll() is None, (folder / "ray.log").read_text()
        return True

    try:
        head = RayHead(dashboard, home, session)
        wait_until(lambda: is_alive() and _answers(head.address), 60, "a head that answers")
        yield head
        is_alive()
    finally:
        family = descendants(process.pid)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in [*family, *_of_session(session)]:
            kill(pid)
        shutil.rmtree(session, ignore_errors=True)


def _python_without_us(folder: Path) -> Path:
    """A virtual environment that sees what is installed here, but for vae-study."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = folder / "lib" / version / "site-packages"
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "vae_study" not in entry.name:
            (packages / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/authentication_mode", timeout=5) as answer:
            return b"token" in answer.read()
    except OSError:
        time.sleep(0.3)
        return False


def _of_session(session: Path) -> list[int]:
    """Processes that name the session's folder: some leave the family of `ray start`."""
    mine = str(session).encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mine in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
