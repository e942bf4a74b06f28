"""Checkpoints survive the way to bytes and back, and damaged or foreign ones are refused."""

import json
import pickle
import random
import struct

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load, save

from search_spaces import RecordSettings
from tests.trainables.small_packs import ids, on_cpu, small_images, small_trial
from trainables import checkpoints
from trainables.pack import NUMERICS_VERSION
from trainables.training import PackTraining

TRIALS = [small_trial(epochs=3, latent_dim=d, seed=d) for d in (2, 5)]
RECORD = RecordSettings(every=1, models=True)


@pytest.fixture(scope="module")
def training() -> PackTraining:
    """After the first of three epochs."""
    training = PackTraining(TRIALS, ids(TRIALS), on_cpu(small_images()), RECORD)
    training.advance()
    return training


@pytest.fixture(scope="module")
def saved(training: PackTraining) -> bytes:
    return training.checkpoint()


def resume(data: bytes) -> PackTraining:
    return PackTraining(TRIALS, ids(TRIALS), on_cpu(small_images()), RECORD, data)


def parts(saved: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    size = int.from_bytes(saved[:8], "little")
    return load(saved), json.loads(saved[8 : 8 + size])["__metadata__"]


def test_everything_comes_back(training: PackTraining, saved: bytes) -> None:
    back = checkpoints.unpack(saved, ids(TRIALS))
    assert back.members == ids(TRIALS)
    (part,) = back.parts
    assert (part.lanes, part.epoch) == (ids(TRIALS), 1)
    for name, tensor in training.pack.tensors().items():
        assert torch.equal(part.tensors[name], tensor), name
    assert part.tensors.keys() == training.pack.tensors().keys()
    rows = training.rows()
    for table in ("units", "epochs"):
        pd.testing.assert_frame_equal(getattr(back.rows, table), getattr(rows, table))
    assert len(back.rows.trials) == 0
    assert checkpoints.read_members(saved) == ids(TRIALS)


def test_finished_lanes_keep_their_rows_and_models() -> None:
    data = on_cpu(small_images())
    training = PackTraining(TRIALS, ids(TRIALS), data, RECORD)
    training.pack.parameters.flat[0] = float("nan")
    training.advance()
    back = checkpoints.unpack(training.checkpoint(), ids(TRIALS))
    assert back.members == ids(TRIALS)
    assert [part.lanes for part in back.parts] == [ids(TRIALS)[1:]]
    assert back.rows.trials["trial_id"].tolist() == ids(TRIALS)[:1]
    assert back.rows.models == training.rows().models
    assert list(back.rows.models) == ids(TRIALS)[:1]


def test_a_checkpoint_holds_nothing_executable(saved: bytes) -> None:
    """A safetensors file from end to end: header, then tensors of numbers."""
    tensors, metadata = parts(saved)
    assert set(metadata) == {"state"}
    assert {key.split(".")[0] for key in tensors} == {"tensor", "table"}
    for key, tensor in tensors.items():
        if key.startswith("table."):
            assert bytes(tensor.numpy()[:4]) == b"PAR1"


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(saved: bytes, kept: float) -> None:
    length = kept if isinstance(kept, int) else int(kept * len(saved))
    with pytest.raises(ValueError, match="not a checkpoint"):
        resume(saved[:length])


def test_any_changed_byte_is_noticed(saved: bytes) -> None:
    """At random places of header, state, weights and rows; never another error, never silence."""
    positions = [*range(0, 300, 7), *random.Random(0).sample(range(len(saved)), 300)]
    for position in positions:
        damaged = bytearray(saved)
        damaged[position] ^= 0x04
        for read in (lambda data: checkpoints.unpack(data, ids(TRIALS)), checkpoints.read_members):
            with pytest.raises(ValueError, match="checkpoint"):
                read(bytes(damaged))


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"\0" * 64,
        b"PAR1 something else entirely",
        pickle.dumps({"state": 1}),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        save({"a": torch.zeros(2)}),
        save({"a": torch.zeros(2)}, {"state": "not JSON"}),
        save({"a": torch.zeros(2)}, {"state": "3"}),
        save({"a": torch.zeros(2)}, {"state": "[]"}),
        save({"a": torch.zeros(2)}, {"state": json.dumps({"numerics_version": NUMERICS_VERSION})}),
        save(
            {"a": torch.zeros(2)},
            {"state": json.dumps({"numerics_version": NUMERICS_VERSION, "members": ids(TRIALS)})},
        ),
    ],
    ids=range(14),
)
def test_foreign_files_are_refused(foreign: bytes) -> None:
    with pytest.raises(ValueError, match="not a checkpoint"):
        resume(foreign)


def test_read_members_refuses_them_too() -> None:
    saved_by_others = save({"a": torch.zeros(2)}, {"format": "pt"})
    for foreign in (b"", b"[]" * 20, saved_by_others, save({"a": torch.zeros(2)}, {"state": "{}"})):
        with pytest.raises(ValueError, match="not a checkpoint"):
            checkpoints.read_members(foreign)


def test_other_trials_are_refused(saved: bytes) -> None:
    data = on_cpu(small_images())
    for trials, trial_ids in [
        (TRIALS[:1], ids(TRIALS)[:1]),
        (TRIALS[::-1], ids(TRIALS)[::-1]),
        (TRIALS, ["x", "y"]),
    ]:
        with pytest.raises(ValueError, match="other trials"):
            PackTraining(trials, trial_ids, data, RECORD, saved)


def test_another_numerics_version_is_refused(saved: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "NUMERICS_VERSION", NUMERICS_VERSION + 1)
    with pytest.raises(ValueError, match="numerics version"):
        resume(saved)
    with pytest.raises(ValueError, match="numerics version"):
        checkpoints.read_members(saved)


def test_a_refused_checkpoint_leaves_its_own_usable(saved: bytes) -> None:
    with pytest.raises(ValueError, match="not a checkpoint"):
        resume(saved[:-1])
    training = resume(saved)
    assert training.pack.epoch == 1
    training.advance()
    assert np.isfinite(training.latest["train_objective"]).all()
