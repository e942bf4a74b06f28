"""The `vae-study compare` command: two studies, or two groups of one, side by side."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np
import pandas as pd

from search_spaces import BadInput
from study.commands.options import storage_option
from study.loading import load_study
from study.storage import Folder
from study.trial_conditions import select_trials

if TYPE_CHECKING:
    from analysis.comparison import Comparison

__all__ = ["compare"]

FEW_GROUPS, FEW_TRIALS = 20, 10
"""Groups, and trials without partner, that the readable formats show; csv and json hold all."""


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@storage_option
@click.option("--where-a", metavar="CONDITION", help="Compare these trials of A only.")
@click.option("--where-b", metavar="CONDITION", help="Compare these trials of B only.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "csv", "json", "md"]),
    default="table",
    show_default=True,
    help="`csv` holds the differences, `json` the pairs of trials too.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.")
def compare(
    a: str,
    b: str,
    storage: str,
    where_a: str | None,
    where_b: str | None,
    format_: str,
    output: Path | None,
) -> None:
    """Compare studies A and B, or two groups of one study.

    Trials are paired where their ids are equal, else where their hyperparameters are, but for
    those that tell A from B; what cannot be paired is compared in the mean. Differences are B
    minus A. A CONDITION compares hyperparameters with constants, with and, or, not and brackets.

    \b
    vae-study compare mnist-dense mnist-conv
    vae-study compare quickstart quickstart --where-a "beta == 0.5" --where-b "beta == 2"
    vae-study compare old new --where-a "latent_dim >= 8 and seed in [0, 1]" --format csv
    """
    from analysis.comparison import compare_trials

    if a == b and (where_a is None or where_b is None):
        raise BadInput(
            f"B: {b!r} is study A too; give --where-a and --where-b to compare two groups of it"
        )
    left, right = (load_study(Folder.at(storage).child(name)).trials for name in (a, b))
    if where_a is not None:
        left = select_trials(left, where_a, "--where-a")
    if where_b is not None:
        right = select_trials(right, where_b, "--where-b")
    named = [
        f"{side} is {name}" + (f" where {condition}" if condition else "")
        for side, name, condition in (("A", a, where_a), ("B", b, where_b))
    ]
    comparison = compare_trials(left, right, names=("A", "B"))
    text = _FORMATS[format_](comparison, named)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"--output: {output} cannot be written ({error.strerror or error})"
        ) from None


def _as_table(comparison: "Comparison", named: list[str]) -> str:
    parts = ["\n".join([*named, "", *comparison.summary])]
    for title, table in _readable(comparison):
        for name in table.columns.intersection(["group", "measure", "reason"]):  # text: to the left
            table[name] = table[name].str.ljust(table[name].str.len().max())
        parts.append(f"{title}\n{table.to_string(index=False, justify='left')}")
    return "\n\n".join(parts) + "\n"


def _as_markdown(comparison: "Comparison", named: list[str]) -> str:
    parts = ["\n".join(f"- {line}" for line in [*named, *comparison.summary])]
    for title, table in _readable(comparison):
        rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
        lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
        parts.append("\n".join([f"**{title}**", "", *lines]))
    return "\n\n".join(parts) + "\n"


def _as_csv(comparison: "Comparison", named: list[str]) -> str:
    return comparison.differences.to_csv(index=False)


def _as_json(comparison: "Comparison", named: list[str]) -> str:
    tables = {
        name: json.loads(getattr(comparison, name).to_json(orient="records", double_precision=15))
        for name in ("differences", "reproducibility", "pairs", "unmatched")
    }
    content = {"compared": named, "summary": comparison.summary} | tables
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _readable(comparison: "Comparison") -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables to be read: titles, and columns of text."""
    rows = comparison.differences
    groups = list(rows["group"].unique())
    shown = rows[rows["group"].isin(groups[: FEW_GROUPS + 1])]
    if not shown.empty:
        left_out = len(groups) - FEW_GROUPS - 1
        more = f" ({left_out} more groups: --format csv)" if left_out > 0 else ""
        table = pd.DataFrame([_difference_words(row) for _, row in shown.iterrows()])
        yield f"differences, B minus A{more}", table
    alone = comparison.unmatched
    if not alone.empty and not comparison.pairs.empty:
        more = (
            f" ({len(alone) - FEW_TRIALS} more: --format json)" if len(alone) > FEW_TRIALS else ""
        )
        few = alone.head(FEW_TRIALS).assign(side=alone["side"].map({"left": "A", "right": "B"}))
        yield f"trials without partner{more}", few[["side", "trial_id", "reason"]]


def _difference_words(row: "pd.Series[Any]") -> dict[str, str]:
    digits = 4 if row["measure"] == "variance_law_mean" else 2
    texts = {name: f"{row[name]:.{digits}f}" for name in ("left", "right", "low", "high")}
    known = not np.isnan(row["low"])
    return {
        "group": row["group"],
        "measure": row["measure"],
        "A": texts["left"],
        "B": texts["right"],
        "difference": f"{row['difference']:+.{digits}f}",
        "95% CI": f"{texts['low']} to {texts['high']}" if known else "none",
        "by": f"{row['pairs']} pairs, {row['matched_by']}" if row["pairs"] else "unpaired",
    }


_FORMATS: Final[dict[str, Callable[["Comparison", list[str]], str]]] = {
    "table": _as_table,
    "csv": _as_csv,
    "json": _as_json,
    "md": _as_markdown,
}
