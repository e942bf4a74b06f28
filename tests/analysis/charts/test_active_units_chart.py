import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
import vl_convert

from analysis.charts.active_units import MOST_BETAS, active_units_chart, drawn_against
from analysis.charts.style import PANEL_HEIGHT, PANEL_WIDTH
from analysis.intrinsic_dimension import estimate_intrinsic_dimension
from study.tables import TRIALS
from tests.analysis.tables import trials_of

Placed = tuple[float, float, str]


def sweep(betas: tuple[float, ...] = (0.5, 2.0), **more: Any) -> pd.DataFrame:
    rows = [
        {"architecture": name, "beta": beta, "latent_dim": dim, "seed": seed}
        | {"active_units": min(dim, 5 + offset + (seed == 1 and dim > 8))}
        | more
        for name, offset in (("dense-16", 0), ("conv-4", 1))
        for beta in betas
        for dim in (2, 4, 8, 12, 16)
        for seed in (0, 1, 2)
    ]
    return trials_of(rows)


def rows_of(content: dict[str, Any], kind: str) -> pd.DataFrame:
    (rows,) = content["datasets"].values()
    return pd.DataFrame([row for row in rows if row["kind"] == kind])


def test_points_are_means_and_bars_the_range() -> None:
    trials = sweep()
    content = active_units_chart(trials).to_dict()  # validates against the Vega-Lite schema
    shown = rows_of(content, "count").set_index(["setting", "beta", "latent_dim"]).sort_index()
    expected = (
        trials.groupby(["architecture", "beta", "latent_dim"])["active_units"]
        .agg(["mean", "min", "max"])
        .sort_index()
        .astype(float)
    )
    pd.testing.assert_frame_equal(
        shown[["mean", "min", "max"]].astype(float),
        expected,
        check_names=False,
        check_index_type=False,
        check_column_type=False,
    )
    assert (shown["trials"] == 3).all()


def test_controls_are_left_out() -> None:
    controls = [sweep(objective="no_sampling"), sweep(betas=(0.0,))]
    trials = pd.concat([sweep(), *controls], ignore_index=True)
    trials["trial_id"] = [f"{place:016x}" for place in range(len(trials))]
    assert active_units_chart(trials).to_dict() == active_units_chart(sweep()).to_dict()


def test_bands_are_the_intervals_of_saturated_groups() -> None:
    trials = pd.concat([sweep(), sweep().query("latent_dim < 5").assign(beta=4.0)])
    trials["trial_id"] = [f"{place:016x}" for place in range(len(trials))]
    estimates = estimate_intrinsic_dimension(trials)
    bands = rows_of(active_units_chart(trials, estimates).to_dict(), "band")
    known = estimates.dropna(subset="estimate")
    assert set(bands["beta"]) == {0.5, 2.0}
    assert sorted(bands["mean"]) == pytest.approx(sorted(known["estimate"]))
    assert sorted(bands["min"]) == pytest.approx(sorted(known["lower"]))
    assert (bands["latent_dim"] < bands["to"]).all()


@pytest.mark.parametrize(("betas", "columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 3)])
def test_panels_of_one_dataset_fill_their_rows(betas: int, columns: int) -> None:
    content = active_units_chart(sweep(tuple(range(1, betas + 1)))).to_dict()
    assert content["columns"] == columns


def test_several_datasets_have_a_row_each() -> None:
    two = pd.concat([sweep(), sweep(dataset="mnist")])
    content = active_units_chart(two).to_dict()
    assert content["columns"] == 2
    expected = ["mnist, β = 0.5", "mnist, β = 2", "tiles, β = 0.5", "tiles, β = 2"]
    assert content["facet"]["sort"] == expected


def placed(node: ElementTree.Element, x: float = 0, y: float = 0) -> Iterator[Placed]:
    """All marks and texts of a picture, with where they are in it."""
    moved = re.match(r"translate\(([-\d.]+),([-\d.]+)\)", node.get("transform", ""))
    if moved:
        x, y = x + float(moved[1]), y + float(moved[2])
    yield x, y, node.get("aria-label") or node.text or ""
    for child in node:
        yield from placed(child, x, y)


def test_points_are_under_their_panels_title_where_datasets_have_other_betas() -> None:
    two = pd.concat([sweep((0.5, 1.0)), sweep((1.0, 2.0), dataset="mnist").query("latent_dim > 8")])
    svg = vl_convert.vegalite_to_svg(active_units_chart(two).to_dict())
    everything = list(placed(ElementTree.fromstring(svg)))
    titles = [(x, y, text) for x, y, text in everything if re.match(r"\w+, β = ", text)]
    points = [(x, y, label) for x, y, label in everything if "mean active units: " in label]
    assert len(titles) == 4
    assert len(points) == 2 * 2 * (5 + 2)
    for x, y, label in points:
        above = [
            title
            for left, top, title in titles
            if abs(left - x) <= PANEL_WIDTH / 2 and 0 < y - top < PANEL_HEIGHT + 20
        ]
        found = re.search(r"dataset: (\w+); β: (β = [\d.]+)", label)
        assert found
        assert above == [f"{found[1]}, {found[2]}"]


def test_where_no_latent_dim_is_swept_the_counts_are_drawn_against_beta() -> None:
    betas = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    trials = pd.concat([sweep(betas).query("latent_dim == 16"), sweep(betas, dataset="mnist")])
    assert drawn_against(trials) == "latent_dim"
    trials = trials.query("latent_dim == 16 and (dataset == 'mnist' or beta < 2)")
    assert drawn_against(trials) == "beta"
    content = active_units_chart(trials, estimate_intrinsic_dimension(trials)).to_dict()
    assert content["facet"]["sort"] == ["mnist, latent_dim 16", "tiles, latent_dim 16"]
    layers = [layer["encoding"] for layer in content["spec"]["layer"]]
    assert {layer["x"]["field"] for layer in layers} == {"beta"}
    assert {layer["y"]["field"] for layer in layers} == {"mean", "min"}  # without the diagonal
    shown = rows_of(content, "count").set_index(["dataset", "setting", "beta"])["mean"]
    expected = trials.groupby(["dataset", "architecture", "beta"])["active_units"].mean()
    assert dict(shown) == dict(expected)


def test_where_nothing_is_swept_a_point_is_beside_its_diagonal() -> None:
    trials = sweep((2.0,)).query("latent_dim == 16")
    assert drawn_against(trials) == "latent_dim"
    assert len(rows_of(active_units_chart(trials).to_dict(), "count")) == 2


def test_one_legend_shows_colours_and_shapes() -> None:
    """There are more settings than colours."""
    many = [sweep((2.0,), learning_rate=rate) for rate in (1e-4, 2e-4, 3e-4, 4e-4)]
    svg = vl_convert.vegalite_to_svg(active_units_chart(pd.concat(many)).to_dict())
    assert svg.count(">setting (click to single out)</text>") == 1
    symbols = re.findall(r'aria-roledescription="legend".*', svg, re.DOTALL)[0]
    looks = re.findall(r'<path transform="translate[^>]* d="([^"]+)" fill="(#\w+)"', symbols)
    assert len(looks) == len(set(looks)) == 8


def test_of_many_betas_some_are_drawn_and_the_ends_are_among_them() -> None:
    betas = tuple(0.1 * 1.2**power for power in range(40))
    shown = rows_of(active_units_chart(sweep(betas)).to_dict(), "count")["beta"]
    assert shown.nunique() == MOST_BETAS
    assert {shown.min(), shown.max()} == {min(betas), max(betas)}


@pytest.mark.parametrize(
    "trials", [TRIALS.empty_table().to_pandas(), sweep().assign(status="failed")]
)
def test_without_completed_trials(trials: pd.DataFrame) -> None:
    assert not any(active_units_chart(trials).to_dict()["datasets"].values())
