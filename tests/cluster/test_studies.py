"""Studies on a cluster, from a laptop: submitted, watched and fetched while hosts are lost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pandas.testing import assert_frame_equal

from study import load_study, run_study
from tests.cluster.lab import Host, Lab
from tests.cluster.lab_cluster import TOKEN_MODE, LabCluster
from tests.cluster.lab_requirements import why_not

REASON = why_not()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

TRIALS = 24
SPEC = {
    "study": "undisturbed",
    "dataset": {"name": "tiles", "train_images": 4000, "test_images": 500},
    "axes": {
        "architecture": "dense-64-32",
        "latent_dim": [2, 4, 8],
        "beta": [0.5, 2],
        "seed": {"range": [0, 3]},
    },
    "training": {"epochs": 60, "batch_size": 64},
    # Fixed, so that the packs are the same here and there: to the last bit, so are the numbers.
    "resources": {"pack_size": 2, "checkpoint_seconds": 1},
}
NOT_THE_TRIALS_OWN = ["study", "attempt", "node", "started_at", "seconds", "samples_per_second"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """The tables of the study as it runs on this machine, with nothing lost."""
    return tables(run_study(SPEC, storage=tmp_path_factory.mktemp("here")).folder)


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, undisturbed: dict[str, pd.DataFrame]
) -> Iterator[LabCluster]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        cluster = LabCluster(lab)
        cluster.up()
        cluster.wait_for(alive=cluster.workers)
        yield cluster
        cluster.down()


def tables(folder: object) -> dict[str, pd.DataFrame]:
    """What a study measured, without what tells one run from another."""
    study = load_study(folder)  # type: ignore[arg-type]
    found = {}
    for name, key in (
        ("trials", ["trial_id"]),
        ("units", ["trial_id", "epoch", "split", "unit"]),
        ("epochs", ["trial_id", "epoch"]),
    ):
        rows: pd.DataFrame = getattr(study, name)
        rows = rows.drop(columns=NOT_THE_TRIALS_OWN, errors="ignore")
        found[name] = rows.sort_values(key, ignore_index=True)
    return found


def vae_study(cluster: LabCluster, *arguments: str, timeout: float = 60, check: bool = True) -> str:
    """Run the command on the laptop, in a folder with the cluster's file; return all it says."""
    done = cluster.lab.run(
        ["vae-study", *arguments, "--cluster", str(cluster.file)],
        cwd=cluster.lab.folder,
        env=TOKEN_MODE,
        timeout=timeout,
        check=check,
    )
    return done.stdout + done.stderr


def submit(cluster: LabCluster, name: str) -> None:
    """Send a study of this name off, none of whose trials are taken from an earlier one."""
    spec = cluster.lab.folder / f"{name}.yaml"
    spec.write_text(yaml.safe_dump(SPEC | {"study": name}))
    said = vae_study(cluster, "submit", str(spec), "--no-reuse", "--detach", timeout=120)
    assert f"{name}: {TRIALS} trials" in said


def trains(host: Host) -> bool:
    return "Trainable.train" in host.run("ps -eo args", check=False).stdout


def done_trials(cluster: LabCluster, name: str) -> int:
    """How many trials are done, as `status` says from outside."""
    found = re.search(r"(\d+)(?: of |/)24 trials done", vae_study(cluster, "status", name))
    return int(found[1]) if found else 0


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)


def in_the_middle(cluster: LabCluster, name: str) -> None:
    """Wait until both workers train and some trials, but not most, are done."""
    wait_until(lambda: all(trains(host) for host in cluster.workers), 90)
    wait_until(lambda: done_trials(cluster, name) >= 2, 90)
    assert done_trials(cluster, name) < TRIALS - 6, "it is nearly over; nothing would be lost"


def follow_to_the_end(cluster: LabCluster, name: str) -> str:
    said = vae_study(cluster, "logs", name, "--follow", timeout=240)
    assert f"{name}: succeeded" in said
    return said


def assert_complete(
    cluster: LabCluster, name: str, undisturbed: dict[str, pd.DataFrame], hosts: set[str]
) -> None:
    """All trials once, from these hosts, and the numbers of a run that nothing disturbed."""
    folder = cluster.lab.shared / "studies" / name
    trials = pd.read_parquet(folder / "trials")
    assert len(trials) == trials["trial_id"].nunique() == TRIALS
    assert set(trials["status"]) == {"completed"}
    assert set(trials["node"]) == hosts
    found = tables(folder)
    for table, rows in undisturbed.items():
        assert_frame_equal(found[table], rows, check_exact=True)


def test_a_study_outlives_a_worker_that_falls_silent_for_a_while(
    cluster: LabCluster, undisturbed: dict[str, pd.DataFrame]
) -> None:
    """Cut off until Ray has given it up; it comes back while the study runs."""
    submit(cluster, "silent")
    in_the_middle(cluster, "silent")
    lost = cluster.workers[1]
    lost.cut()
    assert "running" in vae_study(cluster, "list")
    cluster.wait_for(dead=[lost])
    lost.restore()
    said = follow_to_the_end(cluster, "silent")
    assert "starts again" in said
    assert_complete(cluster, "silent", undisturbed, {"host2", "host3"})
    cluster.wait_for(alive=cluster.workers)


def test_a_stopped_study_goes_on(cluster: LabCluster, undisturbed: dict[str, pd.DataFrame]) -> None:
    submit(cluster, "stopped")
    wait_until(lambda: done_trials(cluster, "stopped") >= 2, 120)
    refused = vae_study(cluster, "submit", str(cluster.lab.folder / "stopped.yaml"), check=False)
    assert "runs already" in refused or "is running" in refused
    assert "stopped" in vae_study(cluster, "stop", "stopped", timeout=120)
    before = done_trials(cluster, "stopped")
    assert 2 <= before < TRIALS
    vae_study(cluster, "resume", "stopped", "--detach", timeout=120)
    follow_to_the_end(cluster, "stopped")
    assert_complete(cluster, "stopped", undisturbed, {"host2", "host3"})


def test_a_study_outlives_a_worker_that_loses_power(
    cluster: LabCluster, undisturbed: dict[str, pd.DataFrame]
) -> None:
    submit(cluster, "killed")
    in_the_middle(cluster, "killed")
    cluster.workers[0].power_off()
    follow_to_the_end(cluster, "killed")
    assert_complete(cluster, "killed", undisturbed, {"host2", "host3"})

    # What a laptop sees of results on a disk that only the cluster has.
    assert "24/24 trials done" in vae_study(cluster, "status", "killed")
    results = vae_study(cluster, "results", "killed")
    assert "dense-64-32" in results
    assert "intrinsic dimension" in results
    report = cluster.lab.folder / "report.html"
    vae_study(cluster, "report", "killed", "-o", str(report))
    assert "24 of 24 trials completed" in Path(report).read_text()
    vae_study(cluster, "pull", "killed", "--to", str(cluster.lab.folder / "pulled"))
    pulled = tables(cluster.lab.folder / "pulled" / "killed")
    assert_frame_equal(pulled["units"], undisturbed["units"], check_exact=True)
    cluster.workers[0].power_on(blank=True)


def test_a_study_goes_on_after_its_head_was_lost(
    cluster: LabCluster, undisturbed: dict[str, pd.DataFrame]
) -> None:
    """The head, and the study's driver with it, is gone; `ray up` and `resume` bring both back."""
    cluster.wait_for(alive=cluster.workers)
    submit(cluster, "headless")
    in_the_middle(cluster, "headless")
    cluster.head.power_off()
    lost = vae_study(cluster, "status", "headless", check=False, timeout=120)
    assert "Traceback" not in lost
    assert "no connection to the cluster's head" in lost
    cluster.head.power_on()
    cluster.up()
    cluster.wait_for(alive=cluster.workers)
    assert 2 <= done_trials(cluster, "headless") < TRIALS
    vae_study(cluster, "resume", "headless", "--detach", timeout=120)
    follow_to_the_end(cluster, "headless")
    assert_complete(cluster, "headless", undisturbed, {"host2", "host3"})
