"""Commands in processes of their own that are forked from one which has imported everything.

A command imports PyTorch, Ray and pandas, which takes longer than most of what tests ask of it.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

_LOADED = ["study.commands.command_line", "study.run", "study.ray_run", "analysis.report"]


def run_forked(
    line: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with captured output, for the line of a `vae-study` command.

    Its libraries were imported in the environment of the tests, not in this one.
    """
    with TemporaryDirectory() as place:
        outputs = [Path(place) / name for name in ("stdout", "stderr")]
        process = _server().Process(
            target=_command, args=(list(line), folder, dict(environment), outputs)
        )
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(line), timeout)
        stdout, stderr = (path.read_text() for path in outputs)
        assert process.exitcode is not None
        return subprocess.CompletedProcess(list(line), process.exitcode, stdout, stderr)


@cache
def _server() -> ForkServerContext:
    """Start the process to fork from, with none of the settings that Ray made for these tests.

    Some are read as Ray is imported, and with others than its own a cluster starts it no workers.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    with patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith(("RAY_", "TUNE_"))]:
            del os.environ[name]
        ensure_running()
    return context


def _command(
    line: list[str], folder: Path, environment: dict[str, str], outputs: list[Path]
) -> None:
    from study.commands.command_line import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, stream in zip(outputs, (sys.stdout, sys.stderr), strict=True):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, stream.fileno())
        os.close(file)
    sys.argv = line
    main()
