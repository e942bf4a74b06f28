"""The benchmark itself, on commands that stand in for `vae-study report`."""

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.analysis.simulated_study import write_simulated_study
from tests.benchmarks import report_scale
from tests.benchmarks.report_scale import COMMAND, measure, measure_one, report

READ_AND_WRITE = """
import re, sys, time
from pathlib import Path
folder = Path(sys.argv[2]) / sys.argv[1]
held = bytearray(300_000_000)
held[::4096] = b"x" * len(held[::4096])  # touched, so that it is really there
del held
time.sleep(1)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
(folder / "report.html").write_text(peak)
print(folder / "report.html")
"""


WRITE = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[2], sys.argv[1], "report.html").write_text("x")
"""


def stand_in(script: str) -> tuple[str, ...]:
    return sys.executable, "-c", script, "{study}", "{storage}"


def test_the_command_is_that_of_users() -> None:
    assert Path(COMMAND[0]).name == "vae-study"
    assert COMMAND[1:] == ("report", "{study}", "--storage", "{storage}")


def test_a_command_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the memory that it held between two looks at it, and no other process's."""
    monkeypatch.setattr(report_scale, "POLLING", 0.4)
    folder = tmp_path / "s"
    write_simulated_study(folder, 40)
    (folder / "report.html").write_text("left over from before")
    measured = measure_one(folder, stand_in(READ_AND_WRITE))
    assert measured["unit_rows"] == sum(
        pq.read_metadata(file).num_rows for file in folder.glob("units/*.parquet")
    )
    assert measured["files"] == len(list(folder.glob("*/*.parquet")))
    assert 1 < measured["seconds"] < 30
    peak = (folder / "report.html").read_text()
    assert measured["page"] == len(peak)
    assert measured["memory"] == pytest.approx(1024 * int(peak), rel=0.003)
    assert measured["memory"] > 300e6


def test_memory_is_that_of_the_command_alone(tmp_path: Path) -> None:
    """A parent that holds much does not count."""
    write_simulated_study(tmp_path / "s", 40)
    held = bytearray(400_000_000)
    held[::4096] = b"x" * len(held[::4096])
    measured = measure_one(tmp_path / "s", stand_in(WRITE + "time.sleep(0.3)"))
    assert len(held) == 400_000_000
    assert 1e6 < measured["memory"] < 100e6


def test_all_sizes_are_measured_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "stand_in.py"
    script.write_text(READ_AND_WRITE)
    arguments = ["--trials", "40", "200", "--pack-size", "8", "--storage", str(tmp_path)]
    arguments += ["--json", str(tmp_path / "result.json")]
    arguments += ["--command", sys.executable, str(script), "{study}", "{storage}"]
    monkeypatch.setattr(sys, "argv", ["report_scale", *arguments])
    report_scale.main()
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "result.json").read_text())
    assert printed.strip() == report(result)
    assert [size["trials"] for size in result["sizes"]] == [40, 200]
    assert [size["files"] > size["trials"] / 8 * 3 for size in result["sizes"]] == [True, True]
    assert result["pack_size"] == 8
    assert "packs of 8" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", "stand_in.py"}


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("pass", "wrote no report.html"),
        ("raise SystemExit('no such ' + 'study')", "no such study"),
        (WRITE + "raise SystemExit('it is ' + 'torn')", "it is torn"),
    ],
)
def test_a_command_that_fails_is_no_result(tmp_path: Path, script: str, message: str) -> None:
    write_simulated_study(tmp_path / "s", 40)
    (tmp_path / "s" / "report.html").write_text("left over from before")
    with pytest.raises(RuntimeError, match=message):
        measure_one(tmp_path / "s", stand_in(script))


def test_threads_are_left_to_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_simulated_study(tmp_path / "s", 40)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    script = WRITE + "assert 'OMP_NUM_THREADS' not in os.environ"
    assert measure_one(tmp_path / "s", stand_in(script))["page"] == 1


def test_measure_takes_the_sizes_that_a_grid_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        measure([41], command=stand_in("pass"), storage=tmp_path)
    assert not list(tmp_path.iterdir())
