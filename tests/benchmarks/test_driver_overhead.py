from pathlib import Path

import pytest

from tests.benchmarks.driver_overhead import measure, report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result() -> dict[str, object]:
    return measure([4, 12], pack_size=2, nodes=2, cpus=1)


def test_every_pack_goes_through_the_real_driver(result: dict[str, list[dict[str, int]]]) -> None:
    """Every trial is committed, or `measure_one` raises; and two workers at most have done it all.

    On a busy machine the first may be done with all packs before the second is up.
    """
    assert [size["packs"] for size in result["sizes"]] == [4, 12]
    for size in result["sizes"]:
        # Tune must not stop workers that start up to give their trials others that are free.
        assert size["workers"] in (1, 2)


def test_the_table(result: dict[str, object]) -> None:
    lines = report(result).splitlines()
    assert "packs of 2 on 2 simulated nodes of 1 CPUs" in lines[0]
    assert [line.split()[0] for line in lines[2:4]] == ["4", "12"]
    assert lines[-1].startswith("growth: ")


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    measure([8], pack_size=1, nodes=1, cpus=1, profile=tmp_path / "driver.pstats")
    assert [path.name for path in tmp_path.iterdir()] == ["driver.pstats"]
