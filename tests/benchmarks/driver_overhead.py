"""What the driver takes per pack: the real one, on simulated nodes, with packs that train nothing.

python -m tests.benchmarks.driver_overhead --packs 200 2000 --json driver_overhead.json
python -m tests.benchmarks.driver_overhead --packs 2000 --profile driver.pstats

Nodes are Ray's own (`ray.cluster_utils.Cluster`): each is a raylet with processes of its own, on
this machine. A pack asks for its work, saves a checkpoint, reports and hands its rows over, all at
once, so that the study is as fast as driver, Ray and storage are together.
"""

import argparse
import cProfile
import io
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from search_spaces import load_spec
from study import ledger, ray_run
from study.packing import PlannedPack
from study.progress import Progress
from study.run import prepare_study
from study.storage import Folder
from tests.benchmarks.stub_pack import StubPack


class CommitTimes(Progress):
    """Remembers when each pack was committed, and the processes of the workers."""

    moments: list[float]
    workers: set[int]

    def report(self, pack: PlannedPack, result: Mapping[str, Any]) -> None:
        """Take a result of a running pack."""
        super().report(pack, result)
        self.workers.add(result["pid"])

    def finish(self, pack: PlannedPack, trials: pd.DataFrame) -> None:
        """Take the rows of a finished pack."""
        super().finish(pack, trials)
        self.moments.append(time.perf_counter())


def measure_one(
    packs: int, pack_size: int, nodes: int, cpus: int, storage: Path, profile: Path | None = None
) -> dict[str, Any]:
    """Run a study of so many packs to its end.

    Returns:
        packs; workers (processes that trained them); seconds of the whole run; per_pack (seconds
        from one commit to the next, all, in the first and in the last tenth); processor (the
        driver's own seconds per pack).
    """
    spec = load_spec(
        {
            "study": "overhead",
            "dataset": {"name": "tiles", "train_images": 100, "test_images": 10},
            "axes": {
                "architecture": ["linear", "dense-16"],
                "latent_dim": [2, 16],
                "beta": [0.5, 2],
                "seed": list(range(packs * pack_size // 8)),
            },
            "resources": {"pack_size": pack_size},
        }
    )
    prepared = prepare_study(spec)
    folder = Folder.at(storage).child(spec.study)
    folder.create()
    ledger.create_tables(folder)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(nodes):
        cluster.add_node(num_cpus=cpus)
    CommitTimes.moments, CommitTimes.workers = [], set()
    profiler = cProfile.Profile() if profile else None
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        with (
            patch.object(ray_run, "PackTrainable", StubPack),
            patch.object(ray_run, "Progress", CommitTimes),
        ):
            start, processor = time.perf_counter(), time.process_time()
            if profiler:
                profiler.enable()
            finished = ray_run.run_packs(
                folder,
                spec,
                prepared.planned,
                prepared.datasets,
                attempts={},
                done=set(),
                failed=0,
                reuse=False,
                console=Console(file=io.StringIO()),
            )
            if profiler:
                profiler.disable()
                profiler.dump_stats(str(profile))
            seconds, processor = time.perf_counter() - start, time.process_time() - processor
    finally:
        ray.shutdown()
        cluster.shutdown()
    committed = ledger.committed(folder)
    if not finished or committed["trial_id"].nunique() != len(prepared.planned):
        raise RuntimeError(f"{len(committed)} of {len(prepared.planned)} trials are committed")
    number = committed["pack_id"].nunique()
    part = max(2, number // 10)
    return {
        "packs": number,
        "workers": len(CommitTimes.workers),
        "seconds": seconds,
        "per_pack": {
            "all": _mean_gap(CommitTimes.moments),
            "first tenth": _mean_gap(CommitTimes.moments[:part]),
            "last tenth": _mean_gap(CommitTimes.moments[-part:]),
        },
        "processor": processor / number,
    }


def _mean_gap(moments: Sequence[float]) -> float:
    return (moments[-1] - moments[0]) / (len(moments) - 1)


def measure(
    packs: Sequence[int] = (200, 2_000),
    pack_size: int = 8,
    nodes: int = 4,
    cpus: int = 4,
    profile: Path | None = None,
) -> dict[str, Any]:
    """Measure each size in a process of its own.

    Args:
        packs: Numbers of packs, ascending.
        pack_size: Trials per pack.
        nodes: Simulated nodes.
        cpus: Logical CPUs of each, and so packs that it runs at a time.
        profile: Where to write a profile of the driver; the last size's stays.

    Returns:
        pack_size, nodes, cpus, cores (real ones); sizes: what `measure_one` returns; growth: the
        last size's time per pack over that of the first.
    """
    sizes = []
    for number in packs:
        with (
            tempfile.TemporaryDirectory(prefix="driver-overhead-") as place,
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process,
        ):
            arguments = (number, pack_size, nodes, cpus, Path(place), profile)
            sizes.append(process.submit(measure_one, *arguments).result())
    return {
        "pack_size": pack_size,
        "nodes": nodes,
        "cpus": cpus,
        "cores": len(os.sched_getaffinity(0)),
        "sizes": sizes,
        "growth": sizes[-1]["per_pack"]["all"] / sizes[0]["per_pack"]["all"],
    }


def report(result: dict[str, Any]) -> str:
    """Write a result as a table, in milliseconds per pack."""
    parts = list(result["sizes"][0]["per_pack"])
    lines = [
        f"packs of {result['pack_size']} on {result['nodes']} simulated nodes of "
        f"{result['cpus']} CPUs, {result['cores']} cores; milliseconds per pack",
        "".join(f"{name:>16}" for name in ("packs", "workers", *parts, "driver's CPU", "run (s)")),
    ]
    for size in result["sizes"]:
        times = [f"{t * 1e3:.1f}" for t in (*size["per_pack"].values(), size["processor"])]
        cells = [f"{size['packs']:,}", f"{size['workers']}", *times, f"{size['seconds']:.1f}"]
        lines.append("".join(f"{cell:>16}" for cell in cells))
    lines.append(f"growth: {result['growth']:.2f}")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and write the data as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packs", type=int, nargs="+", default=[200, 2_000], help="multiples of 8")
    parser.add_argument("--pack-size", type=int, default=8, help="trials per pack")
    parser.add_argument("--nodes", type=int, default=4, help="simulated nodes")
    parser.add_argument("--cpus", type=int, default=4, help="logical CPUs of each")
    parser.add_argument("--profile", type=Path, help="file for a profile of the driver")
    parser.add_argument("--json", type=Path, help="file for the data")
    given = parser.parse_args()
    result = measure(given.packs, given.pack_size, given.nodes, given.cpus, given.profile)
    print(report(result))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
