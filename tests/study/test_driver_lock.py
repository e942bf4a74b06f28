import errno
import fcntl
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

from search_spaces import BadInput
from study.driver_folder import take_over
from study.driver_lock import LOCK_FILE, driver_lock
from study.storage import Folder, StorageError

HOLD = """
import sys
from study.driver_lock import driver_lock
from study.storage import Folder
with driver_lock(Folder.at(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    folder = Folder.at(tmp_path / "mine")
    folder.create()
    return folder


def test_one_driver_at_a_time(place: Folder) -> None:
    with driver_lock(place):
        with (
            pytest.raises(BadInput, match="'mine' is being run by another process"),
            driver_lock(place),
        ):
            raise AssertionError("a second driver got in")
        with pytest.raises(BadInput), driver_lock(place):  # the refusal did not free it
            raise AssertionError("a third driver got in")
    with driver_lock(place):
        pass


def test_who_holds_it_is_told(place: Folder) -> None:
    with driver_lock(place):
        own = take_over(place)
        here = f"process {os.getpid()} on {socket.gethostname()}, since {own.driver.started_at}"
        with pytest.raises(BadInput, match=re.escape(here)), driver_lock(place):
            raise AssertionError("a second driver got in")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_network_disk_without_locks(
    place: Folder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with driver_lock(place):
        pass


def test_a_lock_that_cannot_be_had_is_an_error_of_storage(
    place: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(StorageError, match=r"cannot lock .*\.driver\.lock"), driver_lock(place):
        raise AssertionError("nobody knows whether it is free")


def test_it_is_freed_by_an_error(place: Folder) -> None:
    with pytest.raises(KeyError), driver_lock(place):
        raise KeyError
    with driver_lock(place):
        pass


def test_it_is_freed_when_its_process_is_killed(place: Folder) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BadInput), driver_lock(place):
        raise AssertionError("it is held")
    holder.kill()
    holder.communicate()
    with driver_lock(place):
        pass


def test_studies_do_not_lock_each_other(place: Folder) -> None:
    other = place.parent.child("other")
    other.create()
    with driver_lock(place), driver_lock(other):
        pass


def test_tables_do_not_see_it(place: Folder) -> None:
    with driver_lock(place):
        assert place.files() == []
        assert Path(place.full(LOCK_FILE)).exists()
        place.remove_temporaries()
        with pytest.raises(BadInput), driver_lock(place):
            raise AssertionError("cleaning up took the lock away")


def test_object_stores_have_none(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    store = Folder(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "mine", "s3")
    with driver_lock(store), driver_lock(store):
        pass
    assert list((tmp_path / "mine").iterdir()) == []
