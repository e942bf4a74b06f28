"""The `vae-study` command: arguments in, functions of this package called, exit codes out."""

import json
import sys

import click
from rich.markup import escape
from rich.table import Table

from search_spaces import (
    BadInput,
    json_schema,
    load_spec,
    preset_names,
    preset_path,
)
from study.cluster.errors import ClusterError
from study.commands.cluster import logs, pull, stop, submit
from study.commands.compare import compare
from study.commands.data import data
from study.commands.options import (
    EXIT_BAD_INPUT,
    EXIT_INFRASTRUCTURE,
    EXIT_INTERRUPTED,
    wide_console,
)
from study.commands.optuna_export import optuna_export
from study.commands.plan import plan
from study.commands.report import report
from study.commands.results import results
from study.commands.run import resume, run
from study.commands.status import list_, status
from study.driver_folder import ReplacedError
from study.storage import StorageError
from study.tables import column_dictionary

__all__ = ["main"]


def main() -> None:
    """Run; exit 0: done, 1: trials failed, 2: bad input, 3: infrastructure, 130: interrupted."""
    try:
        sys.exit(cli(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BadInput as error:
        click.echo(f"vae-study: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    except (ClusterError, ReplacedError) as error:
        click.echo(f"vae-study: {error}", err=True)
        sys.exit(EXIT_INFRASTRUCTURE)
    except (StorageError, ConnectionError) as error:
        click.echo(f"vae-study: {error}; `vae-study resume` goes on from here", err=True)
        sys.exit(EXIT_INFRASTRUCTURE)
    except (KeyboardInterrupt, click.Abort):
        click.echo("vae-study: interrupted; `vae-study resume` goes on from here", err=True)
        sys.exit(EXIT_INTERRUPTED)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="vae-study")
def cli() -> None:
    """Studies of sparsity and intrinsic dimension in variational autoencoders.

    \b
    vae-study run quickstart                  run a preset
    vae-study run my_study.yaml               run a spec of your own
    vae-study run quickstart --set training.epochs=5
    vae-study results quickstart              what came out
    vae-study submit quickstart               run it on the Ray cluster of cluster.yaml
    """


@cli.command()
@click.argument("table", required=False)
def columns(table: str | None) -> None:
    """Explain the columns of all tables, or of TABLE."""
    dictionary = column_dictionary()
    names = list(dictionary["table"].unique())
    if table is not None and table not in names:
        raise BadInput(f"table: {table!r} is not a table (choose from {', '.join(names)})")
    console = wide_console()
    for name, rows in dictionary.groupby("table", sort=False):
        if table in (None, name):
            shown = Table("column", "type", "meaning", title=str(name), title_justify="left")
            for row in rows.itertuples():
                shown.add_row(str(row.column), str(row.type), escape(str(row.description)))
            console.print(shown)


@cli.command()
def presets() -> None:
    """List the presets that `run` and `plan` take by name."""
    for name in preset_names():
        spec = load_spec(name)
        click.echo(f"{name:20} {spec.description}".rstrip())
        click.echo(f"{'':20} {preset_path(name)}")
        for kind, names in (("parts", spec.parts), ("scales", spec.scales)):
            if names:
                click.echo(f"{'':20} {kind}: {', '.join(names)}")


@cli.command()
def schema() -> None:
    """Print the JSON schema of specs, with which editors complete and check them."""
    click.echo(json.dumps(json_schema(), indent=2))


for command in (compare, data, list_, logs, optuna_export, plan, pull, report, results):
    cli.add_command(command)
for command in (resume, run, status, stop, submit):
    cli.add_command(command)
