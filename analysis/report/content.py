"""What a report holds, before it is HTML or Markdown: sections of statements, figures, tables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import altair as alt
import pandas as pd

__all__ = ["Figure", "Report", "Section", "Statement", "TableBlock", "TrialBrowser", "heading"]

Number = float | int


@dataclass(frozen=True)
class Statement:
    """A sentence, and the pandas lines that give its numbers again.

    Attributes:
        template: The sentence, a format string that the numbers are put into.
        numbers: The numbers of the sentence, in the order of the template.
        recipe: A Python expression over `trials`, `units` (final, training images), `datasets`,
            `pd` and what the report's preamble imports, that evaluates to the numbers; empty
            only where there are none.
        warns: Says that something is missing, failed or not to be trusted.
    """

    kind: ClassVar[str] = "statement"
    template: str
    numbers: tuple[Number, ...] = ()
    recipe: str = ""
    warns: bool = False

    @property
    def text(self) -> str:
        """The sentence as printed."""
        return self.template.format(*self.numbers)


def heading(column: str) -> str:
    """Return a column's name as a table shows it."""
    return re.sub("^beta(?=_|$)", "β", column).replace("_", " ")


@dataclass(frozen=True)
class Figure:
    """A chart with a name to ask for it by, and a caption that says what to see in it."""

    kind: ClassVar[str] = "figure"
    name: str
    caption: str
    chart: alt.TopLevelMixin


@dataclass(frozen=True)
class TableBlock:
    """A small table, with the recipe that gives its frame again.

    Attributes:
        caption: What its rows are.
        frame: The table; numbers are formatted by `formats` when shown.
        formats: Format strings by column; text and whole numbers need none.
        recipe: As for statements; evaluates to the frame.
    """

    kind: ClassVar[str] = "table"
    caption: str
    frame: pd.DataFrame
    formats: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""

    def cells(self) -> list[list[str]]:
        """Every cell as printed, row by row; null is an empty cell."""
        columns = [
            [self._cell(name, value) for value in self.frame[name]] for name in self.frame.columns
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def text_columns(self) -> list[bool]:
        """Tell which columns hold text, which is aligned to the left."""
        numeric = pd.api.types.is_numeric_dtype
        return [not numeric(self.frame[name]) for name in self.frame.columns]

    def _cell(self, name: str, value: Any) -> str:
        return "" if pd.isna(value) else self.formats.get(name, "{}").format(value)


@dataclass(frozen=True)
class TrialBrowser:
    """Trials to sort and filter, with the final units of each.

    Attributes:
        trials: A row per trial shown.
        units: The final units of those of them that have any and find room.
        total: Trials of the study, shown or not.
        left_out: What is not shown, in words; empty where all is.
    """

    kind: ClassVar[str] = "trials"
    trials: pd.DataFrame
    units: pd.DataFrame
    total: int
    left_out: str


Block = Statement | Figure | TableBlock | TrialBrowser


@dataclass(frozen=True)
class Section:
    """A part of the report under one heading."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes:
        study: The study's name.
        description: What its author said of it.
        answer: What was found, first things first.
        sections: The evidence.
        preamble: The Python lines that every recipe counts on.
        spec: The resolved spec, as YAML.
        versions: Versions of what made the tables, by name.
    """

    study: str
    description: str
    answer: tuple[Statement, ...]
    sections: tuple[Section, ...]
    preamble: str
    spec: str
    versions: Mapping[str, str]

    def figures(self) -> dict[str, Figure]:
        """Every figure by name, in the order of the report."""
        blocks = (block for section in self.sections for block in section.blocks)
        return {block.name: block for block in blocks if isinstance(block, Figure)}
