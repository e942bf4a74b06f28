"""Packs filled with proposals: alike in shape, never twice, told when all their seeds are there."""

from collections import Counter
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from search_spaces import stack_key
from study.adaptive.proposals import ProposalQueue
from study.adaptive.search import Configuration
from study.packing import PlannedPack, TrialCost
from tests.analysis.tables import trials_of
from tests.study.adaptive.test_search import AXES, Conversation


def queue_of(
    talk: Conversation,
    *,
    committed: pd.DataFrame | None = None,
    unfinished: tuple[Configuration, ...] = (),
    resumed: tuple[PlannedPack, ...] = (),
    pack_size: Any = 8,
    workers: int = 2,
    memory: int = 100,
    gpu: bool = False,
) -> ProposalQueue:
    return ProposalQueue(
        talk.search,
        lambda planned: TrialCost(1.0, 10),
        committed=trials_of([]) if committed is None else committed,
        unfinished=unfinished,
        resumed=resumed,
        pack_size=pack_size,
        workers=workers,
        memory=memory,
        gpu=gpu,
    )


def train(talk: Conversation, pack: PlannedPack, status: str = "completed") -> list[dict[str, Any]]:
    configuration = Configuration(-1, {}, pack.members)
    return [dict(row) for row in talk.train(configuration, status).to_dict("records")]


@given(st.integers(0, 1000), st.sampled_from([1, 2, 5, 8, 64, "auto"]), st.integers(1, 4))
def test_all_points_are_trained_once_in_packs_of_one_shape(
    seed: int, pack_size: int | str, workers: int
) -> None:
    talk = Conversation(points=17, seed=seed)
    queue = queue_of(talk, pack_size=pack_size, workers=workers)
    running: list[PlannedPack] = []
    trained: Counter[str] = Counter()
    while True:
        while len(running) < workers and (pack := queue.next_pack()):
            assert len({stack_key(member.trial) for member in pack.members}) == 1
            most = 4 if pack_size == "auto" else pack_size
            assert len(pack.members) <= max(most, 2)  # never fewer than the seeds
            running.append(pack)
        if not running:
            break
        pack = running.pop(0)
        trained.update(member.trial_id for member in pack.members)
        queue.finish(train(talk, pack))
    assert set(trained.values()) == {1}
    assert len(trained) == 2 * 17
    assert {trial.state for trial in talk.study.trials} == {TrialState.COMPLETE}
    assert len(talk.study.trials) == 17
    assert (len(queue), queue.packs_left) == (0, 0)


def test_packs_are_full_though_shapes_differ() -> None:
    talk = Conversation(points=400)
    queue = queue_of(talk, pack_size=8)
    sizes = []
    for _ in range(20):
        pack = queue.next_pack()
        assert pack is not None
        sizes.append(len(pack.members))
        queue.finish(train(talk, pack))
    assert sizes == [8] * 20


def test_seeds_stay_together_and_a_pack_has_room_for_them() -> None:
    talk = Conversation()
    queue = queue_of(talk, pack_size=5)
    pack = queue.next_pack()
    assert pack is not None
    assert [member.trial.seed for member in pack.members] == [0, 1, 0, 1]
    assert len(queue_of(Conversation(), pack_size=1).next_pack().members) == 2  # type: ignore[union-attr]


def test_memory_limits_a_pack() -> None:
    pack = queue_of(Conversation(), pack_size="auto", memory=25).next_pack()
    assert pack is not None
    assert len(pack.members) == 2
    large = queue_of(Conversation(), pack_size="auto", memory=10**9, gpu=True).next_pack()
    assert large is not None
    assert len(large.members) == 2 * 40 // 2  # half of all points, for two workers


@pytest.mark.parametrize("pack_size", ["auto", 64])
def test_a_shape_that_is_used_up_does_not_end_the_search(pack_size: Any) -> None:
    """Twelve points of four shapes: a pack has three of them at most, and the others follow."""
    nets = [{"family": "dense", "widths": [width]} for width in (4, 8, 12, 16)]
    axes = {"architecture": nets, "latent_dim": [4, 8, 12]}
    talk = Conversation(points=12, axes=axes)
    queue = queue_of(talk, pack_size=pack_size)
    trained = []
    while pack := queue.next_pack():
        trained += [member.trial_id for member in pack.members]
        queue.finish(train(talk, pack))
    assert len(trained) == len(set(trained)) == 12
    assert len(queue) == 0


def test_a_point_that_comes_again_is_told_and_not_trained() -> None:
    """Four points in all: the search ends when nothing new comes, however many are asked for."""
    axes = AXES | {"latent_dim": 4, "beta": [1.0, 2.0]}
    talk = Conversation(points=300, axes=axes, sampler="random")
    queue = queue_of(talk, pack_size=2)
    trained = []
    while pack := queue.next_pack():
        trained += [member.trial_id for member in pack.members]
        queue.finish(train(talk, pack))
    assert len(trained) == len(set(trained)) == 8
    assert queue.packs_left == 0
    complete = [t for t in talk.study.trials if t.state == TrialState.COMPLETE]
    assert len(complete) == len(talk.study.trials) > 4
    assert len({tuple(t.values) for t in complete}) == 2


def test_a_point_in_flight_that_comes_again_waits_for_it() -> None:
    axes = AXES | {"architecture": "linear", "latent_dim": 4, "beta": [1.0, 2.0]}
    talk = Conversation(points=50, axes=axes, sampler="random")
    queue = queue_of(talk, pack_size=2)
    first, second = queue.next_pack(), queue.next_pack()
    assert first is not None
    assert second is not None
    assert queue.next_pack() is None  # both points are in flight
    assert not [t for t in talk.study.trials if t.state == TrialState.COMPLETE]
    queue.finish(train(talk, first))
    queue.finish(train(talk, second))
    assert {t.state for t in talk.study.trials} == {TrialState.COMPLETE}


def test_put_back_and_split_packs_go_first() -> None:
    talk = Conversation()
    queue = queue_of(talk, pack_size=4)
    one, two = queue.next_pack(), queue.next_pack()
    assert one is not None
    assert two is not None
    queue.put_back(one)
    assert queue.next_pack() == one
    queue.split(two)
    alone = [queue.next_pack() for _ in range(4)]
    assert [pack.members for pack in alone if pack] == [(member,) for member in two.members]
    for pack in (one, *alone):
        assert pack is not None
        queue.finish(train(talk, pack))
    states = Counter(trial.state for trial in talk.study.trials)
    assert states[TrialState.COMPLETE] == 4


def test_it_goes_on_where_a_driver_died() -> None:
    """Of three configurations one is in a pack with a checkpoint, one half committed, one open."""
    talk = Conversation()
    saved, half, untouched = (talk.search.ask() for _ in range(3))
    committed = talk.train(half).iloc[:1]
    pack = PlannedPack("pack", saved.members)
    queue = queue_of(
        talk, committed=committed, unfinished=(saved, half, untouched), resumed=(pack,), pack_size=2
    )
    assert queue.next_pack() == pack
    queue.finish(train(talk, pack))
    rest = [queue.next_pack() for _ in range(2)]
    members = {member.trial_id for p in rest if p for member in p.members}
    expected = {half.members[1].trial_id, *(m.trial_id for m in untouched.members)}
    assert expected <= members
    for p in rest:
        assert p is not None
        queue.finish(train(talk, p))
    states = [trial.state for trial in talk.study.trials[:3]]
    assert states == [TrialState.COMPLETE] * 3


@pytest.mark.parametrize("there", [2, 1])
def test_only_a_configuration_of_which_all_lanes_are_there_is_judged(there: int) -> None:
    talk = Conversation(pruner={"name": "threshold", "lower": -10.0})
    queue = queue_of(talk, pack_size=4)
    pack = queue.next_pack()
    assert pack is not None
    bad, good = pack.members[:2], pack.members[2:]
    lanes = {m.trial_id: {"test_elbo": -50.0, "epoch": 1} for m in bad[:there]}
    lanes |= {m.trial_id: {"test_elbo": -5.0, "epoch": 1} for m in good}
    hopeless = queue.report(lanes)
    assert queue.report(lanes) == hopeless  # as from a checkpoint
    assert hopeless == ([m.trial_id for m in bad] if there == 2 else [])


def test_data_seeds_of_a_point_go_into_packs_of_their_own() -> None:
    talk = Conversation(points=3, axes=AXES | {"data_seed": [0, 1]})
    queue = queue_of(talk, pack_size=12)
    trained: list[str] = []
    while pack := queue.next_pack():
        assert len({member.trial.data_seed for member in pack.members}) == 1
        trained += [member.trial_id for member in pack.members]
        queue.finish(train(talk, pack))
    assert len(trained) == len(set(trained)) == 3 * 4
    assert {t.state for t in talk.study.trials} == {TrialState.COMPLETE}
