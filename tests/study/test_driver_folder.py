"""Storage that fails for a while, on real disks and servers; and two drivers on one study."""

import errno
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import fs

from study import ledger
from study.driver_folder import (
    DRIVER_FILE,
    Driver,
    DriverFolder,
    ReplacedError,
    read_driver,
    take_over,
)
from study.storage import Folder, StorageError
from study.tables import SCHEMAS
from tests.s3_server import SLOW_DOWN, S3Server
from tests.small_disk import fill, small_disk
from tests.study.conftest import pack_rows

MakePack = Callable[..., dict[str, Any]]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, for tests that are not about them."""
    monkeypatch.setattr("study.driver_folder.FIRST_PAUSE", 0.01)


def told_once(said: list[str]) -> bool:
    """Whether storage failed once and works again, as a user sees it."""
    begins, ends = said
    return "; trying again for " in begins and ends.startswith("storage works again after ")


# Storage that fails.


class Faulty(DirFileSystem):
    """A folder of the local disk as a filesystem whose operations fail as long as told to."""

    fault: BaseException | None = None
    times = 0.0

    def _fail(self) -> None:
        if self.times > 0:
            self.times -= 1
            assert self.fault is not None
            raise self.fault

    def info(self, path: str, **options: Any) -> Any:
        self._fail()
        return super().info(path, **options)

    def find(self, path: str, *arguments: Any, **options: Any) -> Any:
        self._fail()
        return super().find(path, *arguments, **options)

    def open(self, path: str, *arguments: Any, **options: Any) -> Any:
        self._fail()
        return super().open(path, *arguments, **options)

    def rm(self, path: str, *arguments: Any, **options: Any) -> Any:
        self._fail()
        return super().rm(path, *arguments, **options)


@pytest.fixture
def faulty(tmp_path: Path) -> tuple[Faulty, Folder]:
    (tmp_path / "study").mkdir()
    files = Faulty(path=str(tmp_path), fs=fsspec.filesystem("file"), skip_instance_cache=True)
    return files, Folder(fs.PyFileSystem(fs.FSSpecHandler(files)), "study", "faulty")


def operations(folder: Folder) -> list[Callable[[], object]]:
    """Each operation of a folder, with `there` in it."""
    return [
        lambda: folder.write_whole("new", b"x"),
        lambda: folder.child("trials").exists("new"),
        lambda: folder.read_bytes("there"),
        lambda: folder.exists("there"),
        lambda: folder.files(),
        lambda: folder.folders(),
        lambda: folder.modified(),
        lambda: folder.delete("there"),
    ]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("operation", range(8))
def test_a_driver_waits_for_each_operation(
    faulty: tuple[Faulty, Folder], said: list[str], operation: int
) -> None:
    files, folder = faulty
    folder.write_whole("there", b"x")
    own = take_over(folder, warn=said.append)
    expected = operations(own)[operation]()
    folder.write_whole("there", b"x")
    for fault in (OSError(errno.EIO, "Input/output error"), TimeoutError("slow")):
        said.clear()
        files.fault, files.times = fault, 3
        result = operations(own)[operation]()
        assert result == expected or dict.fromkeys(result) == dict.fromkeys(expected)
        assert told_once(said)
        assert "faulty://study" in said[0]


@pytest.mark.parametrize("operation", range(8))
def test_others_fail_at_once(faulty: tuple[Faulty, Folder], operation: int) -> None:
    files, folder = faulty
    folder.write_whole("there", b"x")
    files.fault, files.times = OSError(errno.EIO, "Input/output error"), float("inf")
    start = time.monotonic()
    with pytest.raises(StorageError, match="Input/output error"):
        operations(folder)[operation]()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOTDIR, errno.EROFS])
def test_what_does_not_pass_is_not_waited_for(
    faulty: tuple[Faulty, Folder], said: list[str], number: int
) -> None:
    files, folder = faulty
    own = take_over(folder, warn=said.append)
    files.fault, files.times = OSError(number, os.strerror(number)), 1
    with pytest.raises(StorageError, match=os.strerror(number)):
        own.write_whole("new", b"x")
    assert said == []
    with pytest.raises(StorageError, match="cannot read"):
        own.read_bytes("missing")


def test_it_gives_up_in_time(faulty: tuple[Faulty, Folder], said: list[str]) -> None:
    files, folder = faulty
    own = take_over(folder, patience=1.5, warn=said.append)
    files.fault, files.times = OSError(errno.ESTALE, "Stale file handle"), float("inf")
    start = time.monotonic()
    with pytest.raises(StorageError, match="Stale file handle"):
        own.write_whole("new", b"x")
    assert 1.4 < time.monotonic() - start < 15
    assert len(said) == 1
    files.times = 0
    own.write_whole("new", b"x")
    assert len(said) == 1  # another operation, which had no trouble


def test_pauses_grow(
    faulty: tuple[Faulty, Folder], monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    files, folder = faulty
    own = take_over(folder, patience=300, warn=said.append)
    files.fault, files.times = OSError(errno.EIO, "Input/output error"), float("inf")
    pauses: list[float] = []
    clock = [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("study.driver_folder.time.sleep", sleep)
    monkeypatch.setattr("study.driver_folder.time.monotonic", lambda: clock[0])
    with pytest.raises(StorageError):
        own.files()
    assert pauses[:6] == [1, 2, 4, 8, 16, 30]
    assert max(pauses) == 30
    assert clock[0] == 300  # the last attempt is at the very end
    assert said == ["cannot list faulty://study: Input/output error; trying again for 5 min 0 s"]


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of 256 kB."""
    with small_disk("256k") as place:
        yield place


@pytest.mark.usefixtures("hurried")
def test_a_full_disk_with_room_again_after_a_while(
    disk: Path, make_pack: MakePack, said: list[str]
) -> None:
    folder = Folder.at(disk / "study")
    ledger.create_tables(folder)
    own = take_over(folder, warn=said.append)
    ballast = fill(disk)
    freeing = threading.Timer(0.5, ballast.unlink)
    freeing.start()
    ledger.commit(own, **make_pack("p", ["a", "b"]))
    freeing.join()
    assert told_once(said)
    assert "No space left on device" in said[0]
    assert set(ledger.committed(folder)["trial_id"]) == {"a", "b"}
    assert not [path for path in disk.rglob("*.tmp")]


def test_a_disk_that_stays_full(disk: Path, make_pack: MakePack, said: list[str]) -> None:
    folder = Folder.at(disk / "study")
    ledger.create_tables(folder)
    own = take_over(folder, patience=1, warn=said.append)
    ledger.commit(own, **make_pack("p", ["a"]))

    def commit_all() -> None:
        for number in range(100):
            ledger.commit(own, **make_pack(f"q{number}", [f"t{number}"]))

    with pytest.raises(StorageError, match="No space left on device"):
        commit_all()
    assert len(said) == 1
    trials = pd.read_parquet(disk / "study" / "trials")  # what is there is whole
    assert "a" in set(trials["trial_id"])
    assert not [path for path in disk.rglob("*.tmp")]
    (disk / "study" / "units" / "p.parquet").unlink()  # room again; and a pack that lost rows
    ledger.clean(take_over(folder))
    assert "a" not in set(ledger.committed(folder)["trial_id"])


@pytest.mark.parametrize("how", ["refuses", "slow down"])
def test_a_server_that_is_away_for_a_while(
    s3: S3Server, make_pack: MakePack, said: list[str], how: str
) -> None:
    folder = Folder.at(s3.uri(f"away/{how.replace(' ', '-')}", credentials=True))
    ledger.create_tables(folder)
    own = take_over(folder, warn=said.append)
    if how == "refuses":
        s3.stop()
        back = threading.Timer(3, s3.start)
    else:
        s3.fault = lambda method, path: SLOW_DOWN
        back = threading.Timer(3, setattr, (s3, "fault", lambda method, path: None))
    back.start()
    try:
        ledger.commit(own, **make_pack("p", ["a", "b"]))
    finally:
        back.join()
    assert told_once(said)
    assert set(ledger.committed(folder)["trial_id"]) == {"a", "b"}
    for table in ("trials", "units", "epochs"):
        rows = pd.read_parquet(folder.full(table), filesystem=folder.filesystem)
        assert list(rows.columns) == SCHEMAS[table].names


def test_it_travels_to_workers(folder: Folder) -> None:
    if folder.scheme == "memory":
        pytest.skip("files in memory are this process's")
    console = threading.Lock()  # as a console has one, and it cannot be pickled
    own = take_over(folder, patience=7, warn=lambda line: console.release())
    copy = pickle.loads(pickle.dumps(own))
    assert (copy.driver, copy.patience, str(copy)) == (own.driver, 7, str(own))
    copy.write_whole("by_worker", b"x")
    copy.warn("this goes to the worker's log")
    assert own.read_bytes("by_worker") == b"x"


# Two drivers.


def test_a_driver_says_who_it_is(folder: Folder) -> None:
    assert read_driver(folder) is None
    first = take_over(folder).driver
    assert read_driver(folder) == first
    assert (first.number, first.pid) == (1, os.getpid())
    second = take_over(folder).driver
    assert read_driver(folder) == second
    assert second.number == 2
    assert second.token != first.token


def test_the_last_to_start_goes_on(folder: Folder, make_pack: MakePack) -> None:
    ledger.create_tables(folder)
    old = take_over(folder)
    ledger.commit(old, **make_pack("p", ["a"], failed=["f"]))
    new = take_over(folder)
    before = {name: folder.read_bytes(f"trials/{name}") for name in folder.files("trials")}
    who = rf"process {os.getpid()} on .*, since {re.escape(new.driver.started_at)}"
    for attempt in (
        lambda: ledger.commit(old, **make_pack("q", ["b"])),
        lambda: ledger.commit(old, **make_pack("p", ["a"], attempt=2)),
        lambda: ledger.commit(old, **make_pack("r", [], failed=["c"])),
        lambda: ledger.forget_failed(old, ["f"]),
        lambda: old.delete("trials/p.parquet"),
        lambda: old.write_whole("units/q.parquet", b""),
    ):
        with pytest.raises(ReplacedError, match=who):
            attempt()
    assert {name: folder.read_bytes(f"trials/{name}") for name in folder.files("trials")} == before
    ledger.commit(new, **make_pack("q", ["b"]))
    ledger.clean(new)
    assert set(ledger.committed(folder)["trial_id"]) == {"a", "b", "f"}


@pytest.mark.usefixtures("hurried")
def test_a_driver_is_replaced_while_it_waits_for_storage(
    folder: Folder, make_pack: MakePack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at who is the driver is taken again after each pause."""
    ledger.create_tables(folder)
    own = take_over(folder, warn=lambda line: take_over(folder) and None)
    original, tried = Folder._write, list[str]()

    def fail_once(folder: Folder, relative: str, data: bytes) -> None:
        tried.append(relative)
        if tried.count("trials/p.parquet") == 1 and relative.startswith("trials/"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(folder, relative, data)

    monkeypatch.setattr(Folder, "_write", fail_once)
    with pytest.raises(ReplacedError):
        ledger.commit(own, **make_pack("p", ["a"]))
    assert tried.count("trials/p.parquet") == 1
    assert folder.files("trials") == ["empty.parquet"]


def test_of_two_with_the_same_number_the_last_to_write_goes_on(
    folder: Folder, make_pack: MakePack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looked before either wrote: no object store of pyarrow's can tell them apart then."""
    ledger.create_tables(folder)
    monkeypatch.setattr("study.driver_folder.read_driver", lambda folder: None)
    one, two = take_over(folder), take_over(folder)
    assert one.driver.number == two.driver.number
    with pytest.raises(ReplacedError):
        ledger.commit(one, **make_pack("p", ["a"]))
    ledger.commit(two, **make_pack("p", ["a"]))


def test_what_is_no_driver_s_file_stops_it(folder: Folder, make_pack: MakePack) -> None:
    ledger.create_tables(folder)
    own = take_over(folder)
    for content in (b"", b"[]", b'{"number": 1}', b"\xff"):
        folder.write_whole(DRIVER_FILE, content)
        with pytest.raises(StorageError, match=r"driver\.json.* is not what a driver wrote"):
            ledger.commit(own, **make_pack("p", ["a"]))
        with pytest.raises(StorageError, match="delete it"):
            take_over(folder)
    folder.delete(DRIVER_FILE)
    with pytest.raises(StorageError, match=r"cannot read .*driver\.json"):
        ledger.commit(own, **make_pack("p", ["a"]))
    assert ledger.committed(folder).empty


PACKS = [
    ("one", ["t0", "t1"]),
    ("two", ["t2", "t3"]),
    ("three", ["t1", "t2"]),  # cut otherwise by another driver
    ("four", ["t3", "t4"]),
]
TRIALS = {"t0", "t1", "t2", "t3", "t4"}


@dataclass(frozen=True)
class SteppingFolder(DriverFolder):
    """Waits for its turn between the look at who is the driver and each change."""

    turn: Callable[[], None] = lambda: None

    def _check_driver(self) -> None:
        super()._check_driver()
        self.turn()


class Turns:
    """Lets the changes of some drivers happen one at a time, in an order that a test decides on."""

    def __init__(self, folder: Folder, plans: list[list[tuple[str, list[str]]]]) -> None:
        self._folder = folder
        self._go = [threading.Semaphore(0) for _ in plans]
        self._came = [threading.Semaphore(0) for _ in plans]
        self._over = [False for _ in plans]
        self.ends: dict[int, BaseException | None] = {}
        for who, packs in enumerate(plans):
            threading.Thread(target=self._run, args=(who, packs), daemon=True).start()

    def step(self, who: int) -> bool:
        """Let a driver make its next change and go on to before the one after; False at its end."""
        self._go[who].release()
        assert self._came[who].acquire(timeout=30)
        return not self._over[who]

    def _wait(self, who: int) -> None:
        self._came[who].release()
        self._go[who].acquire()

    def _run(self, who: int, packs: list[tuple[str, list[str]]]) -> None:
        self._go[who].acquire()
        try:
            own = take_over(self._folder)
            drive(SteppingFolder(**vars(own), turn=lambda: self._wait(who)), packs)
            self.ends[who] = None
        except BaseException as error:
            self.ends[who] = error
        self._over[who] = True
        self._came[who].release()


def drive(own: Folder, packs: list[tuple[str, list[str]]]) -> None:
    """What a driver does: clean up, run what is not committed, clean up."""
    ledger.clean(own)
    done = set(ledger.committed(own)["trial_id"])
    for name, members in packs:
        if left := [member for member in members if member not in done]:
            ledger.commit(own, **pack_rows(f"{name}-{'-'.join(left)}", left))
    ledger.clean(own)


TRIALS = ["t0", "t1", "t2", "t3", "t4"]
PLANS = [  # the same trials, cut otherwise
    [("a", ["t0", "t1"]), ("b", ["t2", "t3"]), ("c", ["t4"])],
    [("b", ["t2", "t3"]), ("a", ["t1", "t4"]), ("z", ["t0"])],
    [("y", TRIALS)],
]


@settings(max_examples=40, deadline=None)
@example([2, 2, 2, 1, 2])  # the second deletes what the first has just committed, all there was
@given(st.lists(st.integers(0, 2), max_size=60))
def test_drivers_in_any_order_leave_each_trial_once(order: list[int]) -> None:
    """Each change by a driver may come before or after any of another's.

    Also between its look at who is the driver and the change itself: there the next driver may
    start, clean away what this one has just written, and come to its end.
    """
    memory = fsspec.filesystem("memory", skip_instance_cache=True)
    memory.store, memory.pseudo_dirs = {}, [""]
    folder = Folder(fs.PyFileSystem(fs.FSSpecHandler(memory)), "/bucket/test", "memory")
    ledger.create_tables(folder)
    turns = Turns(folder, PLANS)
    running, marks = [0, 1, 2], set[str]()
    for who in [*order, *[0] * 60, *[1] * 60, *[2] * 60]:
        if who in running and not turns.step(who):
            running.remove(who)
        if marks != set(folder.files("trials")):
            marks = set(folder.files("trials"))
            assert ledger.read_trials(folder)["trial_id"].is_unique
    assert running == []
    assert all(e is None or isinstance(e, ReplacedError) for e in turns.ends.values()), turns.ends
    assert None in turns.ends.values()  # the last to start came to its end
    drive(take_over(folder), PLANS[0])  # `resume`
    trials = pd.read_parquet(folder.full("trials"), filesystem=folder.filesystem)
    assert sorted(trials["trial_id"]) == TRIALS
    for table, per_trial in (("units", 4), ("epochs", 3)):
        rows = pd.read_parquet(folder.full(table), filesystem=folder.filesystem)
        assert rows.groupby("trial_id").size().to_dict() == dict.fromkeys(TRIALS, per_trial)
        files = {file.removesuffix(".parquet") for file in folder.files(table)}
        assert files == {"empty", *trials["pack_id"]}


DRIVE = """
import os, sys, time
from study import ledger
from study.driver_folder import ReplacedError, take_over
from study.storage import Folder
from tests.study.conftest import pack_rows

place, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
own = take_over(Folder.at(place))
ledger.clean(own)
done = set(ledger.committed(own)["trial_id"])
try:
    for number in range(40):
        if f"t{number}" not in done:
            time.sleep(0.05)
            ledger.commit(own, **pack_rows(f"{name}{number}", [f"t{number}", f"u{number}"]))
except ReplacedError as error:
    print(error, flush=True)
    sys.exit(3)
ledger.clean(own)
"""


def start_driver(place: str, name: str) -> "subprocess.Popen[str]":
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVE, place, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "ready\n"
    return driver


@pytest.mark.parametrize("where", ["local", "s3"])
def test_two_processes(where: str, tmp_path: Path, s3: S3Server) -> None:
    place = str(tmp_path / "study") if where == "local" else s3.uri("two/study", credentials=True)
    folder = Folder.at(place)
    ledger.create_tables(folder)
    first, second = start_driver(place, "p"), start_driver(place, "q")
    for driver, marks in ((first, 10), (second, 15)):
        assert driver.stdin
        driver.stdin.write("\n")
        driver.stdin.flush()
        while len(folder.files("trials")) < marks:
            time.sleep(0.01)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 3
    assert f"process {second.pid} on " in output
    second.communicate(timeout=120)
    assert second.returncode == 0
    rows = ledger.read_trials(folder)
    assert rows["trial_id"].is_unique
    assert len(rows) == 80
    assert set(rows["pack_id"].str[0]) == {"p", "q"}
    units = pd.read_parquet(folder.full("units"), filesystem=folder.filesystem)
    assert len(units) == 4 * 80


def test_drivers_are_written_as_json(tmp_path: Path) -> None:
    driver = take_over(Folder.at(tmp_path)).driver
    content = json.loads((tmp_path / DRIVER_FILE).read_text())
    assert Driver(**content) == driver
    assert content.keys() == {"number", "token", "host", "pid", "started_at"}
    assert pd.Timestamp(content["started_at"]).tzinfo is not None
