"""Where packs run: what the cluster has room for now, and what its autoscaler may still start.

A cluster that scales itself has no workers before somebody asks for them, so what is there says
little. Three things are read, none of which needs more than the driver has at hand: the nodes that
are up, again every few seconds; the node types of the cluster launcher's file, which lies on the
head; and `resources.max_packs`, with which a user says more than both know.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml
from rich.console import Console

from search_spaces import ResourceSettings
from study.packing import packs_on_gpus

__all__ = [
    "NodeType",
    "WorkerError",
    "Workers",
    "autoscaler_node_types",
    "find_workers",
    "packs_on_gpus",
]

LAUNCHER_FILE = Path("~/ray_bootstrap_config.yaml")
"""What `ray up` puts on the head and gives to the autoscaler there."""

REFRESH_SECONDS = 5.0
REMIND_SECONDS = 60.0
MEMORY_SHARE = 0.8

Resources = Mapping[str, float]


class WorkerError(ConnectionError):
    """Workers are not as a study needs them; no trial is to blame, and the study can go on."""


@dataclass(frozen=True)
class NodeType:
    """Nodes that an autoscaler may start.

    Attributes:
        resources: What one offers, in Ray's words: CPU, GPU, memory.
        most: How many there may be.
    """

    resources: Resources
    most: int


class Workers:
    """Room for packs.

    Attributes:
        cpus: CPUs reserved for a pack.
        gpus: GPUs, or the share of one, reserved for a pack.
    """

    def __init__(
        self,
        cpus: int,
        gpus: float,
        max_packs: int | None = None,
        node_types: Sequence[NodeType] = (),
    ) -> None:
        """Look at the cluster.

        Args:
            cpus: CPUs reserved for a pack.
            gpus: GPUs, or the share of one, reserved for a pack.
            max_packs: Packs that run at a time at most; None for as many as there is room for.
            node_types: What an autoscaler may start.
        """
        self.cpus = cpus
        self.gpus = gpus
        self._max_packs = max_packs
        self._growth = sum(self.fitting(node.resources) * node.most for node in node_types)
        self._nodes: dict[str, Resources] = {}
        self._looked = float("-inf")

    def fitting(self, node: Resources) -> int:
        """Return how many packs a node holds at a time."""
        fitting = int(node.get("CPU", 0) // self.cpus)
        if self.gpus:
            fitting = min(fitting, packs_on_gpus(node.get("GPU", 0), self.gpus))
        return fitting

    @property
    def room(self) -> int:
        """Packs that the nodes hold that are up."""
        return sum(self.fitting(node) for node in self._look().values())

    @property
    def count(self) -> int:
        """Packs to have running or asked for at a time, one at least.

        An autoscaler starts nodes for what is asked for, so this counts the nodes that it may
        start; packs are cut to leave work for all of them.
        """
        if self._max_packs is not None:
            return self._max_packs
        return max(1, self.room, self._growth)

    def memory(self, node_id: str) -> int:
        """Return the bytes that a pack may use on a node; the least of any if it is unknown."""
        nodes = self._look()
        known = [nodes[node_id]] if node_id in nodes else list(nodes.values())
        shares = [
            node.get("memory", 2**30) / fitting for node in known if (fitting := self.fitting(node))
        ]
        return int(MEMORY_SHARE * min(shares, default=2**30))

    def is_up(self, node_id: str) -> bool:
        """Return whether a node is up, by a look at this moment."""
        return node_id in self._look(now=True)

    def describe(self) -> str:
        """Say how many packs run at a time, and on what."""
        each = _amounts(self.cpus, self.gpus)
        text = f"up to {_packs(self.count)} at a time, {each} each"
        if self.room < self.count:
            text += f"; the nodes that are up have room for {self.room}"
        return text

    def describe_wait(self) -> str:
        """Say what is waited for while no pack runs."""
        nodes = self._look().values()
        there = _amounts(
            sum(node.get("CPU", 0) for node in nodes), sum(node.get("GPU", 0) for node in nodes)
        )
        if self.room:
            return (
                f"waiting for a worker: the nodes that are up have room for {_packs(self.room)}, "
                "but others use it, or workers still start"
            )
        return (
            f"waiting for a node with {_amounts(self.cpus, self.gpus)} for a pack; "
            f"{len(nodes)} {'node is' if len(nodes) == 1 else 'nodes are'} up, with {there}"
        )

    def _look(self, now: bool = False) -> dict[str, Resources]:
        if now or time.monotonic() - self._looked > REFRESH_SECONDS:
            self._nodes, self._looked = _nodes(), time.monotonic()
        return self._nodes


def find_workers(
    resources: ResourceSettings,
    node_types: Sequence[NodeType],
    console: Console,
    pause: Callable[[float], None] = time.sleep,
) -> Workers:
    """Decide what packs run on, as soon as there is something to decide by, and say so.

    With `gpus_per_pack: auto` that is a GPU where a node that is up, or a node type of the
    autoscaler, has one, and otherwise CPUs. While nothing is up that could run a pack (a head
    without CPUs, say), and no autoscaler is known, there is nothing to decide by: it waits.

    Args:
        resources: What the study may use.
        node_types: What an autoscaler may start.
        console: Told what was decided, and what is waited for.
        pause: Waits for so many seconds.
    """
    gpus = resources.gpus_per_pack
    reminded = float("-inf")
    while gpus == "auto":
        offers = [*_nodes().values(), *(node.resources for node in node_types if node.most)]
        if any(offer.get("GPU", 0) >= 1 for offer in offers):
            gpus = 1.0
        elif any(offer.get("CPU", 0) >= resources.cpus_per_pack for offer in offers):
            gpus = 0.0
        else:
            if time.monotonic() - reminded > REMIND_SECONDS:
                reminded = time.monotonic()
                waiting = Workers(resources.cpus_per_pack, 0).describe_wait()
                console.print(waiting, highlight=False, soft_wrap=True)
            pause(1)
    max_packs = None if resources.max_packs == "auto" else resources.max_packs
    workers = Workers(resources.cpus_per_pack, gpus, max_packs, node_types)
    console.print(workers.describe(), highlight=False, soft_wrap=True)
    return workers


def autoscaler_node_types(file: Path = LAUNCHER_FILE) -> list[NodeType]:
    """Return the node types that the cluster launcher's file names, where there is one.

    A type whose resources are not stated there (those of hosts on premises never are) is left
    out: it counts when its nodes are up.
    """
    file = file.expanduser()
    if not file.exists():
        return []
    config = yaml.safe_load(file.read_text())
    left: int = config.get("max_workers", 2)  # of all types together; the launcher's default
    named = config.get("available_node_types", {})
    stated = {name: _numbers(node.get("resources") or {}) for name, node in named.items()}
    # Those with most to offer first: who asks for GPUs gets nodes with GPUs.
    order = sorted(stated, key=lambda n: [-stated[n].get(k, 0) for k in ("GPU", "CPU")])
    types = []
    for name in order:
        if stated[name]:
            workers = min(named[name].get("max_workers", left), left)
            left -= workers
            types.append(NodeType(stated[name], workers + (name == config.get("head_node_type"))))
    return types


def _nodes() -> dict[str, Resources]:
    """Return the resources of the nodes that are up, by node id."""
    nodes: Iterable[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}


def _numbers(resources: Mapping[str, Any]) -> Resources:
    return {name: float(n) for name, n in resources.items() if isinstance(n, int | float)}


def _packs(count: int) -> str:
    return f"{count} pack{'' if count == 1 else 's'}"


def _amounts(cpus: float, gpus: float) -> str:
    text = f"{cpus:g} CPU{'' if cpus == 1 else 's'}"
    return f"{text} and {gpus:g} GPU{'' if gpus == 1 else 's'}" if gpus else text
