"""A small published-looking collection, and a local web server that can misbehave."""

import gzip
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.datasets.idx_collections import COLLECTIONS, FILE_NAMES, IdxCollection, Part

Arrays = dict[Part, NDArray[np.uint8]]
Respond = Callable[[BaseHTTPRequestHandler], None]
Serve = Callable[[Respond], AbstractContextManager[str]]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the machine's data or cache, or goes through a proxy."""
    monkeypatch.delenv("VAE_STUDY_DATA", raising=False)
    monkeypatch.setenv("VAE_STUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def arrays() -> Arrays:
    """Random images and labels in MNIST's manner: 30 for training, 10 for testing."""
    random = np.random.default_rng(7)
    return {
        "train_images": random.integers(0, 256, (30, 28, 28), dtype=np.uint8),
        "test_images": random.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        "train_labels": random.integers(0, 10, 30, dtype=np.uint8),
        "test_labels": random.integers(0, 10, 10, dtype=np.uint8),
    }


@pytest.fixture
def published(
    tmp_path: Path, arrays: Arrays, write_idx: Callable[[Path, NDArray[Any]], Path]
) -> Path:
    """The folder of the collection's four .gz files, as a mirror has them."""
    for part, array in arrays.items():
        write_idx(tmp_path / "published" / f"{FILE_NAMES[part]}.gz", array)
    return tmp_path / "published"


@pytest.fixture
def collection(published: Path, monkeypatch: pytest.MonkeyPatch) -> IdxCollection:
    """A small collection under the name mnist, whose only mirror is out of reach."""
    stored = {part: (published / f"{name}.gz").read_bytes() for part, name in FILE_NAMES.items()}
    small = IdxCollection(
        name="mnist",
        description="small",
        mirrors=("http://127.0.0.1:9/",),  # the discard port: nothing listens
        archives={part: hashlib.sha256(file).hexdigest() for part, file in stored.items()},
        contents={
            part: hashlib.sha256(gzip.decompress(file)).hexdigest() for part, file in stored.items()
        },
        train_images=30,
        test_images=10,
    )
    monkeypatch.setitem(COLLECTIONS, "mnist", small)
    return small


@pytest.fixture
def serve() -> Serve:
    """Runs a web server on this machine for a while; gives its base URL."""

    @contextmanager
    def run(respond: Respond) -> Iterator[str]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                respond(self)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    return run


@pytest.fixture
def files_of(published: Path) -> Respond:
    """Answers with the published files, slowly enough for two fetchers to overlap."""

    def respond(request: BaseHTTPRequestHandler) -> None:
        path = published / request.path.lstrip("/")
        if not path.is_file():
            request.send_error(404)
            return
        content = path.read_bytes()
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        for start in range(0, len(content), 4096):
            request.wfile.write(content[start : start + 4096])
            time.sleep(0.005)

    return respond
