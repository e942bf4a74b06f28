"""What fulfils the constraints is not given up for what breaks them; storage shows the truth."""

from typing import Any

import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from search_spaces import BadInput, load_spec
from search_spaces.optuna_strategy import PruneOn
from study.adaptive.opening import check_strategy
from study.adaptive.proposals import ProposalQueue
from study.adaptive.pruning import VIOLATIONS, _constraints_first, should_prune
from study.packing import PlannedPack
from tests.analysis.tables import epochs_of, trials_of
from tests.study.adaptive.test_proposals import queue_of
from tests.study.adaptive.test_search import AXES, Conversation

CONSTRAINT = "active_units <= 8"
MEDIAN = {"name": "median", "n_startup_trials": 3}


def of_curve(study: optuna.Study, values: list[float], violations: list[float]) -> int:
    """Report a trial's curve, and return its number."""
    trial = study.ask()
    trial.set_user_attr(VIOLATIONS, {str(e): v for e, v in enumerate(violations, start=1)})
    for epoch, value in enumerate(values, start=1):
        trial.report(value, epoch)
    return trial.number


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "pruner",
    [
        optuna.pruners.MedianPruner(n_startup_trials=4),
        optuna.pruners.PercentilePruner(50, n_startup_trials=4),
        optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2),
        optuna.pruners.HyperbandPruner(min_resource=2, max_resource=2, reduction_factor=2),
    ],
    ids=lambda pruner: type(pruner).__name__,
)
def test_constraints_come_first_for_every_pruner_that_compares(
    pruner: optuna.pruners.BasePruner, sign: int
) -> None:
    """Half of those that are there break a constraint and are far better for it."""
    direction = "maximize" if sign == 1 else "minimize"
    study = optuna.create_study(pruner=pruner, direction=direction)
    for value, violation in [(-5.0, 3.0), (-6.0, 3.0), (-100.0, 0.0), (-110.0, 0.0)]:
        number = of_curve(study, [sign * (value - 1), sign * value], [violation, violation])
        should_prune(study, number, "constraints_first")  # halving notes who has come so far
        study.tell(number, sign * value)
    better = of_curve(study, [sign * -120.0, sign * -90.0], [0.0, 0.0])
    breaks = of_curve(study, [sign * -2.0, sign * -1.0], [5.0, 5.0])
    assert not should_prune(study, better, "constraints_first")
    assert should_prune(study, breaks, "constraints_first")
    assert study.trials[breaks].intermediate_values == {1: sign * -2.0, 2: sign * -1.0}
    study.tell(better, state=TrialState.PRUNED)
    alone = optuna.create_study(pruner=optuna.pruners.MedianPruner(4), direction=direction)
    for trial in study.trials[:4]:
        alone.add_trial(trial)
    assert alone.ask().should_prune() is False  # nothing reported
    plain = alone.ask()
    plain.report(sign * -90.0, 2)
    assert plain.should_prune()  # what Optuna does by itself


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 3)), min_size=2, max_size=15),
    st.sampled_from(
        [
            optuna.pruners.MedianPruner(n_startup_trials=2),
            optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
            optuna.pruners.HyperbandPruner(min_resource=1, max_resource=3, reduction_factor=3),
        ]
    ),
)
def test_by_default_both_orders_have_to_agree(
    points: list[tuple[int, int]], pruner: optuna.pruners.BasePruner
) -> None:
    """Each of three studies sees the same points, one report each."""
    verdicts: dict[PruneOn, list[bool]] = {"objective": [], "constraints_first": [], "both": []}
    for prune_on, given_up in verdicts.items():
        study = optuna.create_study(pruner=pruner, study_name="s")  # Hyperband's brackets go by it
        for value, violation in points:
            number = of_curve(study, [value], [violation])
            given_up.append(should_prune(study, number, prune_on))
            study.tell(number, value)
    agreed = zip(verdicts["objective"], verdicts["constraints_first"], strict=True)
    assert verdicts["both"] == [one and other for one, other in agreed]


def test_good_points_whose_units_fall_asleep_late_are_kept() -> None:
    """After an epoch they have the best objective of those with many units."""
    halving = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    dead = [(150.0 + n, 0.0) for n in range(6)]
    others = [(120.0 + n, 8.0) for n in range(6)]
    late = (100.0, 8.0)
    for prune_on, kept in (("both", True), ("constraints_first", False), ("objective", True)):
        study = optuna.create_study(pruner=halving)
        for value, violation in dead + others:
            should_prune(study, of_curve(study, [value], [violation]), prune_on)  # type: ignore[arg-type]
        number = of_curve(study, [late[0]], [late[1]])
        assert should_prune(study, number, prune_on) is not kept  # type: ignore[arg-type]


@given(
    st.lists(
        st.tuples(st.floats(-1e4, 1e4), st.integers(-20, 64).map(lambda n: n / 4)), min_size=2
    ),
    st.sampled_from(["minimize", "maximize"]),
)
def test_the_order_is_that_of_violations_then_of_the_objective(
    points: list[tuple[float, float]], direction: str
) -> None:
    sign = 1 if direction == "minimize" else -1
    seen = []
    for value, violation in points:
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            intermediate_values={1: value},
            user_attrs={VIOLATIONS: {"1": max(0.0, violation)}},
        )
        way = optuna.study.StudyDirection[direction.upper()]
        seen.append(sign * _constraints_first(trial, way).intermediate_values[1])
        assert trial.intermediate_values == {1: value}
    keys = [(max(0.0, violation), sign * value) for value, violation in points]
    for one, here in zip(keys, seen, strict=True):
        for other, there in zip(keys, seen, strict=True):
            clearly = one[0] == other[0] and one[1] < other[1] - 1e-5
            if one[0] < other[0] or clearly:
                assert here < there
            elif one == other:
                assert here == there
    assert all(s == k[1] for s, k in zip(seen, keys, strict=True) if k[0] == 0)


def test_who_takes_values_for_what_they_are_gets_them_as_they_are() -> None:
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=10.0))
    assert not should_prune(study, of_curve(study, [5.0], [9.0]))
    assert should_prune(study, of_curve(study, [11.0], [0.0]))


def report_epoch(
    queue: ProposalQueue, pack: PlannedPack, active: list[int], elbo: list[float]
) -> list[str]:
    """Report the first epoch of a pack; return who is pruned."""
    lanes = {
        member.trial_id: {"test_elbo": e, "active_units": a, "epoch": 1}
        for member, a, e in zip(pack.members, active, elbo, strict=True)
    }
    return queue.report(lanes)


@pytest.mark.parametrize("prune_on", ["both", "constraints_first", "objective"])
def test_a_queue_tells_the_pruner_of_violations_unless_the_spec_says_no(prune_on: str) -> None:
    talk = Conversation(
        axes=AXES | {"seed": 0}, constraints=[CONSTRAINT], pruner=MEDIAN, prune_on=prune_on
    )
    queue = queue_of(talk, pack_size=5)
    pack = queue.next_pack()
    assert pack is not None
    assert report_epoch(queue, pack, [16, 16, 16, 12, 6], [-10, -11, -12, -13, -50]) == []
    rows = [
        {"trial_id": m.trial_id, "status": "completed", "test_elbo": -10.0, "active_units": 16}
        for m in pack.members
    ]
    queue.finish(trials_of(rows).to_dict("records"))
    attributes = [trial.user_attrs.get(VIOLATIONS) for trial in talk.study.trials[:1]]
    more = queue.next_pack()
    assert more is not None
    hopeless = report_epoch(queue, more, [7, 16, 16, 16, 16], [-60, -5, -14, -11, -70])
    ids = [member.trial_id for member in more.members]
    if prune_on == "objective":  # the median is -12
        assert attributes == [None]
        assert hopeless == [ids[0], ids[2], ids[4]]
    else:  # it is -10 with 16 units
        assert attributes == [{"1": 8.0}]
        assert hopeless == (ids[2:] if prune_on == "constraints_first" else [ids[2], ids[4]])


def test_violations_are_those_of_the_mean_over_the_seeds_summed() -> None:
    talk = Conversation(constraints=[CONSTRAINT, "test_elbo >= -100"], pruner=MEDIAN)
    rows = [{"active_units": 8, "test_elbo": -90.0}, {"active_units": 11, "test_elbo": -120.0}]
    assert talk.search.violation(pd.DataFrame(rows)) == pytest.approx(1.5 + 5.0)
    assert talk.search.violation(pd.DataFrame(rows[:1])) == 0
    assert Conversation(pruner=MEDIAN).search.violation(pd.DataFrame(rows)) is None


def test_what_was_pruned_is_known_by_how_much_it_broke_the_constraints() -> None:
    talk = Conversation(constraints=[CONSTRAINT], pruner=MEDIAN)
    asked = talk.search.ask()
    rows = talk.train(asked, "pruned").assign(active_units=[10, 12])
    frozen = talk.search.tell(asked.number, rows)
    assert (frozen.state, frozen.constraints) == (TrialState.PRUNED, {CONSTRAINT: 3.0})
    stopped = talk.search.ask()  # by a scheduler of Tune's: nothing was measured at its end
    nothing = talk.train(stopped, "pruned").assign(active_units=None)
    frozen = talk.search.tell(stopped.number, nothing)
    assert (frozen.state, frozen.constraints) == (TrialState.PRUNED, {})
    broken = talk.search.ask()
    assert talk.search.tell(broken.number, talk.train(broken, "failed")).constraints == {}


def test_a_lost_journal_is_made_again_with_the_violations() -> None:
    strategy: dict[str, Any] = {"constraints": [CONSTRAINT], "pruner": MEDIAN}
    talk = Conversation(**strategy)
    asked = talk.search.ask()
    curve = {1: (-60.0, (16, 14)), 2: (-50.0, (10, 9)), 3: (-40.0, (8, 7))}
    for epoch, (elbo, active) in curve.items():
        lanes = pd.DataFrame([{"test_elbo": elbo, "active_units": units} for units in active])
        talk.search.report(asked.number, epoch, [elbo] * 2, talk.search.violation(lanes))
    expected = talk.study.trials[0]
    assert expected.user_attrs[VIOLATIONS] == {"1": 7.0, "2": 1.5, "3": 0}
    talk.train(asked, "pruned")
    epochs = [
        {"trial_id": m.trial_id, "epoch": epoch, "test_elbo": elbo, "active_units": active[place]}
        for place, m in enumerate(asked.members)
        for epoch, (elbo, active) in curve.items()
    ]
    first = asked.members[0].trial_id
    epochs.append({"trial_id": first, "epoch": 4, "test_elbo": -1.0, "active_units": 1})  # alone
    epochs += [{"trial_id": m.trial_id, "epoch": 5, "active_units": 1} for m in asked.members]
    again = Conversation(optuna.create_study(direction="maximize"), **strategy)
    again.points = talk.points
    again.search.restore(trials_of(talk.rows), epochs_of(epochs), talk.points)
    (made,) = again.study.trials
    assert made.user_attrs == expected.user_attrs | {
        "active_units": made.constraints[CONSTRAINT] + 8
    }
    assert made.intermediate_values == expected.intermediate_values
    assert made.state == TrialState.PRUNED
    assert list(made.constraints) == [CONSTRAINT]


def test_a_constraint_that_is_known_at_the_end_only_is_refused_with_a_pruner() -> None:
    strategy = {
        "name": "optuna",
        "points": 5,
        "objectives": {"maximise": "test_elbo"},
        "constraints": ["active_units <= 8", "test_mse <= 0.1"],
        "pruner": "median",
    }
    raw = {"study": "s", "dataset": "mnist", "axes": AXES}
    with pytest.raises(BadInput, match=r"constraints\.1: 'test_mse' is known at the end only"):
        check_strategy(load_spec(raw | {"strategy": strategy}).all_parts[""])
    for change in ({"prune_on": "objective"}, {"pruner": None}, {"constraints": [CONSTRAINT]}):
        check_strategy(load_spec(raw | {"strategy": strategy | change}).all_parts[""])
