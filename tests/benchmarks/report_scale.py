"""What `vae-study report` takes, by number of trials: seconds, memory, size of the page.

python -m tests.benchmarks.report_scale --trials 1000 10000 100000 --json report_scale.json

The studies are simulated (`tests/analysis/simulated_study.py`), which is not timed, and lie in the
system's file cache when they are read.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from tests.analysis.simulated_study import write_simulated_study
from tests.end_to_end.command import VAE_STUDY

COMMAND = (VAE_STUDY, "report", "{study}", "--storage", "{storage}")
STUDY = "simulated"
PAGE = "report.html"
POLLING = 0.02  # seconds between two looks at a process's memory


def measure(
    trials: Sequence[int] = (1_000, 10_000, 100_000),
    pack_size: int = 64,
    command: Sequence[str] = COMMAND,
    storage: Path | None = None,
) -> dict[str, Any]:
    """Have each study reported on by a process of its own.

    Args:
        trials: Numbers of trials that `simulated_spec` takes.
        pack_size: Trials per pack, and so per file.
        command: Writes report.html into the study's folder; "{study}" and "{storage}" in its words
            are replaced by the study's name and the folder it lies in.
        storage: Where the studies are written for the time being; the temporary folder by default.

    Returns:
        pack_size, cores; sizes: for each number of trials what `measure_one` returns.

    Raises:
        RuntimeError: The command failed, or wrote no page.
    """
    sizes = []
    for number in trials:
        with tempfile.TemporaryDirectory(prefix="report-scale-", dir=storage) as place:
            folder = Path(place) / STUDY
            write_simulated_study(folder, number, pack_size=pack_size)
            sizes.append({"trials": number, **measure_one(folder, command)})
    cores = len(os.sched_getaffinity(0))
    return {"pack_size": pack_size, "cores": cores, "sizes": sizes}


def measure_one(folder: Path, command: Sequence[str]) -> dict[str, Any]:
    """Run the command on one study.

    Returns:
        unit_rows and files of the study; seconds from start to exit; memory (the most bytes that
        the process held; those that it starts are not counted); page (bytes of the HTML).
    """
    rows = ds.dataset(str(folder / "units")).count_rows()
    files = sum(1 for _ in folder.glob("*/*.parquet"))
    (folder / PAGE).unlink(missing_ok=True)
    words = [word.format(study=folder.name, storage=folder.parent) for word in command]
    seconds, memory = _run(words)
    if not (folder / PAGE).exists():
        raise RuntimeError(f"{' '.join(words)} wrote no {PAGE}")
    page = (folder / PAGE).stat().st_size
    return {"unit_rows": rows, "files": files, "seconds": seconds, "memory": memory, "page": page}


def _run(words: list[str]) -> tuple[float, int]:
    """Run a command to its end; return its seconds and the most bytes it has held."""
    # `make` sets one thread for tests and packs; who reads a report has all cores.
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            words, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment
        )
        memory = 0
        while process.poll() is None:
            memory = max(memory, _peak_memory(process.pid))
            time.sleep(POLLING)
        seconds = time.perf_counter() - start
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(words)} failed:\n{output.read()}")
    return seconds, memory


def _peak_memory(process_id: int) -> int:
    """Most bytes a process has held so far; 0 when it is over.

    `ru_maxrss` would count what its parent held when it was started.
    """
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return 0
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * int(peak[1]) if peak else 0


def report(result: dict[str, Any]) -> str:
    """Write a result as a table."""
    columns = ("trials", "unit rows", "files", "seconds", "peak MB", "HTML MB")
    lines = [f"packs of {result['pack_size']}, {result['cores']} cores"]
    lines.append("".join(f"{column:>11}" for column in columns))
    for size in result["sizes"]:
        counts = (f"{size[name]:,}" for name in ("trials", "unit_rows", "files"))
        memory, page = f"{size['memory'] / 1e6:,.0f}", f"{size['page'] / 1e6:.2f}"
        cells = (*counts, f"{size['seconds']:.2f}", memory, page)
        lines.append("".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Print the table, and write the data as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--pack-size", type=int, default=64, help="trials per pack")
    parser.add_argument("--command", nargs="+", default=COMMAND, help="by default vae-study report")
    parser.add_argument("--storage", type=Path, help="where to write; by default where TMPDIR says")
    parser.add_argument("--json", type=Path, help="file for the data")
    options = parser.parse_args()
    result = measure(options.trials, options.pack_size, options.command, options.storage)
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
