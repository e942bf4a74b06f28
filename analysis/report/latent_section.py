"""Latent space in the report: how spherical codes are, where they lie, and what lies between."""

from collections.abc import Callable, Iterator
from itertools import chain

import pandas as pd

from analysis.charts.latent_codes import codes_chart
from analysis.charts.latent_slices import slices_chart
from analysis.charts.latent_space import positions_chart, trajectories_chart
from analysis.latent_codes import (
    MOST_GROUPS,
    OBJECTIVES,
    code_table,
    latent_points,
    trials_to_show,
    widest_units,
)
from analysis.latent_slices import grid_slices
from analysis.report.content import Block, Figure, Section, TableBlock
from analysis.report.latent_statements import latent_statements
from analysis.study_tables import StudyTables

__all__ = ["latent_section"]

MOST_ROWS = 20
MOST_WAYS = 10
MOST_CIRCLES = 60
CIRCLES_OF_A_LABEL = 6
MOST_POINTS = 1_500
EMPTY = pd.DataFrame()

_RINGS = "Dashed: one and two standard deviations of the prior."
_CHOICE = (
    f"Trials shown, here and below: of at most {MOST_GROUPS} combinations of dataset, architecture "
    "and latent_dim, those with the fewest latent variables but two or more first, and of each "
    "objective there, the one with β nearest to one and then the smallest seed."
)
_FORMATS = dict.fromkeys(
    ["spread", "axis_ratio", "skewness", "kurtosis", "prior_kl", "prior_covered"], "{:.2f}"
) | {"henze_zirkler": "{:.1f}"}


def latent_section(tables: StudyTables) -> Section | None:
    """Compose the section; None where the study recorded neither codes nor grids of them."""
    encoded, gridded = (_shown(tables, rows) for rows in (tables.encodings, tables.grids))
    blocks: list[Block] = [*latent_statements(tables, encoded)]
    figures = [_figures(tables, encoded, draw) for draw in (_trajectories, _positions, _codes)]
    blocks += _numbered([*chain(*figures), *_figures(tables, gridded, _slices)])
    if len(tables.code_statistics):
        blocks.append(_table(tables))
    return Section("latent-space", "Latent space", tuple(blocks)) if blocks else None


def _shown(tables: StudyTables, rows: pd.DataFrame) -> pd.DataFrame:
    return trials_to_show(tables.trials, set(rows["trial_id"]) if len(rows) else ())


def _figures(
    tables: StudyTables,
    shown: pd.DataFrame,
    draw: Callable[[StudyTables, pd.DataFrame], Figure | None],
) -> Iterator[Figure]:
    """Yield the figures of one kind, one for each group of trials that has what it takes."""
    for _, group in shown.groupby("shown_group"):
        figure = draw(tables, group)
        if figure is not None:
            yield figure


def _numbered(figures: list[Figure]) -> list[Figure]:
    """Tell figures of one kind apart by name, and say once how trials were chosen."""
    numbered: list[Figure] = []
    for figure in figures:
        earlier = sum(other.name.startswith(figure.name) for other in numbered)
        name = f"{figure.name}-{earlier + 1}" if earlier else figure.name
        caption = figure.caption if numbered else f"{figure.caption} {_CHOICE}"
        numbered.append(Figure(name, caption, figure.chart))
    return numbered


def _trajectories(tables: StudyTables, group: pd.DataFrame) -> Figure | None:
    trial = group.iloc[0]
    rows = _codes_of(tables, trial, "train")
    if trial["latent_dim"] < 2 or rows.empty:
        return None
    units = widest_units(rows, 2)
    points = latent_points(rows, units).dropna(subset="variance")
    last = points[points["step"] == points["step"].max()]
    labelled = bool(last["label"].notna().all())
    chosen = last.groupby("label").head(1) if labelled else last
    images = sorted(chosen["image"])[:MOST_WAYS]
    points = points[points["image"].isin(images)]
    if points["step"].nunique() < 2 or not images:
        return None
    which = "the first image of each label" if labelled else "the first images"
    begin, end = points["step"].min(), points["step"].max()
    return Figure(
        "latent-trajectories",
        f"{_words(group.head(1))}: the ways of {len(images)} training images ({which}) through "
        f"latent space, from step {begin:,} to step {end:,} (the paper's figure 1). What is older "
        "is fainter. Circles have the radius σ on the scale of the axes, the root of the mean σ² "
        "of both units, so that their area is proportional to the variance; they stand at the "
        "recorded steps 1, 2, 3, 5, 9, 17, … and at the last. "
        f"{_plane(trial, units)}{_RINGS}",
        trajectories_chart(points, (units[0], units[1])),
    )


def _positions(tables: StudyTables, group: pd.DataFrame) -> Figure | None:
    trial = group.iloc[0]
    rows = _codes_of(tables, trial, "test")
    if trial["latent_dim"] != 2 or rows.empty:
        return None
    points = latent_points(rows, [0, 1]).dropna(subset="variance")
    if points.empty:
        return None
    labels = points["label"].nunique()
    each = max(1, min(CIRCLES_OF_A_LABEL, MOST_CIRCLES // max(labels, 1)))
    chosen = points.groupby("label").head(each) if labels else points
    chosen = chosen.head(MOST_CIRCLES)
    which = f"the first {each} of each label" if labels else "the first"
    return Figure(
        "latent-positions",
        f"{_words(group.head(1))}: position and variance of {len(chosen)} test images, {which}, "
        f"after {int(trial['epochs_trained'])} epochs (the paper's figure 2). The circles' radius "
        f"is σ as above, their area proportional to σ². {_RINGS}",
        positions_chart(chosen, (0, 1)),
    )


def _codes(tables: StudyTables, group: pd.DataFrame) -> Figure | None:
    drawn: list[tuple[str, pd.DataFrame, list[int]]] = []
    images = 0
    for _, trial in group.iterrows():
        rows = _codes_of(tables, trial, "test")
        units = widest_units(rows, 3) if len(rows) else []
        points = latent_points(rows, units) if len(units) > 1 else EMPTY
        if len(points):
            title = f"{_objective(trial)}: β = {trial['beta']:g}, seed {trial['seed']}"
            drawn.append((title, _thinned(points), units))
            images = max(images, len(points))
    if not drawn:
        return None
    _, points, units = max(drawn, key=lambda each: len(each[1]))
    part = f" ({len(points):,} of {images:,}, evenly spread)" if len(points) < images else ""
    panels = ", two units at a time" if len(units) > 2 else ""
    panels += ", all panels on one scale" if len(units) > 2 or len(drawn) > 1 else ""
    return Figure(
        "latent-codes",
        f"{_words(group)}: the means μ of the test images{part}{panels}"
        f"{_figure_3(group)}. {_plane(group.iloc[0], units)}{_RINGS}",
        codes_chart(drawn),
    )


def _slices(tables: StudyTables, group: pd.DataFrame) -> Figure | None:
    sheets = [
        grid_slices(tables.grids[tables.grids["trial_id"] == trial["trial_id"]]).assign(
            row=_objective(trial)
        )
        for _, trial in group.iterrows()
    ]
    slices = pd.concat([sheet for sheet in sheets if len(sheet)] or sheets[:1])
    if slices.empty:
        return None
    first = slices.iloc[0]
    layout = [
        f"unit {first[side]} runs {way}"
        for side, way in (("across", "from left to right"), ("upwards", "upwards"))
        if not pd.isna(first[side])
    ]
    layout += ["all other units are at zero"] if group["latent_dim"].iloc[0] > 3 else []
    missing = ""
    if "no_sampling" in set(group["objective"]) and len(tables.code_statistics):
        missing = (
            " Without sampling nothing keeps the codes as wide as the prior, and part of the grid "
            "may lie where there are none: the table has the share of the prior that they fill."
        )
    return Figure(
        "latent-slices",
        f"{_words(group)}: images decoded from a grid of codes, at steps of equal probability "
        f"under the prior{_figure_3(group)}; {', '.join(layout) or 'one step only'}.{missing}",
        slices_chart(slices),
    )


def _table(tables: StudyTables) -> TableBlock:
    table = code_table(tables.trials, tables.code_statistics)
    most = f" (the first {MOST_ROWS} of {len(table):,})" if len(table) > MOST_ROWS else ""
    images = tables.code_statistics["images"]
    fewest = f"{images.min():,} to " if images.min() < images.max() else ""
    return TableBlock(
        f"How spherical the means μ of {fewest}{images.max():,} test images are, by trial{most}: "
        "spread (the prior's is 1), the longest axis over the shortest, Henze and Zirkler's "
        "statistic (about 1 for draws from any Gaussian, grows with the number of images), "
        "Mardia's skewness (0) and kurtosis over a Gaussian's (1), the KL of a Gaussian with the "
        "moments of the aggregate posterior from the prior (nats), and the share of the prior "
        "that lies among the codes (0.95 for draws from it)",
        table.head(MOST_ROWS),
        _FORMATS,
        "from analysis import code_statistics, code_table\n"
        "code_table(trials, code_statistics(trials, study.encodings))",
    )


def _codes_of(tables: StudyTables, trial: "pd.Series", split: str) -> pd.DataFrame:
    rows = tables.encodings
    if rows.empty:
        return rows
    chosen: pd.DataFrame = rows[(rows["trial_id"] == trial["trial_id"]) & (rows["split"] == split)]
    return chosen


def _thinned(points: pd.DataFrame) -> pd.DataFrame:
    """Take evenly spread images, at most as many as a page can carry."""
    every = max(1, -(-len(points) // MOST_POINTS))
    thinned: pd.DataFrame = points.iloc[::every]
    return thinned


def _objective(trial: "pd.Series") -> str:
    return OBJECTIVES[str(trial["objective"])]


def _words(group: pd.DataFrame) -> str:
    """Name what the trials of a group have in common."""
    trial = group.iloc[0]
    words = f"{trial['architecture']} on {trial['dataset']}, latent_dim {trial['latent_dim']}"
    words += f", β = {trial['beta']:g}" if group["beta"].nunique() == 1 else ""
    return words + (f", seed {trial['seed']}" if group["seed"].nunique() == 1 else "")


def _figure_3(group: pd.DataFrame) -> str:
    return " (the paper's figure 3)" if "no_sampling" in set(group["objective"]) else ""


def _plane(trial: "pd.Series", units: list[int]) -> str:
    if len(units) == trial["latent_dim"]:
        return ""
    return f"Shown are the {len(units)} units of greatest Var μ. "
