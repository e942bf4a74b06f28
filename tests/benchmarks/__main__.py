"""All benchmarks in one run: from the trainer to reports at scale and searches by Optuna.

python -m tests.benchmarks --json benchmark.json
python -m tests.benchmarks --quick --parts trainer plan

The parts have more flags of their own: see `python -m tests.benchmarks.trainer --help`, and
likewise `whole_study`, `plan_scale`, `driver_overhead`, `report_scale`, `adaptive_search` and
`pruned_pack`.
"""

import argparse
import dataclasses
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import (
    adaptive_search,
    driver_overhead,
    plan_scale,
    pruned_pack,
    report_scale,
    trainer,
    whole_study,
)
from tests.benchmarks.timed_runs import Options as StudyOptions


def _tell(text: str) -> None:
    print(text, flush=True)


def _trainer(quick: bool) -> dict[str, Any]:
    options = trainer.Options()
    if quick:
        options = trainer.Options(images=1280, lanes=(1, 4), repeats=1, trained=0)
    result = trainer.measure(options, _tell)
    _tell(trainer.report(result))
    return result


def _study(quick: bool) -> dict[str, Any]:
    options = StudyOptions()
    if quick:
        options = StudyOptions(images=10_000, repeats=1, seeds=1, overhead_epochs=0)
    result = whole_study.measure(options, _tell)
    _tell(whole_study.report(result))
    return dataclasses.asdict(result)


def _plan(quick: bool) -> dict[str, Any]:
    result = plan_scale.measure((1_000, 10_000) if quick else (1_000, 10_000, 100_000))
    _tell(plan_scale.report(result))
    return result


def _driver(quick: bool) -> dict[str, Any]:
    result = driver_overhead.measure((50, 200) if quick else (200, 2_000))
    _tell(driver_overhead.report(result))
    return result


def _report(quick: bool) -> dict[str, Any]:
    result = report_scale.measure((1_000, 10_000) if quick else (1_000, 10_000, 100_000))
    _tell(report_scale.report(result))
    return result


def _pruned(quick: bool) -> dict[str, Any]:
    options = pruned_pack.Options()
    if quick:
        options = pruned_pack.Options(lanes=8, images=1280, epochs=2)
    result = pruned_pack.measure(options)
    _tell(pruned_pack.report(result))
    return {"devices": [dataclasses.asdict(halving) for halving in result]}


def _adaptive(quick: bool) -> dict[str, Any]:
    options = adaptive_search.QUICK if quick else adaptive_search.Options()
    result = adaptive_search.measure(options, _tell)
    _tell(adaptive_search.report(options, result))
    return adaptive_search.as_json(options, result)


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "trainer": _trainer,
    "study": _study,
    "plan": _plan,
    "driver": _driver,
    "report": _report,
    "pruned": _pruned,
    "adaptive": _adaptive,
}


def main() -> None:
    """Run the parts, print their tables, and write all numbers as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="minutes instead of an hour")
    parser.add_argument("--json", type=Path, default=Path("benchmark.json"))
    given = parser.parse_args()
    results: dict[str, Any] = {
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
        }
    }
    for part in given.parts:
        _tell(f"\n== {part}")
        results[part] = PARTS[part](given.quick)
        given.json.write_text(json.dumps(results, indent=2))  # also if a later part is interrupted


if __name__ == "__main__":
    main()
