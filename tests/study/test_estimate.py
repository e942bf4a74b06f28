import heapq
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import BadInput, ResourceSettings, TilesDataset, load_spec
from study import ledger
from study.estimate import (
    START_SECONDS,
    GpuEstimate,
    estimate_groups,
    estimate_on_gpus,
    run_in_thought,
)
from study.frozen_spec import freeze
from study.packing import PackQueue, PlannedPack, trial_costs
from study.planning import PlannedTrial, plan_study
from study.storage import Folder
from study.throughput import Throughput, find_throughput
from tests.study.conftest import pack_rows
from tests.study.plans import planned_trials
from trainables.costs import lane_cost
from trainables.datasets import ImageData, load_dataset

SPEC = {
    "study": "test",
    "dataset": {"name": "tiles", "train_images": 200, "test_images": 20},
    "axes": {
        "architecture": [{"family": "dense", "widths": [16]}, {"family": "conv", "channels": [4]}],
        "latent_dim": [2, 3, 4],
        "batch_size": [50, 300],
    },
    "training": {"epochs": 3},
}


@pytest.fixture(autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_groups_sum_up_to_the_plan() -> None:
    spec = load_spec(SPEC)
    planned = plan_study(spec)
    datasets = {dataset.label: load_dataset(dataset) for dataset in spec.dataset}
    costs = trial_costs(planned, datasets)
    queue = PackQueue(planned, costs, pack_size=2, workers=1, memory=10**9, gpu=False)
    groups = estimate_groups(queue, costs, datasets)
    assert len(queue) == 0
    assert len(groups) == 4  # two architectures, two batch sizes
    assert sum(group.trials for group in groups) == len(planned) == 12
    for group in groups:
        assert group.dataset == "tiles"
        assert (group.trials, group.packs, group.lanes) == (3, 2, 2)
        of_group = [
            costs[p.trial_id].memory
            for p in planned
            if p.trial.architecture.name == group.architecture
        ]
        assert 2 * min(of_group) <= group.memory <= 2 * max(of_group)
        assert 0 < group.seconds < 100
    assert {group.architecture for group in groups} == {"dense-16", "conv-4"}


def test_the_epochs_of_a_probe_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 images a second: 2 trials of 3 epochs of 200 images, and 2 with 86 epochs more."""
    monkeypatch.setattr("study.estimate.samples_per_second", lambda *_: 100.0)
    axes = {"architecture": "linear", "latent_dim": 2}
    parts = {
        "plain": {"axes": axes | {"seed": [0, 1]}},
        "probed": {"axes": axes | {"seed": [2, 3]}, "record": {"probe": "deterioration"}},
    }
    spec = load_spec(
        {key: SPEC[key] for key in ("study", "dataset", "training")} | {"parts": parts}
    )
    planned = plan_study(spec)
    datasets = {dataset.label: load_dataset(dataset) for dataset in spec.datasets}
    costs = trial_costs(planned, datasets)
    queue = PackQueue(planned, costs, pack_size=2, workers=1, memory=10**9, gpu=False)
    seconds = {str(group.parts): group.seconds for group in estimate_groups(queue, costs, datasets)}
    assert seconds == {
        "{'plain': 1.0}": pytest.approx(2 * 3 * 200 / 100),
        "{'probed': 1.0}": pytest.approx(2 * 89 * 200 / 100),
    }
    flat = Throughput("as given", flat=100.0)
    plain, probed = planned[0], planned[2]
    assert flat.seconds(pack_of([plain], 1), 1.0, 200) == pytest.approx(3 * 200 / 100)
    assert flat.seconds(pack_of([probed], 1), 1.0, 200) == pytest.approx(89 * 200 / 100)


def test_few_images_and_no_trials() -> None:
    spec = load_spec(SPEC | {"dataset": {"name": "tiles", "train_images": 3, "test_images": 1}})
    planned = plan_study(spec)
    pixels = np.zeros((3, 784), np.uint8)
    datasets = {"tiles": ImageData("tiles", (1, 28, 28), pixels, pixels[:1], None, None, "f")}
    costs = trial_costs(planned, datasets)
    options = {"pack_size": "auto", "workers": 1, "memory": 10**9, "gpu": False}
    queue = PackQueue(planned, costs, **options)  # type: ignore[arg-type]
    assert sum(group.trials for group in estimate_groups(queue, costs, datasets)) == 12
    assert estimate_groups(PackQueue([], {}, **options), {}, datasets) == []  # type: ignore[arg-type]


TILES = {"tiles": load_dataset(TilesDataset(train_images=1000, test_images=10))}
AXES: dict[str, Any] = {"architecture": ["dense-16", "conv-4"], "latent_dim": 4}


def thousands(count: int, **axes: Any) -> list[PlannedTrial]:
    """So many trials of each architecture, of ten epochs of 1,000 images."""
    axes = AXES | axes | {"seed": list(range(count))}
    return planned_trials(axes, training={"epochs": 10})


def on_gpus(
    planned: list[PlannedTrial], gpus: int, speed: Throughput, **resources: Any
) -> GpuEstimate:
    costs = trial_costs(planned, TILES)
    return estimate_on_gpus(planned, costs, TILES, ResourceSettings(**resources), gpus, speed)


@given(
    seconds=st.lists(st.floats(0, 1000), max_size=40),
    workers=st.integers(1, 12),
    start=st.floats(0, 50),
)
def test_jobs_are_run_as_a_clock_would_run_them(
    seconds: list[float], workers: int, start: float
) -> None:
    """Against a simulation by events: a worker that becomes free takes the next job."""
    ends = run_in_thought(seconds, workers, start)
    events = [(start, number) for number in range(min(workers, len(seconds)))]
    finished = dict.fromkeys(range(len(events)), start)
    for job in seconds:
        now, worker = heapq.heappop(events)
        finished[worker] = now + job
        heapq.heappush(events, (now + job, worker))
    assert ends == pytest.approx(sorted(finished.values()))
    if seconds:
        assert max(ends) >= max(start + sum(seconds) / workers, start + max(seconds)) * (1 - 1e-9)
        assert max(ends) <= start + sum(seconds) / workers + max(seconds) + 1e-6  # Graham 1966
        assert sum(ends) == pytest.approx(sum(seconds) + len(ends) * start)


def test_a_study_on_gpus_by_hand() -> None:
    """400 dense and 400 conv trials at 1,000 images per second: 10 s of a GPU for each lane."""
    speed = Throughput("as given", flat=1000.0)
    estimate = on_gpus(thousands(400), 100, speed)
    # 800 trials for 100 workers: 8 lanes, 80 s; 100 packs, one for each worker.
    assert (estimate.workers, estimate.packs, estimate.lanes) == (100, 100, 8)
    assert estimate.makespan == pytest.approx(START_SECONDS + 80)
    assert estimate.gpu_hours == pytest.approx(100 * (START_SECONDS + 80) / 3600)
    assert estimate.idle_gpu_hours == pytest.approx(0, abs=1e-9)
    assert estimate.basis == "as given"

    few = on_gpus(thousands(400), 8, speed)
    # 64 lanes at most: seven packs of 57 or 58 of each net, and two of them for most GPUs.
    assert (few.packs, few.lanes) == (14, 58)
    assert few.makespan == pytest.approx(START_SECONDS + 10 * (57 + 57))
    many = on_gpus(thousands(400), 10_000, speed)  # no more packs than trials
    assert (many.packs, many.makespan) == (800, START_SECONDS + 10)
    assert many.idle_gpu_hours == pytest.approx((10_000 - 800) * many.makespan / 3600)


def test_more_gpus_never_take_longer() -> None:
    speed = Throughput("", flat=1000.0)
    spans = [on_gpus(thousands(100), gpus, speed).makespan for gpus in (1, 2, 5, 20, 200)]
    assert spans == sorted(spans, reverse=True)


@pytest.mark.parametrize(
    ("resources", "workers"),
    [
        ({}, 10),
        ({"gpus_per_pack": 0.25}, 40),
        ({"gpus_per_pack": 2}, 5),
        ({"max_packs": 3}, 3),
        ({"pack_size": 1}, 10),
    ],
)
def test_packs_share_gpus_as_the_spec_says(resources: dict[str, Any], workers: int) -> None:
    estimate = on_gpus(thousands(40), 10, Throughput("", flat=1000.0), **resources)
    each = resources.get("gpus_per_pack", 1)
    assert estimate.workers == workers
    used = min(workers, estimate.packs)
    whole = estimate.gpu_hours + estimate.idle_gpu_hours
    assert whole == pytest.approx(10 * estimate.makespan / 3600)
    assert estimate.gpu_hours >= each * used * START_SECONDS / 3600


@pytest.mark.parametrize(
    ("gpus", "resources", "message"),
    [
        (5, {"gpus_per_pack": 0}, "resources.gpus_per_pack: 0"),
        (1, {"gpus_per_pack": 2}, "--gpus: 1, and a pack takes 2"),
    ],
)
def test_what_cannot_be_planned(gpus: int, resources: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        on_gpus(thousands(2), gpus, Throughput("", flat=1.0), **resources)


def pack_of(planned: list[PlannedTrial], lanes: int) -> PlannedPack:
    return PlannedPack("p", tuple(planned[:lanes]))


def test_time_between_measurements() -> None:
    """Per operation of a lane: 1 ns up to 4 lanes, 4 ns at 16, in proportion beyond."""
    planned = thousands(64, architecture="dense-16")
    speed = Throughput("", {"dense-16": {4: 1e-9, 16: 4e-9}, "dense": {1: 1.0}})
    took = {n: speed.seconds(pack_of(planned, n), 1e12, 1000) for n in (1, 4, 10, 16, 32, 64)}
    assert took == pytest.approx({1: 1e3, 4: 1e3, 10: 2.5e3, 16: 4e3, 32: 8e3, 64: 16e3})
    other = thousands(1, architecture="dense-8")
    assert speed.seconds(pack_of(other, 1), 3.0, 1000) == 3.0  # by family


def finished(
    studies: Path, name: str, packs: dict[str, tuple[str, int, float, str]], trained_in: str = ""
) -> None:
    """Write a study: packs of an architecture, lanes, images per second, device.

    Its trials are those that another one has trained, if there is one.
    """
    folder = Folder.at(studies / name)
    folder.create()
    freeze(folder, load_spec(SPEC | {"study": name}), {"numerics_version": 1})
    ledger.create_tables(folder)
    for pack_id, (architecture, lanes, rate, device) in packs.items():
        ids = [f"{trained_in or name}-{pack_id}-{lane}" for lane in range(lanes)]
        family, _, widths = architecture.partition("-")
        made = pack_rows(pack_id, ids, latent_dim=4)
        made["trials"] = made["trials"].assign(
            architecture=architecture,
            family=family,
            widths=widths,
            samples_per_second=rate,
            device=device,
        )
        ledger.commit(folder, **made)


def test_speed_from_finished_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pack's rate, made a time per operation of a lane; the commoner GPU counts."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finished(
        tmp_path,
        "first",
        {
            "a": ("dense-16", 4, 1000.0, "GPU X"),
            "b": ("dense-16", 4, 3000.0, "GPU X"),
            "c": ("dense-16", 4, 2000.0, "GPU X"),
            "d": ("dense-16", 2, 7.0, "GPU Y"),
            "e": ("dense-16", 2, 7.0, "cpu"),
        },
    )
    finished(tmp_path, "second", {"f": ("conv-4", 1, 50.0, "GPU X")})
    # One lane of four, taken over with the rate of its pack, which it would not have by itself.
    finished(tmp_path, "a-third", {"a": ("dense-16", 1, 1000.0, "GPU X")}, trained_in="first")
    planned = thousands(4)
    speed = find_throughput(Folder.at(tmp_path), planned, TILES)
    assert speed.basis == "13 finished trials on GPU X (studies: first, second)"
    assert list(speed.points["dense-16"]) == [4]
    # A pack of what was measured takes what its images took.
    dense = [p for p in planned if p.trial.architecture.family == "dense"]
    conv = [p for p in planned if p.trial.architecture.family == "conv"]
    costs = trial_costs(planned, TILES)
    for members, lanes, rate in ((dense, 4, 2000.0), (conv, 1, 50.0)):
        work = costs[members[0].trial_id].work
        expected = lanes * 1000 * 10 / rate
        assert speed.seconds(pack_of(members, lanes), work, 1000) == pytest.approx(expected)
    # Another net of the family takes as much more as it has operations more.
    (wide,) = thousands(1, architecture="dense-512")
    ratio = lane_cost(wide.trial, (1, 28, 28), 1000).flops_per_image
    ratio /= lane_cost(dense[0].trial, (1, 28, 28), 1000).flops_per_image
    work = trial_costs([wide], TILES)[wide.trial_id].work
    seconds = speed.seconds(PlannedPack("p", (wide,) * 4), work, 1000)
    assert seconds == pytest.approx(ratio * 4 * 1000 * 10 / 2000)


def test_no_measurement_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    studies = Folder.at(tmp_path)
    finished(tmp_path, "on-cpu", {"a": ("dense-16", 4, 1000.0, "cpu")})
    with pytest.raises(BadInput) as caught:
        find_throughput(studies, thousands(1), TILES)
    text = str(caught.value)
    assert "conv, dense" in text
    assert "measured nothing on one" in text
    assert "--samples-per-second" in text
    finished(tmp_path, "dense-only", {"a": ("dense-16", 4, 1000.0, "GPU X")})
    with pytest.raises(BadInput, match="measured dense on one"):
        find_throughput(studies, thousands(1), TILES)
    dense = thousands(1, architecture="dense-999")
    assert "4 finished trials" in find_throughput(studies, dense, TILES).basis


def test_what_the_user_says_counts(tmp_path: Path) -> None:
    speed = find_throughput(Folder.at(tmp_path), thousands(1), TILES, given=12_345.0)
    assert speed.basis == "12,345 images per second and pack, as given"
    pack = pack_of(thousands(4), 3)
    assert speed.seconds(pack, 1.0, 1000) == pytest.approx(3 * 10 * 1000 / 12_345)


def test_this_machine_s_gpu_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the GPU: the lanes and the architectures that are timed."""
    timed: list[tuple[str, int]] = []

    def rate(members: list[PlannedTrial], data: ImageData, device: torch.device) -> float:
        timed.append((members[0].trial.architecture.name, len(members)))
        return 1000.0

    monkeypatch.setattr("study.throughput.samples_per_second", rate)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU Z")
    speed = find_throughput(Folder.at(tmp_path), thousands(3), TILES)
    assert "GPU Z" in speed.basis
    assert sorted(timed) == [(net, n) for net in ("conv-4", "dense-16") for n in (1, 8, 64)]
    planned = thousands(8, architecture="dense-16")
    work = trial_costs(planned, TILES)[planned[0].trial_id].work
    assert speed.seconds(pack_of(planned, 8), work, 1000) == pytest.approx(8 * 10 * 1000 / 1000)


def test_the_time_of_a_group_is_shared_out_among_its_parts() -> None:
    axes = {"architecture": "linear", "latent_dim": 2}
    parts = {
        "one": {"axes": axes | {"seed": [0, 1, 2]}},
        "two": {"axes": axes | {"seed": [2, 3]}},  # the first of them is there already
        "longer": {"axes": axes, "training": {"epochs": 3}},
    }
    tiles = {"name": "tiles", "train_images": 200, "test_images": 10}
    spec = load_spec({"study": "s", "dataset": tiles, "parts": parts})
    planned = plan_study(spec)
    datasets = {dataset.label: load_dataset(dataset) for dataset in spec.datasets}
    costs = trial_costs(planned, datasets)
    queue = PackQueue(planned, costs, pack_size=4, workers=1, memory=10**9, gpu=False)
    groups = estimate_groups(queue, costs, datasets)
    assert sorted([group.parts for group in groups], key=len) == [
        {"longer": 1.0},
        {"one": 0.75, "two": 0.25},
    ]
