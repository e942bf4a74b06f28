"""A real sshd on an address of the loopback interface, which lets one key in: a head's SSH."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.end_to_end.command import kill, wait_until

ADDRESS = "127.66.41.7"
SSHD = Path("/usr/sbin/sshd")


@dataclass(frozen=True)
class SshHost:
    """A running sshd.

    Attributes:
        key: The private key that opens it, for root.
    """

    key: Path

    def cluster_file(self, path: Path, **settings: object) -> Path:
        """Write a launcher's file for a cluster whose head this is."""
        content = {
            "cluster_name": "loopback",
            "provider": {"type": "local", "head_ip": ADDRESS, "worker_ips": []},
            "auth": {"ssh_user": "root", "ssh_private_key": str(self.key)},
            "metadata": {"vae_study": settings},
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def connections(self) -> list[int]:
        """Processes of ssh that use the key: tunnels and transfers."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if command.startswith(b"ssh\0") and str(self.key).encode() in command:
                found.append(int(entry.name))
        return found


def why_not() -> str | None:
    """Return why there can be no such host, None if there can."""
    if os.geteuid() != 0:
        return "an sshd on port 22 needs root"
    if not SSHD.exists() or not shutil.which("ssh-keygen") or not shutil.which("rsync"):
        return "there is no sshd, ssh-keygen or rsync"
    with socket.socket() as probe:
        try:
            probe.bind((ADDRESS, 22))
        except OSError as error:
            return f"port 22 of {ADDRESS}: {error.strerror}"
    return None


@contextmanager
def ssh_host(folder: Path) -> Iterator[SshHost]:
    """Start it; end it, and the logins that are left, afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host_key", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    settings = {
        "ListenAddress": f"{ADDRESS}:22",
        "AuthorizedKeysFile": folder / "key.pub",
        "PermitRootLogin": "prohibit-password",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
    }
    command: list[str | Path] = [SSHD, "-D", "-e", "-f", "/dev/null", "-h", folder / "host_key"]
    for name, value in settings.items():
        command += ["-o", f"{name}={value}"]
    with (folder / "sshd.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
    host = SshHost(folder / "key")
    try:
        wait_until(_listens, 10, "sshd")
        yield host
    finally:
        process.terminate()
        process.wait(10)
        for pid in host.connections():
            kill(pid)


def _listens() -> bool:
    try:
        socket.create_connection((ADDRESS, 22), 5).close()
    except OSError:
        return False
    return True
