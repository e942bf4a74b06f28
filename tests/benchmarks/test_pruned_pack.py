"""A pack is halved as it is said to be, and survivors that others have changed are noticed."""

import dataclasses
from collections.abc import Sequence

import pytest

from tests.analysis import tables
from tests.benchmarks.pruned_pack import (
    Halving,
    Options,
    greatest_difference,
    levels_of,
    measure_on,
    report,
    trials_of,
)
from trainables.pack import Pack
from trainables.rows import PackRows

SMALL = Options(lanes=8, images=128, test_images=20, epochs=2, devices=("cpu",))


@pytest.fixture(scope="module")
def halved() -> Halving:
    return measure_on("cpu", SMALL)


def test_lanes_leave_by_halves_and_the_others_do_not_notice(halved: Halving) -> None:
    assert [level.lanes for level in halved.levels] == [8, 4, 2, 1]
    assert [level.lanes_share for level in halved.levels] == [1, 0.5, 0.25, 0.125]
    assert all(level.seconds > 0 for level in halved.levels)
    assert halved.levels[0].time_share == 1
    assert halved.compared == 2
    assert halved.difference == 0
    assert halved.precision == "float32"


def test_a_survivor_that_was_changed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Pack.subset

    def subset(pack: Pack, lanes: Sequence[int]) -> Pack:
        part = original(pack, lanes)
        part.parameters.flat *= 1.0 + 1e-4
        return part

    monkeypatch.setattr(Pack, "subset", subset)
    with pytest.raises(RuntimeError, match="lanes that were left differ by"):
        measure_on("cpu", SMALL)


def rows_of(epochs: Sequence[int], elbo: float, lanes: str = "ab") -> PackRows:
    rows = [
        {
            "trial_id": lane,
            "epoch": epoch,
            "train_elbo": elbo,
            "train_reconstruction": 1.0,
            "train_kl": 1.0,
            "test_elbo": -100.0,
            "active_units": 3,
            "variance_law_mean": 1.0,
        }
        for lane in lanes
        for epoch in epochs
    ]
    trials = tables.trials_of([{"trial_id": lane} for lane in lanes])
    trials = tables.trials_of([{"trial_id": lane} for lane in lanes])
    return PackRows(trials, tables.units_of([]), tables.epochs_of(rows))


def test_the_difference_is_relative_and_of_the_second_pack_s_lanes() -> None:
    assert greatest_difference(rows_of([1, 2], -101.0), rows_of([1, 2], -100.0, "b")) == 0.01
    for epochs in ([1], [1, 2, 3]):
        with pytest.raises(RuntimeError, match="other epochs"):
            greatest_difference(rows_of([1, 2], -100.0), rows_of(epochs, -100.0))


def test_times_are_medians_and_shares_of_the_whole_pack() -> None:
    levels = levels_of({4: [4.0, 9.0, 4.0], 2: [2.0, 1.0, 3.0], 1: [1.5]})
    assert [dataclasses.astuple(level) for level in levels] == [
        (4, 4.0, 1.0, 1.0),
        (2, 2.0, 0.5, 0.5),
        (1, 1.5, 0.375, 0.25),
    ]
    text = report([Halving("cpu", levels, 2, 0.0, 0.0, "float32")]).splitlines()
    assert text[2].split() == ["4", "4.0000", "100.0%", "100.0%"]
    assert text[4].split() == ["1", "1.5000", "37.5%", "25.0%"]


@pytest.mark.parametrize("change", [{"lanes": 2}, {"lanes": 12}, {"epochs": 1}])
def test_what_cannot_be_halved_or_timed_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        trials_of(dataclasses.replace(SMALL, **change))
