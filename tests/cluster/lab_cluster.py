"""cluster-onprem.yaml on simulated hosts: the real file, started by the real launcher.

with Lab(tmp_path) as lab:
    cluster = LabCluster(lab)
    cluster.up()
    cluster.wait_for(alive=cluster.workers)
    with cluster.dashboard() as address:                    # `ray dashboard`, the SSH tunnel
        lab.run(["ray", "job", "list", "--address", address], env=TOKEN_MODE)
    cluster.down()
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from tests.cluster.lab import HOME, PROJECT, Host, Lab, LabError

ADDRESS = "http://127.0.0.1:8265"  # of the dashboard, on the head and, through the tunnel, here
FILE = PROJECT / "cluster-onprem.yaml"
TOKEN_MODE = {"RAY_AUTH_MODE": "token"}  # the client's side; the token is in ~/.ray/auth_token

# Sends one HTTP request and prints [status, body]; status 0: no HTTP server answered.
REQUEST = """
import http.client, json, sys, urllib.error, urllib.request
method, url, token, body = json.loads(sys.argv[1])
headers = {"Authorization": f"Bearer {token}"} if token else {}
data = None if body is None else json.dumps(body).encode()
request = urllib.request.Request(url, data, headers, method=method)
try:
    with urllib.request.urlopen(request, timeout=5) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode()]))
except (OSError, http.client.HTTPException) as error:
    print(json.dumps([0, repr(error)]))
"""


def lab_config(lab: Lab) -> dict[str, Any]:
    """Return cluster-onprem.yaml with what a user changes, and what a lab cannot have, replaced.

    Replaced are the hosts' addresses, the SSH user and the key. The setup would download uv, Python
    and wheels, and a lab has no network: this venv is linked to the place of installation. Workers
    say how many CPUs they have, because all of them see this machine's. Everything else, the
    commands that start Ray above all, is the file's.
    """
    config: dict[str, Any] = yaml.safe_load(FILE.read_text())
    config["provider"]["head_ip"] = lab.hosts[0].address
    config["provider"]["worker_ips"] = [host.address for host in lab.hosts[1:]]
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"}
    link = f"ln -sfn {sys.prefix} /mnt/vae-study/env"
    setup = [command for command in config["head_setup_commands"] if "/uv" not in command]
    config["head_setup_commands"] = [link, *setup]
    config["worker_start_ray_commands"] = [
        command.replace("ray start --address", "ray start --num-cpus=2 --address")
        for command in config["worker_start_ray_commands"]
    ]
    return config


class LabCluster:
    """A Ray cluster on a lab's hosts: the first is the head, which runs no packs."""

    def __init__(self, lab: Lab) -> None:
        """Write the launcher's token and ``lab.folder/cluster.yaml``; nothing starts yet."""
        self.lab = lab
        self.head, *self.workers = lab.hosts
        self.file = lab.folder / "cluster.yaml"
        self.file.write_text(yaml.safe_dump(lab_config(lab)))
        lab.run(["ray", "get-auth-token", "--generate"])
        self.token = lab.run(["cat", f"{HOME}/.ray/auth_token"]).stdout.strip()

    def up(self) -> str:
        """Run `ray up` as a user would, and return what it printed."""
        return self.lab.run(["ray", "up", "-y", str(self.file)], cwd=PROJECT, timeout=120).stdout

    def down(self) -> None:
        """Stop the cluster as the file's header says: `ray down` alone leaves workers running."""
        self.lab.run(["ray", "down", "-y", str(self.file)], cwd=PROJECT, timeout=120)
        for host in self.workers:
            host.run("/mnt/vae-study/env/bin/ray stop --force")

    @contextmanager
    def dashboard(self) -> Iterator[str]:
        """Hold `ray dashboard` open: an SSH tunnel. Yields its address on the launcher."""
        with self.lab.background(["ray", "dashboard", str(self.file)], cwd=PROJECT) as tunnel:
            deadline = time.monotonic() + 30
            while self.request("GET", f"{ADDRESS}/api/version", token=self.token)[0] != 200:
                if tunnel.poll() is not None or time.monotonic() > deadline:
                    raise LabError("`ray dashboard` opened no tunnel")
                time.sleep(0.2)
            yield ADDRESS

    def request(
        self, method: str, url: str, *, token: str | None, body: object = None
    ) -> tuple[int, str]:
        """Send an HTTP request from the launcher, with a token or without.

        Returns:
            Status and body; status 0 where no HTTP server answered.
        """
        arguments = json.dumps([method, url, token, body])
        answer = self.lab.run([sys.executable, "-c", REQUEST, arguments])
        status, text = json.loads(answer.stdout)
        return status, text

    def living_workers(self) -> set[str]:
        """Return the names of the hosts that Ray counts as living workers, as its head says."""
        url = f"{ADDRESS}/nodes?view=summary"
        arguments = json.dumps(["GET", url, self.token, None])
        answer = self.head.run(shlex.join([sys.executable, "-c", REQUEST, arguments]))
        status, text = json.loads(answer.stdout)
        if status != 200:
            raise LabError(f"the head's dashboard answers {status}: {text}")
        alive = {
            node["raylet"]["nodeManagerAddress"]
            for node in json.loads(text)["data"]["summary"]
            if node["raylet"]["state"] == "ALIVE"
        }
        return {host.name for host in self.workers if host.address in alive}

    def wait_for(
        self, alive: Iterable[Host] = (), dead: Iterable[Host] = (), *, timeout: float = 90
    ) -> float:
        """Wait until Ray counts some workers as living and others as not.

        Args:
            alive: hosts that must live; those in neither list do not matter.
            dead: hosts that must not.
            timeout: seconds.

        Returns:
            The seconds that it took.

        Raises:
            LabError: it took too long.
        """
        wanted = {host.name: True for host in alive} | {host.name: False for host in dead}
        start = time.monotonic()
        while True:
            try:
                living = self.living_workers()
                reached = all((name in living) == lives for name, lives in wanted.items())
                answer = f"living: {sorted(living)}"
            except LabError as error:  # the dashboard is not up yet
                reached, answer = False, str(error)
            waited = time.monotonic() - start
            if reached:
                return waited
            if waited > timeout:
                raise LabError(f"after {waited:.0f} s not {wanted}; {answer}")
            time.sleep(0.3)
