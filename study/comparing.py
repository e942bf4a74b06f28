"""The `vae-study compare` command: two studies, or two groups of one, side by side."""

import ast
import json
import operator
import warnings
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np
import pandas as pd
import pyarrow as pa

from search_spaces import BadInput, nearest_name
from study.command_options import storage_option
from study.loading import load_study
from study.storage import Folder
from study.tables import HYPERPARAMETERS, TRIALS

if TYPE_CHECKING:
    from typing import TypeAlias

    from analysis.comparison import Comparison

    Flags: TypeAlias = "pd.Series[bool]"

__all__ = ["compare", "select_trials"]

EXAMPLE: Final = "\"beta == 1 and architecture == 'paper-conv'\""
LONGEST: Final = 1000
"""Characters of a condition."""

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


def select_trials(trials: pd.DataFrame, condition: str, option: str) -> pd.DataFrame:
    """Return the trials for which a condition on their hyperparameters holds.

    Nothing is evaluated as Python: a condition is parsed, and may hold comparisons of a
    hyperparameter with a constant or a list of them, and, or, not, &, |, ~ and brackets. Numbers
    are equal if they are to nine digits.

    Example:
        >>> select_trials(study.trials, "beta == 1 and architecture == 'paper-conv'", "--where-a")

    Args:
        trials: The `trials` table of a study.
        condition: As pandas' `query` takes them.
        option: What to call it in an error's message.

    Raises:
        BadInput: It is no such condition, or no trial fulfils it.
    """
    try:
        tree = _parsed(condition)
        chosen = trials[_holds(tree, trials)]
    except (_RefusedError, RecursionError) as error:
        reason = error if isinstance(error, _RefusedError) else "has too many signs in a row"
        raise BadInput(f"{option}: {condition!r} {reason}; write e.g. {EXAMPLE}") from None
    if chosen.empty and not trials.empty:
        names = dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
        there = "; ".join(f"{name} is {_values(trials[name])}" for name in names)
        raise BadInput(f"{option}: {condition!r} holds for none of {len(trials)} trials ({there})")
    return chosen


class _RefusedError(Exception):
    """What a condition is or holds that it may not."""


def _parsed(condition: str) -> ast.expr:
    try:
        if len(condition) > LONGEST:
            raise _RefusedError(f"is longer than {LONGEST} characters")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in texts
            return ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        equals = ": = is written ==" if "=" in condition and "==" not in condition else ""
        raise _RefusedError(f"is not a condition{equals}") from None


def _holds(node: ast.expr, trials: pd.DataFrame) -> "Flags":
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            return reduce(operator.and_, (_holds(part, trials) for part in parts))
        case ast.BoolOp(op=ast.Or(), values=parts):
            return reduce(operator.or_, (_holds(part, trials) for part in parts))
        case ast.BinOp(op=ast.BitAnd(), left=left, right=right):
            return _holds(left, trials) & _holds(right, trials)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _holds(left, trials) | _holds(right, trials)
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            return ~_holds(operand, trials)
        case ast.Compare():
            terms = [node.left, *node.comparators]  # 0.5 <= beta <= 1 has three
            compared = zip(terms, node.ops, terms[1:], strict=False)
            return reduce(operator.and_, (_compared(*parts, trials) for parts in compared))
    raise _RefusedError(f"has {ast.unparse(node)!r}, which is no comparison")


def _compared(left: ast.expr, op: ast.cmpop, right: ast.expr, trials: pd.DataFrame) -> "Flags":
    if isinstance(right, ast.Name) and not isinstance(left, ast.Name) and type(op) in _FLIPPED:
        left, op, right = right, _FLIPPED[type(op)](), left
    if not isinstance(left, ast.Name):
        raise _RefusedError(f"has {ast.unparse(left)!r} in place of a hyperparameter")
    if left.id not in HYPERPARAMETERS:
        hint = nearest_name(left.id, HYPERPARAMETERS)
        raise _RefusedError(f"has {left.id!r}, which is no hyperparameter{hint}")
    values = trials[left.id]
    is_text = pa.types.is_string(TRIALS.field(left.id).type)
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(right, ast.List | ast.Tuple | ast.Set):
            raise _RefusedError(f"has {ast.unparse(right)!r} in place of a list after `in`")
        alike = [_equal(values, _constant(left.id, item, is_text)) for item in right.elts]
        found = reduce(operator.or_, alike, pd.Series(False, index=trials.index))
        return found if isinstance(op, ast.In) else ~found
    equal = _equal(values, _constant(left.id, right, is_text))
    match op:
        case ast.Eq():
            return equal
        case ast.NotEq():
            return ~equal
    if is_text or type(op) not in _FLIPPED:
        allowed = "==, != and in" if is_text else "==, !=, <, <=, >, >= and in"
        raise _RefusedError(f"compares {left.id} by other than {allowed}")
    constant = _constant(left.id, right, is_text)
    beyond = values.lt(constant) if isinstance(op, ast.Lt | ast.LtE) else values.gt(constant)
    return beyond | equal if isinstance(op, ast.LtE | ast.GtE) else beyond & ~equal


def _constant(column: str, node: ast.expr, is_text: bool) -> Any:
    try:
        constant = ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise _RefusedError(
            f"compares {column} with {ast.unparse(node)}, which is no constant (text needs quotes, "
            "comparisons joined by & or | need brackets)"
        ) from None
    if is_text != isinstance(constant, str) or type(constant) not in (str, int, float):
        kind = "text" if is_text else "a number"
        raise _RefusedError(f"compares {column}, which is {kind}, with {ast.unparse(node)}")
    if not is_text and not -(2**63) <= constant < 2**63:
        raise _RefusedError(f"compares {column} with {ast.unparse(node)}, which is out of range")
    return constant


def _equal(values: "pd.Series[Any]", constant: Any) -> "Flags":
    if isinstance(constant, str) or pd.api.types.is_integer_dtype(values):
        return values.eq(constant)
    # A log range may give 0.5000000000000001.
    close = np.isclose(values.astype(float), constant, rtol=1e-9, atol=0)
    return pd.Series(close, index=values.index)


def _values(column: "pd.Series[Any]") -> str:
    found = [str(value) for value in column.dropna().drop_duplicates().sort_values()]
    return ", ".join([*found[:8], *(["…"] if len(found) > 8 else [])]) or "never set"


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
_FLIPPED: Final = {
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
}
"""What a comparison becomes when its sides are swapped."""
