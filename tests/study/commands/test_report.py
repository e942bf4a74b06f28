"""`vae-study report` and `compare` from the command line, within this process."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from search_spaces import BadInput, load_spec
from study.commands.command_line import cli
from study.frozen_spec import freeze
from study.ledger import create_tables
from study.loading import load_study
from study.storage import Folder
from tests.analysis.simulated_study import write_simulated_study


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_simulated_study(folder / "simulated", trials=200)
    empty = Folder.at(folder / "empty")
    freeze(empty, load_spec("quickstart", ["study=empty"]), {"vae-study": "0"})
    create_tables(empty)
    return folder


def report(storage: Path, *arguments: str | Path) -> Result:
    words = ["report", *map(str, arguments), "--storage", str(storage)]
    return CliRunner().invoke(cli, words, catch_exceptions=True)


def test_the_page_lies_in_the_studys_folder(storage: Path) -> None:
    done = report(storage, "simulated")
    assert done.exit_code == 0, done.output
    page = storage / "simulated" / "report.html"
    assert done.output.strip() == str(page)
    assert "196 of 200 trials completed" in page.read_text(encoding="utf-8")
    assert len(load_study(storage / "simulated").trials) == 200  # the page is in nobody's way


def test_a_page_elsewhere(storage: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "page.html"
    assert report(storage, "simulated", "-o", target).output.strip() == str(target)
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_markdown_and_its_pictures(storage: Path, tmp_path: Path) -> None:
    done = report(storage, "simulated", "--format", "md", "-o", tmp_path / "paper.md")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "paper.md").read_text(encoding="utf-8")
    pictures = list((tmp_path / "paper-figures").iterdir())
    assert len(pictures) >= 10
    for picture in pictures:
        assert f"(paper-figures/{picture.name})" in text
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_one_chart_or_all(storage: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.svg"
    chosen = ("--format", "svg", "--chart", "active-units")
    assert report(storage, "simulated", *chosen, "-o", one).exit_code == 0
    assert "<svg" in one.read_text(encoding="utf-8")
    done = report(storage, "simulated", "--format", "svg", "-o", tmp_path / "all")
    paths = [Path(line) for line in done.output.splitlines()]
    assert tmp_path / "all" / "active-units.svg" in paths
    assert all(path.stat().st_size > 1000 for path in paths)


def test_a_study_without_a_trial(storage: Path, tmp_path: Path) -> None:
    done = report(storage, "empty")
    assert done.exit_code == 0, done.output
    page = (storage / "empty" / "report.html").read_text(encoding="utf-8")
    assert "No trial has been committed yet" in page
    nothing = report(storage, "empty", "--format", "png", "--chart", "active-units")
    assert "this study has none yet" in str(nothing.exception)
    assert CliRunner().invoke(cli, ["results", "empty", "--storage", str(storage)]).output == (
        "no completed trials yet\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simulatd",), r"'.*simulatd' is not a study \(did you mean 'simulated'\?\)"),
        (("simulated", "--chart", "active-units"), "--chart: html holds all charts"),
        (("simulated", "--format", "png", "--chart", "active"), r"'active' is not a chart"),
        (("simulated", "-o", "/dev/null/page.html"), "--output: .*/dev/null"),
    ],
)
def test_bad_input(storage: Path, arguments: tuple[str, ...], message: str) -> None:
    done = report(storage, *arguments)
    assert isinstance(done.exception, BadInput)
    assert re.search(message, str(done.exception))
