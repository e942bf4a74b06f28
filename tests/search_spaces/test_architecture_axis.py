import random

import pytest
from pydantic import TypeAdapter, ValidationError

from search_spaces import BadInput
from search_spaces.architecture_axis import ArchitectureAxis

AXIS = TypeAdapter(ArchitectureAxis)


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ("linear", ["linear"]),
        ({"family": "linear"}, ["linear"]),
        (["paper-conv", "paper-dense-mnist"], ["paper-conv", "dense-256-32-24"]),
        ({"choices": ["linear"]}, ["linear"]),
        ({"family": "dense", "widths": [256, 32]}, ["dense-256-32"]),
        ({"family": "dense", "widths": [[256, 32], [64]]}, ["dense-256-32", "dense-64"]),
        ({"family": "conv", "channels": [[8], [8, 16]]}, ["conv-8", "conv-8-16"]),
        (
            {"family": "dense", "depth": [1, 2], "width": [8, 9]},
            ["dense-8", "dense-9", "dense-8-8", "dense-9-9"],
        ),
        (
            {"family": "conv", "depth": {"range": [1, 3]}, "width": 4},
            ["conv-4", "conv-4-4", "conv-4-4-4"],
        ),
        (
            [
                "linear",
                {"family": "dense", "depth": 2, "width": {"log_range": [8, 32], "count": 3}},
            ],
            ["linear", "dense-8-8", "dense-16-16", "dense-32-32"],
        ),
    ],
)
def test_forms(raw, names):
    axis = AXIS.validate_python(raw)
    assert [architecture.name for architecture in axis.values()] == names
    assert axis.size == len(names)
    assert {axis.draw(random.Random(seed)).name for seed in range(200)} == set(names)
    assert AXIS.validate_python(axis) == axis
    assert AXIS.validate_json(AXIS.dump_json(axis)) == axis


def test_widths_may_be_drawn_from_an_interval():
    axis = AXIS.validate_python({"family": "dense", "depth": 2, "width": {"log_range": [8, 512]}})
    assert axis.size == 505
    first, second = axis.draw(random.Random(0)).widths
    assert first == second
    assert 8 <= first <= 512
    with pytest.raises(BadInput, match="give it a 'count'"):
        axis.values()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "at least 1"),
        (3, "3 is not an architecture; give a name"),
        (None, "None is not an architecture"),
        ({}, "{} is not an architecture"),
        ("paper-dense-mnits", "did you mean 'paper-dense-mnist'"),
        ({"widths": [3]}, "or a mapping with a 'family'"),
        ({"family": "dens", "widths": [3]}, "did you mean 'dense'"),
        ({"family": ["dense"]}, "is not a family"),
        ({"family": "linear", "widths": []}, "'linear' has no layers to give; remove 'widths'"),
        ({"family": "dense"}, "required"),
        ({"family": "dense", "widths": []}, "at least 1"),
        ({"family": "dense", "widths": [[]]}, "at least 1"),
        ({"family": "dense", "widths": [0]}, "greater than or equal to 1"),
        ({"family": "dense", "widths": 3}, "valid tuple"),
        ({"family": "dense", "channels": [3]}, "unknown key"),
        ({"family": "conv", "widths": [3]}, "unknown key"),
        ({"family": "conv", "channels": [3], "depth": 2}, "give either 'channels', or"),
        ({"family": "dense", "depth": 2}, "required"),
        ({"family": "dense", "depth": 2, "widht": 3}, "did you mean 'width'"),
        ({"family": "dense", "depth": 0, "width": 3}, "greater than or equal to 1"),
        ({"family": "dense", "depth": 101, "width": 3}, "less than or equal to 100"),
        (
            {"family": "dense", "depth": {"range": [1, 100]}, "width": {"range": [1, 100_000]}},
            "more than 1,000,000 architectures",
        ),
    ],
)
def test_what_is_no_architecture(raw, message):
    with pytest.raises(ValidationError) as caught:
        AXIS.validate_python(raw)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (["paper-dense-mnist", "dense-256-32-24"], "'paper-dense-mnist'"),
        (
            ["paper-dense-mnist", {"family": "dense", "widths": [256, 32, 24]}],
            "'paper-dense-mnist'",
        ),
        (["linear", {"family": "linear"}], "'linear'"),
        (["dense-8", {"family": "dense", "depth": [1, 2], "width": 8}], "'dense-8'"),
        ({"family": "conv", "channels": [[8], [8]]}, "'conv-8'"),
    ],
)
def test_equal_architectures_under_two_names(raw, name):
    with pytest.raises(ValidationError) as caught:
        AXIS.validate_python(raw)
    assert name in str(caught.value)
    assert "trials would be equal" in str(caught.value)
