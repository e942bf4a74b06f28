"""`vae-study optuna-export`: a study's points in a storage of Optuna's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track

from search_spaces import BadInput, Goal, OptunaStrategy, nearest_name
from search_spaces.optuna_strategy import Comparison
from study.commands.cluster_options import cluster_options, find_study
from study.loading import Study, load_study
from study.tables import MEASURED

__all__ = ["optuna_export"]

DEFAULT = Goal(maximise="test_elbo")


@click.command()
@click.argument("study")
@click.option(
    "--storage",
    "target",
    required=True,
    metavar="URL",
    help="Where Optuna keeps studies: the URL of a database, or a journal file.",
)
@click.option("--name", help="Of Optuna's study.  [default: the study's]")
@click.option("--maximise", multiple=True, metavar="COLUMN", help="Of `trials`.")
@click.option("--minimise", multiple=True, metavar="COLUMN", help="Of `trials`.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="COLUMN==NUMBER",
    help="A column and the number that it is to come near.",
)
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    metavar="COLUMN<=NUMBER",
    help="What good points fulfil.",
)
@click.option(
    "--studies",
    "storage",
    default="studies",
    envvar="VAE_STUDY_STORAGE",
    show_default=True,
    show_envvar=True,
    help="Folder or URI (s3://…, gs://…) that holds STUDY.",
)
@cluster_options
def optuna_export(
    study: str,
    target: str,
    name: str | None,
    maximise: tuple[str, ...],
    minimise: tuple[str, ...],
    targets: tuple[str, ...],
    constraints: tuple[str, ...],
    storage: str,
    address: str | None,
    cluster: Path | None,
) -> None:
    """Add the points of STUDY that are done to a storage of Optuna's.

    A point is one trial there; its values are means over its seeds. Objectives and constraints are
    the study's own if Optuna chose its points, and else a large test_elbo. Points that are there
    already are left alone, so the same command brings the storage up to date.

    \b
    vae-study optuna-export my_search --storage sqlite:///optuna.db
    vae-study optuna-export quickstart --storage optuna.journal --maximise test_elbo
    vae-study optuna-export mnist-dense --storage sqlite:///optuna.db --name eight-units \\
        --maximise test_elbo --target "active_units == 8"
    optuna-dashboard sqlite:///optuna.db
    """
    loaded = load_study(find_study(study, storage, address, cluster))
    goals, kept = _sought(loaded, maximise, minimise, targets, constraints)
    from study.adaptive.export import export_to_optuna
    from study.adaptive.tools import open_storage

    console = Console(stderr=True)

    def shown(points: Iterable[Any]) -> Iterable[Any]:
        quiet = not console.is_terminal
        return track(points, "points", console=console, transient=True, disable=quiet)

    counts = export_to_optuna(
        loaded,
        open_storage(target if "://" in target else Path(target), "--storage"),
        name or loaded.name,
        goals,
        kept,
        shown,
    )
    left = f", {counts.unfinished} left out that are not done" if counts.unfinished else ""
    click.echo(f"{counts.added} points added, {counts.there} were there{left}")


def _sought(
    study: Study,
    maximise: tuple[str, ...],
    minimise: tuple[str, ...],
    targets: tuple[str, ...],
    constraints: tuple[str, ...],
) -> tuple[tuple[Goal, ...], tuple[str, ...]]:
    """Return objectives and constraints: those given, or else the study's own."""
    goals = [_goal("maximise", column) for column in maximise]
    goals += [_goal("minimise", column) for column in minimise]
    goals += [_goal("target", text) for text in targets]
    for text in constraints:
        try:
            column = Comparison.parse(text).column
        except ValueError as error:
            raise BadInput(f"--constraint: {error}") from None
        _check_column("--constraint", column)
    own = study.spec.strategy
    if isinstance(own, OptunaStrategy):
        return tuple(goals) or own.objectives, constraints or own.constraints
    return tuple(goals) or (DEFAULT,), constraints


def _goal(kind: str, text: str) -> Goal:
    try:
        goal = Goal.model_validate({kind: text})
    except ValidationError as error:
        raise BadInput(
            f"--{kind}: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from None
    _check_column(f"--{kind}", goal.column)
    return goal


def _check_column(option: str, column: str) -> None:
    measured = [field.name for field in MEASURED]
    if column not in measured:
        hint = nearest_name(column, measured)
        raise BadInput(f"{option}: {column!r} is no measured column of `trials`{hint}")
