"""The dimension of the data by other means, beside the VAE's answer."""

import pandas as pd

from analysis.charts.eigenvalues import eigenvalue_spectrum
from analysis.data_dimension import cross_checks
from analysis.probabilistic_pca import linear_answers
from analysis.report.content import Block, Figure, Section, Statement, TableBlock
from analysis.study_tables import StudyTables

__all__ = ["data_section"]

_FORMATS = {name: "{:.3g}" for name in ("value", "lowest", "highest", "active_units")}


def data_section(tables: StudyTables, estimates: pd.DataFrame) -> Section:
    """Compose the section from the tables and what `estimate_intrinsic_dimension` says of them."""
    title = "Cross-checks from outside"
    if tables.datasets.empty:
        missing = Statement(
            "The datasets have not been described; `vae-study data describe --study "
            f"{tables.study}` computes their eigenvalues and geometric dimension, once."
        )
        return Section("data", title, (missing,))
    completed = tables.trials[tables.trials["status"] == "completed"]
    checks = cross_checks(completed, tables.datasets, None if completed.empty else estimates)
    measures = checks[["method", "variant", "measures"]]
    measures = measures.assign(variant=measures["variant"].where(checks["method"] != "VAE", ""))
    blocks: list[Block] = [
        TableBlock(
            "The dimension of each dataset by several methods. They measure different things, so "
            "that they differ is no contradiction.",
            checks.drop(columns="measures").dropna(axis="columns", how="all"),
            _FORMATS,
            "from analysis import cross_checks, estimate_intrinsic_dimension\n"
            "completed = trials.query(\"status == 'completed'\")\n"
            "cross_checks(completed, datasets, estimate_intrinsic_dimension(completed))",
        ),
        TableBlock(
            "What each method measures.",
            measures.drop_duplicates(["method", "variant"]).sort_values(["method", "variant"]),
        ),
    ]
    if (tables.datasets["quantity"] == "eigenvalue").any():
        blocks.append(
            Figure(
                "eigenvalues",
                "Covariance eigenvalues of the training images. A linear VAE keeps one unit for "
                "each that lies above β·s (dashed, where the study has linear VAEs).",
                eigenvalue_spectrum(tables.datasets, linear_answers(completed, tables.datasets)),
            )
        )
    return Section("data", title, tuple(blocks))
