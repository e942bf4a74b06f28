"""Kill anything at any time: the study goes on, with the numbers of an undisturbed run."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.numpy import load_file

from study.loading import load_study
from tests.end_to_end.command import (
    CPUS,
    assert_same_numbers,
    contents,
    kill,
    left_over,
    pack_workers,
    started,
    succeed,
    table,
    vae_study,
    wait_until,
    write_spec,
)
from trainables.checkpoints import read_members

pytestmark = pytest.mark.usefixtures("shared_ray")

SPEC: dict[str, Any] = {
    "study": "killed",
    "dataset": {"name": "tiles", "train_images": 1000, "test_images": 200},
    "axes": {
        "architecture": {"family": "dense", "widths": [[32, 16], [24]]},
        "latent_dim": [2, 5],
        "beta": [0.5, 2],
        "seed": [0, 1],
    },
    "training": {"epochs": 30, "precision": "float64", "batch_size": 50},
    "resources": {"pack_size": 4, "checkpoint_seconds": 0},
    "record": {"every": 10, "models": True, "reconstruction_gain_images": 100},
}
TRIALS, PACKS = 16, 4

Interrupt = Callable[["subprocess.Popen[str]"], None]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the study ran from start to end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    succeed(folder, "run", write_spec(folder, SPEC))
    trials = table(folder, "killed", "trials")
    assert trials["trial_id"].nunique() == len(trials) == TRIALS
    assert set(trials["status"]) == {"completed"}
    assert trials["active_units"].nunique() > 1  # units die: there is something to compare
    return folder


def assert_undamaged(folder: Path, undisturbed: Path) -> None:
    """All trials are there once, as if nothing had happened, and nothing else is."""
    trials = table(folder, "killed", "trials")
    assert len(trials) == TRIALS
    assert set(trials["trial_id"]) == set(table(undisturbed, "killed", "trials")["trial_id"])
    assert set(trials["attempt"]) == {1}
    assert_same_numbers(folder, undisturbed, "killed")
    study, reference = (place / "studies" / "killed" for place in (folder, undisturbed))
    assert left_over(study) == []
    files = {path for path in contents(study) if not re.search(r"pack-\w+\.parquet$", path)}
    expected = {path for path in contents(reference) if not re.search(r"pack-\w+\.parquet$", path)}
    assert files == expected
    for file in sorted((reference / "models").iterdir()):
        there, here = load_file(file), load_file(study / "models" / file.name)
        assert there.keys() == here.keys()
        for name in there:
            assert here[name] == pytest.approx(there[name], rel=1e-9, abs=1e-12)


def start(folder: Path) -> Any:
    return started(folder, "run", write_spec(folder, SPEC), *CPUS)


def checkpoints(folder: Path) -> list[Path]:
    return list((folder / "studies" / "killed" / "checkpoints").glob("*.safetensors"))


def newest_checkpoint(folder: Path) -> float:
    """When the last checkpoint was written."""
    times = [0.0]
    for file in checkpoints(folder):
        with suppress(FileNotFoundError):  # its pack is done in the meantime
            times.append(file.stat().st_mtime)
    return max(times)


def wait_for_newer_checkpoint(folder: Path, than: float) -> None:
    wait_until(lambda: newest_checkpoint(folder) > than, what="a checkpoint")


def committed(folder: Path) -> int:
    trials = folder / "studies" / "killed" / "trials"
    return len(list(trials.glob("pack-*.parquet")))


def in_the_middle(folder: Path) -> bool:
    return committed(folder) > 0 and len(checkpoints(folder)) > 0


def committed_files(folder: Path) -> dict[str, bytes]:
    return {
        name: data
        for name, data in contents(folder / "studies" / "killed").items()
        if re.fullmatch(r"(trials|units|epochs)/pack-.*", name)
    }


def test_kill_the_driver(tmp_path: Path, undisturbed: Path) -> None:
    with start(tmp_path) as driver:
        wait_until(lambda: in_the_middle(tmp_path), what="a commit and a checkpoint")
        time.sleep(random.uniform(0, 1.5))
        workers = pack_workers(driver.pid)
        driver.kill()
        assert driver.wait(30) == -signal.SIGKILL
        killed_at = pd.Timestamp.now("UTC")
        wait_until(lambda: not [p for p in workers if Path(f"/proc/{p}").exists()], 60, "no orphan")
    done = table(tmp_path, "killed", "trials")
    assert 0 < len(done) < TRIALS  # else the study has become too short for this test
    assert done["trial_id"].is_unique
    assert len(load_study(tmp_path / "studies" / "killed").trials) == len(done)
    before = {f"trials/{pack}.parquet" for pack in done["pack_id"]}
    old = {name: data for name, data in committed_files(tmp_path).items() if name in before}
    # What a driver leaves that dies while it writes: temporary files, and rows with no mark.
    study = tmp_path / "studies" / "killed"
    (study / "trials" / f".pack-0.parquet.{'0' * 32}.tmp").write_bytes(b"half a fi")
    orphan = next((study / "units").glob("pack-*.parquet"))
    (study / "units" / "pack-0123456789abcdef.parquet").write_bytes(orphan.read_bytes())

    unfinished = {c.stem: read_members(c.read_bytes()) for c in checkpoints(tmp_path)}
    succeed(tmp_path, "resume", "killed")
    assert_undamaged(tmp_path, undisturbed)
    assert old.items() <= committed_files(tmp_path).items()
    trials = table(tmp_path, "killed", "trials").set_index("trial_id")
    resumed = [
        members for pack, members in unfinished.items() if f"trials/{pack}.parquet" not in old
    ]
    for members in resumed:  # they went on, they did not start over
        assert (trials.loc[members, "started_at"] < killed_at).all()


def test_kill_a_worker(tmp_path: Path, undisturbed: Path) -> None:
    with start(tmp_path) as driver:
        wait_until(lambda: len(checkpoints(tmp_path)) >= 2, what="two packs in training")
        victim = wait_until(lambda: pack_workers(driver.pid), what="a worker")[0]
        kill(victim)
        wait_until(lambda: committed(tmp_path) >= 2, what="two commits")
        if second := pack_workers(driver.pid):
            kill(second[-1])
        assert driver.wait(240) == 0
    output = (tmp_path / "output.txt").read_text()
    assert "starts again" in output
    assert "Traceback" not in output
    succeed(tmp_path, "resume", "killed")  # has nothing to do
    assert_undamaged(tmp_path, undisturbed)


def interrupt_driver(driver: "subprocess.Popen[str]") -> None:
    driver.send_signal(signal.SIGINT)


def interrupt_group(driver: "subprocess.Popen[str]") -> None:
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does on Ctrl-C


def terminate(driver: "subprocess.Popen[str]") -> None:
    driver.terminate()


def test_interrupt(tmp_path: Path, undisturbed: Path) -> None:
    """Each way in turn, on one study that goes on from the last."""
    command = ["run", str(write_spec(tmp_path, SPEC)), *CPUS]
    for interrupt in (interrupt_driver, interrupt_group, terminate):
        log = tmp_path / "output.txt"
        log.unlink(missing_ok=True)
        before, newest = committed(tmp_path), newest_checkpoint(tmp_path)
        with started(tmp_path, *command) as driver:
            wait_for_newer_checkpoint(tmp_path, newest)
            interrupt(driver)
            assert driver.wait(60) == 130, log.read_text()
        output = log.read_text()
        assert "vae-study: interrupted; `vae-study resume` goes on from here" in output
        assert "Traceback" not in output
        assert checkpoints(tmp_path)
        assert before <= committed(tmp_path) < PACKS, "the study has become too short for this test"
        command = ["resume", "killed", *CPUS]
    status = succeed(tmp_path, "status", "killed")
    assert f"of {TRIALS} trials done" in status
    succeed(tmp_path, *command)
    assert_undamaged(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.long
def test_kill_the_driver_again_and_again(tmp_path: Path, undisturbed: Path) -> None:
    moments = random.Random()
    command = ["run", str(write_spec(tmp_path, SPEC)), *CPUS]
    kills = 0
    for _ in range(40):
        with started(tmp_path, *command) as driver:
            try:
                code = driver.wait(moments.uniform(2, 20))
            except subprocess.TimeoutExpired:
                if moments.random() < 0.3 and (workers := pack_workers(driver.pid)):
                    kill(moments.choice(workers))
                driver.kill()
                kills += 1
                continue
        assert code == 0, (tmp_path / "output.txt").read_text()
        break
    else:
        vae_study(tmp_path, *command)
    assert kills
    assert_undamaged(tmp_path, undisturbed)
