import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from study import ledger
from study.storage import Folder, StorageError
from study.tables import DONE, SCHEMAS

Pack = dict[str, Any]
MakePack = Callable[..., Pack]


def encodings(trial_ids: list[str], study: str = "test") -> pd.DataFrame:
    """A row of `encodings` for each of these trials."""
    row = {"study": study, "epoch": 2, "step": 100, "split": "test", "image": 7, "label": None}
    row |= {"unit": 0, "mean": 0.5, "variance": 0.25}
    return pd.DataFrame([row | {"trial_id": trial_id} for trial_id in trial_ids])


def content(folder: Folder) -> dict[str, bytes]:
    return {
        f"{table}/{file}": folder.read_bytes(f"{table}/{file}")
        for table in folder.folders()
        for file in folder.files(table)
    }


def rows(folder: Folder, table: str) -> pd.DataFrame:
    """A table as a user reads it: the whole folder, by pandas."""
    frame = pd.read_parquet(folder.full(table), filesystem=folder.filesystem)
    assert list(frame.columns) == SCHEMAS[table].names
    return frame


def check(folder: Folder, planned: set[str] | None = None) -> None:
    """Hold the folder to what `clean` promises."""
    trials = rows(folder, "trials")
    assert trials["trial_id"].is_unique
    if planned is not None:
        assert set(trials["trial_id"]) <= planned
    done = trials[trials["status"].isin(DONE)]
    for table, per_trial in (("units", 4), ("epochs", 3)):
        found = rows(folder, table)
        assert found.groupby("trial_id").size().to_dict() == dict.fromkeys(
            done["trial_id"], per_trial
        )
        packs = {file.removesuffix(".parquet") for file in folder.files(table)}
        assert packs == {"empty", *done["pack_id"]}
    assert set(ledger.committed(folder)["trial_id"]) == set(trials["trial_id"])
    if folder.local:
        hidden = [path for path in Path(folder.path).rglob("*") if path.name[0] in "._"]
        assert not hidden


def test_an_empty_study_reads_with_its_columns(folder: Folder) -> None:
    ledger.create_tables(folder)
    for table in ("trials", "units", "epochs"):
        frame = rows(folder, table)
        assert len(frame) == 0
    assert rows(folder, "trials")["latent_dim"].dtype == "int64"
    assert len(ledger.committed(folder)) == 0
    ledger.clean(folder)
    check(folder)


def test_columns_keep_their_descriptions_and_no_pandas_metadata(
    tmp_path: Path, make_pack: MakePack
) -> None:
    ledger.commit(Folder.at(tmp_path), **make_pack("p", ["a"]))
    schema = pq.read_schema(tmp_path / "trials" / "p.parquet")
    assert schema.equals(SCHEMAS["trials"], check_metadata=True)
    assert schema.metadata is None
    column = pq.read_metadata(tmp_path / "trials" / "p.parquet").row_group(0).column(0)
    assert column.compression == "LZ4"
    assert not column.has_dictionary_page


def test_commit_is_idempotent_and_ignores_the_order_of_lanes(
    folder: Folder, make_pack: MakePack
) -> None:
    ledger.create_tables(folder)
    pack = make_pack("p", ["b", "a"], failed=["d", "c"])
    ledger.commit(folder, **pack)
    before = content(folder)
    assert set(before) == {
        *(f"{table}/{name}.parquet" for table in ("trials", "units", "epochs") for name in
          ("empty", "p")),
        "trials/failed-c.parquet",
        "trials/failed-d.parquet",
    }  # fmt: skip
    ledger.commit(folder, **pack)
    assert content(folder) == before
    for table in ("trials", "units", "epochs"):
        pack[table] = pack[table].sample(frac=1, random_state=1)
    ledger.commit(folder, **pack)
    assert content(folder) == before
    check(folder, set("abcd"))


def test_bytes_are_the_same_in_another_process(tmp_path: Path, make_pack: MakePack) -> None:
    pack = make_pack("p", ["a", "b"])
    ledger.commit(Folder.at(tmp_path / "here"), **pack)
    run_packs(tmp_path / "there", [pack]).wait()
    ours, theirs = content(Folder.at(tmp_path / "here")), content(Folder.at(tmp_path / "there"))
    assert {name: theirs[name] for name in ours} == ours


def test_committed_tells_status_attempt_and_pack(folder: Folder, make_pack: MakePack) -> None:
    ledger.commit(folder, **make_pack("p", ["a"], failed=["b"], attempt=2))
    ledger.commit(folder, **make_pack("q", ["c"], status="diverged"))
    assert ledger.committed(folder).sort_values("trial_id").values.tolist() == [
        ["a", "completed", 2, "p"],
        ["b", "failed", 2, "p"],
        ["c", "diverged", 1, "q"],
    ]


def test_a_failed_trial_is_forgotten_alone_and_replaced(
    folder: Folder, make_pack: MakePack
) -> None:
    ledger.create_tables(folder)
    ledger.commit(folder, **make_pack("p", ["a"], failed=["b", "c"]))
    ledger.commit(folder, **make_pack("q", [], failed=["d"]))
    before = content(folder)
    ledger.forget_failed(folder, ["a", "b", "d", "unheard of"])
    assert set(ledger.committed(folder)["trial_id"]) == {"a", "c"}
    after = content(folder)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"trials/failed-b.parquet", "trials/failed-d.parquet"}
    ledger.commit(folder, **make_pack("r", ["b"], failed=["d"], attempt=2))
    committed = ledger.committed(folder)[["trial_id", "status", "attempt"]].to_numpy().tolist()
    assert ["b", "completed", 2] in committed
    assert ["d", "failed", 2] in committed
    check(folder, set("abcd"))


def test_a_retried_pack_may_have_the_same_name(folder: Folder, make_pack: MakePack) -> None:
    ledger.create_tables(folder)
    ledger.commit(folder, **make_pack("p", [], failed=["a", "b"]))
    ledger.forget_failed(folder, ["a", "b"])
    ledger.commit(folder, **make_pack("p", ["a", "b"], attempt=2))
    ledger.clean(folder)
    check(folder, set("ab"))
    assert set(ledger.committed(folder)["status"]) == {"completed"}


@pytest.mark.parametrize("further", [None, {"encodings": encodings(["a", "b"])}])
def test_orphans_are_removed_and_nothing_else(
    folder: Folder, make_pack: MakePack, further: dict[str, pd.DataFrame] | None
) -> None:
    ledger.create_tables(folder, further or ())
    ledger.commit(folder, **make_pack("p", ["a", "b"]), further=further)
    folder.write_whole("study.yaml", b"spec")
    folder.write_whole("datasets/tiles.parquet", b"not a table of packs")
    before = content(folder)
    ledger.commit(folder, **make_pack("q", ["c"]))
    folder.delete("trials/q.parquet")
    folder.write_whole("encodings/r.parquet", b"of a pack that never was")
    assert content(folder) != before
    ledger.clean(folder)
    assert content(folder) == before
    check(folder)


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        ({"done": ["x", "a"]}, {"done": ["x", "b"]}, "p"),
        ({"done": ["x", "a"]}, {"done": ["x", "b"], "attempt": 2}, "q"),
        ({"done": ["x"]}, {"done": ["x"], "attempt": 2}, "q"),
        ({"done": ["x", "a"]}, {"done": ["b"], "failed": ["x"], "attempt": 2}, "p"),
        ({"done": ["a"], "failed": ["x"]}, {"done": ["x"]}, "q"),
        ({"done": [], "failed": ["x"]}, {"done": ["x", "b"], "status": "diverged"}, "q"),
    ],
)
def test_a_doubled_trial_keeps_one_row(
    folder: Folder, make_pack: MakePack, first: Pack, second: Pack, winner: str
) -> None:
    ledger.create_tables(folder)
    ledger.commit(folder, **make_pack("p", **first))
    ledger.commit(folder, **make_pack("q", **second))
    committed = ledger.committed(folder).set_index("trial_id")
    assert committed.index.is_unique
    assert committed.loc["x", "pack_id"] == winner
    ledger.clean(folder)
    check(folder)
    pd.testing.assert_frame_equal(
        ledger.committed(folder).set_index("trial_id").sort_index(), committed.sort_index()
    )
    others = {name for pack in (first, second) for name in pack["done"]} | {"x"}
    assert set(committed.index) == others


@pytest.mark.parametrize("table", ["units", "epochs"])
def test_a_mark_whose_other_rows_are_missing_does_not_count(
    folder: Folder, make_pack: MakePack, table: str
) -> None:
    """Another driver cleaned them away in the middle of a commit: its trials run again."""
    ledger.create_tables(folder)
    ledger.commit(folder, **make_pack("p", ["x", "y"], failed=["z"], attempt=2))
    ledger.commit(folder, **make_pack("q", ["y"]))
    folder.delete(f"{table}/p.parquet")
    committed = ledger.committed(folder).set_index("trial_id")
    assert dict(committed["pack_id"]) == {"y": "q", "z": "p"}
    ledger.clean(folder)
    check(folder, {"y", "z"})
    cleaned = ledger.committed(folder).set_index("trial_id")
    pd.testing.assert_frame_equal(cleaned.sort_index(), committed.sort_index())
    ledger.commit(folder, **make_pack("p", ["x", "y"]))
    ledger.clean(folder)
    check(folder, {"x", "y", "z"})
    for pack_id in "pq":
        folder.delete(f"{table}/{pack_id}.parquet")
    ledger.forget_failed(folder, ["z"])
    assert ledger.committed(folder).empty
    ledger.clean(folder)
    check(folder, set())


def test_further_tables_are_committed_and_cleaned_like_the_others(
    folder: Folder, make_pack: MakePack
) -> None:
    ledger.create_tables(folder, ["encodings"])
    assert rows(folder, "encodings").empty
    ledger.commit(
        folder, **make_pack("p", ["a", "x"]), further={"encodings": encodings(["x", "a"])}
    )
    ledger.commit(folder, **make_pack("q", ["b"]), further={"encodings": encodings([])})
    ledger.commit(
        folder, **make_pack("r", ["x"], attempt=2), further={"encodings": encodings(["x"], "r")}
    )
    assert folder.files("encodings") == ["empty.parquet", "p.parquet", "r.parquet"]
    assert "samples" not in folder.folders()
    ledger.clean(folder)
    check(folder, set("abx"))
    left = rows(folder, "encodings").sort_values("trial_id")
    assert left[["trial_id", "study"]].values.tolist() == [["a", "test"], ["x", "r"]]


class Crash(BaseException):
    """Stands for a kill: nothing may catch it."""


class CrashingFolder(Folder):
    """A folder whose process dies at its nth change."""

    steps = 0

    def write_whole(self, relative: str, data: bytes) -> None:
        self._step()
        super().write_whole(relative, data)

    def delete(self, relative: str) -> None:
        self._step()
        super().delete(relative)

    def _step(self) -> None:
        if CrashingFolder.steps == 0:
            raise Crash
        CrashingFolder.steps -= 1


def crash_at_every_step(folder: Folder, action: Callable[[Folder], None]) -> int:
    """Do an action, dying at step 0, then at step 1, … until it comes through; return how often."""
    crashing = CrashingFolder(folder.filesystem, folder.path, folder.scheme)
    crashes = 0
    while True:
        CrashingFolder.steps = crashes
        try:
            action(crashing)
        except Crash:
            crashes += 1
        else:
            return crashes


def test_a_commit_killed_at_any_step_happened_or_did_not(
    folder: Folder, make_pack: MakePack
) -> None:
    ledger.create_tables(folder)
    ledger.commit(folder, **make_pack("p", ["a", "b"]))
    pack = make_pack("q", ["c", "d"], failed=["e"])
    pack["further"] = {"encodings": encodings(["c", "d"])}

    def commit_then_look(crashing: Folder) -> None:
        try:
            ledger.commit(crashing, **pack)
        finally:
            seen = set(rows(folder, "trials")["trial_id"])
            assert seen in (set("ab"), set("abcd"), set("abcde"))
            if not seen >= set("cd"):
                ledger.clean(folder)
                check(folder, set("ab"))
                assert folder.files("encodings") == []

    assert crash_at_every_step(folder, commit_then_look) == 5
    assert rows(folder, "encodings")["trial_id"].tolist() == ["c", "d"]
    check(folder, set("abcde"))


def test_a_clean_killed_at_any_step_is_taken_up(folder: Folder, make_pack: MakePack) -> None:
    def spoil() -> None:
        ledger.commit(folder, **make_pack("p", ["x", "y", "a"]))
        ledger.commit(folder, **make_pack("q", ["x", "b"], failed=["a", "y"]))
        ledger.commit(folder, **make_pack("r", ["x", "y"], attempt=2))
        ledger.commit(folder, **make_pack("s", ["c"]))
        folder.delete("trials/s.parquet")

    ledger.create_tables(folder)
    spoil()
    committed = ledger.committed(folder).sort_values("trial_id", ignore_index=True)
    assert committed["trial_id"].tolist() == ["a", "b", "x", "y"]

    def clean_then_look(crashing: Folder) -> None:
        spoil()
        try:
            ledger.clean(crashing)
        finally:
            seen = ledger.committed(folder).sort_values("trial_id", ignore_index=True)
            pd.testing.assert_frame_equal(seen, committed)
            rows(folder, "trials")
            ledger.clean(folder)
            check(folder, set("abxy"))

    assert crash_at_every_step(folder, clean_then_look) >= 8


@pytest.mark.parametrize("step", range(4))
def test_full_disk_in_a_commit(
    tmp_path: Path, make_pack: MakePack, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    folder = Folder.at(tmp_path)
    ledger.create_tables(folder)
    ledger.commit(folder, **make_pack("p", ["a"]))
    before = content(folder)
    sync, files = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal files
        if files == 2 * step:  # a file and its folder are synced
            raise OSError(28, "No space left on device")
        files += 1
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"cannot write .*No space left on device"):
            ledger.commit(folder, **make_pack("q", ["b"], failed=["c"]))
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert ("b" in set(ledger.committed(folder)["trial_id"])) == (step == 3)
    ledger.clean(folder)
    check(folder, {"a", "b"})
    assert before.items() <= content(folder).items()


def test_rows_that_do_not_belong_are_refused(folder: Folder, make_pack: MakePack) -> None:
    ledger.create_tables(folder)
    before = content(folder)
    pack, other = make_pack("p", ["a"], failed=["b"]), make_pack("p", ["b"])
    twice = {**pack, "trials": pd.concat([pack["trials"]] * 2)}
    for wrong, message in [
        ({**pack, "units": other["units"]}, "units.trial_id: 'b'"),
        ({**pack, "epochs": other["epochs"]}, "epochs.trial_id: 'b'"),
        ({**pack, "pack_id": "q"}, "trials.pack_id"),
        ({**pack, "pack_id": "../q"}, "cannot name"),
        ({**pack, "pack_id": "empty"}, "cannot name"),
        ({**pack, "pack_id": "failed-a"}, "cannot name"),
        (twice, "trials: two rows for"),
        ({**pack, "trials": pack["trials"].iloc[:0]}, "trials.pack_id"),
        ({**pack, "further": {"units2": encodings(["a"])}}, "units2: not a table"),
        ({**pack, "further": {"trials": encodings(["a"])}}, "trials: not a table"),
        ({**pack, "further": {"encodings": encodings(["b"])}}, "encodings.trial_id: 'b'"),
        ({**pack, "further": {"samples": encodings(["a"])}}, "samples.epoch: no such column"),
        ({**pack, "further": {"encodings": encodings(["a", "a"])}}, "encodings: two rows for"),
        ({**pack, "units": pack["units"].drop(columns="trial_id")}, "units.trial_id: the column"),
    ]:
        with pytest.raises(ValueError, match=message):
            ledger.commit(folder, **wrong)
    assert content(folder) == before


# What follows kills and reads for real: a process commits packs, as a driver does.

DRIVER = """
import os, pickle, signal, sys
from study import ledger
from study.storage import Folder

place, packs, die_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
rename, renames = os.replace, 0

def rename_or_die(source, target):
    global renames
    renames += 1
    if renames == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)

os.replace = rename_or_die
with open(packs, "rb") as file:
    packs = pickle.load(file)
folder = Folder.at(place)
ledger.create_tables(folder)
ledger.clean(folder)
print("ready", flush=True)
committed = ledger.committed(folder)
failed = set(committed.loc[committed["status"] == "failed", "trial_id"])
done = set(committed["trial_id"]) - failed
ledger.forget_failed(folder, failed)
for pack in packs:
    if not set(pack["trials"]["trial_id"]) <= done:
        ledger.commit(folder, **pack)
"""


def run_packs(place: Path, packs: list[Pack], die_at: int = 0) -> "subprocess.Popen[bytes]":
    place.parent.mkdir(exist_ok=True, parents=True)
    pickled = place.with_suffix(".pickle")
    pickled.write_bytes(pickle.dumps(packs))
    command = [sys.executable, "-c", DRIVER, str(place), str(pickled), str(die_at)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert driver.stdout
    if not die_at:
        assert driver.stdout.readline() == b"ready\n"
    return driver


def test_a_driver_killed_many_times_loses_and_doubles_nothing(
    tmp_path: Path, make_pack: MakePack
) -> None:
    randomness = random.Random(0)
    packs = [
        make_pack(f"p{number}", [f"t{number}a", f"t{number}b"], failed=[f"t{number}c"])
        for number in range(40)
    ]
    planned = {trial_id for pack in packs for trial_id in pack["trials"]["trial_id"]}
    place = tmp_path / "study"
    folder = Folder.at(place)
    killed = temporaries = 0
    seen: set[str] = set()
    for round_ in range(10):
        # In every second round it dies by itself between the write and the rename.
        die_at = randomness.randrange(4, 40) if round_ % 2 else 0
        driver = run_packs(place, packs, die_at)
        if not die_at:
            time.sleep(randomness.uniform(0, 0.1))
            driver.kill()
        killed += driver.wait() == -signal.SIGKILL
        temporaries += any(path.name.endswith(".tmp") for path in place.rglob(".*"))
        for table in ("trials", "units", "epochs"):
            rows(folder, table)
        ledger.clean(folder)
        check(folder, planned)
        committed = ledger.committed(folder)
        done = set(committed.loc[committed["status"] == "completed", "trial_id"])
        assert done >= seen
        seen = done
    assert killed >= 7
    assert temporaries >= 3
    assert run_packs(place, packs).wait() == 0
    check(folder, planned)
    assert set(rows(folder, "trials")["trial_id"]) == planned


def test_reading_while_a_driver_commits_never_fails(tmp_path: Path, make_pack: MakePack) -> None:
    place = tmp_path / "study"
    packs = [make_pack(f"p{number}", [f"t{number}"], failed=[f"u{number}"]) for number in range(30)]
    ledger.create_tables(Folder.at(place))
    sizes = []
    for _ in range(2):  # the second time, failed rows are put aside and come back
        driver = run_packs(place, [*packs, *make_more(make_pack)])
        while driver.poll() is None:
            frame = pd.read_parquet(place / "trials")
            assert frame["trial_id"].is_unique
            assert list(frame.columns) == SCHEMAS["trials"].names
            sizes.append(len(frame))
    assert driver.returncode == 0
    assert len(set(sizes)) > 3
    check(Folder.at(place))


def make_more(make_pack: MakePack) -> list[Pack]:
    return [make_pack(f"m{number}", [], failed=[f"m{number}"]) for number in range(20)]
