"""Conditions against pandas' own query, and what they refuse."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import BadInput
from study.tables import HYPERPARAMETERS, TRIALS
from study.trial_conditions import LONGEST, select_trials

BETAS = [0.25, 0.5, 1.0, 2.0]
NAMES = ["dense-16", "paper-conv", "it's"]
TABLE = pd.DataFrame(
    [
        {"trial_id": f"{name}{beta}{dim}{seed}", "architecture": name, "beta": beta}
        | {"latent_dim": dim, "seed": seed, "decoder_variance": np.nan if seed else beta}
        for name in NAMES
        for beta in BETAS
        for dim in (4, 8, 16)
        for seed in (0, 2**63 - 1)
    ]
)

numbers = st.one_of(
    st.sampled_from([0.25, 0.5, 1, 1.0, 2, 4, 8, -1, 0, 16]),
    st.floats(-20, 20, allow_nan=False).map(lambda x: round(x, 3)),
)
simple = st.one_of(
    st.builds(
        "{} {} {!r}".format,
        st.sampled_from(["beta", "latent_dim", "decoder_variance"]),
        st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        numbers,
    ),
    st.builds(
        "{!r} {} {}".format,
        numbers,
        st.sampled_from(["==", "<", "<=", ">", ">="]),
        st.sampled_from(["beta", "latent_dim"]),
    ),
    st.builds(
        "architecture {} {!r}".format, st.sampled_from(["==", "!="]), st.sampled_from([*NAMES, "x"])
    ),
    st.builds(
        "latent_dim {} {!r}".format,
        st.sampled_from(["in", "not in"]),
        st.lists(numbers, min_size=1, max_size=4),
    ),
    st.builds(
        "architecture in {!r}".format, st.lists(st.sampled_from(NAMES), min_size=1, max_size=4)
    ),
    st.builds("{!r} <= beta < {!r}".format, numbers, numbers),
)
# Lists and leaves are few enough for every condition to be shorter than LONGEST.
conditions = st.recursive(
    simple,
    lambda parts: st.one_of(
        st.builds("({}) and ({})".format, parts, parts),
        st.builds("({}) or ({})".format, parts, parts),
        st.builds("({}) & ({})".format, parts, parts),
        st.builds("({}) | ({})".format, parts, parts),
        st.builds("not ({})".format, parts),
        st.builds("~({})".format, parts),
    ),
    max_leaves=4,
)


@settings(deadline=None)
@given(conditions)
def test_conditions_mean_what_they_mean_to_pandas(condition: str) -> None:
    expected = TABLE.query(condition, engine="python")
    if expected.empty:
        with pytest.raises(BadInput, match="holds for none of 72 trials"):
            select_trials(TABLE, condition, "--where-a")
    else:
        pd.testing.assert_frame_equal(select_trials(TABLE, condition, "--where-a"), expected)


def test_and_binds_closer_than_or() -> None:
    condition = "beta == 1 or beta == 2 and latent_dim == 4"
    chosen = select_trials(TABLE, condition, "--where-a")
    assert set(zip(chosen["beta"], chosen["latent_dim"], strict=True)) == {
        (1.0, 4), (1.0, 8), (1.0, 16), (2.0, 4),
    }  # fmt: skip


def test_numbers_are_equal_to_nine_digits() -> None:
    nearly = TABLE.assign(beta=TABLE["beta"] * (1 + 1e-13))
    for condition, betas in (
        ("beta == 0.5", {0.5}),
        ("beta != 0.5", {0.25, 1, 2}),
        ("beta <= 0.5", {0.25, 0.5}),
        ("beta >= 0.5", {0.5, 1, 2}),
        ("beta > 0.5", {1, 2}),
        ("beta < 0.5", {0.25}),
        ("beta in [0.5, 2]", {0.5, 2}),
    ):
        chosen = select_trials(nearly, condition, "--where-a")
        assert set(TABLE.loc[chosen.index, "beta"]) == betas, condition
        below = TABLE.assign(beta=TABLE["beta"] * (1 - 1e-13))
        assert list(select_trials(below, condition, "--where-a").index) == list(chosen.index)
    with pytest.raises(BadInput, match="none of 72"):
        select_trials(TABLE, "beta == 0.50000001", "--where-a")


def test_seeds_are_equal_to_the_last_digit() -> None:
    assert len(select_trials(TABLE, f"seed == {2**63 - 1}", "--where-a")) == 36
    with pytest.raises(BadInput, match="none of 72"):
        select_trials(TABLE, f"seed == {2**63 - 2}", "--where-a")


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("", "is not a condition"),
        ("   ", "is not a condition"),
        ("beta = 1", "is not a condition: = is written =="),
        ("beta == ", "is not a condition;"),
        ("beta == 1)", "is not a condition;"),
        ("beta == @limit", "is not a condition;"),
        ("import os", "is not a condition;"),
        ("beta == 1\x00", "is not a condition;"),
        ("bta == 1", "has 'bta', which is no hyperparameter (did you mean 'beta'?)"),
        ("active_units > 3", "has 'active_units', which is no hyperparameter"),
        ("trial_id == 'x'", "has 'trial_id', which is no hyperparameter"),
        ("beta", "has 'beta', which is no comparison"),
        ("True", "has 'True', which is no comparison"),
        ("beta + 1", "has 'beta + 1', which is no comparison"),
        ("-(beta == 1)", "has '-(beta == 1)', which is no comparison"),
        ("(beta == 1) ^ (beta == 2)", "which is no comparison"),
        ("exit()", "has 'exit()', which is no comparison"),
        ("beta.map(exit) == 1", "has 'beta.map(exit)' in place of a hyperparameter"),
        ("1 == 1", "has '1' in place of a hyperparameter"),
        ("1 in beta", "has '1' in place of a hyperparameter"),
        ("beta == latent_dim", "compares beta with latent_dim, which is no constant"),
        ("architecture == dense", "compares architecture with dense, which is no constant (text"),
        ("architecture == dense-16", "compares architecture with dense - 16, which is no constant"),
        ("beta == exit()", "compares beta with exit(), which is no constant"),
        ("beta == 1 & seed == 0", "comparisons joined by & or | need brackets"),
        ("beta == (lambda: 1)()", "which is no constant"),
        ("beta == [1, 2]", "compares beta, which is a number, with [1, 2]"),
        ("beta == '1'", "compares beta, which is a number, with '1'"),
        ("beta == True", "compares beta, which is a number, with True"),
        ("beta == None", "compares beta, which is a number, with None"),
        ("beta == 1j", "compares beta, which is a number, with 1j"),
        ("beta == 1e400", "which is out of range"),
        ("latent_dim < 1" + 30 * "0", "which is out of range"),
        ("seed == -9223372036854775809", "which is out of range"),
        ("architecture == 3", "compares architecture, which is text, with 3"),
        ("architecture == b'x'", "compares architecture, which is text, with b'x'"),
        ("architecture in ['x', 3]", "compares architecture, which is text, with 3"),
        ("architecture < 'x'", "compares architecture by other than ==, != and in"),
        ("beta is 1", "compares beta by other than ==, !=, <, <=, >, >= and in"),
        ("seed in 3", "has '3' in place of a list after `in`"),
        ("seed in range(3)", "has 'range(3)' in place of a list after `in`"),
        ("beta == 1 if seed else 0", "which is no comparison"),
        ("(beta := 1) == 1", "in place of a hyperparameter"),
        ("beta == 1 " + "or beta == 1 " * 100, f"is longer than {LONGEST} characters"),
        ("(" * 500 + "beta == 1" + ")" * 400, "is not a condition"),
        ("not " * 240 + "beta", "has 'beta', which is no comparison"),
        ("beta == " + "-" * 900 + "1", "has too many signs in a row"),
    ],
)
def test_conditions_that_are_refused(condition: str, reason: str) -> None:
    with pytest.raises(BadInput, match=re.escape(reason)) as refused:
        select_trials(TABLE, condition, "--where-b")
    assert str(refused.value).startswith(f"--where-b: {condition!r} ")
    assert str(refused.value).endswith(
        "; write e.g. \"beta == 1 and architecture == 'paper-conv'\""
    )


def test_nothing_is_run(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for condition in (
        f"__import__('pathlib').Path({str(target)!r}).touch()",
        f"beta == __import__('pathlib').Path({str(target)!r}).touch()",
        f"beta in [__import__('pathlib').Path({str(target)!r}).touch()]",
        f"beta == 1 and open({str(target)!r}, 'w')",
    ):
        with pytest.raises(BadInput):
            select_trials(TABLE, condition, "--where-a")
    assert not target.exists()


def test_a_condition_without_trials_tells_what_there_is() -> None:
    with pytest.raises(BadInput) as refused:
        select_trials(TABLE, "beta == 7 and latent_dim > 3", "--where-a")
    assert str(refused.value) == (
        "--where-a: 'beta == 7 and latent_dim > 3' holds for none of 72 trials "
        "(beta is 0.25, 0.5, 1.0, 2.0; latent_dim is 4, 8, 16)"
    )
    empty = TABLE.assign(decoder_variance=np.nan)
    with pytest.raises(BadInput, match=re.escape("(decoder_variance is never set)")):
        select_trials(empty, "decoder_variance < 1", "--where-a")


def test_a_study_without_trials_yet() -> None:
    assert select_trials(TRIALS.empty_table().to_pandas(), "beta == 1", "--where-a").empty


def test_every_hyperparameter_can_be_asked_for() -> None:
    trials = TRIALS.empty_table().to_pandas()
    for name in HYPERPARAMETERS:
        is_text = str(TRIALS.field(name).type) == "string"
        right, wrong = ("'x'", "1") if is_text else ("1", "'x'")
        assert select_trials(trials, f"{name} == {right}", "--where-a").empty
        with pytest.raises(BadInput, match=f"compares {name}, which is"):
            select_trials(trials, f"{name} == {wrong}", "--where-a")
