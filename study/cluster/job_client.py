"""Ray's client for jobs, with time limits, one-line errors and the token that the cluster wants."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from search_spaces import BadInput
from study.cluster.errors import ClusterError

__all__ = ["JobClient", "open_client"]

CONNECT_SECONDS, ANSWER_SECONDS = 10, 60
LOOPBACK = ("127.0.0.1", "localhost", "::1")
RAY_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""They tell of uploads and of connections closed, as news."""

TOKEN_FILE = "~/.ray/auth_token"
HOW_TO_GET_A_TOKEN = (
    "put the cluster's token (on its head, ~/.ray/auth_token) into ~/.ray/auth_token here, "
    "or into RAY_AUTH_TOKEN"
)


class JobClient(JobSubmissionClient):
    """Ray's own client; what it says goes through `_do_request`, which knows no time limit.

    Raises, whatever is asked:
        BadInput: The token is missing or wrong.
        ClusterError: No answer in time, or an error.
    """

    def __init__(self, address: str, name: str, headers: dict[str, str]) -> None:
        """Connect.

        Args:
            address: http://host:port.
            name: What messages call the cluster.
            headers: Sent with every request.
        """
        self._name = name  # first: the next line asks for the version
        super().__init__(address, headers=headers)

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", (CONNECT_SECONDS, ANSWER_SECONDS))
        options.setdefault("proxies", _proxies(self._address))
        try:
            return super()._do_request(method, endpoint, **options)
        except AuthenticationError as error:
            raise _refused(self._name, str(error)) from None
        except requests.RequestException as error:
            raise _no_answer(self._name, error) from None

    def _raise_error(self, r: requests.Response) -> None:
        raise ClusterError(f"{self._name}: {_gist(r.text) or r.reason}")


def open_client(address: str, name: str) -> JobClient:
    """Connect to a Ray dashboard.

    The token goes to clusters that ask for one, and to no other.

    Args:
        address: http://host:port.
        name: What messages call the cluster, where the address is a tunnel's.

    Raises:
        BadInput: The cluster wants a token that we lack, or refuses ours.
        ClusterError: Nothing answers there in time, or what answers is not Ray.
    """
    for logger in RAY_LOGGERS:
        logging.getLogger(logger).setLevel(logging.WARNING)
    headers = {}
    if _wants_token(address, name):
        token = _token()
        if token is None:
            raise BadInput(f"token: the cluster {name} wants one; {HOW_TO_GET_A_TOKEN}")
        headers["Authorization"] = f"Bearer {token}"
    try:
        with _no_other_address(address):
            return JobClient(address, name, headers)
    except AuthenticationError:  # RAY_AUTH_MODE=token here, and no token
        raise BadInput(
            f"token: RAY_AUTH_MODE says that there is one; {HOW_TO_GET_A_TOKEN}"
        ) from None
    except (RuntimeError, KeyError, requests.RequestException) as error:
        raise ClusterError(f"{name} is not a Ray dashboard: {_gist(str(error))}") from None


def _wants_token(address: str, name: str) -> bool:
    try:
        answer = requests.get(
            f"{address}/api/authentication_mode",
            timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
            proxies=_proxies(address),
        )
    except requests.RequestException as error:
        raise _no_answer(name, error) from None
    return answer.ok and '"token"' in answer.text


def _token() -> str | None:
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE).expanduser()
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"token: {path} cannot be read ({error})") from None


@contextmanager
def _no_other_address(address: str) -> Iterator[None]:
    """Keep Ray's client from preferring the address in RAY_ADDRESS to the one it is given."""
    before = os.environ.get("RAY_API_SERVER_ADDRESS")
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ["RAY_API_SERVER_ADDRESS"]
        else:
            os.environ["RAY_API_SERVER_ADDRESS"] = before


def _proxies(address: str) -> dict[str, str] | None:
    """No proxy on the way to this machine, which is where tunnels begin."""
    return {"http": "", "https": ""} if urlsplit(address).hostname in LOOPBACK else None


def _refused(name: str, said: str) -> BadInput:
    if "Missing" in said:
        return BadInput(f"token: the cluster {name} wants one; {HOW_TO_GET_A_TOKEN}")
    return BadInput(f"token: the cluster {name} refuses the one that is here; {HOW_TO_GET_A_TOKEN}")


def _no_answer(name: str, error: requests.RequestException) -> ClusterError:
    if isinstance(error, requests.Timeout):
        reason = "no answer in time"
    elif "refused" in str(error):
        reason = "connection refused"
    else:
        reason = _gist(str(error))
    return ClusterError(
        f"no Ray dashboard at {name} ({reason}); is the cluster up, and the tunnel to its "
        "dashboard open (`ray dashboard cluster.yaml`)?"
    )


def _gist(text: str) -> str:
    """The line of a traceback that says what happened."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" .")]
    telling = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (telling or lines or [""])[-1]
