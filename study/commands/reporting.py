"""From a study on storage to its report: reads the tables, has `analysis` compose, writes files."""

from pathlib import Path

import pandas as pd

from analysis.report import (
    Report,
    compose_report,
    picture,
    representative_trials,
    to_html,
    to_markdown,
)
from analysis.study_tables import StudyTables
from search_spaces import BadInput, dump_spec, nearest_name
from study.commands.latent_tables import latent_tables
from study.commands.sample_summaries import sample_summaries
from study.commands.search_tables import search_settings, search_tables
from study.loading import Study
from study.storage import Folder, StorageError

__all__ = ["REPORT_FILE", "study_tables", "write_charts", "write_markdown", "write_report"]

REPORT_FILE = "report.html"


def study_tables(study: Study) -> StudyTables:
    """Read what a report needs; a study that still runs is read as it is at that moment."""
    shown = list(representative_trials(study.trials)["trial_id"])
    return StudyTables(
        study=study.name,
        location=str(study.folder),
        description=study.spec.description,
        planned=study.planned,
        trials=study.trials,
        units=study.final_units,
        shown_units=study.units_of(shown),
        shown_epochs=study.epochs_of(shown),
        datasets=study.datasets,
        active_variance=study.spec.record.active_variance,
        active_kl=study.spec.record.active_kl,
        spec=dump_spec(study.spec),
        versions={name: str(version) for name, version in study.versions.items()},
        layers=study.layers_of(_one_of_each_net(study.trials)),
        probes=study.probes,
        **sample_summaries(study),
        **latent_tables(study),
        search=search_settings(study),
        **search_tables(study),
    )


def _one_of_each_net(trials: pd.DataFrame) -> list[str]:
    nets = ["architecture", "latent_dim", "dataset_fingerprint"]
    return list(trials.sort_values("trial_id").drop_duplicates(nets)["trial_id"])


def write_report(study: Study, output: Path | None = None) -> str:
    """Write the report as one HTML file, into the study's folder or to `output`.

    Returns:
        Where it is.

    Raises:
        BadInput: `output` cannot be written.
        StorageError: The study cannot be read, or its folder not written.
    """
    page = to_html(compose_report(study_tables(study))).encode()
    if output is None:
        study.folder.write_whole(REPORT_FILE, page)
        return str(study.folder.child(REPORT_FILE))
    _write(output, page)
    return str(output)


def write_markdown(study: Study, output: Path) -> list[Path]:
    """Write the report as Markdown to `output`, and its charts as PNG files beside it.

    Raises:
        BadInput: A file cannot be written.
    """
    report = compose_report(study_tables(study))
    pictures = Path(f"{output.stem}-figures")
    written = _write_charts(report, output.parent / pictures, "png", list(report.figures()))
    _write(output, to_markdown(report, pictures.as_posix()).encode())
    return [output, *written]


def write_charts(study: Study, output: Path, format_: str, chart: str | None = None) -> list[Path]:
    """Write one chart to the file `output`, or all charts into the folder `output`.

    Args:
        study: The study.
        output: File or folder.
        format_: png or svg.
        chart: Name of the chart; all of them where it is None.

    Raises:
        BadInput: There is no such chart, or a file cannot be written.
    """
    report = compose_report(study_tables(study))
    names = list(report.figures())
    if chart is None:
        return _write_charts(report, output, format_, names)
    if chart not in names:
        hint = nearest_name(chart, names) if names else " (this study has none yet)"
        raise BadInput(f"--chart: {chart!r} is not a chart of this report{hint}")
    _write(output, picture(report.figures()[chart], format_))
    return [output]


def _write_charts(report: Report, folder: Path, format_: str, names: list[str]) -> list[Path]:
    paths = [folder / f"{name}.{format_}" for name in names]
    for name, path in zip(names, paths, strict=True):
        _write(path, picture(report.figures()[name], format_))
    return paths


def _write(path: Path, data: bytes) -> None:
    try:
        Folder.at(path.parent).write_whole(path.name, data)
    except StorageError as error:
        raise BadInput(f"--output: {error}") from error
