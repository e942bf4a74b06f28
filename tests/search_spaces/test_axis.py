import math
import random
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from search_spaces import BadInput
from search_spaces.axis import LARGEST_AXIS, ChoiceAxis, NumberAxis
from search_spaces.fields import Count, PositiveOrZero, Seed

WHOLE = TypeAdapter(NumberAxis[Count])
REAL = TypeAdapter(NumberAxis[PositiveOrZero])
NAMES = TypeAdapter(ChoiceAxis[Literal["elbo", "no_sampling"]])


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (3, [3]),
        ([3, 1, 2], [3, 1, 2]),
        ({"choices": [3, 1]}, [3, 1]),
        ({"range": [2, 5]}, [2, 3, 4, 5]),
        ({"range": [2, 9], "step": 3}, [2, 5, 8]),
        ({"range": [2, 8], "step": 3}, [2, 5, 8]),
        ({"range": [2, 11], "count": 4}, [2, 5, 8, 11]),
        ({"range": [1, 2], "count": 5}, [1, 2]),
        ({"log_range": [2, 64], "count": 6}, [2, 4, 8, 16, 32, 64]),
        ({"log_range": [1, 10], "count": 10}, [1, 2, 3, 4, 5, 6, 8, 10]),
    ],
)
def test_whole_numbers(raw, values):
    axis = WHOLE.validate_python(raw)
    assert axis.values() == values
    assert all(type(value) is int for value in axis.values())
    assert axis.size == len(values)


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (1, [1.0]),
        ([0.5, 2], [0.5, 2.0]),
        ({"range": [0, 0.3], "step": 0.1}, [0.0, 0.1, 0.2, 0.3]),
        ({"range": [0, 0.35], "step": 0.1}, [0.0, 0.1, 0.2, 0.3]),
        ({"range": [0, 1], "count": 6}, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ({"log_range": [1e-4, 0.1], "count": 4}, [0.0001, 0.001, 0.01, 0.1]),
    ],
)
def test_real_numbers_read_well(raw, values):
    axis = REAL.validate_python(raw)
    assert axis.values() == values
    assert all(type(value) is float for value in axis.values())


def test_ranges_of_large_seeds_are_exact():
    low = 2**63 - 4
    axis = TypeAdapter(NumberAxis[Seed]).validate_python({"range": [low, 2**63 - 1]})
    assert axis.values() == [low, low + 1, low + 2, low + 3]


@given(st.data())
def test_a_range_in_steps_is_pythons_range(data):
    low = data.draw(st.integers(1, 1000))
    high = data.draw(st.integers(low + 1, 2000))
    step = data.draw(st.integers(1, 300))
    axis = WHOLE.validate_python({"range": [low, high], "step": step})
    assert axis.values() == list(range(low, high + 1, step))


@given(
    st.sampled_from(["range", "log_range"]),
    st.floats(1e-6, 1e6),
    st.floats(1.001, 1e3),
    st.integers(2, 50),
)
def test_counted_values_rise_from_end_to_end(form, low, factor, count):
    high = low * factor
    values = REAL.validate_python({form: [low, high], "count": count}).values()
    assert len(values) == count
    assert values == sorted(values)
    assert values[0] == pytest.approx(low, rel=1e-11)
    assert values[-1] == pytest.approx(high, rel=1e-11)
    spaced = values if form == "range" else [math.log(value) for value in values]
    gaps = [second - first for first, second in pairwise(spaced)]
    assert gaps == pytest.approx([(spaced[-1] - spaced[0]) / (count - 1)] * (count - 1), rel=1e-6)
    assert all(value == float(f"{value:.12g}") for value in values[1:-1])


@given(
    st.sampled_from(
        [
            [4, 8, 15],
            {"range": [2, 9]},
            {"range": [2, 90], "step": 7},
            {"log_range": [2, 64], "count": 6},
        ]
    ),
    st.integers(0, 2**32),
)
def test_draws_are_values(raw, seed):
    axis = WHOLE.validate_python(raw)
    assert axis.draw(random.Random(seed)) in axis.values()


@given(st.sampled_from(["range", "log_range"]), st.integers(0, 2**32))
def test_intervals_draw_from_between_their_ends(form, seed):
    assert 0.25 <= REAL.validate_python({form: [0.25, 4.0]}).draw(random.Random(seed)) <= 4.0
    if form == "log_range":
        drawn = WHOLE.validate_python({form: [2, 9]}).draw(random.Random(seed))
        assert type(drawn) is int
        assert 2 <= drawn <= 9


def test_draws_follow_the_distribution_of_their_form():
    rng = random.Random(0)
    uniform = [REAL.validate_python({"range": [0.01, 1]}).draw(rng) for _ in range(2000)]
    logarithmic = [REAL.validate_python({"log_range": [0.01, 1]}).draw(rng) for _ in range(2000)]
    assert sorted(uniform)[1000] == pytest.approx(0.505, abs=0.05)
    assert sorted(logarithmic)[1000] == pytest.approx(0.1, abs=0.02)


def test_sizes():
    assert REAL.validate_python({"range": [0, 1]}).size is None
    assert REAL.validate_python({"log_range": [0.1, 1]}).size is None
    assert WHOLE.validate_python({"log_range": [2, 9]}).size == 8
    assert WHOLE.validate_python({"log_range": [1, 10], "count": 10}).size == 8


@pytest.mark.parametrize(
    ("axis", "raw"),
    [(REAL, {"range": [0, 1]}), (REAL, {"log_range": [0.1, 1]}), (WHOLE, {"log_range": [1, 9]})],
)
def test_intervals_have_no_values_for_a_grid(axis, raw):
    with pytest.raises(BadInput, match=r"give it a 'count', or draw from it"):
        axis.validate_python(raw).values()


@pytest.mark.parametrize(
    ("axis", "raw", "message"),
    [
        (WHOLE, [], "at least 1"),
        (WHOLE, {}, "is empty; give a value"),
        (WHOLE, [4, 4], "gives 4 twice"),
        (REAL, [1, 1.0], "gives 1.0 twice"),
        (REAL, [0.0, -0.0], "gives -0.0 twice"),
        (NAMES, ["elbo", "elbo"], "gives 'elbo' twice"),
        (NAMES, {"range": [1, 2]}, "unknown key"),
        (WHOLE, {"rnage": [1, 2]}, "did you mean 'range'"),
        (WHOLE, {"range": [1, 2], "stp": 1}, "did you mean 'step'"),
        (WHOLE, {"choices": [1], "range": [1, 2]}, "has both 'choices' and 'range'"),
        (WHOLE, {"range": [1, 9], "step": 2, "count": 3}, "both a step and a count"),
        (WHOLE, {"range": [5, 1]}, "must rise"),
        (WHOLE, {"range": [5, 5]}, "must rise"),
        (WHOLE, {"log_range": [5, 1], "count": 3}, "must rise"),
        (REAL, {"log_range": [0, 1], "count": 3}, "a log range lies above 0"),
        (REAL, {"range": [0, 1], "step": 0}, "is not a step"),
        (REAL, {"range": [0, 1], "step": 1e-320}, "more than 1,000,000"),
        (WHOLE, {"range": [1, LARGEST_AXIS + 1]}, "more than 1,000,000"),
        (REAL, {"range": [0, 1], "count": LARGEST_AXIS + 1}, "more than 1,000,000"),
        (WHOLE, {"range": [1, 9], "count": 1}, "greater than or equal to 2"),
        (WHOLE, {"range": [1]}, "required"),
        (WHOLE, {"range": [1, 2, 3]}, "at most 2"),
        (WHOLE, {"range": [0, 3]}, "greater than or equal to 1"),
        (REAL, {"range": [0, float("inf")], "count": 3}, "finite"),
        (REAL, [float("nan")], "finite"),
        (WHOLE, 2.0, "integer"),
        (WHOLE, "2", "integer"),
        (WHOLE, True, "integer"),
        (WHOLE, None, "integer"),
        (REAL, "1", "number"),
        (REAL, False, "number"),
    ],
)
def test_what_is_no_axis(axis, raw, message):
    with pytest.raises(ValidationError) as caught:
        axis.validate_python(raw)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [
        3,
        [1, 2],
        {"range": [1, 4]},
        {"range": [1, 9], "count": 3},
        {"log_range": [1, 8], "count": 4},
    ],
)
def test_what_is_dumped_is_read_back(raw):
    axis = WHOLE.validate_python(raw)
    assert WHOLE.validate_python(axis) == axis
    assert WHOLE.validate_json(WHOLE.dump_json(axis)) == axis
