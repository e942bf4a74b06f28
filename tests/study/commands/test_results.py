"""What a run prints in the end: counts, and no more lines of estimates than can be read."""

import pytest

from study.commands.results import MOST_ESTIMATES, print_active_units
from tests.analysis.tables import trials_of


def lines(capsys: pytest.CaptureFixture[str], rows: list[dict[str, object]]) -> list[str]:
    print_active_units(trials_of([{"active_units": 2} | row for row in rows]))
    return capsys.readouterr().out.partition("intrinsic dimension\n")[2].splitlines()


def test_a_group_with_one_latent_dim_has_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"beta": 1.0, "latent_dim": d} for d in (2, 4)] + [{"beta": 2.0, "latent_dim": 4}]
    estimate, note = lines(capsys, rows)
    assert estimate.startswith("dense-16 on tiles, β = 1: too few trials")
    assert note == "1 of 2 groups have one latent_dim only, which says nothing of it"


def test_a_group_of_two_dimensions_says_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    (only,) = lines(capsys, [{"latent_dim": d} for d in (2, 4)])
    assert "dense-16 on tiles" in only


def test_of_many_groups_the_first_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    # Names, since numbers of so many values become ranges.
    rows = [
        {"architecture": f"dense-{width}", "latent_dim": d}
        for width in range(1, MOST_ESTIMATES + 4)
        for d in (2, 4)
    ]
    printed = lines(capsys, rows)
    assert len(printed) == MOST_ESTIMATES + 1
    assert printed[-1] == "and 3 more groups, which the report lists"
