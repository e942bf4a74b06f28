import errno
import os
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import fs

from study.storage import Folder, StorageError
from study.storage_faults import as_storage_error

PASSING = "EIO ENOSPC EDQUOT ESTALE ETIMEDOUT ECONNREFUSED ECONNRESET EHOSTUNREACH ENOTCONN EAGAIN"
LASTING = "EACCES EPERM ENOENT ENOTDIR EISDIR EEXIST EROFS ENAMETOOLONG EINVAL EFBIG ELOOP"


@pytest.mark.parametrize("name", PASSING.split())
def test_what_passes(name: str) -> None:
    number = getattr(errno, name)
    error = as_storage_error("cannot write x", OSError(number, os.strerror(number)))
    assert error.passing
    assert str(error) == f"cannot write x: {os.strerror(number)}"


@pytest.mark.parametrize("name", LASTING.split())
def test_what_does_not(name: str) -> None:
    number = getattr(errno, name)
    assert not as_storage_error("", OSError(number, os.strerror(number))).passing


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionError("reset"), TimeoutError("slow")])
def test_python_s_own_need_no_number(error: OSError) -> None:
    assert error.errno is None
    assert as_storage_error("", error).passing


@pytest.mark.parametrize("error", [OSError("unheard of"), pa.ArrowInvalid("not parquet")])
def test_what_nobody_knows_does_not_pass(error: BaseException) -> None:
    assert not as_storage_error("", error).passing


def test_it_stays_what_it_is_on_its_way_from_a_worker() -> None:
    error = as_storage_error("cannot read x", OSError(errno.ESTALE, "Stale file handle"))
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.passing, copy.reason) == (str(error), True, "Stale file handle")


def test_real_errors_of_a_local_disk(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    for attempt in (
        lambda: folder.read_bytes("missing"),
        lambda: folder.write_whole("file/below", b""),
        lambda: folder.read_bytes("file/below"),
    ):
        with pytest.raises(StorageError) as caught:
            attempt()
        assert not caught.value.passing
    with pytest.raises(StorageError) as caught:
        Folder.at("/dev").read_bytes("full/x")
    assert not caught.value.passing
    with pytest.raises(StorageError) as caught:
        folder.attempt("write", "x", lambda: Path("/dev/full").write_bytes(b"x"))
    assert caught.value.passing


class Store(BaseHTTPRequestHandler):
    """An object store that has one answer to everything."""

    status, code = 200, ""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = (
            b"" if self.command == "HEAD" else f"<Error><Code>{self.code}</Code></Error>".encode()
        )
        self.send_response(self.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def __getattr__(self, name: str) -> object:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def store() -> Iterator[int]:
    """The port of such a store."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "passes"),
    [
        (503, "SlowDown", True),
        (503, "ServiceUnavailable", True),
        (500, "InternalError", True),
        (400, "RequestTimeout", True),
        (429, "TooManyRequests", True),
        (507, "XMinioStorageFull", True),
        (403, "AccessDenied", False),
        (403, "InvalidAccessKeyId", False),
        (403, "SignatureDoesNotMatch", False),
        (404, "NoSuchBucket", False),
        (301, "PermanentRedirect", False),
        (400, "InvalidRequest", False),
    ],
)
def test_what_s3_says(store: int, status: int, code: str, passes: bool) -> None:
    Store.status, Store.code = status, code
    folder = Folder.at(f"s3://key:secret@bucket/x?endpoint_override=http://127.0.0.1:{store}")
    with pytest.raises(StorageError, match=r"cannot write .*AWS Error") as caught:
        folder.write_whole("a", b"x")
    assert caught.value.passing == passes
    assert caught.value.reason.startswith("AWS Error")
    if status != 404:  # which pyarrow takes for a file that is not there
        with pytest.raises(StorageError, match="cannot look for") as caught:
            folder.exists("a")
        # A HEAD's answer has no body, so only the status is known.
        assert caught.value.passing == (status >= 429)


@pytest.mark.parametrize(("status", "passes"), [(503, True), (403, False), (401, False)])
def test_what_google_says(store: int, status: int, passes: bool) -> None:
    Store.status, Store.code = status, ""
    folder = Folder.at(
        f"gs://anonymous@bucket/x?endpoint_override=127.0.0.1:{store}&scheme=http"
        "&retry_limit_seconds=1"
    )
    assert isinstance(folder.filesystem, fs.GcsFileSystem)
    with pytest.raises(StorageError) as caught:
        folder.exists("a")
    assert caught.value.passing == passes
