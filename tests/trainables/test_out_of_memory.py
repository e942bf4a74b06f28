"""Packs that do not fit in memory: parted in halves inside their training, with equal numbers."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import RecordSettings, Trial
from study.tables import to_table
from tests.trainables.small_packs import ids, on_cpu, small_images, small_trial
from tests.trainables.test_training import (
    assert_close_rows,
    rows_of,
    some_trials,
    train,
    with_driver_columns,
)
from trainables import lane_training
from trainables.device_data import DeviceData
from trainables.lane_training import LaneTraining
from trainables.pack import EpochMeans, Pack
from trainables.process import is_out_of_memory
from trainables.training import PackTraining

Fits = Callable[[Pack], bool]
RECORD = RecordSettings(every=2, models=True)


@pytest.fixture(scope="module")
def device_data() -> DeviceData:
    return on_cpu(small_images())


class Memory:
    """Memory that some packs do not fit into, noticed at one of the places that allocate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: str, fits: Fits) -> None:
        self.refused: list[int] = []  # lanes
        self.trained: list[tuple[int, int]] = []  # epoch and lanes, of epochs in full

        def check(pack: Pack) -> None:
            if not fits(pack):
                self.refused.append(len(pack.trials))
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to\nallocate 2 GiB")

        original_epoch, original_init = Pack.train_epoch, Pack.__init__
        original_evaluate = lane_training.evaluate

        def train_epoch(pack: Pack, *arguments: Any) -> EpochMeans:
            means = original_epoch(pack, *arguments)
            if place == "training":
                pack.parameters.flat += 1  # in the middle of an epoch
                check(pack)
                pack.parameters.flat -= 1
            self.trained.append((pack.epoch, len(pack.trials)))
            return means

        def init(pack: Pack, *arguments: Any) -> None:
            original_init(pack, *arguments)
            if place == "set-up":
                check(pack)

        def evaluate(pack: Pack, *arguments: Any) -> Any:
            if place == "evaluation":
                check(pack)
            return original_evaluate(pack, *arguments)

        monkeypatch.setattr(Pack, "train_epoch", train_epoch)
        monkeypatch.setattr(Pack, "__init__", init)
        monkeypatch.setattr(lane_training, "evaluate", evaluate)


def at_most(lanes: int) -> Fits:
    return lambda pack: len(pack.trials) <= lanes


PLACES = ["set-up", "training", "evaluation"]


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("place", PLACES)
def test_a_parted_pack_has_the_rows_of_a_whole_one(
    device_data: DeviceData, monkeypatch: pytest.MonkeyPatch, place: str, lanes: int, every: int
) -> None:
    trials, record = some_trials(decoder="gaussian_learned"), RecordSettings(every=every)
    whole = train(trials, device_data, record)
    memory = Memory(monkeypatch, place, at_most(lanes))
    rows = train(trials, device_data, record)
    assert_close_rows(rows, whole, ids(trials))
    assert rows.trials["trial_id"].is_unique
    assert not rows.units.duplicated(["trial_id", "epoch", "split", "unit"]).any()
    assert not rows.epochs.duplicated(["trial_id", "epoch"]).any()
    # Halves, and halves of those: 4, then 2 and 2, then 1 each.
    assert memory.refused == {1: [4, 2, 2], 2: [4], 3: [4]}[lanes]
    last = [size for epoch, size in memory.trained if epoch == trials[0].epochs]
    assert last == ([1] * 4 if lanes == 1 else [2] * 2)


@pytest.mark.parametrize("every", [0, 1])
def test_memory_that_ends_between_two_rows(
    device_data: DeviceData, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """Rows of an epoch that is trained again are there once."""
    trials, record = some_trials(), RecordSettings(every=every)
    whole = train(trials, device_data, record)
    original = LaneTraining._add_units

    def add_units(lanes: LaneTraining, *arguments: Any) -> None:
        original(lanes, *arguments)
        if len(lanes.trial_ids) > 1:
            raise MemoryError

    monkeypatch.setattr(LaneTraining, "_add_units", add_units)
    rows = train(trials, device_data, record)
    assert_close_rows(rows, whole, ids(trials))


@pytest.mark.parametrize("place", PLACES)
def test_a_pack_that_grows_out_of_memory_goes_on_from_there(
    device_data: DeviceData, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """No epoch is trained twice but the one in which memory ended."""
    trials = some_trials(epochs=6)
    whole = train(trials, device_data, RECORD)
    memory = Memory(monkeypatch, place, lambda pack: pack.epoch < 4 or len(pack.trials) <= 2)
    rows = train(trials, device_data, RECORD)
    assert_close_rows(rows, whole, ids(trials))
    together = [epoch for epoch, size in memory.trained if size == 4]
    assert together[:3] == [1, 2, 3]
    if place == "training":
        assert memory.refused == [4]
        assert memory.trained[3:] == [(epoch, 2) for epoch in (4, 5, 6)] * 2


@pytest.mark.parametrize("place", ["training", "evaluation"])
def test_a_diverging_lane_in_a_parted_pack(
    device_data: DeviceData, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Its last rows are those of an epoch that was recorded before the pack was parted."""
    trials = [
        small_trial(decoder="gaussian", decoder_variance=variance, latent_dim=d, seed=d, epochs=3)
        for d, variance in [(2, 0.5), (6, 1.5), (3, 1e-310), (4, 1.0)]
    ]
    whole = train(trials, device_data, RecordSettings(every=1))
    Memory(monkeypatch, place, at_most(2))
    rows = train(trials, device_data, RecordSettings(every=1))
    status = rows.trials.set_index("trial_id").loc[ids(trials), "status"]
    assert status.tolist() == ["completed", "completed", "diverged", "completed"]
    assert_close_rows(rows, whole, ids(trials))


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("place", PLACES)
def test_a_parted_pack_resumes_from_any_epoch(
    device_data: DeviceData, monkeypatch: pytest.MonkeyPatch, place: str, lanes: int
) -> None:
    """Through bytes and a new object after every step, and from each single one."""
    trials = some_trials()
    whole = train(trials, device_data, RECORD)
    late = 0 if place == "set-up" else 2  # epochs for which there is memory
    Memory(monkeypatch, place, lambda pack: pack.epoch < late or len(pack.trials) <= lanes)

    def start(saved: bytes | None = None) -> PackTraining:
        return PackTraining(trials, ids(trials), device_data, RECORD, saved)

    training = start()
    saved = [training.checkpoint()]
    while not training.done:
        training = start(saved[-1])
        training.advance()
        saved.append(training.checkpoint())
    resumed = [training.rows()]
    for checkpoint in saved[:-1]:
        training = start(checkpoint)
        while not training.done:
            training.advance()
        resumed.append(training.rows())
    for rows in resumed:
        assert_close_rows(rows, whole, ids(trials))
        assert rows.trials["trial_id"].is_unique
        assert rows.models.keys() == whole.models.keys()
        assert rows.trials["started_at"].nunique() == 1


@given(
    lanes=st.lists(st.integers(1, 6), min_size=1, max_size=7),
    budgets=st.lists(st.integers(0, 20), min_size=1, max_size=12),
)
@settings(max_examples=20, deadline=None)
def test_whatever_fits_at_the_time_every_trial_has_one_row(
    lanes: list[int], budgets: list[int], device_data: DeviceData
) -> None:
    """Memory in units of latent variables, another amount at every epoch that is tried."""
    trials = [small_trial(latent_dim=d, seed=n, epochs=2) for n, d in enumerate(lanes)]
    whole = train(trials, device_data)
    left = list(budgets)

    def fits(pack: Pack) -> bool:
        budget = left.pop(0) if left else 100
        return sum(trial.latent_dim for trial in pack.trials) <= budget

    with pytest.MonkeyPatch.context() as monkeypatch:
        Memory(monkeypatch, "training", fits)
        rows = train(trials, device_data)
    assert sorted(rows.trials["trial_id"]) == ids(trials)
    status = rows.trials.set_index("trial_id")["status"]
    assert set(status) <= {"completed", "failed"}
    completed = sorted(status.index[status == "completed"])
    assert set(rows.epochs.get("trial_id", [])) == set(completed)
    if completed:
        rows.trials = rows.trials[rows.trials["status"] == "completed"].astype(whole.trials.dtypes)
        assert_close_rows(rows, whole, completed)


@pytest.mark.parametrize(
    ("place", "from_epoch"),
    [("set-up", 0), ("training", 0), ("training", 3), ("evaluation", 0), ("evaluation", 3)],
)
def test_a_trial_that_fits_nowhere_fails_alone(
    device_data: DeviceData, monkeypatch: pytest.MonkeyPatch, place: str, from_epoch: int
) -> None:
    trials = some_trials(epochs=5)
    large = ids(trials)[1]
    others = [trial_id for trial_id in ids(trials) if trial_id != large]
    whole = train(trials, device_data, RECORD)
    Memory(
        monkeypatch,
        place,
        lambda pack: pack.epoch < from_epoch or all(t.latent_dim < 9 for t in pack.trials),
    )
    training = PackTraining(trials, ids(trials), device_data, RECORD)
    while not training.done:
        training = PackTraining(trials, ids(trials), device_data, RECORD, training.checkpoint())
        training.advance()
    rows = training.rows()
    failed = rows.trials.set_index("trial_id").loc[large]
    assert failed["status"] == "failed"
    assert "out of memory" in failed["error"]
    assert "CUDA out of memory. Tried to" in failed["error"]
    assert "\n" not in failed["error"]
    assert large not in {*rows.units["trial_id"], *rows.epochs["trial_id"]}
    for table in ("trials", "units", "epochs"):
        ours, theirs = (rows_of(r, table, others) for r in (rows, whole))
        assert len(ours) == len(theirs) > 0
    assert rows.trials.set_index("trial_id").loc[others, "status"].eq("completed").all()
    assert rows.trials.set_index("trial_id").loc[others, "error"].isna().all()
    for table, frame in with_driver_columns(rows, trials).items():
        assert to_table(table, frame).num_rows == len(frame)


def test_a_pack_of_which_nothing_fits(
    device_data: DeviceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    Memory(monkeypatch, "set-up", at_most(0))
    training = PackTraining(some_trials(), ids(some_trials()), device_data, RECORD)
    assert training.done
    assert training.epochs_done == 4
    rows = training.rows()
    assert sorted(rows.trials["trial_id"]) == ids(some_trials())
    assert set(rows.trials["status"]) == {"failed"}
    assert rows.units.empty
    assert rows.epochs.empty
    frames = with_driver_columns(rows, some_trials())
    assert to_table("trials", frames["trials"]).num_rows == 4


def test_another_error_is_no_want_of_memory(
    device_data: DeviceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised, and the pack is as it was before the epoch."""
    trials = some_trials()
    training = PackTraining(trials, ids(trials), device_data, RECORD)
    training.advance()
    before = {name: tensor.clone() for name, tensor in training.pack.tensors().items()}
    rows = training.rows()
    original = lane_training.evaluate

    def broken(*arguments: Any) -> Any:
        raise RuntimeError("a kernel that is broken")

    monkeypatch.setattr(lane_training, "evaluate", broken)
    with pytest.raises(RuntimeError, match="a kernel that is broken"):
        training.advance()
    assert training.trial_ids == ids(trials)
    assert training.pack.epoch == 1
    for name, tensor in training.pack.tensors().items():
        assert torch.equal(tensor, before[name])
    assert len(training.rows().epochs) == len(rows.epochs)
    monkeypatch.setattr(lane_training, "evaluate", original)
    while not training.done:
        training.advance()
    assert_close_rows(training.rows(), train(trials, device_data, RECORD), ids(trials))


def test_progress_counts_every_lane(
    device_data: DeviceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = some_trials(epochs=4)
    Memory(monkeypatch, "training", lambda pack: pack.epoch < 3 or len(pack.trials) <= 2)
    training = PackTraining(trials, ids(trials), device_data, RECORD)
    seen = [training.epochs_done]
    while not training.done:
        training.advance()
        seen.append(training.epochs_done)
    assert seen == [0, 1, 2, 2, 2.5, 3, 3.5, 4]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 4000000000000000 bytes. Error code 12"
        ),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_what_want_of_memory_looks_like(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: an illegal memory access"), ValueError("out of memory")]
)
def test_what_it_does_not_look_like(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_pytorch_s_own_words() -> None:
    """What this release says when the system refuses."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


LIMITED = """
import resource, sys
from search_spaces import RecordSettings
from tests.trainables.small_packs import ids, on_cpu, small_images
from tests.trainables.test_out_of_memory import large_trials
from trainables.process import prepare_process
from trainables.training import PackTraining

prepare_process(threads=1)
data = on_cpu(small_images(train=2_500))
trials = large_trials()

def train(trials):
    training = PackTraining(trials, ids(trials), data, RecordSettings(reconstruction_gain_images=1))
    while not training.done:
        training.advance()
        print("lanes", len(training.pack.trials))
    return training.rows()

train(trials[:1])  # what is loaded late is loaded now
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
if room := int(sys.argv[1]) * 2**20:
    resource.setrlimit(resource.RLIMIT_AS, (size + room,) * 2)
rows = train(trials)
for row in rows.trials.sort_values("trial_id").itertuples():
    print(row.trial_id, row.status, row.train_elbo.hex(), row.train_kl.hex(), row.active_units)
"""


def large_trials() -> list[Trial]:
    """Trials whose noise of an epoch takes 38 MiB each."""
    return [small_trial(latent_dim=2_000, seed=seed, epochs=1) for seed in range(8)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited as Linux does")
def test_a_machine_whose_memory_ends() -> None:
    """The real thing: a process whose allocations the system refuses."""

    def run(room: int) -> tuple[set[str], list[str]]:
        ran = subprocess.run(
            [sys.executable, "-c", LIMITED, str(room)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert ran.returncode == 0, ran.stderr
        lines = ran.stdout.splitlines()
        lanes = [line for line in lines if line.startswith("lanes")]
        return set(lanes[1:]), [line for line in lines if not line.startswith("lanes")]

    free, whole = run(0)
    assert free == {"lanes 8"}
    assert len(whole) == 8
    limited, parted = run(200)
    assert "lanes 8" not in limited
    assert parted == whole  # bit for bit: on a CPU lanes do not see each other
