"""The charts of the variance law: what they hold, and that they can be drawn."""

import json
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.charts.style import PALETTE
from analysis.charts.variance_law import bin_law, law_density, law_residual_chart, law_scatter
from analysis.law_residuals import residual_by
from analysis.law_units import SUMS, law_units
from study.tables import TRIALS, UNITS
from tests.analysis.paper_tables import paper_tables
from tests.analysis.tables import trials_of, units_of

EMPTY = TRIALS.empty_table().to_pandas(), UNITS.empty_table().to_pandas()


def points_of(groups: int = 3, units: int = 4) -> pd.DataFrame:
    """Points of some groups; the first group has one unit more than the others."""
    generator = np.random.default_rng(0)
    rows = [
        {"posterior_variance": posterior_variance, "mean_variance": mean_variance, "group": name}
        for number in range(groups)
        for name in [f"dense-16 on tiles, β = {number}"]
        for posterior_variance, mean_variance in generator.random((units + (number == 0), 2))
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(trial_id="abc", unit=0, latent_dim=units, beta=1.0, kl=0.5)


def data_of(content: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return list(content["datasets"].values())


def drawn(chart: alt.TopLevelMixin, folder: Path) -> str:
    """The chart as SVG text."""
    chart.save(folder / "chart.svg")
    return (folder / "chart.svg").read_text()


def study(rows: int = 6) -> tuple[pd.DataFrame, pd.DataFrame]:
    trials = trials_of(
        [
            {"beta": [0.5, 1.0, 4.0][place % 3], "latent_dim": 4, "epochs_trained": 10 + place}
            for place in range(rows)
        ]
    )
    generator = np.random.default_rng(1)
    units = units_of(
        [
            {
                "trial_id": trial_id,
                "unit": unit,
                "active": unit % 2 == 0,
                "kl": generator.random(),
                "posterior_variance": generator.random(),
                "mean_variance": generator.random(),
                "second_moment": 1 + generator.random(),
            }
            for trial_id in trials["trial_id"]
            for unit in range(4)
        ]
    )
    return trials, units


# Scatter


def test_a_point_per_unit_and_the_line_of_slope_minus_one() -> None:
    points = points_of()
    content = law_scatter(points).to_dict()  # validates against the Vega-Lite schema
    by_length = sorted(data_of(content), key=len)
    (first, last), rows = by_length
    assert first["posterior_variance"] + first["mean_variance"] == 1
    slope = (last["mean_variance"] - first["mean_variance"]) / (
        last["posterior_variance"] - first["posterior_variance"]
    )
    assert slope == -1
    shown = pd.DataFrame(rows)
    assert len(shown) == len(points)
    for name in ("posterior_variance", "mean_variance"):
        assert shown[name].tolist() == pytest.approx(points[name].tolist(), abs=6e-6)
    line, marks = content["layer"]
    assert (line["mark"]["type"], marks["mark"]["type"]) == ("line", "point")
    encoding = marks["encoding"]
    assert encoding["x"]["field"] == "posterior_variance"
    assert encoding["y"]["field"] == "mean_variance"
    assert "σ²" in encoding["x"]["title"]
    assert "Var μ" in encoding["y"]["title"]
    tips = {tip["field"] for tip in encoding["tooltip"]}
    assert {"trial_id", "unit", "latent_dim", "beta", "kl", "group"} <= tips


def test_both_axes_have_one_scale_that_holds_every_point() -> None:
    points = points_of()
    points.loc[0, "mean_variance"] = 1.7
    content = law_scatter(points).to_dict()
    encoding = content["layer"][1]["encoding"]
    assert encoding["x"]["scale"] == encoding["y"]["scale"]
    assert encoding["x"]["scale"]["domain"] == [0, 1.7]
    assert content["width"] == content["height"]


def test_colour_and_shape_tell_the_groups_apart() -> None:
    points = points_of(groups=len(PALETTE))
    encoding = law_scatter(points).to_dict()["layer"][1]["encoding"]
    colour, shape = encoding["color"], encoding["shape"]
    assert colour["field"] == shape["field"]
    assert colour["scale"]["domain"] == shape["scale"]["domain"]
    assert colour["scale"]["domain"] == [f"dense-16 on tiles, β = {n}" for n in range(len(PALETTE))]
    assert len(set(shape["scale"]["range"])) == len(set(colour["scale"]["range"])) == len(PALETTE)


def test_the_groups_keep_the_order_of_their_categories() -> None:
    points = points_of(groups=3)
    order = [f"dense-16 on tiles, β = {number}" for number in (2, 0, 9, 1)]
    points["group"] = pd.Categorical(points["group"], order)
    scale = law_scatter(points).to_dict()["layer"][1]["encoding"]["color"]["scale"]
    assert scale["domain"] == [order[0], order[1], order[3]]  # none for β = 9, which is not there


def test_further_groups_share_a_colour(tmp_path: Path) -> None:
    points = points_of(groups=30).sort_values("group", ascending=False)
    chart = law_scatter(points)
    domain = chart.to_dict()["layer"][1]["encoding"]["color"]["scale"]["domain"]
    assert len(domain) == len(PALETTE)
    assert domain[-1] == "24 other groups"
    assert "dense-16 on tiles, β = 0" in domain  # which has the most units
    picture = drawn(chart, tmp_path)
    assert picture.count("24 other groups") >= 1
    for name in domain[:-1]:
        assert name in picture
    others = points[~points["group"].isin(domain)]
    assert picture.count(f'stroke="{PALETTE[-1]}"') == len(others) + 1  # and one in the legend


def test_a_quote_in_a_groups_name_does_no_harm(tmp_path: Path) -> None:
    points = points_of(groups=9).replace({"group": {"dense-16 on tiles, β = 0": 'it\'s "x"'}})
    assert 'it\'s "x"' in drawn(law_scatter(points), tmp_path).replace("&quot;", '"')


def test_the_papers_units_lie_near_the_line() -> None:
    points = law_units(*paper_tables())
    rows = max(data_of(law_scatter(points).to_dict()), key=len)
    sums = [row["posterior_variance"] + row["mean_variance"] for row in rows]
    assert len(sums) == 32
    assert np.mean(sums) == pytest.approx(0.99685, abs=1e-5)


# Density


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=1, max_size=60),
    st.integers(1, 70),
)
@settings(max_examples=80, deadline=None)
def test_squares_hold_the_units_that_lie_in_them(
    values: list[tuple[float, float]], bins: int
) -> None:
    points = pd.DataFrame(values, columns=["posterior_variance", "mean_variance"])
    binned = bin_law(points, bins)
    assert binned["units"].sum() == len(points)
    assert binned["beyond"].sum() == (points > 1.5).any(axis=1).sum()
    assert (binned["units"] >= np.maximum(binned["beyond"], 1)).all()
    assert not binned.duplicated(["posterior_variance", "mean_variance"]).any()
    for name in ("posterior_variance", "mean_variance"):
        width = binned[f"{name}_to"] - binned[name]
        assert width.to_numpy() == pytest.approx(1.5 / bins)
        assert binned[f"{name}_to"].max() <= 1.5 + 1e-9


def test_counts_agree_with_numpys_histogram() -> None:
    points = pd.DataFrame(
        np.random.default_rng(0).random((5000, 2)) * 1.2,
        columns=["posterior_variance", "mean_variance"],
    )
    binned = bin_law(points, bins=60)
    edges = np.linspace(0, 1.5, 61)
    counts, _, _ = np.histogram2d(
        points["posterior_variance"], points["mean_variance"], bins=[edges, edges]
    )
    column = np.rint(binned["posterior_variance"] / 0.025).astype(int)
    row = np.rint(binned["mean_variance"] / 0.025).astype(int)
    assert counts[column, row].tolist() == binned["units"].tolist()
    assert binned["units"].sum() == counts.sum() == 5000


def test_units_without_numbers_are_not_counted() -> None:
    points = pd.DataFrame({"posterior_variance": [0.1, None], "mean_variance": [0.9, 0.9]})
    assert bin_law(points)["units"].tolist() == [1]


def test_the_density_says_what_lies_beyond() -> None:
    points = points_of()
    content = law_density(bin_law(points)).to_dict()
    assert content["title"]["text"] == "13 units"
    points.loc[:1, "mean_variance"] = 40.0
    binned = bin_law(points)
    content = law_density(binned).to_dict()
    assert content["title"]["text"] == "13 units; 2 beyond the axes, counted at the border"
    rows = max(data_of(content), key=len)
    assert sum(row["units"] for row in rows) == 13
    squares, line = content["layer"]
    assert (squares["mark"]["type"], line["mark"]["type"]) == ("rect", "line")
    encoding = squares["encoding"]
    for axis, name in (("x", "posterior_variance"), ("y", "mean_variance")):
        assert encoding[axis]["field"] == name
        assert encoding[f"{axis}2"]["field"] == f"{name}_to"
    assert encoding["color"]["field"] == "units"
    assert encoding["x"]["scale"] == encoding["y"]["scale"]
    assert encoding["x"]["scale"]["domain"][1] >= binned["mean_variance_to"].max()


# Residuals


@pytest.mark.parametrize(
    ("column", "marks", "field"),
    [
        ("beta", ["area", "area", "rule", "line", "point"], "middle"),
        ("epochs_trained", ["area", "area", "rule", "line", "point"], "middle"),
        ("active", ["bar", "bar", "rule", "tick", "point"], "label"),
        ("architecture", ["bar", "bar", "rule", "tick", "point"], "label"),
        ("kl", ["rect", "rect", "rule", "rule", "rule", "point"], "low"),
    ],
)
def test_residuals_are_drawn_as_what_they_are_against(
    column: str, marks: list[str], field: str, tmp_path: Path
) -> None:
    summary = residual_by(*study(), column)
    chart = law_residual_chart(summary)
    content = chart.to_dict()
    layers = content["spec"]["layer"]
    assert [layer["mark"]["type"] for layer in layers] == marks
    light, dark, *whiskers, zero, median, mean = layers
    for whisker in whiskers:
        encoding = whisker["encoding"]
        assert encoding["x"]["field"] == "middle"
        assert (encoding["y"]["field"], encoding["y2"]["field"]) == ("q05", "q95")
    assert light["encoding"]["x"]["field"] == field
    assert (light["encoding"]["y"]["field"], light["encoding"]["y2"]["field"]) == ("q05", "q95")
    assert (dark["encoding"]["y"]["field"], dark["encoding"]["y2"]["field"]) == ("q25", "q75")
    assert zero["encoding"]["y"]["datum"] == 0
    assert median["encoding"]["y"]["field"] == "median"
    assert mean["encoding"]["y"]["field"] == "mean"
    assert {"units", "label"} <= {tip["field"] for tip in mean["encoding"]["tooltip"]}
    assert content["facet"]["column"]["field"] == "sum"
    (rows,) = data_of(content)
    assert [row["mean"] for row in rows] == summary["mean"].tolist()
    picture = drawn(chart, tmp_path)
    for words in SUMS.values():
        assert words in picture


def test_scales_suit_what_they_show() -> None:
    def scale(column: str) -> str:
        content = law_residual_chart(residual_by(*study(), column)).to_dict()
        return str(content["spec"]["layer"][0]["encoding"]["x"]["scale"]["type"])

    assert [scale(name) for name in ("beta", "kl", "latent_dim")] == ["log", "sqrt", "linear"]


def test_the_values_of_beta_are_labelled() -> None:
    content = law_residual_chart(residual_by(*study(), "beta")).to_dict()
    assert content["spec"]["layer"][0]["encoding"]["x"]["axis"]["values"] == [0.5, 1.0, 4.0]
    trials, units = study(9)
    trials["beta"] = np.arange(1.0, 10.0)
    content = law_residual_chart(residual_by(trials, units, "beta")).to_dict()
    assert "values" not in content["spec"]["layer"][0]["encoding"]["x"]["axis"]


# Everything


def test_nothing_to_draw(tmp_path: Path) -> None:
    points = law_units(*EMPTY)
    for name, chart in {
        "scatter": law_scatter(points),
        "density": law_density(bin_law(points)),
        "residual": law_residual_chart(residual_by(*EMPTY, "beta")),
        "nominal": law_residual_chart(residual_by(*EMPTY, "active")),
    }.items():
        assert json.dumps(chart.to_dict())
        chart.save(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_frames_are_left_as_they_are() -> None:
    points, summary = points_of(groups=9), residual_by(*study(), "kl")
    before = points.copy(deep=True), summary.copy(deep=True)
    law_scatter(points)
    law_density(bin_law(points))
    law_residual_chart(summary)
    pd.testing.assert_frame_equal(points, before[0])
    pd.testing.assert_frame_equal(summary, before[1])
