"""The real command line in processes of its own, and what the tests look for around it."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tests.end_to_end.forked import run_forked

VAE_STUDY = str(Path(sys.executable).with_name("vae-study"))
CPUS = ("--cpus", "2")
TIMES = ["started_at", "seconds", "samples_per_second", "attempt", "node", "pack_id"]
"""Columns in which a trial that was disturbed may differ from one that was not."""


def environment(**more: str) -> dict[str, str]:
    """The environment of a command: no study's settings of whoever runs the tests."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("VAE_STUDY_STORAGE", "RAY_"))}
    # CliRunner, pytest and CI set these; a user's shell does not.
    for name in ("COLUMNS", "FORCE_COLOR"):
        ours.pop(name, None)
    if python_path := [path for path in (more.get("PYTHONPATH"), ours.get("PYTHONPATH")) if path]:
        more["PYTHONPATH"] = os.pathsep.join(python_path)
    # Ray's setting is that of conftest.py.
    return ours | {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"} | more


def command_line(*arguments: str | Path, report: bool = False) -> list[str]:
    """The command's words; the report of a study is written only for who looks at it."""
    words = [VAE_STUDY, *map(str, arguments)]
    if not report and words[1] in ("run", "resume", "submit") and "--help" not in words:
        words.append("--no-report")
    return words


def vae_study(
    folder: Path,
    *arguments: str | Path,
    report: bool = False,
    timeout: float = 240,
    env: dict[str, str] | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a folder.

    It is forked, unless it has options or a PYTHONPATH of its own. By default it runs on the Ray of
    `shared_ray`, where a module uses that, but for one that says how many CPUs its Ray is to have.
    """
    line = command_line(*arguments, report=report)
    if env is None:
        shared = {k: v for k, v in os.environ.items() if k == "RAY_ADDRESS" and CPUS[0] not in line}
        env = environment(**shared)
    if not options and env.get("PYTHONPATH") == os.environ.get("PYTHONPATH"):
        return run_forked(line, folder, env, timeout)
    return subprocess.run(
        line,
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
        **options,
    )


def succeed(folder: Path, *arguments: str | Path, **options: Any) -> str:
    """Run a command that must end well; return what it printed."""
    done = vae_study(folder, *arguments, **options)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


@contextmanager
def started(
    folder: Path, *arguments: str | Path, report: bool = False, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a process group of its own; what is left of it is killed at the end."""
    options.setdefault("env", environment())
    with (folder / "output.txt").open("a") as output:
        process = subprocess.Popen(
            command_line(*arguments, report=report),
            cwd=folder,
            stdout=output,
            stderr=output,
            text=True,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **options,
        )
        family: list[int] = []
        try:
            yield process
        finally:
            if process.poll() is None:
                family = descendants(process.pid)
                process.kill()
            process.wait(30)
            for pid in family:
                kill(pid)


def descendants(pid: int) -> list[int]:
    """Process ids of all children, and theirs."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != "Z":
            parents.setdefault(int(parent), []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def pack_workers(driver: int) -> list[int]:
    """Processes that train packs for this driver, and for no other."""
    # Ray names a worker after its class when it waits, and after Tune's wrapper while it trains.
    names = ("ray::PackTrainable", "ray::ResourceTrainable")
    return [pid for pid in descendants(driver) if title(pid).startswith(names)]


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def free_port() -> int:
    """A port to listen on.

    It is none of those that the system hands out (from 32768) or Ray's workers take (up to 19999),
    for seconds pass until the server that was told of it listens.
    """
    while True:
        with socket.socket() as probe:
            port = random.randrange(20000, 32000)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_until(condition: Callable[[], Any], seconds: float = 240, what: str = "") -> Any:
    """Return what `condition` returns once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {seconds} s: {what or condition}")


def write_spec(folder: Path, spec: dict[str, Any], name: str = "spec.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def table(folder: Path, study: str, name: str) -> pd.DataFrame:
    """A table as users read it."""
    return pd.read_parquet(folder / "studies" / study / name)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def left_over(study: Path) -> list[str]:
    """Temporary files and checkpoints, which a finished study has none of."""
    return [
        name
        for name in contents(study)
        if name != ".driver.lock"
        and (name.startswith("checkpoints/") or Path(name).name[0] in "._" or ".tmp" in name)
    ]


def measured(frame: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """The rows by key, without the clock's columns, for comparison between runs."""
    kept = frame.drop(columns=[name for name in TIMES if name in frame])
    return kept.sort_values(key, ignore_index=True)


def assert_same_numbers(folder: Path, other: Path, study: str) -> None:
    """Two runs of a study agree in all that is measured."""
    for name, key in (
        ("trials", ["trial_id"]),
        ("units", ["trial_id", "epoch", "split", "unit"]),
        ("epochs", ["trial_id", "epoch"]),
    ):
        one, two = (measured(table(place, study, name), key) for place in (folder, other))
        assert not one.empty
        pd.testing.assert_frame_equal(one, two, rtol=1e-9, atol=1e-12)
