"""The conversation with Optuna, with a table in place of training; restarts from the tables."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from scipy.stats import qmc
from sqlalchemy.exc import OperationalError

from search_spaces import Trial, load_spec, trial_id
from study.adaptive.outcome import TRIAL_IDS
from study.adaptive.search import AdaptiveSearch, Configuration
from study.adaptive.space import SearchSpace
from study.adaptive.tools import build_pruner, build_sampler, mend_journal, open_storage
from study.planned_trial import PlannedTrial
from study.storage import StorageError
from tests.analysis.tables import epochs_of, trials_of

AXES: dict[str, Any] = {
    "architecture": {"family": "dense", "depth": [1, 2], "width": 8},
    "latent_dim": {"range": [2, 64]},
    "beta": {"log_range": [0.01, 10.0]},
    "seed": [0, 1],
}
STRATEGY: dict[str, Any] = {
    "name": "optuna",
    "points": 40,
    "objectives": {"maximise": "test_elbo"},
}


class Conversation:
    """A search, and our side of it: trials by id and the rows of those that are committed."""

    def __init__(
        self,
        study: optuna.Study | None = None,
        axes: dict[str, Any] | None = None,
        **strategy: Any,
    ) -> None:
        raw = {"study": "s", "dataset": "mnist", "axes": axes or AXES}
        spec = load_spec(raw | {"strategy": STRATEGY | strategy})
        self.strategy = spec.strategy
        self.record = spec.record
        self.points: dict[str, Trial] = {}
        self.rows: list[dict[str, Any]] = []
        if study is None:
            directions = [goal.direction for goal in spec.strategy.objectives]
            study = optuna.create_study(
                sampler=build_sampler(spec.strategy),
                pruner=build_pruner(spec.strategy),
                directions=directions,
            )
        self.study = study
        self.space = SearchSpace(spec.all_parts[""])
        self.search = AdaptiveSearch(spec.strategy, self.space, study, self.plan)

    def plan(self, trial: Trial) -> PlannedTrial:
        name = trial_id(trial, "prints", 1)
        self.points[name] = trial
        return PlannedTrial(trial, name, "prints", self.record)

    def train(self, configuration: Configuration, status: str = "completed") -> pd.DataFrame:
        """Rows whose ELBO is best at beta 1 and one layer, whatever the seed adds."""
        rows = [
            {
                "trial_id": member.trial_id,
                "status": status,
                "started_at": pd.Timestamp("2026-01-02T03:04:05.678Z"),
                "seconds": 60.0,
                "test_elbo": -100 * (math.log(member.trial.beta) ** 2 + member.trial.seed),
                "active_units": member.trial.latent_dim // 2 + member.trial.seed,
            }
            for member in configuration.members
        ]
        self.rows += rows
        return trials_of(rows)


def test_seeds_of_a_configuration_are_one_trial_and_averaged() -> None:
    talk = Conversation()
    asked = talk.search.ask()
    assert [member.trial.seed for member in asked.members] == [0, 1]
    frozen = talk.search.tell(asked.number, talk.train(asked))
    beta = asked.members[0].trial.beta
    assert frozen.value == pytest.approx(-100 * (math.log(beta) ** 2 + 0.5))
    assert frozen.params["beta"] == pytest.approx(beta, rel=1e-11)
    assert frozen.user_attrs[TRIAL_IDS] == [member.trial_id for member in asked.members]
    assert (talk.search.proposed, talk.search.left) == (1, 39)


def test_it_finds_what_is_sought_better_than_chance() -> None:
    def best(sampler: str) -> float:
        talk = Conversation(sampler=sampler, seed=3)
        while talk.search.left:
            batch = [talk.search.ask() for _ in range(4)]
            for asked in batch:
                talk.search.tell(asked.number, talk.train(asked))
        return talk.study.best_value

    assert best("tpe") > best("random")


def test_a_batch_repeats_no_point() -> None:
    """Proposals in flight are known to the sampler, though nothing has been told of them."""
    talk = Conversation(sampler={"name": "tpe", "n_startup_trials": 5, "multivariate": True})
    for _ in range(5):
        asked = talk.search.ask()
        talk.search.tell(asked.number, talk.train(asked))
    batch = [talk.search.ask() for _ in range(20)]
    points = {(a.members[0].trial.beta, a.members[0].trial.latent_dim) for a in batch}
    assert len(points) == 20


def test_a_shape_can_be_asked_for() -> None:
    talk = Conversation()
    asked = [talk.search.ask({"depth": 2}) for _ in range(10)]
    assert {talk.search.shape(a)["depth"] for a in asked} == {2}
    assert {a.members[0].trial.architecture.name for a in asked} == {"dense-8-8"}
    assert len({a.members[0].trial.beta for a in asked}) == 10
    assert talk.search.proposed == 10


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        (["completed", "completed"], TrialState.COMPLETE),
        (["completed", "pruned"], TrialState.PRUNED),
        (["pruned", "pruned"], TrialState.PRUNED),
        (["completed", "diverged"], TrialState.FAIL),
        (["pruned", "failed"], TrialState.FAIL),
    ],
)
def test_what_becomes_of_the_seeds_becomes_of_the_point(
    statuses: list[str], state: TrialState
) -> None:
    talk = Conversation()
    asked = talk.search.ask()
    rows = talk.train(asked).assign(status=statuses)
    assert talk.search.tell(asked.number, rows).state == state


def test_targets_constraints_and_several_objectives() -> None:
    talk = Conversation(
        objectives=[{"maximise": "test_elbo"}, {"target": "active_units == 8"}],
        constraints=["active_units <= 10", "active_units >= 3"],
        sampler="nsgaii",
    )
    asked = talk.search.ask()
    rows = talk.train(asked).assign(active_units=[4, 6], test_elbo=[-90.0, -110.0])
    frozen = talk.search.tell(asked.number, rows)
    assert frozen.values == [-100.0, 3.0]
    assert frozen.constraints == {"active_units <= 10": -5.0, "active_units >= 3": -2.0}


def test_the_pruner_gives_up_what_is_hopeless() -> None:
    talk = Conversation(pruner={"name": "median", "n_startup_trials": 3})
    for elbo in (-100.0, -101.0, -102.0):
        asked = talk.search.ask()
        for epoch in (1, 2):
            assert not talk.search.report(asked.number, epoch, [elbo, elbo])
        talk.search.tell(asked.number, talk.train(asked))
    good, bad = talk.search.ask(), talk.search.ask()
    assert not talk.search.report(good.number, 1, [-90.0, -100.0])
    assert talk.search.report(bad.number, 1, [-90.0, -140.0])  # -115 on average
    assert not talk.search.report(good.number, 2, [float("nan"), -100.0])
    frozen = talk.search.tell(bad.number, talk.train(bad, "pruned"))
    assert frozen.state == TrialState.PRUNED
    assert frozen.intermediate_values == {1: -115.0}


def restarted(talk: Conversation, study: optuna.Study) -> tuple[Conversation, list[Configuration]]:
    again = Conversation(study)
    again.points = talk.points
    epochs = epochs_of(
        [
            {"trial_id": row["trial_id"], "epoch": epoch, "test_elbo": row["test_elbo"] - 5 + epoch}
            for row in talk.rows
            for epoch in range(4)
        ]
    )
    return again, again.search.restore(trials_of(talk.rows), epochs, talk.points)


def test_a_new_process_goes_on_with_the_journal(tmp_path: Path) -> None:
    """Told and untold, half committed, and died while it was proposed."""

    def opened() -> optuna.Study:
        storage = open_storage(tmp_path / "optuna.journal")
        return optuna.create_study(
            storage=storage, study_name="s", load_if_exists=True, direction="maximize"
        )

    talk = Conversation(opened())
    told, untold, half, none = (talk.search.ask() for _ in range(4))
    talk.search.tell(told.number, talk.train(told))
    talk.train(untold)
    talk.train(half)
    del talk.rows[-1]
    talk.study.ask()  # and no parameter yet
    again, waiting = restarted(talk, opened())
    assert waiting == [half, none]
    states = [trial.state for trial in again.study.trials]
    running, complete = TrialState.RUNNING, TrialState.COMPLETE
    assert states == [complete, complete, running, running, TrialState.FAIL]
    frozen = again.search.tell(half.number, again.train(half))
    assert frozen.state == complete
    assert frozen.user_attrs[TRIAL_IDS] == [member.trial_id for member in half.members]


@pytest.mark.parametrize("cut", [1, 15, 100])
def test_half_a_line_at_the_journals_end_is_cut_off(tmp_path: Path, cut: int) -> None:
    """As a full disk or a power cut leaves it; twice, since the first one to go on writes to it."""
    journal = tmp_path / "optuna.journal"

    def opened() -> optuna.Study:
        mend_journal(journal)
        storage = open_storage(journal)
        return optuna.create_study(study_name="s", storage=storage, load_if_exists=True)

    mend_journal(journal)
    assert not journal.exists()
    for number in range(3):
        study = opened()
        assert len(study.trials) >= number
        study.tell(study.ask(), 1.0)
        before = journal.read_bytes()
        mend_journal(journal)
        assert journal.read_bytes() == before  # nothing to mend
        os.truncate(journal, len(before) - cut)
    assert len(opened().trials) == 3
    assert not list(tmp_path.glob("*.damaged"))


@pytest.mark.parametrize(
    "problem",
    [
        OSError(28, "No space left on device"),
        StorageInternalError("no"),
        OperationalError("", {}, Exception()),
    ],
)
def test_a_storage_that_fails_is_told_as_one(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    talk = Conversation()
    asked = talk.search.ask()
    rows = talk.train(asked)

    def fail(*_: Any, **__: Any) -> None:
        raise problem

    for name in ("set_trial_state_values", "create_new_trial", "set_trial_intermediate_value"):
        monkeypatch.setattr(talk.study._storage, name, fail)
    for attempt in (
        talk.search.ask,
        lambda: talk.search.tell(asked.number, rows),
        lambda: talk.search.report(asked.number, 1, [1.0, 2.0]),
    ):
        with pytest.raises(StorageError, match=r"^Optuna's storage failed \("):
            attempt()


def test_a_journal_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    journal = tmp_path / "optuna.journal"
    optuna.create_study(study_name="s", storage=open_storage(journal)).ask()
    damaged = journal.read_bytes().replace(b"{", b"", 1)
    journal.write_bytes(damaged)
    mend_journal(journal)
    assert (tmp_path / "optuna.journal.damaged").read_bytes() == damaged
    assert optuna.create_study(study_name="s", storage=open_storage(journal)).trials == []


def test_a_lost_journal_is_made_again_from_the_tables() -> None:
    talk = Conversation()
    asked = [talk.search.ask() for _ in range(6)]
    statuses = ["completed", "completed", "pruned", "diverged", "completed", "completed"]
    frozen = [
        talk.search.tell(a.number, talk.train(a, status))
        for a, status in zip(asked, statuses, strict=True)
    ]
    del talk.rows[-1]  # half of a configuration is not told
    new = optuna.create_study(direction="maximize")
    again, waiting = restarted(talk, new)
    assert waiting == []
    assert [trial.state for trial in new.trials] == [trial.state for trial in frozen[:-1]]
    for ours, theirs in zip(new.trials, frozen[:-1], strict=True):
        assert ours.params == pytest.approx(theirs.params, rel=1e-11)
        if ours.state != TrialState.PRUNED:  # as it was told: none was reported in between
            assert ours.values == theirs.values
        assert ours.distributions == theirs.distributions
        assert list(ours.intermediate_values) == [1, 2, 3]
    assert again.search.left == 35
    repeated, _ = restarted(again, new)
    assert len(repeated.study.trials) == 5


def test_a_new_process_does_not_draw_what_the_first_one_drew() -> None:
    talk, again = Conversation(sampler="random"), Conversation(sampler="random")
    for _ in range(3):
        asked = talk.search.ask()
        talk.search.tell(asked.number, talk.train(asked))
    epochs = epochs_of([{"trial_id": row["trial_id"], "epoch": 0} for row in talk.rows])
    again.search.restore(trials_of(talk.rows), epochs, talk.points)
    drawn = {again.search.ask().members[0].trial_id for _ in range(3)}
    assert not drawn & {row["trial_id"] for row in talk.rows}
    assert (again.search.proposed, again.search.left) == (6, 34)


def test_nsga_ii_comes_nearer_to_the_front_than_chance() -> None:
    """Two objectives at odds, with a known front: where one layer has a beta between 1/e and e."""

    def missed(sampler: Any) -> float:
        goals = [{"maximise": "test_elbo"}, {"maximise": "test_kl"}]
        talk = Conversation(objectives=goals, sampler=sampler, points=120, seed=3)
        distances = []
        while talk.search.left:
            batch = [talk.search.ask() for _ in range(4)]
            for asked in batch:
                at = math.log(asked.members[0].trial.beta)
                off = asked.members[0].trial.architecture.depth - 1
                rows = talk.train(asked)
                rows = rows.assign(test_elbo=-((at - 1) ** 2) - off, test_kl=-((at + 1) ** 2) - off)
                talk.search.tell(asked.number, rows)
                distances.append(max(0.0, abs(at) - 1) + off)
        return float(np.mean(distances[60:]))

    assert missed({"name": "nsgaii", "population_size": 20}) < missed("random") / 2


def test_qmc_fills_the_space_more_evenly_than_chance_and_goes_on_where_it_was() -> None:
    axes = {
        "architecture": "paper-dense-mnist",
        "latent_dim": 16,
        "beta": {"log_range": [0.01, 10.0]},
        "learning_rate": {"log_range": [1e-4, 1e-2]},
    }

    def drawn(sampler: Any) -> list[tuple[float, ...]]:
        talk = Conversation(axes=axes, sampler=sampler, points=65)
        for _ in range(33):
            asked = talk.search.ask()
            talk.search.tell(asked.number, talk.train(asked))
        again = Conversation(talk.study, axes=axes, sampler=sampler, points=65)
        again.study.sampler = build_sampler(again.strategy, after=33)
        for _ in range(32):
            asked = again.search.ask()
            again.search.tell(asked.number, again.train(asked))
        names = ("beta", "learning_rate")
        return [tuple(trial.params[name] for name in names) for trial in talk.study.trials]

    def discrepancy(points: list[tuple[float, ...]]) -> float:
        logs = np.log10(points)  # in 3 decades and 2
        return float(qmc.discrepancy((logs - [-2, -4]) / [3, 2]))

    even, random = drawn({"name": "qmc", "scramble": True}), drawn("random")
    assert len(set(even)) == len(even) == 65
    assert discrepancy(even) < discrepancy(random) / 3
