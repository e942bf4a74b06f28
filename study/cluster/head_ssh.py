"""The head of a cluster over SSH: where it is, a tunnel to its dashboard, files from its disk."""

import io
import os
import re
import select
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces import BadInput
from study.cluster.errors import ClusterError

__all__ = ["Head", "fetch", "find_head", "tunnel"]

CONNECT_SECONDS = 20
READY = "vae-study-tunnel-is-open"
RSYNC_SAYS_AFTERWARDS = re.compile(
    r"rsync error|rsync: (\[\w+\] )?(connection unexpectedly closed|safe_write failed)"
)
"""What rsync says when ssh is gone, and ssh has said why."""


@dataclass(frozen=True)
class Head:
    """How to log in to a head.

    Attributes:
        target: user@host.
        options: Options for ssh.
    """

    target: str
    options: tuple[str, ...]


def find_head(file: Path, content: Mapping[str, Any]) -> Head:
    """Find the head of the cluster that a launcher's file describes.

    Args:
        file: The file.
        content: What it holds.

    Raises:
        BadInput: The file does not say how to log in.
        ClusterError: The provider knows of no running head.
    """
    provider, auth = content["provider"], content["auth"]
    if provider.get("type") == "local":
        host = provider.get("head_ip")
    else:
        host, auth = _ask_provider(file, content)
    if not (host and auth.get("ssh_user")):
        raise BadInput(f"--cluster: {file} lacks the head's address or auth.ssh_user")
    if auth.get("ssh_proxy_use_node_id"):
        raise BadInput(
            f"--cluster: {file} logs in by instance, not by address (ssh_proxy_use_node_id); run "
            f"`ray dashboard {file}` beside this and give --address http://127.0.0.1:8265"
        )
    return Head(f"{auth['ssh_user']}@{host}", tuple(_ssh_options(auth)))


@contextmanager
def tunnel(head: Head, remote_port: int) -> Iterator[int]:
    """Open a tunnel to a port of the head's loopback interface.

    `ray dashboard` does the same through a shared connection, which outlives the command that
    opened it. This one ends with the block, and also when this process is killed: what runs at its
    far end reads from a pipe that dies with us.

    Yields:
        The port on this machine's loopback interface.

    Raises:
        ClusterError: No connection.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [
        *("ssh", "-T", "-L", f"127.0.0.1:{port}:127.0.0.1:{remote_port}"),
        *head.options,
        head.target,
        f"echo {READY}; exec cat >/dev/null",
    ]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,  # Ctrl-C is for us
        )
        try:
            if not _is_ready(process):
                _end(process)
                complaints.seek(0)
                raise _no_connection(head, complaints.read())
            yield port
        finally:
            _end(process)


def fetch(head: Head, source: str, target: Path, options: Sequence[str]) -> None:
    """Copy what is in a folder of the head into a local one, with rsync.

    Args:
        head: The head.
        source: The folder there; `~/` is the user's home.
        target: The folder here.
        options: Options for rsync.

    Raises:
        BadInput: There is no such folder.
        ClusterError: No connection, or rsync fails.
    """
    shell = shlex.join(["ssh", "-T", *head.options])
    remote = f"{head.target}:{source.removeprefix('~/').rstrip('/')}/"
    command = ["rsync", "-rt", "-s", "-e", shell, *options, remote, f"{target}/"]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise BadInput("rsync: it is not installed here, and files are fetched with it") from None
    if ran.returncode == 23 and "change_dir" in ran.stderr and "No such file" in ran.stderr:
        raise BadInput(f"storage: {source} is not on the head ({head.target})")
    if ran.returncode not in (0, 24):  # 24: a file went while it was on the list
        raise _no_connection(head, ran.stderr)


def _ask_provider(file: Path, content: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The head's address, and how to log in, from where the launcher keeps them."""
    from ray.autoscaler import sdk

    auth = content["auth"]
    said = io.StringIO()  # Ray prints what it is doing to standard output
    try:
        with redirect_stdout(said):
            if not auth.get("ssh_private_key"):  # then the launcher has made one
                auth = sdk.bootstrap_config(deepcopy(dict(content)))["auth"]
            return str(sdk.get_head_node_ip(str(file))), auth
    except ImportError as error:
        raise BadInput(
            f"--cluster: {file}: its provider needs {error.name}; "
            "on AWS, pip install 'vae-study[aws]'"
        ) from None
    except Exception as error:  # whatever the provider's library raises
        reason = str(error) or said.getvalue().strip() or type(error).__name__
        raise ClusterError(
            f"{file}: no running head ({reason.splitlines()[-1]}); "
            f"`ray up {file}` starts the cluster"
        ) from None


def _ssh_options(auth: Mapping[str, Any]) -> Iterator[str]:
    """The options that Ray's launcher uses, but for its shared connection; never ask anything."""
    if key := auth.get("ssh_private_key"):
        yield from ("-i", os.path.expanduser(key))
    options = {
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": os.devnull,
        "LogLevel": "ERROR",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ExitOnForwardFailure": "yes",
        "ControlPath": "none",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
        "ConnectTimeout": str(CONNECT_SECONDS),
    }
    if proxy := auth.get("ssh_proxy_command"):
        options["ProxyCommand"] = proxy
    for name, value in options.items():
        yield from ("-o", f"{name}={value}")


def _is_ready(process: subprocess.Popen[bytes]) -> bool:
    """Wait until ssh has logged in: only then does it listen, and run the command there."""
    assert process.stdout is not None
    end = time.monotonic() + 2 * CONNECT_SECONDS
    said = b""
    while (left := end - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left)[0]:
            return False
        more = os.read(process.stdout.fileno(), 4096)
        if not more:
            return False
        said += more
        if READY.encode() in said:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _no_connection(head: Head, complaints: str) -> ClusterError:
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    telling = [line for line in lines if not RSYNC_SAYS_AFTERWARDS.match(line)]
    reason = (telling or lines or ["no answer in time"])[-1]
    return ClusterError(f"no connection to the cluster's head {head.target}: {reason}")
