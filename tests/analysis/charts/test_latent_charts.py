"""Charts of latent space: true to scale, fading, one scale for all panels, and drawable."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest

from analysis.charts.latent_codes import codes_chart
from analysis.charts.latent_slices import slices_chart
from analysis.charts.latent_space import positions_chart, trajectories_chart
from analysis.latent_codes import latent_points
from analysis.latent_slices import grid_slices
from tests.analysis.latent_tables import codes_of, gaussian_codes, grid_of


def drawn(chart: alt.TopLevelMixin, folder: Path) -> str:
    """The chart as SVG text."""
    chart.save(folder / "chart.svg")
    return (folder / "chart.svg").read_text()


def layers_of(content: dict[str, Any], mark: str) -> list[dict[str, Any]]:
    """Layers of one mark, their rows beside them."""
    found = []
    for layer in content["layer"]:
        kind = layer["mark"] if isinstance(layer["mark"], str) else layer["mark"]["type"]
        if kind == mark:
            found.append({"rows": content["datasets"][layer["data"]["name"]], **layer})
    return found


def ways(steps: int, images: int = 4, labels: bool = True) -> pd.DataFrame:
    """Images that wander for some steps, recorded each 20."""
    path = np.cumsum(0.1 * np.random.default_rng(0).standard_normal((steps, images, 2)), axis=0)
    codes = [
        codes_of(
            "a", path[number], 1 / (1 + number), split="train", step=20 * number, labels=labels
        )
        for number in range(steps)
    ]
    return latent_points(pd.concat(codes), [0, 1])


def test_a_circle_has_the_radius_sigma_on_the_axes(tmp_path: Path) -> None:
    """Measured in the drawing: pixels of a radius over pixels of a unit between two ticks."""
    points = pd.DataFrame({"step": 0, "image": [0, 1], "label": [None, None]})
    points = points.assign(variance=[0.25, 1.0], unit_0=[0.0, 0.5], unit_1=[0.0, -0.5])
    picture = drawn(positions_chart(points, (0, 1)), tmp_path)
    ticks = {
        float(text.replace("−", "-")): float(place)
        for place, text in re.findall(
            r'translate\(([\d.]+),[\d.]+\)"[^>]*>(−?\d+(?:\.\d+)?)</text>', picture
        )
    }
    pixels = (ticks[2.0] - ticks[-2.0]) / 4
    radii = {float(radius) for radius in re.findall(r"A(\d+\.?\d*),\1,0,1,1", picture)}
    for sigma in (0.5, 1.0, 2.0):  # both circles, and the rings of the prior
        assert min(abs(radius / pixels - sigma) for radius in radii) < 0.01, (sigma, radii)


def test_area_is_proportional_to_the_variance() -> None:
    content = trajectories_chart(ways(9), (0, 1)).to_dict()
    (circles,) = [layer for layer in layers_of(content, "point") if "size" in layer["rows"][0]]
    shares = [row["size"] / row["variance"] for row in circles["rows"]]
    assert shares == pytest.approx([shares[0]] * len(shares))


def test_circles_stand_at_doubling_steps_and_at_the_last() -> None:
    for steps, expected in (
        (24, [0, 1, 2, 4, 8, 16, 23]),
        (9, [0, 1, 2, 4, 8]),
        (2, [0, 1]),
        (3, [0, 1, 2]),
    ):
        content = trajectories_chart(ways(steps), (0, 1)).to_dict()
        (circles,) = [layer for layer in layers_of(content, "point") if "size" in layer["rows"][0]]
        assert sorted({row["step"] // 20 for row in circles["rows"]}) == expected


def test_what_is_older_is_fainter_and_no_way_is_cut() -> None:
    points = ways(130, images=2)
    (lines,) = layers_of(trajectories_chart(points, (0, 1)).to_dict(), "rule")
    for image in (0, 1):
        rows = [row for row in lines["rows"] if row["image"] == image]
        assert len(rows) == 60
        opacities = [row["opacity"] for row in rows]
        assert opacities == sorted(opacities)
        assert 0 < opacities[0] < 0.2
        assert opacities[-1] == 1
        for before, after in pairwise(rows):
            assert (before["x2"], before["y2"]) == (after["unit_0"], after["unit_1"])
        last = points[points["image"] == image].iloc[-1]
        assert (rows[-1]["x2"], rows[-1]["y2"]) == (last["unit_0"], last["unit_1"])


def test_labels_stand_beside_their_ends_and_apart() -> None:
    points = ways(3, images=10)
    points.loc[points["step"] == 40, ["unit_0", "unit_1"]] = [
        [0.02 * image, 0.0] for image in range(10)
    ]  # all ends within a fingertip
    content = trajectories_chart(points, (0, 1)).to_dict()
    text = layers_of(content, "text")
    assert len(text) == 2
    places = np.array([[row["label_x"], row["label_y"]] for row in text[0]["rows"]])
    ends = np.array([[row["unit_0"], row["unit_1"]] for row in text[0]["rows"]])
    pixel = np.linalg.norm(places - ends, axis=1) / 13  # so far from its end is a label
    assert pixel == pytest.approx([pixel[0]] * 10)
    apart = np.linalg.norm(places[:, None] - places, axis=2) + 9 * np.eye(10)
    assert apart.min() > 4 * pixel[0] > 0
    assert {row["label"] for row in text[0]["rows"]} == set("0123456789")


def test_no_circle_is_cut() -> None:
    codes = codes_of("a", np.array([[0.0, 0.0], [-3.0, 1.0]]), np.array([[9.0], [4.0]]))
    content = positions_chart(latent_points(codes, [0, 1]), (0, 1)).to_dict()
    (low, high) = domains(content["layer"][-1])[0]
    assert low <= -5
    assert high >= 5


def domains(content: Any) -> list[list[float]]:
    """Every domain of a position anywhere in a specification."""
    if isinstance(content, list):
        return [domain for part in content for domain in domains(part)]
    if not isinstance(content, dict):
        return []
    own = [
        content["encoding"][name]["scale"]["domain"]
        for name in ("x", "y")
        if "scale" in content.get("encoding", {}).get(name, {})
    ]
    return own + domains([part for name, part in content.items() if name != "encoding"])


def test_all_panels_have_one_scale_that_holds_every_point() -> None:
    near = latent_points(codes_of("a", gaussian_codes(3)), [0, 1, 2])
    far = latent_points(codes_of("b", 5 * gaussian_codes(2, seed=1)), [0, 1])
    content = codes_chart([("near", near, [0, 1, 2]), ("far", far, [0, 1])]).to_dict()
    (domain,) = {tuple(domain) for domain in domains(content)}
    assert domain[0] == -domain[1]
    assert domain[1] > far[["unit_0", "unit_1"]].abs().to_numpy().max()
    assert len(content["vconcat"][0]["hconcat"]) == 3
    assert len(content["vconcat"][1]["hconcat"]) == 1
    # The three panels of a trial hold its points once.
    assert sorted(len(rows) for rows in content["datasets"].values()) == [1, 200, 200]


@pytest.mark.parametrize("labels", [True, False])
def test_all_are_drawn(labels: bool, tmp_path: Path) -> None:
    picture = drawn(trajectories_chart(ways(5, labels=labels), (0, 1)), tmp_path)
    assert "unit 0: μ" in picture
    assert ("μ, unit" in picture) is False
    codes = latent_points(codes_of("a", gaussian_codes(3), labels=labels), [0, 1, 2])
    assert (">label<" in drawn(positions_chart(codes.head(60), (0, 1)), tmp_path)) is labels
    picture = drawn(codes_chart([("the trial", codes, [0, 1, 2])]), tmp_path)
    assert "the trial" in picture
    assert picture.count(">unit 2: μ<") == 2
    sheets = [grid_slices(grid_of("a", 3, units, 3)).assign(row="the trial") for units in (2, 3)]
    assert drawn(slices_chart(sheets[0]), tmp_path).count("<image") == 1
    picture = drawn(slices_chart(sheets[1]), tmp_path)
    assert picture.count("<image") == 3
    assert "unit 0 at −0.97" in picture


def test_many_labels_have_a_colour_each() -> None:
    points = latent_points(codes_of("a", gaussian_codes(2)), [0, 1])
    points = points.assign(label=[str(image % 26) for image in points["image"]])
    layers = positions_chart(points, (0, 1)).to_dict()["layer"]
    scale = layers[-1]["encoding"]["color"]["scale"]
    assert scale["domain"] == [str(number) for number in range(26)]
    assert scale["scheme"] == "turbo"
