"""What the subcommands of `vae-study` share: options, exit codes, how tables reach the terminal."""

import json
import sys
from collections.abc import Callable
from functools import wraps
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
    "outcome_options",
    "spec_arguments",
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


def spec_arguments(command: Command) -> Command:
    """Add SPEC, --set and --part: a study to be, and what is to be different in it.

    The command gets `overrides`, the choice of parts among them.
    """

    @wraps(command)
    def with_parts(*, overrides: tuple[str, ...], parts: tuple[str, ...], **options: Any) -> Any:
        chosen = (f"parts={json.dumps(parts)}",) if parts else ()
        return command(overrides=overrides + chosen, **options)

    for option in (
        click.option(
            "--part",
            "parts",
            multiple=True,
            metavar="NAME",
            help="Keep only this part of the spec; may be given several times.",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="FIELD=VALUE",
            help="Override a field of the spec, e.g. --set training.epochs=5; --set scale=NAME "
            "applies a set of overrides that the spec has.",
        ),
        click.argument("spec"),
    ):
        with_parts = option(with_parts)
    return with_parts


def outcome_options(command: Command) -> Command:
    """Add what may be said of any run: which trials count as done, and the report at its end."""
    for option in (
        click.option("--retry-failed", is_flag=True, help="Run trials again that failed."),
        click.option(
            "--reuse/--no-reuse",
            default=True,
            show_default=True,
            help="Take trials that other studies in the storage have finished from there.",
        ),
        click.option(
            "--report/--no-report",
            default=True,
            show_default=True,
            help="Write report.html into the study's folder at the end.",
        ),
    ):
        command = option(command)
    return command


def wide_console() -> Console:
    """Return standard output; a file or pipe gets lines wide enough for tables."""
    return Console() if sys.stdout.isatty() else Console(width=140)
