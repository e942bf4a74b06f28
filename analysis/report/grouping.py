"""Groups in a report: what the grouping did where values are not plainly equal, and its columns."""

from typing import Final

import pandas as pd

from analysis.groups import ANY, RANGED, range_ends, scattered_columns
from analysis.report.content import Statement

__all__ = ["FORMATS", "grouping_statements", "shown_groups"]

FORMATS: Final = {
    name: "{:g}"
    for column in ("beta", "decoder_variance", "learning_rate")
    for name in (column, *range_ends(column))
}
"""How tables show the columns of groups that are not whole numbers."""


def grouping_statements(completed: pd.DataFrame) -> list[Statement]:
    """Say what the groups make of each hyperparameter that has too many values for groups.

    Args:
        completed: Completed trials.
    """
    return [_statement(completed, name) for name in scattered_columns(completed)]


def shown_groups(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of groups without the middles of ranges, whose ends it has."""
    middles = [name for name in table.columns if range_ends(name)[0] in table]
    return table.drop(columns=middles)


def _statement(completed: pd.DataFrame, name: str) -> Statement:
    values, recipe = completed[name], f"done[{name!r}]"
    if name == "decoder_variance":  # learned ones are results
        values = values[completed["decoder"] == "gaussian"]
        recipe = f"done.query(\"decoder == 'gaussian'\")[{name!r}]"
    if name in RANGED:
        taken = "groups take it in ranges, lower ends included"
    elif name == "architecture":
        taken = f"groups take those of a family together, as “{ANY}dense”"
    else:
        taken = (
            "groups leave it out, so the trials of a group differ in it; what it does is under "
            "“What drives sparsity”"
        )
    return Statement(
        f"{name} has {{:,}} different values in {{:,}} completed trials, as in a random search: "
        f"{taken}.",
        (int(values.nunique()), len(completed)),
        "done = trials.query(\"status == 'completed'\")\n" + f"{recipe}.nunique(), len(done)",
    )
