"""Conditions against pandas' own query, what they refuse, and the command from end to end."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from analysis.comparison import MEASURES, compare_trials
from search_spaces import BadInput, load_spec
from study import ledger
from study.comparing import FEW_GROUPS, FEW_TRIALS, LONGEST, compare, select_trials
from study.frozen_spec import freeze
from study.loading import load_study
from study.plan_table import write_plan
from study.planning import PlannedTrial
from study.storage import Folder
from study.tables import HYPERPARAMETERS, TRIALS
from tests.study.plans import planned_trials

MakePack = Callable[..., dict[str, Any]]

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
        st.lists(numbers, min_size=1),
    ),
    st.builds("architecture in {!r}".format, st.lists(st.sampled_from(NAMES), min_size=1)),
    st.builds("{!r} <= beta < {!r}".format, numbers, numbers),
)
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


AXES: dict[str, Any] = {
    "architecture": ["linear", {"family": "dense", "widths": [[16]]}],
    "latent_dim": [2, 3],
    "beta": [1, 2],
    "seed": [0, 1, 2],
}


def write_study(storage: Path, name: str, make_pack: MakePack, draw: int = 0, **axes: Any) -> None:
    """A study with random results in which the last planned trial failed."""
    planned: list[PlannedTrial] = planned_trials(AXES | axes)
    folder = Folder.at(storage).child(name)
    freeze(folder, load_spec({"study": name, "dataset": "tiles", "axes": AXES | axes}), {"x": 1})
    ids = [f"{draw}-{p.trial_id}" for p in planned]
    write_plan(folder, [p.trial for p in planned], ids)
    ledger.create_tables(folder)
    pack = make_pack("p", ids[:-1], failed=ids[-1:])
    rng = np.random.default_rng(draw)
    for place, p in enumerate(planned):
        for field, value in p.trial.hyperparameters().items():
            pack["trials"].loc[place, field] = value
    completed = pack["trials"]["status"] == "completed"
    for measure in MEASURES:
        drawn = (
            rng.integers(1, 4, len(planned))
            if measure == "active_units"
            else rng.normal(size=len(planned))
        )
        pack["trials"][measure] = pd.Series(drawn).where(completed)
    ledger.commit(folder, **pack)


@pytest.fixture
def storage(tmp_path: Path, make_pack: MakePack) -> Path:
    write_study(tmp_path / "kept", "one", make_pack)
    write_study(tmp_path / "kept", "two", make_pack, draw=1)
    return tmp_path / "kept"


def invoke(storage: Path, *arguments: str | Path) -> Result:
    options = ("--storage", str(storage), *map(str, arguments))
    return CliRunner().invoke(compare, options, standalone_mode=False)


def succeed(storage: Path, *arguments: str | Path) -> str:
    result = invoke(storage, *arguments)
    assert result.exception is None, result.exception
    return result.output


def test_two_studies(storage: Path) -> None:
    output = succeed(storage, "one", "two")
    trials = [load_study(storage / name).trials for name in ("one", "two")]
    expected = compare_trials(*trials, names=("A", "B"))
    assert len(expected.pairs) == 23
    lines = output.splitlines()
    assert lines[:2] == ["A is one", "B is two"]
    assert lines[3 : 3 + len(expected.summary)] == expected.summary
    table = [line.split() for line in lines if line.startswith("all ")]
    overall = expected.differences[expected.differences["group"] == "all"]
    for words, (_, row) in zip(table, overall.iterrows(), strict=True):
        digits = 4 if row["measure"] == "variance_law_mean" else 2
        left, right, low, high = (f"{row[x]:.{digits}f}" for x in ("left", "right", "low", "high"))
        assert words == [
            "all", row["measure"], left, right, f"{row['difference']:+.{digits}f}",
            low, "to", high, "23", "pairs,", "point",
        ]  # fmt: skip
    assert "trials without partner" in output
    assert "\nA    0-t023   failed\n" in output


def test_two_groups_of_one_study(storage: Path) -> None:
    output = succeed(
        storage, "one", "one", "--where-a", "beta == 1", "--where-b", "beta == 2", "--format", "csv"
    )
    trials = load_study(storage / "one").trials
    expected = compare_trials(trials[trials["beta"] == 1], trials[trials["beta"] == 2]).differences
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(output)), expected, check_dtype=False)
    assert set(expected["matched_by"]) == {"point"}


def test_a_condition_on_one_side_only(storage: Path) -> None:
    output = succeed(storage, "one", "two", "--where-b", "seed in [0, 1]")
    assert "A is one\nB is two where seed in [0, 1]\n" in output
    assert "B: 16 of 16 trials completed" in output


def test_json_holds_everything(storage: Path) -> None:
    content = json.loads(succeed(storage, "one", "two", "--format", "json"))
    trials = [load_study(storage / name).trials for name in ("one", "two")]
    expected = compare_trials(*trials, names=("A", "B"))
    assert content["compared"] == ["A is one", "B is two"]
    assert content["summary"] == expected.summary
    for name in ("differences", "reproducibility", "pairs", "unmatched"):
        table = getattr(expected, name)
        assert len(content[name]) == len(table)
        shown = pd.DataFrame(content[name], columns=table.columns)
        for column in table.select_dtypes("number"):
            assert shown[column].astype(float).to_numpy() == pytest.approx(
                table[column].to_numpy(float), nan_ok=True
            )


def test_markdown(storage: Path) -> None:
    output = succeed(storage, "one", "two", "--format", "md")
    assert output.startswith("- A is one\n- B is two\n")
    table = output.partition("**differences, B minus A**\n\n")[2].partition("\n\n")[0].splitlines()
    assert table[0] == "| group | measure | A | B | difference | 95% CI | by |"
    assert table[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    trials = [load_study(storage / name).trials for name in ("one", "two")]
    assert len(table) == 2 + len(compare_trials(*trials).differences)
    assert len({line.count("|") for line in table}) == 1


def test_a_file(storage: Path, tmp_path: Path) -> None:
    for format_ in ("table", "csv", "json", "md"):
        shown = succeed(storage, "one", "two", "--format", format_)
        target = tmp_path / f"compared.{format_}"
        assert succeed(storage, "one", "two", "--format", format_, "-o", target) == ""
        assert target.read_text(encoding="utf-8") == shown
    result = invoke(storage, "one", "two", "-o", tmp_path / "no" / "where.txt")
    assert isinstance(result.exception, BadInput)
    assert "--output" in str(result.exception)
    assert "No such file" in str(result.exception)


def test_much_is_cut_short_and_says_so(tmp_path: Path, make_pack: MakePack) -> None:
    widths = {"family": "dense", "widths": [[width] for width in range(2, 26)]}
    for draw, name in enumerate(("one", "two")):
        write_study(
            tmp_path, name, make_pack, draw=draw, architecture=widths, seed=[0, 1] if draw else [0]
        )
    output = succeed(tmp_path, "one", "two")
    groups = 2 * 24
    assert f"differences, B minus A ({groups - FEW_GROUPS} more groups: --format csv)" in output
    shown = [line for line in output.splitlines() if line.startswith("dense-")]
    assert len(shown) == FEW_GROUPS * len(MEASURES)
    alone = 1 + 1 + 2 * 2 * 24  # a failed trial, its partner, and the other seed
    assert f"trials without partner ({alone - FEW_TRIALS} more: --format json)" in output
    assert len(output.partition("trials without partner")[2].strip().splitlines()) == 2 + FEW_TRIALS


def test_one_study_twice_needs_two_conditions(storage: Path) -> None:
    for options in ((), ("--where-a", "beta == 1"), ("--where-b", "beta == 1")):
        result = invoke(storage, "one", "one", *options)
        assert isinstance(result.exception, BadInput)
        assert "--where-a and --where-b" in str(result.exception)


def test_what_is_not_there(storage: Path) -> None:
    result = invoke(storage, "one", "tow")
    assert isinstance(result.exception, BadInput)
    assert "did you mean 'two'" in str(result.exception)
    result = invoke(storage, "one", "two", "--where-a", "beta == 3")
    assert isinstance(result.exception, BadInput)
    assert "beta is 1.0, 2.0" in str(result.exception)


def test_studies_without_a_completed_trial(tmp_path: Path, storage: Path) -> None:
    folder = Folder.at(storage).child("young")
    freeze(folder, load_spec({"study": "young", "dataset": "tiles", "axes": AXES}), {"x": 1})
    for pair in (("young", "one"), ("one", "young")):
        for format_ in ("table", "csv", "json", "md"):
            assert succeed(storage, *pair, "--format", format_)
    output = succeed(storage, "young", "one", "--where-a", "beta == 1")
    assert "A: 0 of 0 trials completed" in output


def test_storage_from_the_environment(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_STUDY_STORAGE", str(storage))
    result = CliRunner().invoke(compare, ["one", "two"], standalone_mode=False)
    assert "A is one" in result.output


def test_help_has_examples() -> None:
    shown = CliRunner().invoke(compare, ["--help"])
    assert shown.exit_code == 0
    assert "\b" not in shown.output
    assert '--where-a "beta == 0.5" --where-b "beta == 2"' in shown.output
