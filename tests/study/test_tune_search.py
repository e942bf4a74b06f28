"""A searcher called as Tune calls it: packs out, results in, failures, and a restart."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray import cloudpickle
from ray.tune import PlacementGroupFactory
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher
from ray.tune.utils.serialization import TuneFunctionEncoder

from search_spaces import BadInput, Trial, load_spec, stack_key
from study import PackPruning, PackSearcher, pack_rows, tune_search
from study import workers as workers_module
from study.adaptive.proposals import ProposalQueue
from study.tables import MEASURED
from study.tune_rows import ended_rows
from trainables.tune_trainable import ENDED

SPEC: dict[str, Any] = {
    "study": "plain",
    "dataset": {"name": "tiles", "train_images": 60, "test_images": 20},
    "axes": {
        "architecture": {"family": "dense", "widths": [[16], [8]]},
        "latent_dim": 2,
        "seed": {"range": [0, 5]},
    },
    "training": {"epochs": 3},
}
ADAPTIVE = SPEC | {
    "axes": {
        "architecture": {"family": "dense", "depth": [1, 2], "width": 16},
        "latent_dim": 4,
        "beta": {"log_range": [0.05, 5.0]},
        "seed": [0, 1],
    },
    "strategy": {"name": "optuna", "points": 7, "objectives": {"maximise": "test_elbo"}},
}
POINTS = {"grid": (SPEC, 12), "optuna": (ADAPTIVE, 14)}


@pytest.fixture(autouse=True)
def nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"CPU": 4.0, "GPU": 1.0, "memory": 4e9}
    monkeypatch.setattr(workers_module, "_nodes", lambda: {"node": node})
    monkeypatch.setattr(tune_search, "autoscaler_node_types", list)


def result_of(config: dict[str, Any], only: int | None = None) -> dict[str, Any]:
    """The last result of a pack, of which some lanes have ended."""
    rows = []
    for trial, trial_id in list(zip(config["trials"], config["trial_ids"], strict=True))[:only]:
        row = {field.name: 1.0 for field in MEASURED}
        row |= {"trial_id": trial_id, "status": "completed", "test_elbo": -trial["beta"]}
        rows.append(row | {"started_at": None, "device": "cpu", "parameters": 3})
    return {ENDED: tuple(rows), "epoch": 2.0, "hostname": "host", "done": True}


def finish(searcher: PackSearcher, tune_id: str, config: dict[str, Any], **how: Any) -> None:
    searcher.on_trial_complete(tune_id, result_of(config, **how))


def drain(searcher: PackSearcher) -> dict[str, dict[str, Any]]:
    """Train all that is left, two packs at a time; return the configs."""
    configs: dict[str, dict[str, Any]] = {}
    running: list[str] = []
    for number in range(1000):
        name = f"d{number}"
        config = searcher.suggest(name) if len(running) < 2 else None
        if config == Searcher.FINISHED:
            return configs
        if config is not None:
            configs[name] = config
            running.append(name)
        else:
            done = running.pop(0)
            finish(searcher, done, configs[done])
    raise AssertionError("it goes on for ever")


@pytest.mark.parametrize("kind", POINTS)
def test_every_trial_is_in_one_pack_of_one_shape(kind: str) -> None:
    spec, count = POINTS[kind]
    searcher = PackSearcher(spec)
    configs = drain(searcher)
    named = [name for config in configs.values() for name in config["trial_ids"]]
    assert len(named) == len(set(named)) == count
    for config in configs.values():
        shapes = {stack_key(Trial.model_validate(trial)) for trial in config["trials"]}
        assert len(shapes) == 1
        assert config["study"] == "plain"
        assert config["dataset_fingerprint"] == searcher.datasets["tiles"].fingerprint
    trials = searcher.trials
    assert sorted(trials["trial_id"]) == sorted(named)
    assert (trials["test_elbo"] == -trials["beta"]).all()
    assert set(trials["node"]) == {"host"}


def test_packs_are_cut_for_what_they_get() -> None:
    wide = {"axes": SPEC["axes"] | {"seed": {"range": [0, 199]}}}

    def lanes(**arguments: Any) -> int:
        config = PackSearcher(SPEC | wide, **arguments).suggest("a")
        assert (config["gpu_share"] > 0) == ("gpu" in arguments.get("resources", {}))
        return len(config["trial_ids"])

    assert lanes() == lanes(resources={"cpu": 2}) == 4
    assert lanes(resources={"gpu": 1}) > 32
    assert lanes(overrides=["resources.pack_size=7"]) == 7
    assert PackSearcher(SPEC, resources={"cpu": 2, "gpu": 0.5}).suggest("a")["gpu_share"] == 0.5
    assert PackSearcher(SPEC, resources={"cpu": 3}).suggest("a")["threads"] == 3
    for most, expected in ((1, 12), (3, 4)):  # trials of a shape for so many workers
        searcher = PackSearcher(SPEC, ["axes.architecture=linear", "axes.seed.range=[0, 11]"],
                                resources={"cpu": 1, "gpu": 0.25})  # fmt: skip
        searcher.set_max_concurrency(most)
        assert len(searcher.suggest("a")["trial_ids"]) == expected


def test_a_pack_that_fails_is_taken_apart_once_packs_work() -> None:
    searcher = PackSearcher(SPEC)
    first, second = searcher.suggest("a"), searcher.suggest("b")
    searcher.on_trial_result("a", {})
    searcher.on_trial_complete("b", error=True)
    finish(searcher, "a", first)
    again = searcher.suggest("c")
    assert again["trial_ids"] == second["trial_ids"][:1]
    searcher.on_trial_complete("c", error=True)
    drain(searcher)
    trials = searcher.trials.set_index("trial_id")
    assert len(trials) == 12
    assert trials.index[trials["status"] == "failed"].tolist() == second["trial_ids"][:1]


def test_the_last_pack_is_waited_for_since_it_may_fail() -> None:
    searcher = PackSearcher(SPEC | {"resources": {"pack_size": 6}})
    searcher.suggest("a")
    last = searcher.suggest("b")
    searcher.on_trial_result("a", {})
    finish(searcher, "a", {"trials": [], "trial_ids": []})
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("b", error=True)
    assert searcher.suggest("d")["trial_ids"] == last["trial_ids"][:1]


def test_lanes_of_a_stopped_pack_are_pruned_but_for_those_that_had_ended() -> None:
    searcher = PackSearcher(SPEC)
    config = searcher.suggest("a")
    finish(searcher, "a", config, only=1)
    trials = searcher.trials.set_index("trial_id").loc[config["trial_ids"]]
    assert trials["status"].tolist() == ["completed"] + ["pruned"] * (len(trials) - 1)
    assert trials["epochs_trained"].tolist()[1:] == [2] * (len(trials) - 1)
    assert trials["test_elbo"].iloc[1:].isna().all()
    never_began = searcher.suggest("b")
    searcher.on_trial_complete("b")
    told = searcher.trials.set_index("trial_id").loc[never_began["trial_ids"]]
    assert set(told["status"]) == {"pruned"}
    assert set(told["epochs_trained"]) == {0}


class Run:
    """A searcher in a run of Tune's: what Tune knows of its packs, and snapshots of both."""

    def __init__(self, spec: Mapping[str, Any], folder: Path) -> None:
        self.spec = spec
        self.folder = folder
        self.searcher = PackSearcher(spec)
        self.configs: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, str] = {}

    def suggest(self, name: str) -> None:
        config = self.searcher.suggest(name)
        if config not in (None, Searcher.FINISHED):
            self.configs[name] = config

    def end(self, name: str, status: str = "TERMINATED") -> None:
        self.ended[name] = status
        if status == "ERROR":
            self.searcher.on_trial_complete(name, error=True)
        else:
            finish(self.searcher, name, self.configs[name])

    def save_tune(self) -> None:
        """Write the state of Tune's trials, as Tune does."""
        known = []
        for name, config in self.configs.items():
            trial = TuneTrial("PackTrainable", config=config, trial_id=name, stub=True)
            trial.placement_group_factory = PlacementGroupFactory([{"CPU": 1}])
            trial.status = self.ended.get(name, "RUNNING")
            if trial.status == "TERMINATED":
                trial.run_metadata.last_result = result_of(config)
            known.append(trial.get_json_state())
        other = {"stopper": self.folder}  # that JSON does not have
        state = json.dumps({"trial_data": known, "runner_data": other}, cls=TuneFunctionEncoder)
        (self.folder / "experiment_state-1.json").write_text(state)

    def save_searcher(self) -> None:
        self.searcher.save(str(self.folder / "state"))

    def restored(self) -> PackSearcher:
        again = PackSearcher(self.spec)
        again.restore(str(self.folder / "state"))
        return again

    def save(self) -> None:
        self.save_tune()
        self.save_searcher()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(sorted(POINTS)),
    st.lists(st.booleans(), max_size=6),
    st.integers(0, 6),
    st.sampled_from(["tune", "searcher"]),
)
def test_restored_it_loses_and_repeats_nothing(
    tmp_path: Path, kind: str, steps: list[bool], moment: int, older: str
) -> None:
    """Also where the driver was killed while Tune copied its state and ours to its storage."""
    spec, count = POINTS[kind]
    run = Run(spec, tmp_path)
    run.save()
    known: tuple[Any, Any, Any] = run.searcher.trials, {}, {}
    for number, done in enumerate(steps):
        if done and run.searcher.running:
            run.end(next(iter(run.searcher.running)))
        else:
            run.suggest(f"t{number}")
        if number < moment or older == "searcher":
            run.save_tune()
            known = run.searcher.trials, dict(run.configs), dict(run.ended)
        if number < moment or older == "tune":
            run.save_searcher()
    again = run.restored()
    trials, configs, ended = known
    pd.testing.assert_frame_equal(again.trials, trials)
    assert again.running.keys() == configs.keys() - ended.keys()
    for name in list(again.running):  # Tune goes on with these
        finish(again, name, configs[name])
    more = drain(again)
    named = [name for config in (configs | more).values() for name in config["trial_ids"]]
    assert len(named) == len(set(named))
    assert sorted(again.trials["trial_id"]) == sorted(named)
    assert len(named) == count
    if kind == "optuna":
        assert isinstance(again._queue, ProposalQueue)
        told = again._queue._search._study.get_trials()
        values = again.trials.set_index("trial_id")["test_elbo"]
        assert len(told) == 7
        for trial in told:
            assert trial.value == pytest.approx(values.loc[trial.user_attrs["trial_ids"]].mean())


def test_a_pickled_searcher_has_not_begun() -> None:
    searcher = PackSearcher(SPEC)
    searcher.suggest("a")
    again, followed = cloudpickle.loads(cloudpickle.dumps((searcher, PackPruning(searcher))))
    assert followed._searcher is again
    assert not again.running


def test_what_failed_alone_is_known_to_have_failed(tmp_path: Path) -> None:
    run = Run(SPEC | {"resources": {"pack_size": 1}}, tmp_path)
    for name in "ab":
        run.suggest(name)
    run.end("a")
    run.end("b", "ERROR")
    run.save()
    again = run.restored()
    assert sorted(again.trials["status"]) == ["completed", "failed"]
    assert len(drain(again)) == 10


def test_a_pack_in_flight_that_tune_leaves_is_not_waited_for(tmp_path: Path) -> None:
    run = Run(SPEC, tmp_path)
    run.suggest("a")
    run.save()
    again = run.restored()
    drain(again)
    assert list(again.running) == ["a"]
    again.on_trial_complete("a", error=True)  # too late to go on one by one
    assert len(again.trials) == 12


def test_a_pack_in_flight_that_fails_at_once_goes_on_one_by_one(tmp_path: Path) -> None:
    run = Run(SPEC, tmp_path)
    run.suggest("a")
    run.save()
    again = run.restored()
    again.on_trial_result("a", {})
    again.on_trial_complete("a", error=True)
    assert again.suggest("b")["trial_ids"] == run.configs["a"]["trial_ids"][:1]
    finish(again, "b", {"trials": [], "trial_ids": []})
    named = [name for config in drain(again).values() for name in config["trial_ids"]]
    assert len(named) == len(set(named)) == 11


def test_state_of_other_numerics_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PackSearcher(SPEC).save(str(tmp_path / "state"))
    monkeypatch.setattr(tune_search, "NUMERICS_VERSION", 99)
    with pytest.raises(BadInput, match=r"Tuner.restore: .* start a new Tuner"):
        PackSearcher(SPEC).restore(str(tmp_path / "state"))


def test_a_database_of_optuna_s_is_gone_on_with(tmp_path: Path) -> None:
    strategy = ADAPTIVE["strategy"] | {"storage": f"sqlite:///{tmp_path}/optuna.db"}
    first = PackSearcher(ADAPTIVE | {"strategy": strategy})
    done, lost = first.suggest("a"), first.suggest("b")
    finish(first, "a", done)
    second = PackSearcher(ADAPTIVE | {"strategy": strategy})
    named = [name for config in drain(second).values() for name in config["trial_ids"]]
    assert not set(named) & set(done["trial_ids"])
    assert set(named) > set(lost["trial_ids"])
    assert len(named) + len(done["trial_ids"]) == 14


@pytest.mark.parametrize("samples", [1, 10])
def test_tune_s_own_number_of_samples_is_refused(samples: int) -> None:
    with pytest.raises(BadInput, match=rf"num_samples: {samples} .*num_samples=-1"):
        PackSearcher(SPEC).set_search_properties(None, None, {}, num_samples=samples)
    assert PackSearcher(SPEC).set_search_properties(None, None, {}, num_samples=-1) is False


def test_a_pruner_that_nobody_asks_is_refused() -> None:
    strategy = ADAPTIVE["strategy"] | {"pruner": "median"}
    searcher = PackSearcher(ADAPTIVE | {"strategy": strategy})
    with pytest.raises(BadInput, match=r"strategy.pruner: .*callbacks=\[PackPruning\(searcher"):
        searcher.suggest("a")
    PackPruning(searcher).setup(stop=None)
    assert searcher.suggest("a")["report_seconds"] == 0


def test_bad_specs_and_arguments() -> None:
    with pytest.raises(BadInput, match=r"axes.latent_dim"):
        PackSearcher(SPEC, ["axes.latent_dim=-1"])
    with pytest.raises(BadInput, match="overrides"):
        PackSearcher(load_spec(SPEC), ["axes.latent_dim=3"])


def test_rows_whose_checkpoint_is_gone_are_not_passed_over() -> None:
    config = PackSearcher(SPEC).suggest("a")
    kept: dict[str, Any] = {"config": config, "error": None, "checkpoint": None}
    done = SimpleNamespace(**kept, metrics=result_of(config))
    with pytest.raises(BadInput, match=rf"results: {config['pack_id']} was done, .* keep the file"):
        pack_rows([done])  # type: ignore[arg-type]
    stopped = SimpleNamespace(**kept, metrics=result_of(config, only=1))
    rows = pack_rows([stopped])  # type: ignore[arg-type]
    assert set(rows.trials["status"]) == {"completed", "pruned"}
    assert rows.units.empty


def test_a_trial_that_failed_and_ran_again_counts_once() -> None:
    searcher = PackSearcher(SPEC)
    config = searcher.suggest("a")
    both: dict[str, Any] = {"config": config, "checkpoint": None}
    failed = SimpleNamespace(**both, error=RuntimeError("first\nlast line"), metrics={})
    again = SimpleNamespace(**both, error=None, metrics=result_of(config, only=1))
    unknown = SimpleNamespace(config=None, error=RuntimeError(), metrics=None, checkpoint=None)
    for results in ([failed, again, unknown], [unknown, again, failed]):
        rows = pack_rows(results).trials  # type: ignore[arg-type]
        assert set(rows["status"]) == {"completed", "pruned"}
    assert set(pack_rows([failed]).trials["error"]) == {"last line"}  # type: ignore[arg-type]


def test_rows_need_no_result() -> None:
    searcher = PackSearcher(SPEC)
    searcher.suggest("a")
    rows = ended_rows("plain", searcher.running["a"], {})
    assert {row["status"] for row in rows} == {"pruned"}


def test_study_imports_no_ray_for_it() -> None:
    code = "import sys, study; print({'ray', 'torch', 'optuna'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_running_a_study_leaves_tune_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import logging
    import os

    from study.ray_run import _TUNE_SETTINGS, _tune_settings

    for name in _TUNE_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "1")
    before, level = dict(os.environ), logging.getLogger("ray.tune").level
    with _tune_settings():
        assert os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] == "1"
        assert os.environ["RAY_AIR_NEW_OUTPUT"] == "1"
    assert dict(os.environ) == before
    assert logging.getLogger("ray.tune").level == level
