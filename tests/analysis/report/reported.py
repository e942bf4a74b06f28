"""Reports of simulated and of hand-made studies, for the tests."""

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.report import Report
from analysis.report.content import Statement, TableBlock
from analysis.study_tables import StudyTables
from study.loading import Study, load_study
from tests.analysis.simulated_study import write_simulated_study


def simulated(folder: Path, trials: int = 200) -> Study:
    return load_study(write_simulated_study(folder / "simulated", trials=trials))


def only(tables: StudyTables, trials: pd.DataFrame, **changes: Any) -> StudyTables:
    """The same study with these trials alone."""

    def of_them(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[rows["trial_id"].isin(trials["trial_id"])]

    fewer = replace(
        tables,
        trials=trials,
        units=of_them(tables.units),
        shown_units=of_them(tables.shown_units),
        shown_epochs=of_them(tables.shown_epochs),
        probes=of_them(tables.probes),
    )
    return replace(fewer, **changes)


def statements(report: Report) -> list[Statement]:
    blocks = (block for section in report.sections for block in section.blocks)
    return [*report.answer, *(block for block in blocks if isinstance(block, Statement))]


def table_blocks(report: Report) -> list[TableBlock]:
    blocks = (block for section in report.sections for block in section.blocks)
    return [block for block in blocks if isinstance(block, TableBlock)]


def evaluate(recipe: str, tables: StudyTables, study: Study | None = None) -> Any:
    """What the last line of a recipe gives, after the report's preamble.

    Recipes that read samples need the study on storage that the tables were read from.
    """
    names: dict[str, Any] = {"pd": pd, "study": study or tables, "trials": tables.trials}
    names |= {"units": tables.units, "datasets": tables.datasets}
    *lines, last = _logical_lines(recipe)
    exec("\n".join(lines), names)
    return eval(last, names)


def _logical_lines(recipe: str) -> list[str]:
    """The recipe's statements, the last one apart."""
    body = ast.parse(recipe).body
    return [ast.unparse(statement) for statement in body]


def assert_recomputed(report: Report, tables: StudyTables, study: Study | None = None) -> int:
    """Every number of the report's sentences comes from its recipe; return how many sentences."""
    numbered = [statement for statement in statements(report) if statement.numbers]
    for statement in numbered:
        assert statement.recipe, statement.text
        again = np.atleast_1d(np.array(evaluate(statement.recipe, tables, study), dtype=float))
        np.testing.assert_allclose(again, statement.numbers, rtol=1e-9, err_msg=statement.text)
    _assert_accounted_for(report)
    return len(numbered)


_NUMBER = re.compile(r"(?<![\w.-])-?\d[\d,]*(?:\.\d+)?(?![\w-])")
_STYLES = ("g", ",.0f", ".1f", ".2f", ".3f", ".4f", ".5f", ".3g")


def _assert_accounted_for(report: Report) -> None:
    """Names of groups, thresholds and latent_dims apart, each number printed is in `numbers`."""
    for statement in statements(report):
        text = re.sub(r"[<>=]= -?[\d.]+|distance of [\w ]+ from -?[\d.]+", "", statement.text)
        text = re.sub(
            r"^.*?, β (?:= )?[\d.]+(?: to [\d.]+)?:|95% CI|10 the least|0\.02|0\.1 |"
            r"predicted: 1 and 0",
            "",
            text,
        )
        text = re.sub(r"from 1 by at most [\d.]+ on average and by at most [\d.]+", "", text)
        text = re.sub(r"latent_dim \d+|figure \d+|beta [\d.]+|\d+ pairs|[a-z]+(?:-\d+)+", "", text)
        known = {f"{abs(n):{style}}" for n in statement.numbers for style in _STYLES if n == n}
        known |= {text.removesuffix(".0") for text in known}
        for printed in _NUMBER.findall(text):
            assert printed.strip("-,") in known, (printed, statement.text)
