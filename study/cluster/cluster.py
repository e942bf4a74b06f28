"""Which cluster a command is about, and the connection to it while the command runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from search_spaces import BadInput
from study.cluster.head_ssh import Head, find_head, tunnel

if TYPE_CHECKING:
    from study.cluster.job_client import JobClient

__all__ = ["Cluster", "find_cluster"]

DEFAULT_FILE = Path("cluster.yaml")
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
DASHBOARD_PORT = 8265


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, by the address of its dashboard or by the launcher's file.

    Attributes:
        address: http://host:port of the dashboard; empty where a file says how to get there.
        file: The cluster launcher's file; None where there is an address.
    """

    address: str = ""
    file: Path | None = None

    def __str__(self) -> str:
        return self.address or str(self.file)

    @property
    def option(self) -> str:
        """The option that names this cluster, for commands that the user is told to type."""
        if self.address:
            return f" --address {self.address}"
        return "" if self.file == DEFAULT_FILE else f" --cluster {self.file}"

    @property
    def name(self) -> str:
        """The name that the launcher's file gives."""
        return str(self._content().get("cluster_name"))

    @property
    def storage(self) -> str | None:
        """Where the launcher's file says that studies go: `metadata: {vae_study: {storage: …}}`."""
        storage = self._settings().get("storage")
        return None if storage is None else str(storage)

    def head(self) -> Head:
        """Return how to reach the head over SSH.

        Raises:
            BadInput: Only an address is known, or the file does not say how.
            ClusterError: There is no head.
        """
        if self.file is None:
            raise BadInput(
                f"--address: {self.address} leads to the dashboard only, and files are fetched "
                "over SSH; give --cluster with the file that `ray up` was given"
            )
        return find_head(self.file, self._content())

    @contextmanager
    def connect(self) -> Iterator["JobClient"]:
        """Connect to the dashboard; with a launcher's file through a tunnel, closed at the end.

        Raises:
            BadInput: No token or a wrong one, or the file does not say how to get there.
            ClusterError: Nothing answers, or what answers is not Ray.
        """
        from study.cluster.job_client import open_client  # imports Ray

        if self.file is None:
            yield open_client(self.address, str(self))
            return
        remote_port = int(self._settings().get("dashboard_port", DASHBOARD_PORT))
        with tunnel(self.head(), remote_port) as port:
            yield open_client(f"http://127.0.0.1:{port}", str(self))

    def _content(self) -> dict[str, Any]:
        if self.file is None:
            return {}
        try:
            content = yaml.safe_load(self.file.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise BadInput(f"--cluster: {self.file} cannot be read ({reason})") from None
        if not (isinstance(content, dict) and "provider" in content and "auth" in content):
            raise BadInput(
                f"--cluster: {self.file} is not a file for Ray's cluster launcher; "
                "see cluster.yaml of this project for one"
            )
        return content

    def _settings(self) -> dict[str, Any]:
        """What the file says to us: Ray leaves `metadata` to its users."""
        settings = (self._content().get("metadata") or {}).get("vae_study") or {}
        if not isinstance(settings, dict):
            raise BadInput(f"--cluster: {self.file}: metadata.vae_study is not a mapping")
        return settings


def find_cluster(address: str | None, file: Path | None) -> Cluster:
    """Return the cluster that the options name, or else the environment, or else ./cluster.yaml.

    Raises:
        BadInput: None of them does, or both options are given.
    """
    if address and file:
        raise BadInput("--address: give either --address or --cluster, not both")
    if file is None:
        address = address or os.environ.get(ADDRESS_VARIABLE)
    if address:
        if not address.startswith(("http://", "https://")):
            raise BadInput(
                f"--address: {address!r} is not the address of a Ray dashboard; "
                "give one such as http://127.0.0.1:8265"
            )
        return Cluster(address=address.rstrip("/"))
    if file is None and not DEFAULT_FILE.exists():
        raise BadInput(
            "--address: which cluster? Give --cluster with the file that `ray up` was given, or "
            f"--address with a dashboard's address; there is no {DEFAULT_FILE} here"
        )
    return Cluster(file=file or DEFAULT_FILE)
