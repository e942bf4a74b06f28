import logging
import pickle
import re
import socket
import time
import traceback
from collections.abc import Iterator
from urllib.parse import quote

import pandas as pd
import pytest
from pyarrow import fs

from search_spaces import BadInput
from study import ledger
from study.filesystems import open_location, without_secrets
from study.storage import Folder, StorageError
from tests.s3_server import CREDENTIALS, KEY, SECRET, S3Server


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's one user."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who is known anywhere."""
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


@pytest.mark.usefixtures("user")
def test_a_uri_leads_back_to_the_folder(s3: S3Server) -> None:
    folder = Folder.at(s3.uri("some%20where/studies"))
    folder.child("mnist").write_whole("a b.txt", b"text")
    for again in (str(folder), str(folder.child("mnist").parent)):
        assert Folder.at(again).child("mnist").read_bytes("a b.txt") == b"text"
    assert Folder.at(str(folder.child("mnist"))).files() == ["a b.txt"]
    assert f"{s3.bucket}/some where/studies/mnist/a b.txt" not in s3.objects()
    assert "some where/studies/mnist/a b.txt" in s3.objects()


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    "form",
    [
        "{0}?endpoint_override=http://{1}",
        "{0}?endpoint_override=http%3A%2F%2F{1}",
        "{0}?endpoint_override={1}&scheme=http",
        "{0}?region=eu-west-1&scheme=http&endpoint_override={1}",
    ],
)
def test_ways_to_write_an_endpoint(s3: S3Server, form: str) -> None:
    uri = form.format(f"s3://{s3.bucket}/forms", s3.endpoint.removeprefix("http://"))
    folder = Folder.at(uri)
    folder.create()
    Folder.at(str(folder)).create()


@pytest.mark.usefixtures("user")
def test_the_endpoint_from_the_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    Folder.at(f"s3://{s3.bucket}/studies").write_whole("by_environment", b"x")
    assert "studies/by_environment" in s3.objects()


@pytest.mark.usefixtures("user")
def test_pandas_reads_tables_by_url(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder.at(s3.uri("by-url"))
    ledger.create_tables(folder)
    frame = pd.read_parquet(str(folder.child("trials")))
    assert "latent_dim" in frame
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert pd.read_parquet(f"s3://{s3.bucket}/by-url/trials").equals(frame)


@pytest.mark.usefixtures("stranger")
def test_credentials_in_a_uri_work_and_are_seen_nowhere(
    s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = Folder.at(s3.uri("secret", credentials=True))
    folder.create()
    child = folder.child("mnist")
    child.write_whole("a", b"x")
    copy = pickle.loads(pickle.dumps(child))  # as a worker gets it
    assert copy.read_bytes("a") == b"x"
    seen = [str(folder), repr(folder), str(child), str(folder.parent), repr(copy), caplog.text]
    with pytest.raises(StorageError) as caught:
        child.read_bytes("missing")
    seen.append(str(caught.value))
    for text in seen:
        assert SECRET not in text
        assert quote(SECRET, safe="") not in text
        assert KEY not in text
    with pytest.raises(StorageError, match="ACCESS_DENIED"):
        Folder.at(str(child)).exists("a")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://KEY:SE/CRET@bucket/x",
        "s3://KEY:SECRET@",
        "s3://KEY:SECRET@bucket/x?unknown=1",
        "s3://KEY:SECRET@bucket/a b",
        "s3://bucket/x?secret_key=SECRET&access_key=KEY",
        "s3://bucket/x?region=eu-west-1&session_token=SECRET",
        "nope://KEY:SECRET@bucket/x",
        "abfs://bucket:SECRET@account/x?client_secret=SECRET",
    ],
)
def test_secrets_are_not_quoted_in_errors(uri: str) -> None:
    with pytest.raises(BadInput, match=r"storage: .* cannot be opened") as caught:
        Folder.at(uri)
    shown = "".join(traceback.format_exception(caught.value))  # what caused it, too
    for secret in ("SE/", "SECRET", "CRET", "KEY"):
        assert secret not in str(caught.value)
        assert secret not in shown


def test_a_secret_in_a_query_is_not_shown() -> None:
    folder = Folder.at(
        "abfs://container@account.dfs.core.windows.net/x?tenant_id=t&client_id=KEY"
        "&client_secret=SECRET"
    )
    for text in (str(folder), repr(folder), str(folder.child("y"))):
        assert "SECRET" not in text
        assert "KEY" not in text


def test_what_is_no_secret_stays() -> None:
    for text in (
        "s3://bucket/a/b?endpoint_override=http://host:9000&scheme=http&region=x",
        "/home/someone@work/studies",
        "cannot read x: AWS Error (HTTP status 403)",
    ):
        assert without_secrets(text) == text
    assert without_secrets("s3://b/x?a=SECRET&region=r") == "s3://b/x?a=***&region=r"


def refused(uri: str) -> tuple[str, float]:
    start = time.monotonic()
    with pytest.raises(BadInput, match=r"^storage: .* cannot be (used|opened)") as caught:
        Folder.at(uri).create()
    assert "\n" not in str(caught.value)
    return str(caught.value), time.monotonic() - start


@pytest.mark.usefixtures("stranger")
def test_missing_credentials(s3: S3Server) -> None:
    message, seconds = refused(s3.uri())
    assert "ACCESS_DENIED" in message
    assert "AWS_ACCESS_KEY_ID" in message
    assert seconds < 20


@pytest.mark.usefixtures("user")
def test_wrong_credentials(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    message, seconds = refused(s3.uri())
    assert "INVALID_ACCESS_KEY_ID" in message
    assert "give credentials" in message
    assert seconds < 5


@pytest.mark.usefixtures("user")
def test_missing_bucket(s3: S3Server) -> None:
    message, seconds = refused(f"s3://no-such-bucket/studies?{s3.query}")
    assert "NO_SUCH_BUCKET" in message
    assert "create the bucket first" in message
    assert seconds < 5


@pytest.mark.usefixtures("user")
def test_wrong_endpoints(s3: S3Server) -> None:
    host = s3.endpoint.removeprefix("http://")
    for endpoint in ("http://127.0.0.1:9", "http://nowhere.invalid", host):  # the last speaks TLS
        message, seconds = refused(f"s3://{s3.bucket}/x?endpoint_override={endpoint}")
        assert "check the network" in message
        assert seconds < 20


@pytest.fixture
def hole() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.usefixtures("user")
def test_a_server_that_says_nothing(hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow would wait for it for 99 seconds to read, and longer to write."""
    monkeypatch.setattr("study.filesystems.STALL_SECONDS", 1.0)
    folder = Folder.at(f"s3://bucket/x?endpoint_override=http://{hole}")
    start = time.monotonic()
    with pytest.raises(StorageError, match="NETWORK_CONNECTION") as caught:
        folder.exists("x")
    assert caught.value.passing
    assert time.monotonic() - start < 15


def test_limits_travel_to_workers_and_google_has_them_too() -> None:
    for uri, name in (
        ("s3://bucket/x?region=eu-west-1", "request_timeout"),
        ("gs://anonymous@bucket/x", "retry_time_limit"),
    ):
        filesystem = open_location(uri)[0]
        sent = pickle.loads(pickle.dumps(filesystem))
        for one in (filesystem, sent):
            limit = one.__reduce__()[1][0][name]
            assert 0 < getattr(limit, "total_seconds", lambda limit=limit: limit)() <= 60
    own = open_location("gs://anonymous@bucket/x?retry_limit_seconds=7")[0]
    assert own.__reduce__()[1][0]["retry_time_limit"].total_seconds() == 7


@pytest.mark.usefixtures("user")
def test_a_small_file_is_a_single_put(s3: S3Server) -> None:
    requests: list[str] = []

    def record(method: str, path: str) -> None:
        if re.search(r"/single$", path):
            requests.append(method)

    folder = Folder.at(s3.uri("puts"))
    s3.fault = record
    try:
        folder.write_whole("single", b"x" * 100_000)
    finally:
        s3.fault = lambda method, path: None
    assert requests == ["PUT"]
    large = bytes(12 * 2**20)
    folder.write_whole("large", large)
    assert folder.read_bytes("large") == large
    assert s3.uploads_left_open() == 0


def test_local_places_have_no_query() -> None:
    filesystem, *rest = open_location("file:///tmp/x")
    assert isinstance(filesystem, fs.LocalFileSystem)
    assert rest == ["/tmp/x", "", ""]
