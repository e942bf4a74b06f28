"""A Ray cluster on this machine whose nodes come and go, each with processes of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
import yaml
from ray.cluster_utils import Cluster

from tests.end_to_end.command import descendants, environment, free_port, kill, wait_until

# A node that vanishes is noticed within seconds, as cluster.yaml has it too.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "3000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}

# Whoever has another home has another token, or none.
OPEN = {"RAY_AUTH_MODE": "disabled"}

HEAD = "ray.head.default"  # as the provider that simulates nodes calls it
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup")
COMMANDS += ("head_start_ray", "worker_start_ray")


class Nodes:
    """A head that runs no packs, and nodes that do.

    Attributes:
        address: For `vae-study run --address`.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.address: str = cluster.address

    def add(self, cpus: int, python_path: str = "", **resources: Any) -> Any:
        """Bring a node up; `python_path` is the PYTHONPATH of its workers."""
        before = os.environ.get("PYTHONPATH")
        if python_path:
            os.environ["PYTHONPATH"] = python_path
        try:
            return self._cluster.add_node(num_cpus=cpus, include_dashboard=False, **resources)
        finally:
            if before is None:
                os.environ.pop("PYTHONPATH", None)
            else:
                os.environ["PYTHONPATH"] = before

    def lose(self, node: Any) -> None:
        """Kill a node's processes, without a word to anyone."""
        self._cluster.remove_node(node, allow_graceful=False)

    def drain(self, node: Any) -> None:
        """End a node as a provider does that takes a machine back and says so."""
        self._cluster.remove_node(node, allow_graceful=True)


@contextmanager
def ray_nodes() -> Iterator[Nodes]:
    """Start a head without CPUs; stop it and all its nodes afterwards."""
    with patch.dict(os.environ, HEALTH | OPEN):
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        try:
            yield Nodes(cluster)
        finally:
            cluster.shutdown()


@contextmanager
def autoscaled(folder: Path, node_types: dict[str, Any], max_workers: int) -> Iterator[str]:
    """Start a head without CPUs and Ray's autoscaler, whose nodes are processes here.

    The launcher's file lies in `folder`, the home of whoever drives a study there.

    Returns:
        The address.
    """
    port = free_port()
    address = f"{ray.util.get_node_ip_address()}:{port}"
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    file = folder / "ray_bootstrap_config.yaml"
    config = {
        "cluster_name": "autoscaled",
        "max_workers": max_workers,
        "idle_timeout_minutes": 1,
        "upscaling_speed": 10,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {HEAD: head, **node_types},
        "head_node_type": HEAD,
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        **{f"{name}_commands": [] for name in COMMANDS},
    }
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    options = [f"--autoscaling-config={file}", "--num-cpus=0"]
    settings = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1", **OPEN, **HEALTH}
    with _head(folder, port, options, settings):
        yield address


@contextmanager
def one_node(folder: Path, cpus: int) -> Iterator[str]:
    """Start a Ray of one node, for many commands.

    Returns:
        The address.
    """
    port = free_port()
    with _head(folder, port, [f"--num-cpus={cpus}", "--disable-usage-stats"], OPEN):
        yield f"{ray.util.get_node_ip_address()}:{port}"


@contextmanager
def _head(
    folder: Path, port: int, options: Sequence[str], settings: Mapping[str, str]
) -> Iterator[None]:
    place = tempfile.mkdtemp(prefix="ray-")  # in a short path: sockets lie there
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    command += [f"--port={port}", f"--temp-dir={place}", "--include-dashboard=false", *options]
    with (folder / "head.txt").open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment(**settings)
        )
        try:
            wait_until(lambda: "Ray runtime started" in (folder / "head.txt").read_text())
            yield
        finally:
            family = descendants(process.pid)
            process.kill()
            process.wait(30)
            for pid in family:
                kill(pid)
            shutil.rmtree(place, ignore_errors=True)
