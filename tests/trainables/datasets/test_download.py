"""Downloads: the whole verified file or nothing, whatever the mirror, the disk or a kill does."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import trainables.datasets.download as module
from search_spaces import BadInput
from trainables.datasets.download import DownloadError, download

CONTENT = os.urandom(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def send(request: BaseHTTPRequestHandler, content: bytes, announced: int | None = None) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(announced or len(content)))
    request.end_headers()
    request.wfile.write(content)


def good(request: BaseHTTPRequestHandler) -> None:
    send(request, CONTENT)


def dies_halfway(request: BaseHTTPRequestHandler) -> None:
    send(request, CONTENT[:50_000], announced=len(CONTENT))


def sends_garbage(request: BaseHTTPRequestHandler) -> None:
    send(request, b"<html>please log in</html>")


def sends_another_version(request: BaseHTTPRequestHandler) -> None:
    send(request, CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))


def is_not_found(request: BaseHTTPRequestHandler) -> None:
    request.send_error(404)


def hangs_up(request: BaseHTTPRequestHandler) -> None:
    request.connection.close()


def speaks_no_http(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"\x00\x01\x02 not http at all\r\n\r\n")


def hangs(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(CONTENT)))
    request.end_headers()
    request.wfile.write(CONTENT[:50_000])
    request.wfile.flush()
    time.sleep(30)


BAD_MIRRORS = [
    dies_halfway,
    sends_garbage,
    sends_another_version,
    is_not_found,
    hangs_up,
    speaks_no_http,
    hangs,
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "mnist"


def test_a_file_is_fetched_and_announced(
    serve: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(good) as mirror:
        path = download([mirror], "file.gz", SHA256, folder)
    assert path == folder / "file.gz"
    assert path.read_bytes() == CONTENT
    assert os.listdir(folder) == ["file.gz"]
    assert [record.getMessage() for record in caplog.records] == [
        f"downloading {mirror}file.gz to {folder}"
    ]


def test_the_file_can_be_read_by_others(serve: Any, folder: Path) -> None:
    with serve(good) as mirror:
        path = download([mirror], "file.gz", SHA256, folder)
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("bad", BAD_MIRRORS)
def test_a_bad_mirror_is_passed_over(
    bad: Any, serve: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 2.0)
    with serve(bad) as first, serve(good) as second:
        path = download([first, second], "file.gz", SHA256, folder)
    assert path.read_bytes() == CONTENT
    assert os.listdir(folder) == ["file.gz"]


@pytest.mark.parametrize("bad", BAD_MIRRORS)
def test_no_good_mirror_leaves_nothing_and_names_each(
    bad: Any, serve: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 2.0)
    with serve(bad) as first, pytest.raises(DownloadError) as failure:
        download([first, "http://127.0.0.1:9/"], "file.gz", SHA256, folder)
    assert first in str(failure.value)
    assert "http://127.0.0.1:9/" in str(failure.value)
    assert os.listdir(folder) == []


def test_endless_transfers_end(serve: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 200_000)

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(bytes(65536))
        except OSError:
            pass

    with serve(endless) as mirror, pytest.raises(DownloadError, match="200000 bytes"):
        download([mirror], "file.gz", SHA256, folder)


def test_a_wrong_file_in_place_is_not_touched_by_a_failure(serve: Any, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "file.gz").write_bytes(b"earlier")
    with serve(sends_garbage) as mirror, pytest.raises(DownloadError):
        download([mirror], "file.gz", SHA256, folder)
    assert (folder / "file.gz").read_bytes() == b"earlier"


def test_an_interrupt_before_the_rename_leaves_nothing(
    serve: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with serve(good) as mirror, pytest.raises(KeyboardInterrupt):
        download([mirror], "file.gz", SHA256, folder)
    assert os.listdir(folder) == []


def test_a_full_disk_is_told_and_leaves_nothing(
    serve: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with serve(good) as mirror, pytest.raises(BadInput, match="No space left") as refusal:
        download([mirror], "file.gz", SHA256, folder)
    assert str(folder) in str(refusal.value)
    assert "VAE_STUDY_CACHE" in str(refusal.value)
    assert os.listdir(folder) == []


def test_a_cache_below_a_file_is_refused_before_any_transfer(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    asked: list[BaseHTTPRequestHandler] = []
    with serve(asked.append) as mirror, pytest.raises(BadInput, match="cannot be written to"):
        download([mirror], "file.gz", SHA256, tmp_path / "file" / "cache")
    assert not asked


@pytest.mark.parametrize("as_root", [False, True])
def test_a_read_only_cache_is_refused_before_any_transfer(
    as_root: bool, serve: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(parents=True)
    if as_root:  # whom permissions do not stop; a read-only file system would
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    elif os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    folder.chmod(0o555)
    asked: list[BaseHTTPRequestHandler] = []
    with serve(asked.append) as mirror, pytest.raises(BadInput, match="Permission denied"):
        download([mirror], "file.gz", SHA256, folder)
    assert not asked


def test_abandoned_parts_are_removed_and_live_ones_left(serve: Any, folder: Path) -> None:
    folder.mkdir(parents=True)
    old, live, other = (
        folder / f".{name}.part" for name in ("file.gz.a", "file.gz.b", "else.gz.a")
    )
    for part in (old, live, other):
        part.write_bytes(b"half")
    for part in (old, other):
        os.utime(part, (time.time() - 7200,) * 2)
    with serve(good) as mirror:
        download([mirror], "file.gz", SHA256, folder)
    assert sorted(os.listdir(folder)) == sorted([live.name, other.name, "file.gz"])


FETCH = """
import sys
from pathlib import Path
from trainables.datasets.download import download
download([sys.argv[1]], "file.gz", sys.argv[2], Path(sys.argv[3]))
"""


def start_fetching(mirror: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", FETCH, mirror, SHA256, str(folder)]
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL)


def test_a_kill_in_mid_transfer_leaves_nothing(serve: Any, folder: Path) -> None:
    halfway = threading.Event()

    def stops_halfway(request: BaseHTTPRequestHandler) -> None:
        send(request, CONTENT[:50_000], announced=len(CONTENT))
        request.wfile.flush()
        halfway.set()
        time.sleep(30)

    with serve(stops_halfway) as mirror:
        process = start_fetching(mirror, folder)
        assert halfway.wait(60)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert os.listdir(folder) == []


def test_many_processes_may_fetch_at_once(serve: Any, folder: Path) -> None:
    meet = threading.Barrier(3)

    def all_at_once(request: BaseHTTPRequestHandler) -> None:
        meet.wait(60)
        send(request, CONTENT)

    with serve(all_at_once) as mirror:
        processes = [start_fetching(mirror, folder) for _ in range(3)]
        assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert os.listdir(folder) == ["file.gz"]
    assert (folder / "file.gz").read_bytes() == CONTENT
