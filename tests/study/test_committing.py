from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from study import committing, ledger
from study.committing import commit_failed, commit_pack
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
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of which took any time."""
    made: list[float] = []
    monkeypatch.setattr(committing.time, "sleep", made.append)
    return made


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
    rows.trials["epochs_trained"] = [2, 1, 2]
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
        self.path, self.left = path, times
        self.written: list[str] = []
        original = Folder.write_whole

        def write_whole(folder: Folder, relative: str, data: bytes) -> None:
            if relative.startswith(path) and self.left > 0:
                self.left -= 1
                raise StorageError(f"cannot write {relative}: No space left on device")
            self.written.append(relative)
            original(folder, relative, data)

        monkeypatch.setattr(Folder, "write_whole", write_whole)


@pytest.mark.parametrize("path", ["models/", "units/", "epochs/", "trials/"])
def test_storage_that_fails_for_a_moment(
    place: Folder, rows: PackRows, pauses: list[float], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    rows.models[IDS[0]] = b"weights"
    failing = Failing(monkeypatch, path, times=3)
    commit_pack(place, "mine", PACK, rows, {}, None)
    assert list(read(place).index) == IDS
    assert len(pauses) == 3
    assert pauses == sorted(pauses)
    assert failing.written[-1] == f"trials/{PACK.pack_id}.parquet"
    assert len(ledger.read_rows(place, "units", [f"{PACK.pack_id}.parquet"])) == len(rows.units)


@pytest.mark.parametrize("path", ["units/", "trials/"])
def test_storage_that_fails_for_good(
    place: Folder, rows: PackRows, pauses: list[float], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    Failing(monkeypatch, path, times=float("inf"))
    with pytest.raises(StorageError, match="No space left on device"):
        commit_pack(place, "mine", PACK, rows, {}, None)
    assert sum(pauses) > 120  # minutes, for a network disk to come back
    assert read(place).empty


def test_a_fault_of_our_own_is_not_tried_again(
    place: Folder, rows: PackRows, pauses: list[float]
) -> None:
    rows.trials["active_units"] = "many"
    with pytest.raises(ValueError, match="active_units"):
        commit_pack(place, "mine", PACK, rows, {}, None)
    assert pauses == []
    assert read(place).empty
