import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import BadInput
from search_spaces.yaml_text import format_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-2e+1", -20.0),
        (".5e1", 5.0),
        ("1.e2", 100.0),
        ("1.0e-3", 0.001),
        ("0.001", 0.001),
        ("16", 16),
        ("'1e-3'", "1e-3"),
        ("1e", "1e"),
        ("e3", "e3"),
        ("1e3x", "1e3x"),
        ("true", True),
        ("", None),
        ("[1, 2e0]", [1, 2.0]),
    ],
)
def test_numbers_read_as_people_write_them(text, value):
    read = parse_yaml(text, "test")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "key"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1", "'a' is there already, in line 1"),
        ("x:\n  a: 1\n  a: 1\n", "line 3, column 3", "'a' is there already, in line 2"),
        ("x: {b: 1, b: 2}\n", "line 1, column 11", "'b' is there already, in line 1"),
        ("- a: 1\n  a: 1\n", "line 2, column 3", "'a' is there already"),
    ],
)
def test_keys_given_twice(text, place, key):
    with pytest.raises(BadInput) as caught:
        parse_yaml(text, "spec.yaml")
    assert str(caught.value).startswith(f"'spec.yaml', {place}: {key}")


def test_the_same_key_in_two_mappings_is_fine():
    assert parse_yaml("x: {a: 1}\ny: {a: 1}\n", "test") == {"x": {"a": 1}, "y": {"a": 1}}


def test_merged_keys_may_be_overridden():
    text = "x: &x {a: 1, b: 1}\ny: &y {<<: *x, a: 2}\nz: {<<: *y, b: 3}\n"
    assert parse_yaml(text, "test")["z"] == {"a": 2, "b": 3}


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "a: b: c",
        "\tx: 1",
        "a: 'x",
        "{? [1]: 2}",
        "a: *nowhere",
        "a: !!python/object/apply:os.getcwd []",
        "a: 1\n---\nb: 2\n",
        "when: 2024-13-45",
        "a: \x07",
        "a: " + "[" * 5000,
    ],
)
def test_what_is_no_yaml(text):
    with pytest.raises(BadInput) as caught:
        parse_yaml(text, "spec.yaml")
    assert "'spec.yaml'" in str(caught.value)
    assert "\n" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_read_back(value):
    assert parse_yaml(format_yaml(value), "test") == value


@pytest.mark.parametrize(
    "text",
    [
        "1e3",
        "1e-3",
        "12",
        "0.5",
        "true",
        "null",
        "2024-01-01",
        "a: b",
        "a\x85b",
        "\u2028",
        "a\nb\r\n",
    ],
)
def test_text_that_looks_like_something_else_stays_text(text):
    assert parse_yaml(format_yaml({"x": text}), "test") == {"x": text}
