from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from search_spaces import RecordSettings, load_spec
from study import ledger
from study.driver_folder import take_over
from study.frozen_spec import freeze
from study.plan_table import write_plan
from study.reuse import reuse_finished
from study.storage import Folder, StorageError
from tests.study.plans import planned_trials
from tests.study.test_ledger import encodings

MakePack = Callable[..., dict[str, Any]]

AXES = {"architecture": "linear", "latent_dim": 2, "seed": {"range": [0, 3]}}
PLANNED = planned_trials(AXES, record={"models": True})
WAITING = {p.trial_id: p for p in PLANNED}
IDS = sorted(WAITING)
OTHERWISE_RECORDED = {
    i: replace(planned, record=RecordSettings()) for i, planned in WAITING.items()
}


def write_study(folder: Folder, make_pack: MakePack, packs: dict[str, list[str]]) -> None:
    """A study beside this one that has finished some of the trials."""
    content = {
        "study": folder.name,
        "dataset": "tiles",
        "axes": {"architecture": "linear", "latent_dim": 2},
        "record": {"models": True},
    }
    freeze(folder, load_spec(content), {"numerics_version": 1})
    ledger.create_tables(folder)
    for pack_id, members in packs.items():
        pack = make_pack(pack_id, members)
        ledger.commit(folder, **pack | {"trials": pack["trials"].assign(device="cpu")})
        for member in members:
            folder.write_whole(f"models/{member}.safetensors", member.encode())


@pytest.fixture
def ours(folder: Folder) -> Folder:
    ledger.create_tables(folder)
    return folder


def test_finished_trials_are_taken(ours: Folder, make_pack: MakePack) -> None:
    packs = {"p": IDS[:2], "q": [IDS[2], "stranger"]}
    write_study(ours.parent.child("other"), make_pack, packs)
    assert reuse_finished(take_over(ours), WAITING, gpu=False) == {"other": 3}
    rows = ledger.read_trials(ours)
    assert sorted(rows["trial_id"]) == IDS[:3]
    assert set(rows["study"]) == {"test"}
    units = pd.read_parquet(ours.full("units"), filesystem=ours.filesystem)
    assert sorted(set(units["trial_id"])) == IDS[:3]
    assert set(units["study"]) == {"test"}
    assert ours.read_bytes(f"models/{IDS[2]}.safetensors") == IDS[2].encode()
    assert reuse_finished(ours, WAITING, gpu=True) == {}
    assert reuse_finished(ours, OTHERWISE_RECORDED, gpu=False) == {}


MODEL = f"models/{IDS[1]}.safetensors"


@pytest.mark.parametrize(
    ("damage", "how", "taken"),
    [
        ("study.yaml", "damaged", 0),
        ("study.yaml", "gone", 0),
        ("trials/p.parquet", "damaged", 0),
        ("trials/p.parquet", "gone", 1),
        ("units/p.parquet", "damaged", 1),
        ("units/p.parquet", "gone", 1),
        ("epochs/p.parquet", "damaged", 1),
        ("epochs/p.parquet", "gone", 1),
        (MODEL, "gone", 1),
    ],
)
def test_a_damaged_neighbour_is_not_this_study_s_trouble(
    ours: Folder, make_pack: MakePack, damage: str, how: str, taken: int
) -> None:
    other = ours.parent.child("other")
    write_study(other, make_pack, {"p": IDS[:2], "q": [IDS[2]]})
    if how == "gone":
        other.delete(damage)
    else:
        other.write_whole(damage, b"not what it was")
    result = reuse_finished(ours, WAITING, gpu=False)
    assert result == ({"other": taken} if taken else {})
    assert set(ledger.committed(ours)["trial_id"]) == ({IDS[2]} if taken else set())


def test_our_own_storage_is(
    ours: Folder, make_pack: MakePack, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(ours.parent.child("other"), make_pack, {"p": IDS[:2]})

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Folder, "_write", fail)
    with pytest.raises(StorageError, match="cannot write"):
        reuse_finished(ours, WAITING, gpu=False)


def write_parts(folder: Folder, make_pack: MakePack, part_of: dict[str, str]) -> None:
    """A study beside this one with a part that records our way and one that does not."""
    axes = {"architecture": "linear"}
    content = {
        "study": folder.name,
        "dataset": "tiles",
        "parts": {
            "ours": {"axes": axes | {"latent_dim": 2}, "record": {"models": True}},
            "theirs": {"axes": axes | {"latent_dim": 3}, "record": {"every": 1}},
        },
    }
    freeze(folder, load_spec(content), {"numerics_version": 1})
    write_plan(folder, [replace(WAITING[i], part=part) for i, part in part_of.items()])
    ledger.create_tables(folder)
    pack = make_pack("p", IDS)
    ledger.commit(folder, **pack | {"trials": pack["trials"].assign(device="cpu")})
    for member in IDS:
        folder.write_whole(f"models/{member}.safetensors", member.encode())


def test_a_part_that_records_the_same_is_reused_and_another_is_not(
    ours: Folder, make_pack: MakePack
) -> None:
    parts = {IDS[0]: "ours", IDS[1]: "theirs", IDS[2]: "ours", IDS[3]: "gone"}
    write_parts(ours.parent.child("other"), make_pack, parts)
    assert reuse_finished(ours, WAITING, gpu=False) == {"other": 2}
    assert sorted(ledger.committed(ours)["trial_id"]) == sorted([IDS[0], IDS[2]])


def test_our_own_parts_may_want_different_things(ours: Folder, make_pack: MakePack) -> None:
    parts = {IDS[0]: "ours", IDS[1]: "theirs", IDS[2]: "ours", IDS[3]: "theirs"}
    write_parts(ours.parent.child("other"), make_pack, parts)
    every = RecordSettings(every=1)
    waiting = WAITING | {i: replace(WAITING[i], record=every) for i in (IDS[0], IDS[1])}
    assert reuse_finished(ours, waiting, gpu=False) == {"other": 2}
    assert sorted(ledger.committed(ours)["trial_id"]) == sorted([IDS[1], IDS[2]])
    assert ours.exists(f"models/{IDS[2]}.safetensors")
    assert not ours.exists(f"models/{IDS[1]}.safetensors"), "not asked for"


def test_parts_of_a_study_without_a_plan_are_not_known(ours: Folder, make_pack: MakePack) -> None:
    other = ours.parent.child("other")
    write_parts(other, make_pack, dict.fromkeys(IDS, "ours"))
    other.delete("plan/trials.parquet")
    assert reuse_finished(ours, WAITING, gpu=False) == {}


def test_what_was_asked_for_besides_is_taken_along(ours: Folder, make_pack: MakePack) -> None:
    """Encodings of the pack that has any; images of neither, which had no rows."""
    other = ours.parent.child("other")
    content = {
        "study": "other",
        "dataset": "tiles",
        "axes": {"architecture": "linear", "latent_dim": 2},
        "record": {"encodings": 1, "samples": 1},
    }
    spec = load_spec(content)
    freeze(other, spec, {"numerics_version": 1})
    record = spec.all_parts[""].record
    ledger.create_tables(other, record.further_tables)
    for pack_id, members, with_codes in [("p", IDS[:2], IDS[:2]), ("q", [IDS[2]], [])]:
        pack = make_pack(pack_id, members)
        pack["trials"] = pack["trials"].assign(device="cpu")
        ledger.commit(other, **pack, further={"encodings": encodings(with_codes)})
    wanted = {i: replace(WAITING[i], record=record) for i in IDS[1:]}
    assert reuse_finished(ours, wanted, gpu=False) == {"other": 2}
    codes = pd.read_parquet(ours.full("encodings"), filesystem=ours.filesystem)
    assert codes[["trial_id", "study"]].to_numpy().tolist() == [[IDS[1], "test"]]
    assert set(ledger.committed(ours)["trial_id"]) == {IDS[1], IDS[2]}
    assert ours.files("samples") == []
