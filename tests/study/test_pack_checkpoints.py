import errno
import json
import os
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces import RecordSettings, TilesDataset, load_spec
from study.driver_folder import take_over
from study.pack_checkpoints import FolderCheckpoints, find_resumable
from study.packing import pack_name
from study.planning import PlannedTrial, plan_study
from study.storage import Folder
from trainables.datasets import load_dataset
from trainables.device_data import DeviceData
from trainables.training import PackTraining

TILES = TilesDataset(train_images=60, test_images=20)
SPEC: dict[str, Any] = {
    "study": "test",
    "dataset": TILES.model_dump(),
    "axes": {"architecture": "linear", "latent_dim": 2, "seed": {"range": [0, 5]}},
    "training": {"epochs": 3},
}
PLANNED = plan_study(load_spec(SPEC))
WAITING = {p.trial_id: p for p in PLANNED}


@pytest.fixture(scope="module")
def data() -> DeviceData:
    return DeviceData.load(load_dataset(TILES), torch.device("cpu"))


def training(members: Sequence[PlannedTrial], data: DeviceData, saved: Any = None) -> PackTraining:
    trials, ids = [m.trial for m in members], [m.trial_id for m in members]
    return PackTraining(trials, ids, data, RecordSettings(), saved)


def save(folder: Folder, members: Sequence[PlannedTrial], data: DeviceData) -> str:
    """Train a pack for an epoch and keep its checkpoint; return the pack's name."""
    pack = training(members, data)
    pack.advance()
    name = pack_name([m.trial_id for m in members])
    FolderCheckpoints(folder).save(name, pack.checkpoint())
    return name


def test_a_checkpoint_comes_back_whole(folder: Folder) -> None:
    store = FolderCheckpoints(folder)
    assert store.load("pack-1") is None
    store.save("pack-1", b"one")
    store.save("pack-1", b"another")
    store.save("pack-2", b"two")
    assert store.load("pack-1") == b"another"
    store.delete("pack-1")
    store.delete("pack-1")
    assert store.load("pack-1") is None
    assert store.load("pack-2") == b"two"
    store.delete_all()
    assert folder.files("checkpoints") == []
    store.delete_all()


def test_storage_that_fails_stops_no_training(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor makes it wait, whatever happens to storage, and also with a folder that waits."""
    store = FolderCheckpoints(take_over(folder, warn=pytest.fail))
    assert store.save("pack-1", b"one") is None
    for number in (errno.ENOSPC, errno.ETIMEDOUT, errno.EACCES):

        def fail(self: Folder, relative: str, data: bytes, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        start = time.monotonic()
        with monkeypatch.context() as patched:
            patched.setattr(Folder, "_write", fail)
            reason = store.save("pack-1", b"another")
        assert reason is not None
        assert os.strerror(number) in reason
        assert "pack-1" in reason
        assert time.monotonic() - start < 0.5
    assert store.load("pack-1") == b"one"


def test_storage_that_fails_for_a_moment_is_waited_for_by_who_loads(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a worker too, where the folder was sent to and its warnings are nobody's."""
    store = pickle.loads(pickle.dumps(FolderCheckpoints(take_over(folder, warn=pytest.fail))))
    store.save("pack-1", b"one")
    monkeypatch.setattr("study.driver_folder.FIRST_PAUSE", 0.01)
    faults = [errno.ESTALE, errno.ECONNREFUSED, errno.EIO]
    original = Folder.full

    def full(self: Folder, relative: str) -> str:
        if faults:
            raise OSError(number := faults.pop(), os.strerror(number))
        return original(self, relative)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "full", full)
        patched.setattr(Folder, "child", lambda self, name: self)  # for messages
        assert store.load("pack-1") == b"one"
    assert not faults
    assert store.load("pack-2") is None


def test_packs_are_found_with_their_members_in_order(folder: Folder, data: DeviceData) -> None:
    first = save(folder, PLANNED[3:1:-1], data)
    second = save(folder, PLANNED[4:5], data)
    found = {pack.pack_id: pack for pack in find_resumable(folder, WAITING, set())}
    assert found.keys() == {first, second}
    assert list(found[first].members) == PLANNED[3:1:-1]
    assert list(found[second].members) == [PLANNED[4]]
    stored = FolderCheckpoints(folder).load(first)
    assert training(found[first].members, data, stored).pack.epoch == 1


def test_nothing_to_find(folder: Folder) -> None:
    assert find_resumable(folder, WAITING, set()) == []


def test_a_checkpoint_of_committed_trials_is_removed(folder: Folder, data: DeviceData) -> None:
    """The driver was killed between a commit and the removal of the checkpoint."""
    name = save(folder, PLANNED[:2], data)
    kept = save(folder, PLANNED[2:4], data)
    done = {PLANNED[0].trial_id, PLANNED[1].trial_id}
    waiting = {i: p for i, p in WAITING.items() if i not in done}
    assert [pack.pack_id for pack in find_resumable(folder, waiting, done)] == [kept]
    assert FolderCheckpoints(folder).load(name) is None


def test_a_checkpoint_some_of_whose_trials_are_committed_is_removed(
    folder: Folder, data: DeviceData
) -> None:
    save(folder, PLANNED[:2], data)
    done = {PLANNED[0].trial_id}
    waiting = {i: p for i, p in WAITING.items() if i not in done}
    assert find_resumable(folder, waiting, done) == []
    assert folder.files("checkpoints") == []


def test_two_checkpoints_that_share_a_trial(folder: Folder, data: DeviceData) -> None:
    save(folder, PLANNED[:3], data)
    save(folder, PLANNED[2:4], data)
    (pack,) = find_resumable(folder, WAITING, set())
    assert len(set(pack.members)) == len(pack.members)


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "version"])
def test_a_checkpoint_that_cannot_be_read_is_removed(
    folder: Folder, data: DeviceData, damage: str
) -> None:
    name = save(folder, PLANNED[:2], data)
    store = FolderCheckpoints(folder)
    content = store.load(name)
    assert content is not None
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"]["state"] = header["__metadata__"]["state"].replace(
        '"numerics_version": ', '"numerics_version": 1000'
    )
    older = json.dumps(header).encode()
    damaged = {
        "empty": b"",
        "cut": content[:100],
        "noise": bytes(range(256)) * 10,
        "version": len(older).to_bytes(8, "little") + older + content[8 + size :],
    }
    store.save(name, damaged[damage])
    assert find_resumable(folder, WAITING, set()) == []
    assert folder.files("checkpoints") == []


def test_a_stranger_s_file_is_left_alone(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    folder.write_whole("checkpoints/notes.txt", b"mine")
    assert find_resumable(folder, WAITING, set()) == []
    FolderCheckpoints(folder).delete_all()
    assert folder.files("checkpoints") == ["notes.txt"]
