"""Room for packs on nodes that are up, and on those that an autoscaler may start."""

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from search_spaces import ResourceSettings
from study import workers as workers_module
from study.workers import NodeType, Workers, autoscaler_node_types, find_workers

Nodes = dict[str, dict[str, float]]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """The nodes that are up, looked at anew each time."""
    there: Nodes = {}
    monkeypatch.setattr(workers_module, "_nodes", lambda: dict(there))
    monkeypatch.setattr(workers_module, "REFRESH_SECONDS", -1.0)
    return there


@pytest.mark.parametrize(
    ("cpus", "gpus", "node", "packs"),
    [
        (1, 0.0, {"CPU": 4}, 4),
        (3, 0.0, {"CPU": 8}, 2),
        (1, 0.0, {"CPU": 0, "memory": 1e9}, 0),
        (1, 0.0, {"memory": 1e9}, 0),
        (1, 1.0, {"CPU": 16, "GPU": 4}, 4),
        (8, 1.0, {"CPU": 16, "GPU": 4}, 2),
        (1, 1.0, {"CPU": 16}, 0),
        (1, 0.25, {"CPU": 16, "GPU": 2}, 8),
        (1, 0.25, {"CPU": 3, "GPU": 2}, 3),
        (1, 0.3, {"CPU": 16, "GPU": 2}, 6),  # three on each: a share is of one GPU
        (1, 0.1, {"CPU": 16, "GPU": 1}, 10),  # though 1 // 0.1 is 9
        (1, 0.6, {"CPU": 16, "GPU": 3}, 3),
        (1, 2.0, {"CPU": 16, "GPU": 5}, 2),
    ],
)
def test_packs_that_fit_on_a_node(
    nodes: Nodes, cpus: int, gpus: float, node: dict[str, float], packs: int
) -> None:
    nodes["a"] = node
    nodes["b"] = node
    workers = Workers(cpus, gpus)
    assert workers.fitting(node) == packs
    assert workers.room == 2 * packs
    assert workers.count == max(1, 2 * packs)


@given(share=st.integers(1, 10_000), gpus=st.integers(1, 16))
def test_shares_of_gpus_as_ray_counts_them(share: int, gpus: int) -> None:
    """In ten-thousandths, each share on one GPU."""
    workers = Workers.__new__(Workers)
    workers.cpus, workers.gpus = 1, share / 10_000
    assert workers.fitting({"CPU": 1e6, "GPU": gpus}) == gpus * (10_000 // share)


def test_the_count_follows_the_cluster(nodes: Nodes) -> None:
    workers = Workers(2, 0)
    assert (workers.room, workers.count) == (0, 1)
    nodes["a"] = {"CPU": 4}
    assert (workers.room, workers.count) == (2, 2)
    nodes["b"] = {"CPU": 8}
    assert (workers.room, workers.count) == (6, 6)
    del nodes["a"]
    assert (workers.room, workers.count) == (4, 4)


def test_an_autoscaler_s_nodes_count_before_they_are_up(nodes: Nodes) -> None:
    nodes["head"] = {"CPU": 0, "memory": 1e9}
    types = [NodeType({"CPU": 0}, 1), NodeType({"CPU": 8, "GPU": 4}, 200)]
    workers = Workers(1, 1.0, node_types=types)
    assert (workers.room, workers.count) == (0, 800)
    nodes["first"] = {"CPU": 8, "GPU": 4}
    assert (workers.room, workers.count) == (4, 800)


def test_a_user_s_word_counts_more(nodes: Nodes) -> None:
    nodes["a"] = {"CPU": 8}
    assert Workers(1, 0, max_packs=3).count == 3
    assert Workers(1, 0, max_packs=50).count == 50  # an autoscaler may be unknown to us


def test_memory_is_a_node_s_share(nodes: Nodes) -> None:
    nodes["a"] = {"CPU": 4, "memory": 8e9}
    nodes["b"] = {"CPU": 8, "memory": 8e9}
    nodes["head"] = {"CPU": 0, "memory": 1e9}
    workers = Workers(2, 0)
    assert workers.memory("a") == int(0.8 * 8e9 / 2)
    assert workers.memory("b") == int(0.8 * 8e9 / 4)
    assert workers.memory("unknown") == int(0.8 * 8e9 / 4)
    nodes.clear()
    assert workers.memory("a") == int(0.8 * 2**30)


def test_a_node_is_looked_for_at_once(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "REFRESH_SECONDS", 1e6)
    nodes["a"] = {"CPU": 4}
    workers = Workers(1, 0)
    assert workers.is_up("a")
    del nodes["a"]
    assert not workers.is_up("a")


def find(nodes: Nodes, types: list[NodeType] | None = None, **settings: Any) -> tuple[Workers, str]:
    text = io.StringIO()

    def pause(seconds: float) -> None:
        raise TimeoutError(text.getvalue())

    console = Console(file=text, width=20)
    return find_workers(ResourceSettings(**settings), types or [], console, pause), text.getvalue()


def test_a_gpu_is_taken_where_there_is_one(nodes: Nodes) -> None:
    nodes["a"] = {"CPU": 4}
    workers, text = find(nodes)
    assert workers.gpus == 0
    assert text == "up to 4 packs at a time, 1 CPU each\n"
    nodes["b"] = {"CPU": 4, "GPU": 2}
    workers, text = find(nodes, cpus_per_pack=2)
    assert workers.gpus == 1
    assert text == "up to 2 packs at a time, 2 CPUs and 1 GPU each\n"
    assert find(nodes, gpus_per_pack=0)[0].gpus == 0
    assert find(nodes, gpus_per_pack=0.25)[0].count == 4


def test_gpus_that_are_not_up_yet_count(nodes: Nodes) -> None:
    """By the autoscaler's node types, or because the spec says so."""
    nodes["head"] = {"CPU": 4}
    types = [NodeType({"CPU": 4}, 1), NodeType({"CPU": 8, "GPU": 1}, 10)]
    workers, text = find(nodes, types)
    assert workers.gpus == 1
    assert "up to 10 packs at a time" in text
    assert "the nodes that are up have room for 0" in text
    assert find(nodes, gpus_per_pack=1)[0].gpus == 1
    none_left = [NodeType({"CPU": 8, "GPU": 1}, 0)]
    assert find(nodes, none_left)[0].gpus == 0


def test_it_waits_while_there_is_nothing_to_decide_by(nodes: Nodes) -> None:
    for head in ({}, {"head": {"CPU": 0.0, "memory": 1e9}}, {"small": {"CPU": 1.0}}):
        nodes.clear()
        nodes.update(head)
        with pytest.raises(TimeoutError, match="waiting for a node with 2 CPUs for a pack"):
            find(nodes, cpus_per_pack=2)


def test_it_goes_on_when_a_node_comes_up(nodes: Nodes) -> None:
    text = io.StringIO()
    seconds = 0.0

    def pause(pause: float) -> None:
        nonlocal seconds
        seconds += pause
        if seconds == 3:
            nodes["gpu"] = {"CPU": 4, "GPU": 1}

    workers = find_workers(ResourceSettings(), [], Console(file=text, width=200), pause)
    assert (workers.gpus, seconds) == (1, 3)
    assert len(text.getvalue().splitlines()) == 2  # it does not say so each second


def test_the_launcher_s_file(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.yaml"
    assert autoscaler_node_types(file) == []
    config: dict[str, Any] = {
        "max_workers": 6,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "max_workers": 0, "node_config": {}},
            "gpu": {"resources": {"CPU": 8, "GPU": 1}, "min_workers": 0, "max_workers": 4},
            "cpu": {"resources": {"CPU": 16}},
            "on-premises": {"resources": {}, "max_workers": 3},
        },
    }
    file.write_text(yaml.safe_dump(config))
    assert autoscaler_node_types(file) == [
        NodeType({"CPU": 8, "GPU": 1}, 4),
        NodeType({"CPU": 16}, 2),  # six workers of all types
        NodeType({"CPU": 0}, 1),  # the head, which is up
    ]
    config["max_workers"] = 3
    file.write_text(yaml.safe_dump(config))
    assert [node.most for node in autoscaler_node_types(file)] == [3, 0, 1]
