"""What the subcommands of `vae-study` share: options, exit codes, how tables reach the terminal."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

__all__ = [
    "EXIT_BAD_INPUT",
    "EXIT_FAILED_TRIALS",
    "EXIT_INFRASTRUCTURE",
    "EXIT_INTERRUPTED",
    "Command",
    "data_option",
    "storage_option",
    "wide_console",
]

EXIT_FAILED_TRIALS, EXIT_BAD_INPUT, EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED = 1, 2, 3, 130

Command = Callable[..., Any]


def storage_option(command: Command) -> Command:
    """Add --storage, the folder that holds studies."""
    return click.option(
        "--storage",
        default="studies",
        envvar="VAE_STUDY_STORAGE",
        show_default=True,
        show_envvar=True,
        help="Folder or URI (s3://…, gs://…) that holds studies.",
    )(command)


def data_option(command: Command) -> Command:
    """Add --data-dir, where datasets are looked for first."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        help="Where to look for datasets first, e.g. data/ with data/mnist/*.gz in it.",
    )(command)


def wide_console() -> Console:
    """Return standard output; a file or pipe gets lines wide enough for tables."""
    return Console() if sys.stdout.isatty() else Console(width=140)
