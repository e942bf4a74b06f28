import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import (
    Architecture,
    RecordSettings,
    TilesDataset,
    Trial,
    load_spec,
    plan_parts,
    stack_key,
)
from study import packing
from study.packing import (
    AUTO_LANES,
    AUTO_LANES_GPU,
    PackQueue,
    PlannedPack,
    TrialCost,
    pack_name,
    trial_costs,
)
from study.planning import PlannedTrial
from tests.study.plans import costs_of, planned_trials
from trainables.costs import LaneCost, lane_cost
from trainables.datasets import load_dataset

MIXED = {
    "architecture": [
        {"family": "dense", "widths": [[16], [32, 8]]},
        {"family": "conv", "channels": [4]},
        "linear",
    ],
    "latent_dim": [1, 2, 7],
    "beta": [0.5, 2],
    "data_seed": [0, 1],
    "epochs": [1, 3],
}
TRIALS = planned_trials(MIXED)


def queue_of(waiting: list[PlannedTrial], **options: Any) -> PackQueue:
    options = {"pack_size": "auto", "workers": 2, "memory": 10**9, "gpu": False} | options
    costs = options.pop("costs", None) or costs_of(waiting)
    return PackQueue(waiting, costs, **options)


def drain(queue: PackQueue) -> list[PlannedPack]:
    packs = []
    while pack := queue.next_pack():
        packs.append(pack)
    assert len(queue) == 0
    assert queue.next_pack() is None
    return packs


def ids(pack: PlannedPack) -> list[str]:
    return [member.trial_id for member in pack.members]


def by_trial(packs: list[PlannedPack]) -> list[str]:
    return sorted(trial_id for pack in packs for trial_id in ids(pack))


@given(
    waiting=st.lists(st.sampled_from(TRIALS), unique_by=lambda p: p.trial_id),
    pack_size=st.one_of(st.just("auto"), st.integers(1, 12)),
    workers=st.integers(1, 40),
    memory=st.integers(1, 60),
    gpu=st.booleans(),
)
def test_every_trial_once_in_a_pack_that_stacks_and_fits(
    waiting: list[PlannedTrial], pack_size: Any, workers: int, memory: int, gpu: bool
) -> None:
    costs = costs_of(waiting, memory=7)
    options = {"pack_size": pack_size, "workers": workers, "memory": memory, "gpu": gpu}
    queue = queue_of(waiting, costs=costs, **options)
    assert len(queue) == len(waiting)
    packs = drain(queue)
    assert by_trial(packs) == sorted(p.trial_id for p in waiting)
    assert len({pack.pack_id for pack in packs}) == len(packs)
    for pack in packs:
        lanes = len(pack.members)
        assert len({stack_key(member.trial) for member in pack.members}) == 1
        assert pack.pack_id == pack_name(ids(pack))
        if pack_size == "auto":
            family = pack.members[0].trial.architecture.family
            assert lanes <= (AUTO_LANES_GPU if gpu else AUTO_LANES[family])
            assert lanes == 1 or lanes * 7 <= memory
            assert gpu or len({member.trial.latent_dim for member in pack.members}) == 1
        else:
            assert lanes <= pack_size


@pytest.mark.parametrize("options", [{"gpu": True}, {"pack_size": 8}])
def test_where_lanes_cost_little_or_were_asked_for_latent_dims_mix(options: dict[str, Any]) -> None:
    axes = {"architecture": "linear", "latent_dim": [1, 2, 3, 4], "seed": [0, 1]}
    packs = drain(queue_of(planned_trials(axes), workers=1, **options))
    assert [len(pack.members) for pack in packs] == [8]


def test_packs_of_a_group_differ_by_little() -> None:
    """Nine trials in packs of at most four: not 4 + 4 + 1."""
    axes = {"architecture": "linear", "latent_dim": 2, "seed": {"range": [0, 8]}}
    packs = drain(queue_of(planned_trials(axes), pack_size=4))
    assert [len(pack.members) for pack in packs] == [3, 3, 3]


def test_auto_leaves_work_for_every_worker() -> None:
    axes = {"architecture": "linear", "latent_dim": 2, "seed": {"range": [0, 7]}}
    for workers in (1, 2, 4, 8):
        packs = drain(queue_of(planned_trials(axes), workers=workers))
        assert len(packs) >= workers


def test_memory_counts_the_largest_member() -> None:
    axes = {"architecture": "linear", "latent_dim": [1, 2, 3, 4], "seed": {"range": [0, 7]}}
    planned = planned_trials(axes)
    costs = {p.trial_id: TrialCost(1, 10 * p.trial.latent_dim) for p in planned}
    packs = drain(queue_of(planned, costs=costs, memory=100, workers=1, gpu=True))
    assert max(len(pack.members) for pack in packs) == 2
    assert max(sum(costs[i].memory for i in ids(pack)) for pack in packs) <= 100


def test_costly_groups_first() -> None:
    planned = planned_trials(MIXED)
    costs = costs_of(planned)
    packs = drain(queue_of(planned, costs=costs, pack_size=100))
    costliest = [max(costs[i].work for i in ids(pack)) for pack in packs]
    assert costliest == sorted(costliest, reverse=True)


def test_resumed_packs_go_first_and_keep_their_members() -> None:
    planned = planned_trials()
    mine = PlannedPack("pack-from-before", (planned[5], planned[1]))
    packs = drain(queue_of(planned, pack_size=2, resumed=[mine]))
    assert packs[0] == mine
    assert by_trial(packs) == sorted(p.trial_id for p in planned)


def test_a_split_pack_comes_back_one_by_one_before_all_else() -> None:
    planned = planned_trials()
    queue = queue_of(planned, pack_size=3)
    first = queue.next_pack()
    assert first is not None
    before = len(queue)
    queue.split(first)
    assert len(queue) == before + 3
    again = [queue.next_pack() for _ in first.members]
    assert [pack and ids(pack) for pack in again] == [[i] for i in ids(first)]
    assert len({pack.pack_id for pack in again if pack} | {first.pack_id}) == 4
    assert by_trial([*again, *drain(queue)]) == sorted(p.trial_id for p in planned)  # type: ignore[list-item]


def test_the_name_of_a_pack_is_that_of_its_members() -> None:
    assert pack_name(["a", "b"]) == pack_name(["b", "a"])
    names = [["a"], ["b"], ["a", "b"], ["ab"], ["a", "b", "c"]]
    assert max(Counter(map(pack_name, names)).values()) == 1


def test_the_plan_s_order_leaves_no_trace() -> None:
    planned = planned_trials(MIXED)
    one, other = (drain(queue_of(order, pack_size=5)) for order in (planned, planned[::-1]))
    keys = [{stack_key(p.members[0].trial) for p in packs} for packs in (one, other)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("pack_size", ["auto", 1, 64])
def test_twenty_thousand_trials(pack_size: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is handed out once, and the texts that order the groups are not made for each trial."""
    axes = {"architecture": ["linear", "dense-8"], "latent_dim": [1, 2]}
    planned = planned_trials(axes | {"seed": {"range": [1, 5_000]}})
    texts: list[str] = []
    original = Architecture.__repr__

    def noted(architecture: Architecture) -> str:
        texts.append(original(architecture))
        return texts[-1]

    monkeypatch.setattr(Architecture, "__repr__", noted)
    packs = drain(queue_of(planned, pack_size=pack_size))
    assert len(texts) <= 4  # groups: architectures and, on CPUs, latent_dims
    assert by_trial(packs) == sorted(p.trial_id for p in planned)
    assert len(planned) == 20_000


@pytest.mark.parametrize("pack_size", ["auto", 4])
def test_nothing_to_do(pack_size: Any) -> None:
    assert drain(queue_of([], pack_size=pack_size)) == []


def test_costs_grow_with_the_work() -> None:
    tiles = TilesDataset(train_images=100, test_images=10)
    axes = {"architecture": ["linear", "paper-conv"], "latent_dim": [2, 64], "epochs": [1, 4]}
    planned = planned_trials(axes, dataset=tiles.model_dump())
    costs = trial_costs(planned, {"tiles": load_dataset(tiles)})
    work = {
        (p.trial.architecture.name, p.trial.latent_dim, p.trial.epochs): costs[p.trial_id].work
        for p in planned
    }
    assert work["linear", 2, 4] == 4 * work["linear", 2, 1]
    assert work["linear", 64, 1] > work["linear", 2, 1]
    assert work["paper-conv", 2, 1] > 10 * work["linear", 2, 1]
    # A linear VAE of z units: 784 z products each way; the encoder's are made forward and for its
    # weights, the decoder's also for its inputs.
    assert work["linear", 2, 1] == 100 * 2 * (784 * 2) * (2 + 3)
    assert all(cost.memory > 0 for cost in costs.values())


def test_trials_that_share_a_cost_have_it() -> None:
    """Against each by itself: a cost that depended on more than shapes would differ."""
    tiles = TilesDataset(train_images=100, test_images=10)
    axes = {
        "architecture": ["linear", "dense-8"],
        "latent_dim": [2, 5],
        "beta": [0.5, 2],
        "objective": ["elbo", "quadratic_penalty", "no_sampling"],
        "decoder": ["bernoulli", "gaussian", "gaussian_learned"],
        "initialisation": ["glorot", "torch"],
        "learning_rate": [0.001, 0.1],
        "learning_rate_schedule": ["cosine", "constant"],
        "batch_size": [64, 5_000],
        "precision": ["float32", "float64"],
    }
    planned = planned_trials(axes, dataset=tiles.model_dump())
    costs = trial_costs(planned, {"tiles": load_dataset(tiles)})
    for p in planned:
        lane = lane_cost(p.trial, (1, 28, 28), 100)
        work = lane.flops_per_image * 100 * p.trial.epochs
        assert costs[p.trial_id] == TrialCost(work, lane.memory)


def test_a_probe_is_work_and_goes_before_what_trains_as_long_without() -> None:
    tiles = TilesDataset(train_images=100, test_images=10)
    axes = {"architecture": "linear", "latent_dim": 2}
    probe = {"name": "deterioration", "increment": 0.25}
    probe |= {"collapse_epochs": 0, "recovery_epochs": 9}  # 1 + 10 + 9 epochs
    parts = {
        "plain": {"axes": axes | {"seed": [0]}},
        "longer": {"axes": axes | {"seed": [1]}, "training": {"epochs": 29}},
        "probed": {"axes": axes | {"seed": [2]}, "record": {"probe": probe}},
    }
    spec = {"study": "s", "dataset": tiles.model_dump(), "training": {"epochs": 10}, "parts": parts}
    study = load_spec(spec)
    planned = [
        PlannedTrial(trial, part, "f" * 16, study.all_parts[part].record, part)
        for part, trials in plan_parts(study).items()
        for trial in trials
    ]
    costs = trial_costs(planned, {"tiles": load_dataset(tiles)})
    assert costs["probed"].work == 3 * costs["plain"].work
    assert costs["longer"].work == 2.9 * costs["plain"].work
    queue = PackQueue(planned, costs, pack_size=4, workers=1, memory=10**9, gpu=False)
    packs = drain(queue)
    assert [member.trial_id for pack in packs for member in pack.members] == [
        "probed",
        "longer",
        "plain",
    ]


@pytest.mark.parametrize("seeds", [1, 50])
def test_costs_are_not_computed_for_each_trial(seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does their order matter: points drawn at random go from shape to shape."""
    computed: list[Trial] = []

    def counted(trial: Trial, *_: Any) -> LaneCost:
        computed.append(trial)
        return LaneCost(1.0, 1, 1)

    monkeypatch.setattr(packing, "lane_cost", counted)
    tiles = TilesDataset(train_images=10, test_images=1)
    axes = {"architecture": ["linear", "dense-8"], "latent_dim": {"range": [1, 100]}}
    planned = planned_trials(axes | {"seed": {"range": [0, seeds]}}, dataset=tiles.model_dump())
    random.Random(0).shuffle(planned)
    assert len(trial_costs(planned, {"tiles": load_dataset(tiles)})) == 200 * (seeds + 1)
    assert len(computed) == 200


def test_a_pack_put_back_goes_before_all_others_as_it_was() -> None:
    planned = planned_trials()
    mine = [PlannedPack(f"pack-{n}", (planned[n],)) for n in range(2)]
    queue = queue_of(planned, pack_size=2, resumed=mine)
    first = queue.next_pack()
    assert first is not None
    left = queue.packs_left
    queue.put_back(first)
    assert queue.packs_left == left + 1
    assert queue.next_pack() is first
    assert queue.next_pack() is mine[1]
    assert queue.packs_left == len(drain(queue))


def test_packs_are_cut_anew_when_the_cluster_grows() -> None:
    """Sixteen trials: four lanes for two workers; with sixteen, one for each that is left."""
    axes = {"architecture": "linear", "latent_dim": 2, "seed": {"range": [0, 15]}}
    queue = queue_of(planned_trials(axes), workers=2)
    first = queue.next_pack()
    assert first is not None
    assert (len(first.members), queue.packs_left) == (4, 3)
    queue.workers = 16
    assert queue.packs_left == 12
    assert [len(pack.members) for pack in drain(queue)] == [1] * 12


@given(
    records=st.lists(st.integers(0, 2), min_size=1, max_size=40),
    pack_size=st.one_of(st.just("auto"), st.integers(1, 12)),
    gpu=st.booleans(),
)
def test_a_pack_holds_trials_of_which_the_same_is_recorded(
    records: list[int], pack_size: Any, gpu: bool
) -> None:
    """Trials that could all be stacked, in parts that record other things."""
    alike = planned_trials({"architecture": "linear", "latent_dim": 2, "seed": {"range": [0, 39]}})
    waiting = [
        replace(planned, record=RecordSettings(every=every))
        for planned, every in zip(alike, records, strict=False)
    ]
    packs = drain(queue_of(waiting, pack_size=pack_size, gpu=gpu))
    assert by_trial(packs) == sorted(p.trial_id for p in waiting)
    for pack in packs:
        assert len({member.record for member in pack.members}) == 1
    if pack_size == 12:
        least = sum(-(-records.count(every) // 12) for every in set(records))
        assert len(packs) == least, "and is not smaller than it needs to be"
