import errno
import os
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from study import committing, ledger
from study.committing import commit_failed, commit_pack
from study.driver_folder import ReplacedError, take_over
from study.packing import PlannedPack, pack_name
from study.storage import Folder, StorageError
from tests.study.plans import planned_trials
from trainables.rows import PackRows

MakePack = Callable[..., dict[str, Any]]

MEMBERS = tuple(planned_trials({"architecture": "linear", "latent_dim": 2, "seed": [0, 1, 2]}))
IDS = [member.trial_id for member in MEMBERS]
PACK = PlannedPack(pack_name(IDS), MEMBERS)
KNOWN_TO_THE_DRIVER = {"study", "pack_id", "error", "dataset_fingerprint", "attempt", "node"}


@pytest.fixture
def rows(make_pack: MakePack) -> PackRows:
    """What a worker measured: no hyperparameters, no name of the study."""
    made = make_pack(PACK.pack_id, IDS)
    measured = ["trial_id", "status", "epochs_trained", "active_units", "active_units_kl"]
    measured += [name for name in made["trials"] if name.startswith(("train_", "test_"))]
    measured += ["variance_law_mean", "variance_law_variance", "parameters", "started_at"]
    trials = made["trials"][measured].assign(epochs_trained=2, decoder_variance=None)
    units, epochs = (made[name].drop(columns="study") for name in ("units", "epochs"))
    return PackRows(trials, units, epochs)


@pytest.fixture
def place(folder: Folder) -> Folder:
    ledger.create_tables(folder)
    return folder


def read(folder: Folder) -> pd.DataFrame:
    return ledger.read_trials(folder).set_index("trial_id")


def test_rows_are_completed_with_what_the_driver_knows(place: Folder, rows: PackRows) -> None:
    commit_pack(place, "mine", PACK, rows, {IDS[1]: 3}, "host-7")
    trials = read(place)
    assert set(trials["study"]) == {"mine"}
    assert set(trials["pack_id"]) == {PACK.pack_id}
    assert set(trials["node"]) == {"host-7"}
    assert dict(trials["attempt"]) == {IDS[0]: 1, IDS[1]: 3, IDS[2]: 1}
    assert trials["error"].isna().all()
    for member in MEMBERS:
        row = trials.loc[member.trial_id]
        assert row["dataset_fingerprint"] == member.dataset_fingerprint
        for name, value in member.trial.hyperparameters().items():
            assert row[name] == value or (value is None and pd.isna(row[name])), name
    units = ledger.read_rows(place, "units", [f"{PACK.pack_id}.parquet"]).to_pandas()
    assert set(units["study"]) == {"mine"}


def test_a_learned_variance_replaces_the_planned_one(place: Folder, rows: PackRows) -> None:
    rows.trials["decoder_variance"] = [0.1, 0.2, 0.3]
    commit_pack(place, "mine", PACK, rows, {}, None)
    assert list(read(place).loc[IDS, "decoder_variance"]) == [0.1, 0.2, 0.3]


def test_a_diverged_trial_says_when(place: Folder, rows: PackRows) -> None:
    rows.trials["status"] = ["completed", "diverged", "completed"]
    rows.trials["error"] = [None, "the loss was not finite in epoch 2", None]
    commit_pack(place, "mine", PACK, rows, {}, None)
    trials = read(place)
    assert trials["error"][IDS[1]] == "the loss was not finite in epoch 2"
    assert trials["error"].notna().sum() == 1


def test_a_pack_that_diverged_before_its_first_epoch_has_no_epochs(
    place: Folder, rows: PackRows
) -> None:
    trials = rows.trials.assign(status="diverged", epochs_trained=0)
    commit_pack(place, "mine", PACK, PackRows(trials, rows.units, pd.DataFrame()), {}, None)
    assert set(read(place)["status"]) == {"diverged"}
    assert len(ledger.read_rows(place, "epochs", [f"{PACK.pack_id}.parquet"])) == 0
    assert len(ledger.read_rows(place, "units", [f"{PACK.pack_id}.parquet"])) > 0


def test_models_lie_beside_the_tables(place: Folder, rows: PackRows) -> None:
    rows.models.update({IDS[0]: b"weights", IDS[2]: b"others"})
    commit_pack(place, "mine", PACK, rows, {}, None)
    assert place.files("models") == [f"{IDS[0]}.safetensors", f"{IDS[2]}.safetensors"]
    assert place.read_bytes(f"models/{IDS[2]}.safetensors") == b"others"


def test_what_all_rows_share_is_looked_up_once(
    place: Folder, rows: PackRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version of a package takes a third of a millisecond to find."""
    asked: list[str] = []

    def version(name: str) -> str:
        asked.append(name)
        return "1.2.3"

    monkeypatch.setattr(committing, "version", version)
    commit_pack(place, "mine", PACK, rows, {}, None)
    assert asked == ["vae-study"]
    assert set(read(place)["version"]) == {"1.2.3"}
    commit_failed(place, "mine", PACK, {}, "ValueError: it was told to")
    assert asked == ["vae-study"] * 2


def test_failed_trials(place: Folder) -> None:
    commit_failed(place, "mine", PACK, {IDS[0]: 2}, "ValueError: it was told to")
    trials = read(place)
    assert set(trials["status"]) == {"failed"}
    assert set(trials["error"]) == {"ValueError: it was told to"}
    assert dict(trials["attempt"]) == {IDS[0]: 2, IDS[1]: 1, IDS[2]: 1}
    assert trials["active_units"].isna().all()
    assert list(trials.loc[IDS, "seed"]) == [0, 1, 2]


class Failing:
    """Lets the first so many writes of some files fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: str, times: float) -> None:
        self.left = times
        self.written: list[str] = []
        original = Folder._write

        def write(folder: Folder, relative: str, data: bytes) -> None:
            if relative.startswith(path) and self.left > 0:
                self.left -= 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.written.append(relative)
            original(folder, relative, data)

        monkeypatch.setattr(Folder, "_write", write)


@pytest.mark.parametrize("path", ["models/", "units/", "epochs/", "trials/"])
def test_storage_that_fails_for_a_moment(
    place: Folder, rows: PackRows, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    said: list[str] = []
    own = take_over(place, warn=said.append)
    rows.models[IDS[0]] = b"weights"
    failing = Failing(monkeypatch, path, times=3)
    monkeypatch.setattr("study.driver_folder.FIRST_PAUSE", 0.01)
    commit_pack(own, "mine", PACK, rows, {}, None)
    assert list(read(place).index) == IDS
    assert failing.written[-1] == f"trials/{PACK.pack_id}.parquet"
    assert sorted(failing.written) == sorted(set(failing.written))  # nothing was written twice
    assert len(ledger.read_rows(place, "units", [f"{PACK.pack_id}.parquet"])) == len(rows.units)
    begins, ends = said
    assert "No space left on device; trying again for 5 min" in begins
    assert ends.startswith("storage works again")


@pytest.mark.parametrize("path", ["units/", "trials/"])
def test_storage_that_fails_for_good(
    place: Folder, rows: PackRows, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    own = take_over(place, patience=0.5, warn=lambda line: None)
    Failing(monkeypatch, path, times=float("inf"))
    with pytest.raises(StorageError, match="No space left on device"):
        commit_pack(own, "mine", PACK, rows, {}, None)
    assert read(place).empty


def test_a_driver_that_was_replaced_commits_nothing(place: Folder, rows: PackRows) -> None:
    own = take_over(place)
    take_over(place)
    with pytest.raises(ReplacedError):
        commit_pack(own, "mine", PACK, rows, {}, None)
    with pytest.raises(ReplacedError):
        commit_failed(own, "mine", PACK, {}, "ValueError: it was told to")
    assert read(place).empty
    assert place.files("trials") == ["empty.parquet"]


def test_a_fault_of_our_own_is_not_tried_again(place: Folder, rows: PackRows) -> None:
    own = take_over(place, warn=pytest.fail)
    rows.trials["active_units"] = "many"
    with pytest.raises(ValueError, match="active_units"):
        commit_pack(own, "mine", PACK, rows, {}, None)
    assert read(place).empty
