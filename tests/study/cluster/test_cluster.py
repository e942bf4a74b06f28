"""Which cluster, which storage, which head; and connections that fail."""

import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from search_spaces import BadInput
from study.cluster import head_ssh, job_client
from study.cluster.cluster import Cluster, find_cluster
from study.cluster.errors import ClusterError
from study.cluster.head_ssh import find_head, tunnel
from study.cluster.storage import readable_study, storage_for_jobs

REPOSITORY = Path(__file__).resolve().parents[3]
FILE = "cluster_name: a\nprovider: {type: local, head_ip: 10.0.0.1}\nauth: {ssh_user: me}\n"
URL = "http://10.0.0.9:8265"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_which_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="which cluster"):
        find_cluster(None, None)
    Path("cluster.yaml").write_text(FILE)
    Path("other.yaml").write_text(FILE)
    assert find_cluster(None, None) == Cluster(file=Path("cluster.yaml"))
    assert find_cluster(None, None).option == ""
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://10.0.0.2:1/")
    assert find_cluster(None, None) == Cluster(address="http://10.0.0.2:1")
    assert find_cluster(URL, None).option == f" --address {URL}"
    assert find_cluster(None, Path("other.yaml")) == Cluster(file=Path("other.yaml"))
    assert find_cluster(None, Path("other.yaml")).option == " --cluster other.yaml"
    with pytest.raises(BadInput, match="not both"):
        find_cluster(URL, Path("other.yaml"))
    for wrong in ("127.0.0.1:8265", "ray://10.0.0.1:10001", "auto"):
        with pytest.raises(BadInput, match="not the address of a Ray dashboard"):
            find_cluster(wrong, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read .No such file"),
        ("{", "cannot be read"),
        ("\xff", "cannot be read|not a file for Ray"),
        ("study: tiny", "not a file for Ray's cluster launcher"),
        ("- a", "not a file for Ray's cluster launcher"),
        (FILE + "metadata: {vae_study: s3://b}", "metadata.vae_study is not a mapping"),
    ],
)
def test_launcher_files_that_are_none(text: str | None, said: str) -> None:
    if text is not None:
        Path("c.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=said):
        _ = Cluster(file=Path("c.yaml")).storage


def test_where_studies_go(tmp_path: Path) -> None:
    Path("with.yaml").write_text(FILE + "metadata: {vae_study: {storage: 's3://b/studies'}}")
    Path("without.yaml").write_text(FILE + "metadata: {mine: 1}")
    with_storage, without = (Cluster(file=Path(f"{name}.yaml")) for name in ("with", "without"))
    assert storage_for_jobs(with_storage, None) == "s3://b/studies"
    assert storage_for_jobs(with_storage, "/nfs/studies") == "/nfs/studies"
    assert storage_for_jobs(without, "gs://b") == "gs://b"
    for cluster in (without, Cluster(address=URL)):
        with pytest.raises(BadInput, match="where shall the cluster put the study"):
            storage_for_jobs(cluster, None)
    for relative in ("studies", "./x", "../x"):
        with pytest.raises(BadInput, match="is relative to a folder of this machine"):
            storage_for_jobs(with_storage, relative)
    assert readable_study(str(tmp_path), "none") is None
    assert readable_study("~/studies", "none") is None


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster-onprem.yaml"])
def test_the_files_of_this_project(name: str) -> None:
    cluster = Cluster(file=REPOSITORY / name)
    assert storage_for_jobs(cluster, None)
    assert cluster.name


def test_logging_in() -> None:
    def head(provider: dict[str, Any], auth: dict[str, Any]) -> head_ssh.Head:
        return find_head(Path("c.yaml"), {"provider": provider, "auth": auth})

    local = {"type": "local", "head_ip": "10.0.0.1"}
    plain = head(local, {"ssh_user": "me"})
    assert plain.target == "me@10.0.0.1"
    assert "-i" not in plain.options
    assert "ControlPath=none" in plain.options  # or the tunnel would outlive the command
    with pytest.raises(BadInput, match=r"lacks the head's address or auth.ssh_user"):
        head({"type": "local"}, {"ssh_user": "me"})
    with pytest.raises(BadInput, match=r"lacks the head's address or auth.ssh_user"):
        head(local, {})
    with pytest.raises(BadInput, match=r"--address http://127.0.0.1:8265"):
        head(local, {"ssh_user": "me", "ssh_proxy_use_node_id": True})


def test_asking_the_provider(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The launcher made the key; Ray's chatter does not reach standard output."""
    from ray.autoscaler import sdk

    content = {"provider": {"type": "aws"}, "auth": {"ssh_user": "ubuntu"}}
    asked = []

    def bootstrap(config: dict[str, Any]) -> dict[str, Any]:
        print("Checking AWS environment settings")
        config["auth"]["ssh_private_key"] = "/keys/made.pem"
        return config

    def head_ip(file: str) -> str:
        asked.append(file)
        return "203.0.113.5"

    monkeypatch.setattr(sdk, "bootstrap_config", bootstrap)
    monkeypatch.setattr(sdk, "get_head_node_ip", head_ip)
    head = find_head(Path("c.yaml"), content)
    assert head.target == "ubuntu@203.0.113.5"
    assert head.options[:2] == ("-i", "/keys/made.pem")
    assert content["auth"] == {"ssh_user": "ubuntu"}
    assert asked == ["c.yaml"]
    assert capsys.readouterr().out == ""

    def no_head(file: str) -> str:
        raise RuntimeError("Head node of cluster (a) not found!")

    monkeypatch.setattr(sdk, "get_head_node_ip", no_head)
    with pytest.raises(ClusterError, match=r"no running head .*not found!.; `ray up c.yaml`"):
        find_head(Path("c.yaml"), content)

    def no_library(file: str) -> str:
        raise ModuleNotFoundError("No module named 'boto3'", name="boto3")

    monkeypatch.setattr(sdk, "get_head_node_ip", no_library)
    with pytest.raises(BadInput, match="its provider needs boto3"):
        find_head(Path("c.yaml"), content)


def test_a_tunnel_that_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'me@head: Permission denied (publickey).' >&2; exit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with (
        pytest.raises(ClusterError, match=r"no connection .* me@head: .*Permission denied"),
        tunnel(head_ssh.Head("me@head", ()), 8265),
    ):
        pass
    ssh.write_text("#!/bin/sh\nexec sleep 100\n")
    monkeypatch.setattr(head_ssh, "CONNECT_SECONDS", 0.5)
    start = time.monotonic()
    with (
        pytest.raises(ClusterError, match="no answer in time"),
        tunnel(head_ssh.Head("me@head", ()), 8265),
    ):
        pass
    assert time.monotonic() - start < 10


@contextmanager
def _server(answer: bytes | None) -> Iterator[str]:
    """A web server that is not Ray; with None, one that accepts and says nothing."""
    if answer is None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield f"http://127.0.0.1:{silent.getsockname()[1]}"
        return

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if answer else 404)
            self.end_headers()
            self.wfile.write(answer or b"not here")

        def log_message(self, *arguments: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "it is not a Ray dashboard"),
        (b"<html>", "is not a Ray dashboard"),
        (b"{}", "is not a Ray dashboard"),
        (b'{"ray_version": "1.2.0"}', "is not a Ray dashboard: Ray version 1.2.0 is running"),
        (None, "no answer in time"),
    ],
)
def test_what_is_not_ray(answer: bytes | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_client, "ANSWER_SECONDS", 1)
    start = time.monotonic()
    with _server(answer) as address, pytest.raises(ClusterError, match=said) as error:
        job_client.open_client(address, "it")
    assert time.monotonic() - start < 10
    assert "\n" not in str(error.value)


def test_a_dashboard_that_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_client, "ANSWER_SECONDS", 0.5)
    with _server(b'{"ray_version": "2.60.0"}') as address:
        client = job_client.open_client(address, "it")
    with _server(None) as silent:
        client._address = silent
        start = time.monotonic()
        with pytest.raises(ClusterError, match=r"no Ray dashboard at it .no answer in time"):
            client.list_jobs()
    assert time.monotonic() - start < 10


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where a proxy would answer for it, or RAY_ADDRESS names another cluster."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with _server(b'{"ray_version": "2.60.0"}') as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
        with pytest.raises(ClusterError, match=r"no Ray dashboard at it .connection refused"):
            job_client.open_client(f"http://127.0.0.1:{port}", "it")
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://unchanged")
        client = job_client.open_client(proxy, "it")
    assert client.get_address() == proxy
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://unchanged"
    with pytest.raises(ClusterError):
        client.list_jobs()


def test_the_token_goes_to_whom_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret-of-another-cluster")
    with _server(b'{"ray_version": "2.60.0", "authentication_mode": "disabled"}') as address:
        assert "secret" not in str(job_client.open_client(address, "it")._headers)
    with _server(b'{"ray_version": "2.60.0", "authentication_mode": "token"}') as address:
        assert "Bearer secret-of-another-cluster" in str(
            job_client.open_client(address, "it")._headers
        )
        monkeypatch.delenv("RAY_AUTH_TOKEN")
        with pytest.raises(BadInput, match=r"wants one; put the cluster's token .*auth_token"):
            job_client.open_client(address, "it")
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text(" from-the-file\n")
        assert "Bearer from-the-file" in str(job_client.open_client(address, "it")._headers)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path))
        with pytest.raises(BadInput, match="cannot be read"):
            job_client.open_client(address, "it")
