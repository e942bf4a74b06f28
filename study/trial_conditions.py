"""Conditions on trials' hyperparameters, as users write them: parsed, and never run as Python."""

import ast
import operator
import warnings
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from search_spaces import BadInput, nearest_name
from study.tables import HYPERPARAMETERS, TRIALS

if TYPE_CHECKING:
    from typing import TypeAlias

    Flags: TypeAlias = "pd.Series[bool]"

__all__ = ["LONGEST", "select_trials"]

EXAMPLE: Final = "\"beta == 1 and architecture == 'paper-conv'\""
LONGEST: Final = 1000
"""Characters of a condition."""

_FLIPPED: Final = {
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
}
"""What a comparison becomes when its sides are swapped."""


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
