"""A second driver on the same cluster is refused, by a real Ray with drivers in processes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from search_spaces import BadInput, load_spec
from study.driver_actor import NAMESPACE, driver_actor
from study.frozen_spec import freeze
from study.run import run_study
from study.storage import Folder
from trainables.pack import NUMERICS_VERSION

HOLD = """
import logging, sys
import ray
from search_spaces import BadInput
from study.driver_actor import driver_actor
from study.storage import Folder

ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
try:
    with driver_actor(Folder.at(sys.argv[2])):
        print("held", flush=True)
        sys.stdin.readline()
    print("freed", flush=True)
    sys.stdin.readline()
except BadInput as error:
    print(error, flush=True)
    sys.exit(2)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without CPUs, and two nodes."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def hold(cluster: Cluster, place: Path) -> tuple["subprocess.Popen[str]", str]:
    """Start a driver; return it with the first thing it says."""
    driver = subprocess.Popen(
        [sys.executable, "-c", HOLD, cluster.address, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert driver.stdout
    return driver, driver.stdout.readline().strip()


def say(driver: "subprocess.Popen[str]") -> str:
    """Let a driver go on; return what it says then."""
    assert driver.stdin
    assert driver.stdout
    driver.stdin.write("\n")
    driver.stdin.flush()
    return driver.stdout.readline().strip()


def free(cluster: Cluster, place: Path, seconds: float = 30) -> float:
    """Wait until a study is free; return how long that took."""
    start = time.monotonic()
    while True:
        driver, answer = hold(cluster, place)
        driver.kill()
        driver.communicate()
        if answer == "held":
            return time.monotonic() - start
        assert time.monotonic() - start < seconds, answer


def test_one_driver_of_a_study_at_a_time(cluster: Cluster, tmp_path: Path) -> None:
    first, answer = hold(cluster, tmp_path / "study")
    assert answer == "held"
    second, answer = hold(cluster, tmp_path / "study")
    assert re.fullmatch(
        rf"study: 'study' is being run on this cluster \(process {first.pid} on .*, since 20.*\); "
        "wait for it or stop it",
        answer,
    )
    assert second.wait(30) == 2
    third, answer = hold(cluster, tmp_path / "study")  # the refusal did not free it
    assert answer.startswith("study: 'study' is being run")
    other, answer = hold(cluster, tmp_path / "other")
    assert answer == "held"
    assert say(first) == "freed"
    again, answer = hold(cluster, tmp_path / "study")  # while the first is still connected
    assert answer == "held"
    for driver in (first, second, third, other, again):
        driver.kill()
        driver.communicate()


def test_it_is_free_when_the_driver_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    driver, answer = hold(cluster, tmp_path / "study")
    assert answer == "held"
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert free(cluster, tmp_path / "study") < 30


def test_it_is_held_as_long_as_the_driver_lives(cluster: Cluster, tmp_path: Path) -> None:
    """Also when the actor's process is killed, which Ray starts again."""
    folder = Folder.at(tmp_path / "study")
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        with driver_actor(folder):
            holder = ray.get_actor(f"vae-study-driver/{folder}", NAMESPACE)
            os.kill(ray.get(holder.__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)
            answers = set()
            end = time.monotonic() + 8  # Ray takes four seconds to free the name of a dead actor
            while time.monotonic() < end or not any(str(os.getpid()) in a for a in answers):
                with pytest.raises(BadInput, match="being run on this cluster") as refused:
                    driver_actor(folder).__enter__()
                answers.add(str(refused.value))
                time.sleep(0.2)
        with driver_actor(folder):
            pass
        with pytest.raises(KeyError), driver_actor(folder):
            raise KeyError
        with driver_actor(folder):
            pass
    finally:
        ray.shutdown()


def test_a_driver_that_is_refused_has_changed_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On object storage, say, where there is no lock and Ray is asked."""
    spec: dict[str, Any] = {
        "study": "study",
        "dataset": {"name": "tiles", "train_images": 50, "test_images": 10},
        "axes": {"architecture": "linear", "latent_dim": 2, "seed": [0]},
    }
    folder = Folder.at(tmp_path / "study")
    folder.create()
    freeze(folder, load_spec(spec), {"numerics_version": NUMERICS_VERSION})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(Folder, "local", property(lambda folder: False))
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        with driver_actor(folder), pytest.raises(BadInput, match="being run on this cluster"):
            run_study(spec, ["axes.seed=[0, 1]"], storage=tmp_path, extend=True)
    finally:
        ray.shutdown()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
