"""Lanes that leave their pack early: what is recorded of them, and that nobody else notices."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from search_spaces import Architecture, RecordSettings
from study.tables import to_table
from tests.trainables.small_packs import ids, on_cpu, small_images
from tests.trainables.test_training import (
    assert_close_rows,
    assert_same_rows,
    rows_of,
    some_trials,
    train,
    with_driver_columns,
)
from trainables.device_data import DeviceData
from trainables.pack import Pack
from trainables.rows import PackRows
from trainables.training import PackTraining

RECORD = RecordSettings(every=2, models=True, samples=3)
NETS = [Architecture.dense((8,)), Architecture.conv((3, 4))]


@pytest.fixture(scope="module")
def data() -> DeviceData:
    return on_cpu(small_images())


def pruned(
    data: DeviceData, lanes: Sequence[int], epoch: int, resume: bool = False, **shared: Any
) -> PackRows:
    """Train the four trials, and prune some after an epoch; from checkpoints if asked for."""
    trials = some_trials(**shared)
    training = PackTraining(trials, ids(trials), data, RECORD)
    while not training.done:
        training.advance()
        if training.pack.epoch == epoch and len(training.trial_ids) == len(trials):
            training.prune([ids(trials)[lane] for lane in lanes])
        if resume and not training.done:
            training = PackTraining(trials, ids(trials), data, RECORD, training.checkpoint())
    return training.rows()


@pytest.mark.parametrize("architecture", NETS, ids=lambda net: net.name)
@pytest.mark.parametrize("lanes", [[1], [0, 2], [0, 1, 2]])
def test_a_pruned_trial_is_recorded_as_it_was_and_the_others_do_not_notice(
    data: DeviceData, architecture: Architecture, lanes: list[int]
) -> None:
    trials = some_trials(architecture=architecture)
    gone = [ids(trials)[lane] for lane in lanes]
    stay = [trial_id for trial_id in ids(trials) if trial_id not in gone]
    undisturbed = train(trials, data, RECORD)
    rows = pruned(data, lanes, 2, architecture=architecture)
    assert_close_rows(
        *(PackRows(r.trials, r.units, r.epochs) for r in (rows, undisturbed)), trial_ids=stay
    )
    found = rows.trials.set_index("trial_id")
    assert found.loc[stay, "status"].tolist() == ["completed"] * len(stay)
    assert found.loc[gone, "status"].tolist() == ["pruned"] * len(gone)
    assert found.loc[gone, "epochs_trained"].tolist() == [2] * len(gone)
    assert found["error"].isna().all()
    then = rows_of(undisturbed, "epochs", gone).query("epoch == 2").set_index("trial_id")
    expected = then.loc[gone, "test_elbo"].tolist()
    assert found.loc[gone, "test_elbo"].tolist() == pytest.approx(expected)
    assert rows_of(rows, "epochs", gone)["epoch"].max() == 2
    final = rows_of(rows, "units", gone)
    assert final.groupby("trial_id")["epoch"].max().tolist() == [2] * len(gone)
    assert set(rows.models) == set(rows.samples["trial_id"]) == set(ids(trials))
    for table, frame in with_driver_columns(rows, trials).items():
        to_table(table, frame)


@pytest.mark.parametrize("epoch", [1, 3])
def test_resuming_after_any_epoch_gives_the_same(data: DeviceData, epoch: int) -> None:
    straight, resumed = (pruned(data, [0, 3], epoch, resume) for resume in (False, True))
    assert_same_rows(resumed, straight, ids(some_trials()))
    assert resumed.models == straight.models


def test_a_pack_of_which_all_are_pruned_is_done(data: DeviceData) -> None:
    trials = some_trials()
    training = PackTraining(trials, ids(trials), data, RecordSettings())
    training.advance()
    training.prune(ids(trials)[:2])
    assert training.trial_ids == ids(trials)[2:]
    assert len(training.pack.trials) == 2  # what the next epoch costs
    assert training.epochs_done == 0.5 * 4 + 0.5 * 1
    training.prune([*ids(trials), "of another pack"])
    assert training.done
    assert training.trial_ids == []
    assert (training.rows().trials["status"] == "pruned").all()
    training.prune(ids(trials))
    assert len(training.rows().trials) == len(trials)


def test_nothing_is_half_recorded_where_memory_ends_while_pruning(
    data: DeviceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lanes are parted, none is lost or doubled, and who is asked again later is pruned."""
    trials = some_trials()
    training = PackTraining(trials, ids(trials), data, RECORD)
    training.advance()
    original = Pack.subset

    def no_memory(pack: Pack, lanes: list[int]) -> Pack:
        monkeypatch.setattr(Pack, "subset", original)
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(Pack, "subset", no_memory)
    training.prune(ids(trials)[:1])
    assert training.trial_ids == ids(trials)
    training.prune(ids(trials)[:1])
    while not training.done:
        training.advance()
    rows = training.rows()
    statuses = rows.trials.set_index("trial_id")["status"]
    assert statuses.loc[ids(trials)].tolist() == ["pruned", *["completed"] * 3]
    assert not rows.epochs.duplicated(["trial_id", "epoch"]).any()
    undisturbed = train(trials, data, RECORD)
    assert_close_rows(
        *(PackRows(r.trials, r.units, r.epochs) for r in (rows, undisturbed)),
        trial_ids=ids(trials)[1:],
    )


def test_a_diverged_lane_is_not_pruned_again(data: DeviceData, monkeypatch: Any) -> None:
    trials = some_trials()
    training = PackTraining(trials, ids(trials), data, RecordSettings())
    training.advance()
    training.pack.parameters.flat[1] = float("nan")
    training.advance()
    training.prune([ids(trials)[1], ids(trials)[2]])
    statuses = training.rows().trials.set_index("trial_id")["status"]
    assert statuses.to_dict() == {ids(trials)[1]: "diverged", ids(trials)[2]: "pruned"}


def test_a_lane_may_be_pruned_before_its_first_epoch(data: DeviceData) -> None:
    trials = some_trials()
    training = PackTraining(trials, ids(trials), data, RECORD)
    training.prune(ids(trials)[:1])
    (row,) = training.trials().to_dict("records")
    assert (row["status"], row["epochs_trained"]) == ("pruned", 0)
    assert row["samples_per_second"] is None
