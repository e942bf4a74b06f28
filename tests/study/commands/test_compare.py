"""The command from end to end, on studies with random results."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from analysis.comparison import MEASURES, compare_trials
from search_spaces import BadInput, load_spec
from study import ledger
from study.commands.compare import FEW_GROUPS, FEW_TRIALS, compare
from study.frozen_spec import freeze
from study.loading import load_study
from study.plan_table import write_plan
from study.planning import PlannedTrial
from study.storage import Folder
from tests.study.plans import planned_trials

MakePack = Callable[..., dict[str, Any]]

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
    write_plan(folder, [replace(p, trial_id=i) for p, i in zip(planned, ids, strict=True)])
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
