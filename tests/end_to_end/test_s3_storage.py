"""A study in an object store: the real command against a real S3 server on this machine."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest

from study.driver_folder import DRIVER_FILE
from tests.end_to_end.command import (
    CPUS,
    descendants,
    environment,
    kill,
    measured,
    started,
    succeed,
    table,
    vae_study,
    wait_until,
    write_spec,
)
from tests.s3_server import CREDENTIALS, KEY, SECRET, S3Server, s3_server

SPEC: dict[str, Any] = {
    "study": "away",
    "dataset": {"name": "tiles", "train_images": 600, "test_images": 200},
    "axes": {
        "architecture": {"family": "dense", "widths": [[32, 16], [24]]},
        "latent_dim": [2, 5],
        "beta": [0.5, 2],
        "seed": [0, 1],
    },
    "training": {"epochs": 30, "precision": "float64", "batch_size": 50},
    "resources": {"pack_size": 4, "checkpoint_seconds": 0},
    "record": {"every": 10, "models": True, "reconstruction_gain_images": 100},
}
TRIALS = 16
KEYS = {
    "trials": ["trial_id"],
    "units": ["trial_id", "epoch", "split", "unit"],
    "epochs": ["trial_id", "epoch"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(
    shared_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pd.DataFrame]:
    """The tables of a run that nothing happened to, on a local disk."""
    folder = tmp_path_factory.mktemp("undisturbed")
    succeed(folder, "run", write_spec(folder, SPEC))
    return {name: table(folder, "away", name) for name in KEYS}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """For pandas in this process too."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def by_url(server: S3Server, name: str, place: str) -> pd.DataFrame:
    """A table as users read it."""
    return pd.read_parquet(server.uri(f"{place}/away/{name}"))


def marks(server: S3Server, place: str) -> int:
    return sum(key.startswith(f"{place}/away/trials/pack-") for key in server.list_keys())


def in_the_middle(server: S3Server, place: str) -> bool:
    checkpoints = [
        key for key in server.list_keys() if key.startswith(f"{place}/away/checkpoints/pack")
    ]
    return marks(server, place) > 0 and checkpoints != []


def assert_undamaged(server: S3Server, place: str, undisturbed: dict[str, pd.DataFrame]) -> None:
    trials = by_url(server, "trials", place)
    assert len(trials) == TRIALS
    assert set(trials["status"]) == {"completed"}
    for name, key in KEYS.items():
        one, two = (
            measured(rows, key) for rows in (by_url(server, name, place), undisturbed[name])
        )
        pd.testing.assert_frame_equal(one, two, rtol=1e-9, atol=1e-12)
    below = {key.removeprefix(f"{place}/away/") for key in server.list_keys() if place in key}
    assert {f"models/{trial_id}.safetensors" for trial_id in trials["trial_id"]} <= below
    assert not [key for key in below if ".tmp" in key or key.endswith("checkpoints/pack")]
    assert not [key for key in below if "checkpoints/" in key and key != "checkpoints/"]
    assert server.uploads_left_open() == 0


@pytest.mark.slow
def test_killed_and_resumed(
    tmp_path: Path, server: S3Server, undisturbed: dict[str, pd.DataFrame]
) -> None:
    """And every command works from there; pandas reads the tables while it runs."""
    place, storage = "killed", ("--storage", server.uri("killed"))
    with started(tmp_path, "run", write_spec(tmp_path, SPEC), *CPUS, *storage) as driver:
        wait_until(lambda: in_the_middle(server, place), what="a commit and a checkpoint")
        assert by_url(server, "trials", place)["trial_id"].is_unique
        family = descendants(driver.pid)
        driver.kill()
        driver.wait(30)
        for pid in family:
            kill(pid)
    there = by_url(server, "trials", place)
    assert 0 < len(there) < TRIALS  # else the study has become too short for this test
    status = succeed(tmp_path, "status", "away", *storage)
    assert f"{len(there)} of {TRIALS} trials done" in status

    done = vae_study(tmp_path, "resume", "away", *CPUS, *storage, report=True)
    assert done.returncode == 0, done.stderr
    assert_undamaged(server, place, undisturbed)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("tables: ")]
    assert len(pd.read_parquet(line.split()[1].rstrip(","))) == TRIALS
    assert "killed/away/report.html" in server.list_keys()
    before = server.objects()
    again = vae_study(tmp_path, "resume", "away", *CPUS, *storage)
    assert "all 16 trials are done already" in again.stderr
    assert server.objects() == before
    assert "away" in succeed(tmp_path, "list", *storage)
    rows = succeed(tmp_path, "results", "away", "--format", "csv", *storage)
    assert len(rows.splitlines()) == TRIALS + 1
    succeed(tmp_path, "report", "away", "--format", "md", "-o", "report.md", *storage)
    assert {path.name for path in tmp_path.iterdir()} >= {"report.md"}
    assert not (tmp_path / "studies").exists()
    assert not (tmp_path / "s3:").exists()


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while(
    tmp_path: Path, server: S3Server, undisturbed: dict[str, pd.DataFrame]
) -> None:
    place, storage = "outage", ("--storage", server.uri("outage"))
    with started(tmp_path, "run", write_spec(tmp_path, SPEC), *CPUS, *storage) as driver:
        wait_until(lambda: marks(server, place), what="a commit")
        server.stop()
        told = tmp_path / "output.txt"
        wait_until(lambda: "; trying again for" in told.read_text(), what="a failed commit")
        time.sleep(4)
        server.start()
        assert driver.wait(240) == 0, told.read_text()
    output = told.read_text()
    assert "Traceback" not in output
    assert output.count("; trying again for 5 min 0 s") == 1
    assert output.count("storage works again after") == 1
    assert_undamaged(server, place, undisturbed)


@pytest.mark.slow
def test_a_server_that_stays_away(tmp_path: Path, server: S3Server) -> None:
    place = "lost"
    spec = SPEC | {"resources": SPEC["resources"] | {"storage_patience_seconds": 5}}
    storage = ("--storage", server.uri(place))
    try:
        with started(tmp_path, "run", write_spec(tmp_path, spec), *CPUS, *storage) as driver:
            wait_until(lambda: marks(server, place), what="a commit")
            server.stop()
            assert driver.wait(120) == 3, (tmp_path / "output.txt").read_text()
    finally:
        server.start()
    output = (tmp_path / "output.txt").read_text()
    assert "Traceback" not in output
    (message,) = [line for line in output.splitlines() if line.startswith("vae-study: ")]
    assert "NETWORK_CONNECTION" in message
    assert "`vae-study resume` goes on" in message
    succeed(tmp_path, "resume", "away", *CPUS, *storage)
    assert len(by_url(server, "trials", place)) == TRIALS


@pytest.mark.slow
def test_the_second_of_two_drivers_goes_on(
    tmp_path: Path, server: S3Server, undisturbed: dict[str, pd.DataFrame]
) -> None:
    """Two machines, each with a Ray of its own: nothing but the store knows of both.

    The first is held while the second starts, or it might be done before.
    """
    place, storage = "twice", ("--storage", server.uri("twice"))
    driver = f"{place}/away/{DRIVER_FILE}"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    command = ("run", write_spec(tmp_path, SPEC), "--cpus", "1", *storage)
    with started(tmp_path / "a", *command) as first:
        wait_until(lambda: marks(server, place), what="a commit")
        first.send_signal(signal.SIGSTOP)
        before = server.read(driver)
        with started(tmp_path / "b", *command) as second:
            wait_until(lambda: server.read(driver) != before, what="the second driver")
            first.send_signal(signal.SIGCONT)
            assert first.wait(240) == 3, (tmp_path / "a" / "output.txt").read_text()
            assert second.wait(240) == 0, (tmp_path / "b" / "output.txt").read_text()
    output = (tmp_path / "a" / "output.txt").read_text()
    assert "Traceback" not in output
    (message,) = [line for line in output.splitlines() if line.startswith("vae-study: ")]
    assert f"another driver has started on 'away' (process {second.pid} on " in message
    assert_undamaged(server, place, undisturbed)


def test_credentials_in_a_uri_are_found_nowhere(tmp_path: Path, server: S3Server) -> None:
    axes = SPEC["axes"] | {"seed": 0, "beta": 1, "latent_dim": 2}
    spec = write_spec(tmp_path, SPEC | {"axes": axes, "training": {"epochs": 1}})
    storage = ("--storage", server.uri("secret", credentials=True))
    env = {k: v for k, v in environment().items() if k not in CREDENTIALS}
    outputs = []
    for command in (
        ("run", spec, *CPUS),
        ("list",),
        ("status", "away"),
        ("results", "away"),
        ("status", "missing"),
    ):
        done = vae_study(tmp_path, *command, *storage, env=env, report=True)
        assert done.returncode in (0, 2), done.stderr
        outputs += [done.stdout, done.stderr]
    found = {key: data for key, data in server.objects().items() if key.startswith("secret/")}
    assert "secret/away/study.yaml" in found
    assert "secret/away/report.html" in found
    for secret in (KEY, SECRET, quote(SECRET, safe="")):
        for text in outputs:
            assert secret not in text
        for key, data in found.items():
            assert secret.encode() not in data, key


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "", "AWS_ACCESS_KEY_ID": ""}, "give credentials"),
        ({"AWS_ACCESS_KEY_ID": "another"}, "give credentials"),
        ({"bucket": "no-such-bucket"}, "create the bucket first"),
        ({"endpoint": "http://127.0.0.1:9"}, "check the network"),
        ({"endpoint": "127.0.0.1"}, "check the network"),
    ],
)
def test_refused(tmp_path: Path, server: S3Server, change: dict[str, str], words: str) -> None:
    bucket, endpoint = change.get("bucket", server.bucket), change.get("endpoint", server.endpoint)
    env = environment(AWS_EC2_METADATA_DISABLED="true", **{
        name: value for name, value in change.items() if name.startswith("AWS_")
    })  # fmt: skip
    storage = f"s3://{bucket}/refused?endpoint_override={endpoint}"
    start = time.monotonic()
    done = vae_study(
        tmp_path, "run", write_spec(tmp_path, SPEC), "--storage", storage, *CPUS, env=env
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (message,) = done.stderr.splitlines()
    assert message.startswith("vae-study: storage: ")
    assert words in message
    assert time.monotonic() - start < 60
    assert not [key for key in server.list_keys() if key.startswith("refused/")]
