"""From the tables of a study to its report: the answer first, then the evidence."""

from analysis.intrinsic_dimension import estimate_intrinsic_dimension
from analysis.report.answer import answer
from analysis.report.content import Report
from analysis.report.counting_section import counting_section
from analysis.report.data_section import data_section
from analysis.report.deterioration_section import deterioration_section
from analysis.report.dimension_section import dimension_section
from analysis.report.drivers_section import drivers_section
from analysis.report.images_section import images_section
from analysis.report.inert_section import inert_section
from analysis.report.latent_section import latent_section
from analysis.report.law_section import law_section
from analysis.report.paper_section import paper_section
from analysis.report.search_section import search_section
from analysis.report.training_section import training_section
from analysis.report.trials_section import failures_section, trials_section
from analysis.study_tables import StudyTables

__all__ = ["compose_report"]


def compose_report(tables: StudyTables) -> Report:
    """Compose the report of a study, whatever there is of it yet.

    Args:
        tables: Its tables. A study that runs, is empty or failed throughout gives a report that
            says what is missing.
    """
    completed = tables.trials[tables.trials["status"] == "completed"]
    estimates = estimate_intrinsic_dimension(completed)
    swept = bool((estimates["latent_dims"] > 1).any())
    paper = paper_section(tables)
    sections = [
        search_section(tables),
        None if swept else paper,  # one latent_dim says nothing of a dimension
        dimension_section(tables, estimates),
        law_section(tables),
        training_section(tables),
        drivers_section(tables),
        paper if swept else None,
        latent_section(tables),
        images_section(tables),
        inert_section(tables),
        counting_section(tables),
        deterioration_section(tables),
        data_section(tables, estimates),
        failures_section(tables),
        trials_section(tables),
    ]
    preamble = (
        "import pandas as pd\n"
        "from study import load_study\n\n"
        f"study = load_study({tables.location!r})\n"
        "trials, units, datasets = study.trials, study.final_units, study.datasets"
    )
    return Report(
        study=tables.study,
        description=tables.description,
        answer=tuple(answer(tables, estimates)),
        sections=tuple(section for section in sections if section is not None),
        preamble=preamble,
        spec=tables.spec,
        versions=tables.versions,
    )
