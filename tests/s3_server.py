"""An S3 server on this machine (moto's), whose users and faults the tests decide on."""

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

KEY, SECRET = "a-key", "a/secret+with=signs"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}

Answer = tuple[str, str]  # status line and S3's code
SLOW_DOWN: Answer = ("503 Slow Down", "SlowDown")


class S3Server:
    """The server, with one bucket; it knows one user.

    Attributes:
        bucket: The bucket's name.
        fault: Answers a request, given its method and path, if it returns something.
        refused: How many requests were not served, by whatever cause.
    """

    def __init__(self) -> None:
        self._service = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        self._port = 0
        self.fault: Callable[[str, str], Answer | None] = lambda method, path: None
        self.refused = 0
        self.start()
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )
        self.bucket = f"bucket-{uuid4().hex}"
        self.create_bucket(self.bucket)

    @property
    def endpoint(self) -> str:
        """The server's address, as users write it."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def query(self) -> str:
        """What a user of a server of their own adds to a URI."""
        return f"endpoint_override={self.endpoint}"

    def uri(self, path: str = "studies", credentials: bool = False) -> str:
        """The URI of a folder in the bucket, with the user's key and secret or without."""
        user = f"{KEY}:{quote(SECRET, safe='')}@" if credentials else ""
        return f"s3://{user}{self.bucket}/{path}?{self.query}"

    def start(self) -> None:
        """Serve, at the same address as before."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of every request
        self._server = make_server("127.0.0.1", self._port, self._answer, threaded=True)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections; what is stored stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def create_bucket(self, name: str) -> None:
        """Make a bucket."""
        self._client.create_bucket(Bucket=name)

    def list_keys(self) -> list[str]:
        """The keys of all that is stored in the bucket."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def objects(self) -> dict[str, bytes]:
        """All that is stored in the bucket, by key."""
        return {key: self.read(key) for key in self.list_keys()}

    def read(self, key: str) -> bytes:
        """What is stored under a key."""
        content: bytes = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def uploads_left_open(self) -> int:
        """Uploads in parts that nobody has finished, which a real bucket's owner pays for."""
        answer = self._client.list_multipart_uploads(Bucket=self.bucket)
        return len(answer.get("Uploads", []))

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        refusal = self.fault(method, path) or _check_user(environ.get("HTTP_AUTHORIZATION", ""))
        if refusal is None:
            return self._service(environ, start_response)
        self.refused += 1
        status, code = refusal
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(status, [("Content-Type", "application/xml")])
        return [] if method == "HEAD" else [f"<Error><Code>{code}</Code></Error>".encode()]


def _check_user(authorization: str) -> Answer | None:
    """What S3 says to a stranger. The signature is not checked."""
    key = re.search(r"Credential=([^/]+)/", authorization)
    if key is None:
        return "403 Forbidden", "AccessDenied"
    return None if key[1] == KEY else ("403 Forbidden", "InvalidAccessKeyId")


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Serve until the end."""
    server = S3Server()
    try:
        yield server
    finally:
        server.stop()
