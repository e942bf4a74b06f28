"""Simulated hosts on one Linux machine: real SSH, real links that can be cut, real reboots.

A lab is a set of namespaces inside one outer set. In it lie a bridge (10.98.0.1/24), the
*launcher* (the user's laptop: 10.98.0.1) and hosts (10.98.0.11, .12, …), each with its own
network, processes, hostname, ``/tmp``, ``/dev/shm``, a root file system that starts as a copy of
this machine's, and an sshd that lets the launcher in as root. Whatever is installed here is
installed there, at the same paths. There is no other network. When the lab's first process ends,
the kernel removes everything else: no names, no mounts and no processes stay, even after
``kill -9`` of the test.

    with Lab(tmp_path, hosts=3) as lab:
        lab.run(["ray", "up", "-y", "cluster.yaml"], timeout=120)   # as on the laptop
        lab.hosts[1].run("hostname")                                # on a host, over SSH
        lab.hosts[1].cut()                                          # silence; nothing is closed
        lab.hosts[1].restore()
        lab.hosts[2].power_off()
        lab.hosts[2].power_on(blank=True)                           # as after a reinstallation

Needs root and some tools: :mod:`tests.cluster.lab_requirements` says what is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

SCRIPT = Path(__file__).with_name("lab.sh")
PROJECT = Path(__file__).resolve().parents[2]
HOME = "/home/lab"  # of root, on the launcher and on every host
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc")


class LabError(RuntimeError):
    """A command in the lab failed; the message holds what it printed."""


class Host:
    """One simulated host. Made by :class:`Lab`."""

    def __init__(self, lab: Lab, name: str, address: str) -> None:
        self.lab, self.name, self.address = lab, name, address
        self._machine: subprocess.Popen[str] | None = None  # while it is on
        self._first_process = ""  # its id, as the lab counts processes

    def run(
        self, command: str, *, timeout: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host, over SSH from the launcher; see :meth:`Lab.run`."""
        ssh = ["ssh", *SSH_OPTIONS, f"root@{self.address}", command]
        return self.lab.run(ssh, timeout=timeout, check=check)

    def cut(self) -> None:
        """Take the host's link down: packets vanish, and nobody is told."""
        self.lab.inside(["ip", "link", "set", f"v{self.name}", "down"])

    def restore(self) -> None:
        """Bring the link up again."""
        self.lab.inside(["ip", "link", "set", f"v{self.name}", "up"])

    def power_off(self) -> None:
        """Pull the plug: the link is silent first, then every process is gone at once."""
        self.cut()
        assert self._machine is not None
        self.lab.inside(["kill", "-KILL", self._first_process])
        self._machine.wait(timeout=20)
        self.lab.inside(["ip", "link", "delete", f"v{self.name}"])
        self.lab.inside(["ip", "netns", "delete", self.name])
        self._machine = None

    def power_on(self, *, blank: bool = False, timeout: float = 20) -> None:
        """Start the host, and wait until SSH answers.

        Args:
            blank: as after a reinstallation: what was ever written on the host is lost.
            timeout: seconds.
        """
        assert self._machine is None, f"{self.name} is running"
        if blank:
            self.lab.inside(["rm", "-rf", f"/run/lab/{self.name}"])
        self.lab.inside(["bash", "-ec", PLUG_IN, "bash", self.name, self.address])
        # `ip` and `unshare` replace the shell, so its process id is the one to kill.
        isolate = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        start = ["bash", str(SCRIPT), "host", self.name, self.address]
        host = ["ip", "netns", "exec", self.name, *isolate, *start]
        self._machine = subprocess.Popen(
            [*self.lab.enter, "bash", "-c", 'echo $$; exec "$@"', "bash", *host],
            env=self.lab.settings,
            stdout=subprocess.PIPE,
            stderr=self.lab.log,
            text=True,
            start_new_session=True,
        )
        assert self._machine.stdout is not None
        self._first_process = self._machine.stdout.readline().strip()
        deadline = time.monotonic() + timeout
        while self.run("true", check=False).returncode != 0:
            if self._machine.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{self.name} did not start; see {self.lab.folder}/lab.log")
            time.sleep(0.1)


# A cable from the bridge to the network of a new host. The hardware address is fixed: with a new
# one after each start, the others would look for the host at the old one for half a minute.
PLUG_IN = """
ip netns add $1
ip link add v$1 type veth peer name eth0 address 02:00:00:00:00:${2##*.} netns $1
ip link set v$1 master lab0 up
ip -n $1 link set lo up
ip -n $1 address add $2/24 dev eth0
ip -n $1 link set eth0 up
ip -n $1 route add default via 10.98.0.1  # without one Ray takes 127.0.0.1 for its address
"""
SSH_OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "-o", "LogLevel=ERROR"),
    *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
)


class Lab:
    """The lab: a launcher and some hosts, started by entering the context."""

    def __init__(
        self, folder: Path, *, hosts: int = 3, shared: str = "/mnt/vae-study", time_limit: int = 900
    ) -> None:
        """Describe a lab; nothing starts before ``with``.

        Args:
            folder: exchanges files with the launcher, which sees it at the same path (the hosts
                do not); ``folder/id_ed25519`` becomes its SSH key, ``folder/lab.log`` what
                the hosts' sshd say.
            hosts: how many.
            shared: where all hosts, but not the launcher, see one shared folder, as with NFS.
            time_limit: seconds after which everything is killed, whatever happens.
        """
        self.folder = folder.resolve()
        self.hosts = [Host(self, f"host{i + 1}", f"10.98.0.{11 + i}") for i in range(hosts)]
        self._time_limit = time_limit
        self.settings = {
            "PATH": os.environ["PATH"],
            "LAB_VISIBLE": "\n".join(_covered([sys.prefix, sys.base_prefix, PROJECT])),
            "LAB_FOLDER": str(self.folder),
            "LAB_SHARED": shared,
        }
        self.log: IO[str]
        self.enter: list[str]

    def __enter__(self) -> Lab:
        """Start the launcher, then every host."""
        key = self.folder / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.settings["LAB_KEY"] = key.with_suffix(".pub").read_text().strip()
        self.log = (self.folder / "lab.log").open("a")
        # Its end of the pipe closes when this process ends in any way, and then the lab ends. The
        # rest is for the cases where that is not enough.
        limits = ["timeout", "-s", "KILL", str(self._time_limit), "setpriv", "--pdeathsig", "KILL"]
        isolate = ["unshare", *NAMESPACES, "--fork", "--kill-child"]
        self._lab = subprocess.Popen(
            [*limits, *isolate, "bash", str(SCRIPT), "lab"],
            env=self.settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        try:
            assert self._lab.stdout is not None
            self._process = self._lab.stdout.readline().strip()
            if not self._process:
                raise LabError(f"no lab:\n{(self.folder / 'lab.log').read_text()}")
            self.enter = ["nsenter", "--target", self._process, *NAMESPACES]
            self.run(["install", "-m", "600", str(key), f"{HOME}/.ssh/id_ed25519"])
            for host in self.hosts:
                host.power_on()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the lab."""
        self.close()

    def close(self) -> None:
        """Kill everything in the lab; the kernel clears its mounts and links away."""
        assert self._lab.stdin is not None
        self._lab.stdin.close()
        try:
            self._lab.wait(timeout=20)
        finally:
            self._lab.kill()
            self.log.close()

    @property
    def shared(self) -> Path:
        """The hosts' shared folder, as this process can read it while the lab runs."""
        return Path(f"/proc/{self._process}/root/run/lab/shared")

    def inside(self, command: Sequence[str]) -> str:
        """Run a command in the lab's own namespaces, on this machine's files; give its output."""
        return _checked([*self.enter, *command], timeout=60).stdout

    def _on_launcher(
        self, command: Sequence[str], cwd: Path | str, env: Mapping[str, str] | None
    ) -> list[str]:
        """The command line by which a process outside the lab runs a command on the launcher."""
        variables = {
            "HOME": HOME,
            "PATH": f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            **(env or {}),
        }
        setting = ["env", "-i", "-C", str(cwd), *(f"{name}={v}" for name, v in variables.items())]
        return [*self.enter, "chroot", "/run/lab/launcher/root", *setting, *command]

    @contextmanager
    def background(
        self,
        command: Sequence[str],
        *,
        cwd: Path | str = HOME,
        env: Mapping[str, str] | None = None,
    ) -> Iterator[subprocess.Popen[str]]:
        """Run a command on the launcher while the context lasts: a tunnel, logs that are followed.

        Args:
            command: program and arguments.
            cwd: the folder to run it in.
            env: variables, beside PATH and HOME.

        Yields:
            The process; its output (stdout and stderr) is in ``stdout``, to be read while it runs.
        """
        # Killing nsenter would leave the command running, so its process group is killed by id.
        group = ["setsid", "bash", "-c", 'echo $$; exec "$@"', "bash", *command]
        process = subprocess.Popen(
            self._on_launcher(group, cwd, env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        number = process.stdout.readline().strip()
        try:
            yield process
        finally:
            subprocess.run([*self.enter, "kill", "-KILL", "--", f"-{number}"], capture_output=True)
            process.wait(timeout=20)
            process.stdout.close()

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | str = HOME,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the launcher, as a user on a laptop would.

        Args:
            command: program and arguments; the venv's programs come first in PATH.
            cwd: the folder to run it in.
            env: variables, beside PATH and HOME; nothing else is passed on.
            timeout: seconds, after which it is killed; an error also without ``check``.
            check: raise if it fails.

        Returns:
            Exit code, and output (stdout and stderr apart).

        Raises:
            LabError: it failed (with ``check``) or took too long; with its output.
        """
        # Inside, because a kill from outside would hit nsenter and leave the command running.
        limited = ["timeout", "--signal", "KILL", str(timeout), *command]
        return _checked(self._on_launcher(limited, cwd, env), timeout=timeout, check=check)


def _checked(
    command: Sequence[str], *, timeout: float, check: bool = True
) -> subprocess.CompletedProcess[str]:
    # Files instead of pipes: the launcher's ssh stays in the background for 10 s to be used again,
    # and until then a pipe would not end.
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        start = time.monotonic()
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, timeout=timeout + 20
        ).returncode
        seconds = time.monotonic() - start
        stdout.seek(0)
        stderr.seek(0)
        done = subprocess.CompletedProcess(command, code, stdout.read(), stderr.read())
    how = f"ended with {code}"
    if code != 0 and seconds >= timeout:
        how, check = f"took over {timeout} s", True
    if check and code != 0:
        raise LabError(f"{command} {how}:\n{done.stdout}{done.stderr}")
    return done


def _covered(folders: Sequence[Path | str]) -> list[str]:
    """Those of the folders that an overlay on the root file system alone would not show."""
    root = os.stat("/").st_dev
    resolved = {os.path.realpath(folder) for folder in folders}
    return sorted(f for f in resolved if os.stat(f).st_dev != root or f.startswith("/tmp/"))
