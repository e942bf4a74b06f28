"""Codes in a plane of latent space, as circles true to scale: the paper's figures 1 and 2."""

from functools import partial
from typing import Final

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.charts.style import PALETTE, styled

__all__ = [
    "label_colour",
    "plane_axes",
    "positions_chart",
    "prior_rings",
    "reach_of",
    "trajectories_chart",
]

SIZE: Final = 480  # of the plane, in pixels of the page
SEGMENTS: Final = 60  # of a trajectory, at most
FAINTEST: Final = 0.08  # opacity of what is oldest
FADING: Final = 1.5  # more than 1: the wide circles of the start fade sooner
LABEL_DISTANCE: Final = 13  # pixels from the end of a trajectory to its label
TEN_COLOURS: Final = [*PALETTE, "#882255", "#999933", "#8c6d5a"]
"""A digit each: three of Paul Tol's muted colours besides the report's own."""

Points = NDArray[np.float64]


def trajectories_chart(points: pd.DataFrame, units: tuple[int, int]) -> alt.LayerChart:
    """Draw the ways of a few images through a plane of latent space; what is older is fainter.

    Circles stand at the first recorded step, at the next one, after twice as many recorded steps
    each time, and at the last. Their radius is σ on the scale of the axes, the root of the mean
    variance of both units, so that their area is proportional to it.

    Args:
        points: What `latent_points` returns for a few images and several steps.
        units: The units along the two axes.
    """
    x, y = (f"unit_{unit}" for unit in units)
    reach = reach_of(points, [x, y])
    steps = np.sort(points["step"].unique())
    age = pd.Series(np.linspace(FAINTEST ** (1 / FADING), 1, len(steps)) ** FADING, index=steps)
    aged = points.assign(opacity=points["step"].map(age))
    layers = [
        *prior_rings(SIZE / (2 * reach)),
        _ways(aged, steps, (x, y), reach),
        _circles(aged[aged["step"].isin(_doubling(steps))], (x, y), reach, opacity=True),
    ]
    ends = aged[aged["step"] == steps[-1]]
    if ends["label"].notna().all():
        layers += _end_labels(ends, (x, y), reach)
    return styled(_plane(layers))


def positions_chart(points: pd.DataFrame, units: tuple[int, int]) -> alt.LayerChart:
    """Draw codes as circles with the radius σ on the scale of the axes, dots in their centres.

    Args:
        points: What `latent_points` returns for some tens of images at one step.
        units: The units along the two axes.
    """
    x, y = (f"unit_{unit}" for unit in units)
    outer = points[[x, y]].abs().add(np.sqrt(points["variance"]), axis=0)
    reach = reach_of(outer, [x, y])  # no circle is cut
    encoded = alt.Chart(points).encode(*plane_axes(x, y, reach), label_colour(points))
    dots = encoded.mark_circle(size=9, opacity=1)
    layers = [
        *prior_rings(SIZE / (2 * reach)),
        _circles(points, (x, y), reach, opacity=False),
        dots,
    ]
    return styled(_plane(layers))


def plane_axes(x: str, y: str, reach: float) -> tuple[alt.X, alt.Y]:
    """Return the axes of a plane that is as wide as high, with the origin in its middle.

    Args:
        x: Column across, `unit_0` and the like.
        y: Column upwards.
        reach: Where the axes end, on either side.
    """
    domain = alt.Scale(domain=[-reach, reach], nice=False)
    across, upwards = (f"unit {name.removeprefix('unit_')}: μ" for name in (x, y))
    axis = alt.Axis(tickCount=7)
    return (
        alt.X(f"{x}:Q", title=across, scale=domain, axis=axis),
        alt.Y(f"{y}:Q", title=upwards, scale=domain, axis=axis),
    )


def reach_of(points: pd.DataFrame, names: list[str]) -> float:
    """Return where axes that hold all centres end: 2.2, for the prior's rings, or more."""
    return float(max(np.abs(points[names].to_numpy()).max() * 1.06, 2.2))


def label_colour(points: pd.DataFrame, legend: bool = True) -> alt.Color | alt.ColorValue:
    """Return a colour for each label; one for all where there are none."""
    if not points["label"].notna().any():
        return alt.ColorValue(PALETTE[0])
    labels = sorted(points["label"].dropna().unique(), key=lambda label: (len(label), label))
    keys = alt.Legend(title="label", symbolType="circle", symbolOpacity=1) if legend else None
    scale = alt.Scale(domain=labels, scheme="turbo")
    if len(labels) <= len(TEN_COLOURS):
        scale = alt.Scale(domain=labels, range=TEN_COLOURS[: len(labels)])
    return alt.Color("label:N", sort=labels, legend=keys, scale=scale)


def prior_rings(pixels: float) -> list[alt.Chart]:
    """Draw one and two standard deviations of the prior N(0, 1) around the origin, dashed.

    Args:
        pixels: Of one latent unit of length.
    """
    middle = pd.DataFrame({"origin": [0.0]})
    return [
        alt.Chart(middle)
        .mark_point(
            size=(2 * radius * pixels) ** 2,
            shape="circle",
            stroke="#8a949e",
            strokeDash=[4, 4],
            strokeWidth=1,
            fillOpacity=0,
            opacity=0.8,
            clip=True,
        )
        .encode(alt.X("origin:Q"), alt.Y("origin:Q"))
        for radius in (1, 2)
    ]


def _plane(layers: list[alt.Chart]) -> alt.LayerChart:
    return alt.LayerChart(layer=layers, width=SIZE, height=SIZE)


def _doubling(steps: "NDArray[np.int64]") -> "NDArray[np.int64]":
    """Return the steps at the places 0, 1, 2, 4, 8, … and the last."""
    last = len(steps) - 1
    places = [0, *(2**power for power in range(last.bit_length())), last]
    return steps[sorted({place for place in places if place <= last})]


def _circles(
    points: pd.DataFrame, names: tuple[str, str], reach: float, opacity: bool
) -> alt.Chart:
    diameter = 2 * np.sqrt(points["variance"]) * SIZE / (2 * reach)
    sized = points.assign(size=diameter**2)  # Vega's size is a square around the circle
    fading = [alt.Opacity("opacity:Q", scale=None)] if opacity else []
    circles: alt.Chart = (
        alt.Chart(sized)
        .mark_point(shape="circle", strokeWidth=1.1, filled=False, clip=True, opacity=0.75)
        .encode(
            *plane_axes(*names, reach),
            label_colour(points, legend=not opacity),
            alt.Size("size:Q", scale=None),
            *fading,
            tooltip=["label:N", "image:Q", "step:Q", alt.Tooltip("variance:Q", format=".4f")],
        )
    )
    return circles


def _ways(
    points: pd.DataFrame, steps: "NDArray[np.int64]", names: tuple[str, str], reach: float
) -> alt.Chart:
    """Draw a segment from each step to the next, since a line has one opacity only."""
    places = np.unique(np.linspace(0, len(steps) - 1, SEGMENTS + 1).round().astype(int))
    kept = points[points["step"].isin(steps[places])].sort_values(["image", "step"])
    following = kept.groupby("image")[[*names, "opacity"]].shift(-1)
    segments = kept.assign(
        x2=following[names[0]], y2=following[names[1]], opacity=following["opacity"]
    ).dropna(subset=["x2", "y2"])
    ways: alt.Chart = (
        alt.Chart(segments)
        .mark_rule(strokeWidth=1.6, strokeCap="round", clip=True)
        .encode(
            *plane_axes(*names, reach),
            label_colour(points, legend=False),
            alt.Opacity("opacity:Q", scale=None),
            x2="x2:Q",
            y2="y2:Q",
        )
    )
    return ways


def _end_labels(ends: pd.DataFrame, names: tuple[str, str], reach: float) -> list[alt.Chart]:
    """Write each label beside the end of its way, on the side where there is most room."""
    per_pixel = 2 * reach / SIZE
    places = _free_places(ends[list(names)].to_numpy() / per_pixel) * per_pixel
    placed = ends.assign(label_x=places[:, 0], label_y=places[:, 1])
    x, y = plane_axes(*names, reach)
    x.shorthand, y.shorthand = "label_x:Q", "label_y:Q"  # under the titles of the others
    encoding = alt.Chart(placed).encode(x, y, label_colour(ends, legend=False), text="label:N")
    text = partial(encoding.mark_text, fontSize=15, fontWeight="bold")
    return [text(stroke="white", strokeWidth=4), text()]


def _free_places(ends: Points) -> Points:
    """Choose a place beside each point, in pixels, as far as can be from the other ends and places.

    Args:
        ends: Shape (images, 2).
    """
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    around = LABEL_DISTANCE * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    taken = ends.copy()
    places = np.empty_like(ends)
    for number, end in enumerate(ends):
        candidates = end + around
        apart = np.linalg.norm(candidates[:, None] - taken, axis=2)
        apart[:, number] = np.inf
        places[number] = candidates[apart.min(1).argmax()]
        taken = np.vstack([taken, places[number]])
    return places
