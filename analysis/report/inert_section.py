"""Are inactive units inert? What setting them to zero changes in generated images."""

import pandas as pd

from analysis.charts.inert_units import inert_units_chart
from analysis.inert_units import INERT, inert_units
from analysis.report.content import Block, Figure, Section, Statement, TableBlock
from analysis.study_tables import StudyTables
from analysis.variance_law import UNIT_TOLERANCE

__all__ = ["inert_section"]

MOST_POINTS = 2_000
MOST_ROWS = 12
MOST_DATASETS = 4
_FOUND = (
    "from analysis import inert_units, sample_differences\n"
    "samples = study.samples_of(trials['trial_id'], ['shape', 'largest_difference'])\n"
    "found = inert_units(trials, units, sample_differences(samples))\n"
)
_SPARSE = f"{_FOUND}sparse = found[found['inactive'] > 0]\n"
_SHOWN = [
    "dataset",
    "architecture",
    "beta",
    "decoder",
    "initialisation",
    "seed",
    "epochs",
    "inactive",
    "changed",
    "largest",
    "verdict",
]
_FORMATS = {"beta": "{:g}", "changed": "{:.1%}", "largest": "{:.5f}"}


def inert_section(tables: StudyTables) -> Section | None:
    """Compose the section; None where no trial with the variance law's objective has images."""
    if tables.sample_differences.empty:
        return None
    found = inert_units(tables.trials, tables.units, tables.sample_differences)
    if found.empty:
        return None
    sparse = found[found["inactive"] > 0]
    blocks: list[Block] = [*_statements(found, sparse)]
    if len(sparse):
        blocks += [_figure(sparse), _table(sparse)]
    return Section("inert", "Are inactive units inert?", tuple(blocks))


def _statements(found: pd.DataFrame, sparse: pd.DataFrame) -> list[Statement]:
    nothing = len(found) - len(sparse)
    statements = []
    if len(sparse):
        statements = [_overall(sparse), _by_verdict(sparse), *_longest(sparse)]
    if nothing:
        statements.append(
            Statement(
                "{:,} further trials with generated images have no inactive unit: nothing was set "
                "to zero, so that they say nothing here.",
                (nothing,),
                f"{_FOUND}(found['inactive'] == 0).sum()",
                warns=sparse.empty,
            )
        )
    return statements


def _overall(sparse: pd.DataFrame) -> Statement:
    inert = int(sparse["inert"].sum())
    return Statement(
        "Setting all inactive units to zero changes no pixel of any generated image by more than "
        f"{INERT:g} in {{:,}} of the {{:,}} trials that have such units. The largest change in a "
        "trial has median {:.4f} and is {:.4f} at most; of all {:,} images {:.1f}% have a pixel "
        f"that changes by more than {INERT:g} (pixels are in {{:d}} to {{:d}}; measured before "
        "rounding to bytes).",
        (
            inert,
            len(sparse),
            float(sparse["largest_difference"].median()),
            float(sparse["largest_difference"].max()),
            int(sparse["images"].sum()),
            100 * float(sparse["changed"].sum() / sparse["images"].sum()),
            0,
            1,
        ),
        f"{_SPARSE}change = sparse['largest_difference']\n"
        f"(change <= {INERT}).sum(), len(sparse), change.median(), change.max(), "
        "sparse['images'].sum(), 100 * sparse['changed'].sum() / sparse['images'].sum(), 0, 1",
        warns=2 * inert < len(sparse),
    )


def _by_verdict(sparse: pd.DataFrame) -> Statement:
    settled = sparse["verdict"] == "converged"
    if not settled.any():
        return Statement(
            "None of these trials has converged by the variance law, and until then inactive units "
            "are still on their way to inertness.",
            warns=True,
        )
    inert, converged = int((settled & sparse["inert"]).sum()), int(settled.sum())
    others = ~settled & sparse["inert"]
    words = "Of the {:,} that have converged by the variance law the change stays within "
    words += f"{INERT:g} in {{:,}}"
    numbers: list[int] = [converged, inert]
    if not settled.all():
        words += ", of the {:,} others in {:,}"
        numbers += [int((~settled).sum()), int(others.sum())]
    return Statement(
        f"{words}.",
        tuple(numbers),
        f"{_SPARSE}settled = sparse['verdict'] == 'converged'\n"
        f"inert = sparse['largest_difference'] <= {INERT}\n"
        "settled.sum(), (settled & inert).sum()"
        + (", (~settled).sum(), (~settled & inert).sum()" if not settled.all() else ""),
        warns=inert < converged,
    )


def _longest(sparse: pd.DataFrame) -> list[Statement]:
    """Say of the longest trained trials of each dataset how inert their units are."""
    statements = []
    for dataset, rows in list(sparse.groupby("dataset"))[:MOST_DATASETS]:
        longest = rows[rows["epochs"] == rows["epochs"].max()]
        settled = int((longest["verdict"] == "converged").sum())
        largest = float(longest["largest_difference"].max())
        nets = ", ".join(sorted(longest["architecture"].unique())[:3])
        statements.append(
            Statement(
                f"Longest trained on {dataset} ({nets}, {{:,}} epochs): in {{:,}} trials, of which "
                "{:,} have converged, the largest change of a pixel is {:.4f}, and {:,} of {:,} "
                f"images have one of more than {INERT:g}.",
                (
                    int(longest["epochs"].iloc[0]),
                    len(longest),
                    settled,
                    largest,
                    int(longest["changed"].sum()),
                    int(longest["images"].sum()),
                ),
                f"{_SPARSE}rows = sparse[sparse['dataset'] == {dataset!r}]\n"
                "longest = rows[rows['epochs'] == rows['epochs'].max()]\n"
                "longest['epochs'].max(), len(longest), "
                "(longest['verdict'] == 'converged').sum(), "
                "longest['largest_difference'].max(), longest['changed'].sum(), "
                "longest['images'].sum()",
                warns=largest > INERT,
            )
        )
    return statements


def _figure(sparse: pd.DataFrame) -> Figure:
    which = "Every trial with inactive units"
    if len(sparse) > MOST_POINTS:
        which = f"{MOST_POINTS:,} of {len(sparse):,} trials, evenly spaced by the largest change"
        ordered = sparse.sort_values(["largest_difference", "trial_id"])
        places = [round(i * (len(ordered) - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)]
        sparse = ordered.iloc[places]
    return Figure(
        "inert-units",
        f"{which}: the largest change of a pixel when its inactive units are set to zero, against "
        "how far its worst unit is from the variance law. Below the dashed line nobody sees a "
        f"difference ({INERT:g}); left of the other all units fulfil the law ({UNIT_TOLERANCE:g}). "
        "If points fall towards the left, inactive units become inert as training converges. (The "
        "law also holds, trivially, in a net that has not begun to use its units.)",
        inert_units_chart(sparse),
    )


def _table(sparse: pd.DataFrame) -> TableBlock:
    order = ["epochs", "dataset", "architecture", "largest_difference", "trial_id"]
    rows = sparse.sort_values(order, ascending=[False, True, True, False, True])
    most = f"; the first {MOST_ROWS} of {len(rows):,}" if len(rows) > MOST_ROWS else ""
    rows = rows.assign(changed=rows["changed"] / rows["images"], largest=rows["largest_difference"])
    return TableBlock(
        f"Trials with inactive units, the longest trained first{most}: how many units are "
        f"inactive, the share of generated images with a pixel that changes by more than "
        f"{INERT:g}, and the largest change among them all",
        rows.head(MOST_ROWS)[_SHOWN].reset_index(drop=True),
        _FORMATS,
        f"{_SPARSE}sparse = sparse.sort_values({order}, "
        "ascending=[False, True, True, False, True])\n"
        "sparse = sparse.assign(changed=sparse['changed'] / sparse['images'], "
        "largest=sparse['largest_difference'])\n"
        f"sparse[{_SHOWN}].reset_index(drop=True)",
    )
