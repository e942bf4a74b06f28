"""The `vae-study report` command: a study's report as a page, as Markdown, or its charts alone."""

from pathlib import Path

import click

from search_spaces import BadInput
from study.commands.cluster_options import cluster_options, find_study
from study.commands.options import storage_option
from study.loading import load_study

__all__ = ["report"]


@click.command()
@click.argument("study")
@storage_option
@cluster_options
@click.option(
    "--format",
    "format_",
    type=click.Choice(["html", "md", "png", "svg"]),
    default="html",
    show_default=True,
    help="One page with everything; Markdown with pictures; or pictures of the charts.",
)
@click.option("--chart", metavar="NAME", help="With png or svg: this chart only.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write, or folder for several charts "
    "[default: report.html in the study's folder; else STUDY.md, STUDY-figures or NAME here].",
)
def report(
    study: str,
    storage: str,
    address: str | None,
    cluster: Path | None,
    format_: str,
    chart: str | None,
    output: Path | None,
) -> None:
    """Write the report of STUDY: the intrinsic dimension, the variance law, charts, every trial.

    The page needs no network and holds all it shows. A study that still runs is reported as it is.
    With --cluster, tables that lie on a disk that only the cluster sees are copied first.

    \b
    vae-study report quickstart
    vae-study report quickstart --format md -o report.md
    vae-study report quickstart --format svg -o figures
    vae-study report quickstart --format png --chart active-units -o active_units.png
    """
    if chart is not None and format_ not in ("png", "svg"):
        raise BadInput(f"--chart: {format_} holds all charts; give --format png or svg with it")
    loaded = load_study(find_study(study, storage, address, cluster))
    from study.commands.reporting import write_charts, write_markdown, write_report

    if format_ == "html":
        click.echo(write_report(loaded, output))
    elif format_ == "md":
        for path in write_markdown(loaded, output or Path(f"{study}.md")):
            click.echo(path)
    else:
        default = f"{study}-figures" if chart is None else f"{chart}.{format_}"
        for path in write_charts(loaded, output or Path(default), format_, chart):
            click.echo(path)
