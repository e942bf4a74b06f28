"""A cluster whose nodes come and go: the study goes on, with the numbers of an undisturbed run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import (
    CPUS,
    assert_same_numbers,
    environment,
    left_over,
    started,
    succeed,
    table,
    vae_study,
    wait_until,
    write_spec,
)
from tests.end_to_end.failing import other_numerics
from tests.end_to_end.ray_nodes import HEALTH, OPEN, Nodes, autoscaled, ray_nodes

SPEC: dict[str, Any] = {
    "study": "changing",
    "dataset": {"name": "tiles", "train_images": 1000, "test_images": 200},
    "axes": {
        "architecture": {"family": "dense", "widths": [[32, 16], [24]]},
        "latent_dim": [2, 5],
        "beta": [0.5, 2],
        "seed": [0, 1],
    },
    "training": {"epochs": 60, "precision": "float64", "batch_size": 50},
    # No failure is forgiven, so that a lost node that counted as one would show.
    "resources": {"pack_size": 4, "checkpoint_seconds": 0, "max_failures": 0},
    "record": {"every": 20, "reconstruction_gain_images": 100},
}
TRIALS, PACKS = 16, 4


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with ray_nodes() as there:
        yield there


def output(folder: Path) -> str:
    return (folder / "output.txt").read_text()


def files(folder: Path, name: str) -> set[str]:
    return {path.stem for path in (folder / "studies" / "changing" / name).glob("pack-*")}


def in_flight(folder: Path) -> set[str]:
    return files(folder, "checkpoints") - files(folder, "trials")


@pytest.mark.slow
def test_nodes_come_and_go(tmp_path: Path, nodes: Nodes) -> None:
    """None at first; then one, and another; each is lost while it trains, one in silence."""
    reference = tmp_path / "reference"
    reference.mkdir()
    succeed(reference, "run", write_spec(reference, SPEC), *CPUS)

    arguments = ("run", write_spec(tmp_path, SPEC), "--address", nodes.address)
    with started(tmp_path, *arguments, env=environment(**HEALTH)) as driver:
        wait_until(lambda: "waiting for a node with 1 CPU" in output(tmp_path), what="the wait")
        assert "1 node is up, with 0 CPUs" in output(tmp_path)
        first = nodes.add(cpus=2)
        wait_until(lambda: len(in_flight(tmp_path)) == 2, what="packs on the first node")
        nodes.lose(first)
        second = nodes.add(cpus=2)
        nodes.add(cpus=1)
        wait_until(lambda: len(in_flight(tmp_path)) == 3, what="packs on both nodes")
        assert not files(tmp_path, "trials"), "the study has become too short for this test"
        nodes.drain(second)
        assert driver.wait(240) == 0, output(tmp_path)
    told = output(tmp_path)
    assert "Traceback" not in told
    assert told.count("starts again: its node was lost") >= 4
    assert "one by one" not in told
    trials = table(tmp_path, "changing", "trials")
    assert trials["trial_id"].nunique() == len(trials) == TRIALS
    assert set(trials["status"]) == {"completed"}
    assert set(trials["attempt"]) == {1}
    assert trials["pack_id"].nunique() == PACKS  # no pack was split
    assert_same_numbers(tmp_path, reference, "changing")
    assert left_over(tmp_path / "studies" / "changing") == []


@pytest.mark.slow
def test_the_autoscaler_sees_the_demand(tmp_path: Path) -> None:
    """No worker is up; the launcher's file says what there may be, and all of it is asked for."""
    types = {"worker": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 2}}
    spec = SPEC | {"training": {"epochs": 40}, "record": {"every": 0}}
    with autoscaled(tmp_path, types, max_workers=2) as address:
        arguments = ("run", write_spec(tmp_path, spec), "--address", address)
        with started(tmp_path, *arguments, env=environment(HOME=str(tmp_path), **OPEN)) as driver:
            wait_until(lambda: len(in_flight(tmp_path)) == 2, what="packs on two nodes")
            assert driver.wait(240) == 0, output(tmp_path)
    assert "up to 2 packs at a time" in output(tmp_path)
    assert "the nodes that are up have room for 0" in output(tmp_path)
    trials = table(tmp_path, "changing", "trials")
    assert trials["trial_id"].nunique() == TRIALS


def test_a_node_of_other_versions(tmp_path: Path, nodes: Nodes) -> None:
    """One clear error before anything is trained there, and the study can be resumed."""
    nodes.add(cpus=1, python_path=other_numerics(tmp_path, 99))
    spec = SPEC | {"axes": {"architecture": "linear", "latent_dim": 2}, "training": {"epochs": 1}}
    arguments = ("run", write_spec(tmp_path, spec), "--address", nodes.address)
    done = vae_study(tmp_path, *arguments)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("vae-study: ")]
    assert "numerics 99 there and" in message
    assert "resume" in message
    assert table(tmp_path, "changing", "trials").empty
    succeed(tmp_path, "resume", "changing", *CPUS)


def test_a_gpu_that_pytorch_does_not_find(tmp_path: Path, nodes: Nodes) -> None:
    """Ray reserves a GPU there, and nobody would notice that packs train on its CPU."""
    nodes.add(cpus=1, num_gpus=1)
    spec = SPEC | {"axes": {"architecture": "linear", "latent_dim": 2}, "training": {"epochs": 1}}
    arguments = ("run", write_spec(tmp_path, spec), "--address", nodes.address)
    done = vae_study(tmp_path, *arguments, env=environment(CUDA_VISIBLE_DEVICES=""))
    assert done.returncode == 3, done.stderr
    assert "up to 1 pack at a time, 1 CPU and 1 GPU each" in done.stderr
    assert "reserved a GPU for a pack" in done.stderr
    assert "Traceback" not in done.stderr
    on_cpu = vae_study(tmp_path, *arguments, "--set", "resources.gpus_per_pack=0")
    assert on_cpu.returncode == 0, on_cpu.stderr
    assert set(table(tmp_path, "changing", "trials")["device"]) == {"cpu"}
