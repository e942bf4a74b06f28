"""A study in which Optuna chooses: through the command line, killed and resumed, and extended."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tests.end_to_end.command import (
    CPUS,
    free_port,
    left_over,
    started,
    succeed,
    table,
    vae_study,
    wait_until,
    write_spec,
)

pytestmark = pytest.mark.usefixtures("shared_ray")

POINTS, EPOCHS = 10, 9
SPEC: dict[str, Any] = {
    "study": "adaptive",
    "dataset": {"name": "tiles", "train_images": 600, "test_images": 100},
    "axes": {
        "architecture": {"family": "dense", "depth": [1, 2], "width": 16},
        "latent_dim": 4,
        "beta": {"log_range": [0.05, 5.0]},
        "learning_rate": {"log_range": [0.0001, 0.01]},
        "seed": [0, 1],
    },
    "training": {"epochs": EPOCHS, "precision": "float64"},
    "resources": {"pack_size": 4, "checkpoint_seconds": 0},
    "strategy": {
        "name": "optuna",
        "points": POINTS,
        "objectives": {"maximise": "test_elbo"},
        "constraints": ["active_units <= 3"],
        "pruner": {"name": "successive_halving", "min_resource": 1, "reduction_factor": 3},
        "first": [{"beta": 1.0, "depth": 2}],
    },
}


def of_optuna(folder: Path, study: str = "adaptive") -> list[optuna.trial.FrozenTrial]:
    journal = folder / "studies" / study / "optuna.journal"
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(study_name=study, storage=storage).get_trials()


def assert_in_line(folder: Path, points: int = POINTS) -> None:
    """Each of Optuna's trials is what the tables say of its seeds, and there are no others."""
    trials = table(folder, "adaptive", "trials").set_index("trial_id")
    epochs = table(folder, "adaptive", "epochs")
    frozen = of_optuna(folder)
    # A driver that died, or a journal that lost its end, leaves proposals without a name: failed.
    nameless = [trial for trial in frozen if "trial_ids" not in trial.user_attrs]
    assert {trial.state for trial in nameless} <= {TrialState.FAIL}
    frozen = [trial for trial in frozen if trial not in nameless]
    assert len(frozen) == points
    named = [trial_id for trial in frozen for trial_id in trial.user_attrs["trial_ids"]]
    assert sorted(named) == sorted(trials.index)
    assert len(set(named)) == 2 * points
    assert set(table(folder, "adaptive", "plan")["trial_id"]) == set(named)
    for trial in frozen:
        own = trials.loc[trial.user_attrs["trial_ids"]]
        assert own["beta"].nunique() == 1
        assert trial.params["beta"] == pytest.approx(own["beta"].iloc[0], rel=1e-11)
        assert {trial.params["depth"]} == set(own["depth"])
        history = epochs[epochs["trial_id"].isin(own.index)].groupby("epoch")["test_elbo"].mean()
        expected = history[history.index.isin(trial.intermediate_values)].to_dict()
        assert trial.intermediate_values == pytest.approx(expected)
        if set(own["status"]) == {"completed"}:
            assert trial.state == TrialState.COMPLETE
            assert trial.value == pytest.approx(own["test_elbo"].mean())
            assert trial.constraints["active_units <= 3"] == own["active_units"].mean() - 3
        else:
            assert set(own["status"]) == {"pruned"}
            assert trial.state == TrialState.PRUNED
            assert own["epochs_trained"].nunique() == 1
            assert own["epochs_trained"].iloc[0] < EPOCHS


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adaptive")
    done = succeed(folder, "run", write_spec(folder, SPEC))
    assert "pruned" in done
    return folder


def test_tables_and_optuna_tell_the_same(ran: Path) -> None:
    assert_in_line(ran)
    states = Counter(trial.state for trial in of_optuna(ran))
    assert states[TrialState.COMPLETE] > 0
    assert states[TrialState.PRUNED] > 0
    first = of_optuna(ran)[0]
    assert (first.params["beta"], first.params["depth"]) == (1.0, 2)
    assert left_over(ran / "studies" / "adaptive") == []
    assert f"{2 * POINTS} of {2 * POINTS} trials done" in succeed(ran, "status", "adaptive")


def test_it_knows_when_it_is_done_and_goes_on_with_more_points(ran: Path, tmp_path: Path) -> None:
    again = vae_study(ran, "resume", "adaptive")
    assert again.returncode == 0
    assert f"all {POINTS} points have been tried" in again.stderr
    spec = write_spec(ran, SPEC)
    more = ["--set", f"strategy.points={POINTS + 2}"]
    refused = vae_study(ran, "run", spec, *more)
    assert refused.returncode == 2
    assert "--extend" in refused.stderr
    for change in ("strategy.objectives.minimise=test_kl", "training.epochs=5"):
        refused = vae_study(ran, "run", spec, "--set", change, "--extend")
        assert refused.returncode == 2, refused.stderr
    before = table(ran, "adaptive", "trials")
    succeed(ran, "run", spec, *more, "--extend")
    after = table(ran, "adaptive", "trials")
    kept = after[after["trial_id"].isin(before["trial_id"])]
    assert len(after) == len(before) + 4
    pd.testing.assert_frame_equal(
        *(f.sort_values("trial_id", ignore_index=True) for f in (kept, before))
    )
    assert_in_line(ran, POINTS + 2)


@pytest.mark.parametrize(
    "lost",
    [
        "the journal's end",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("nothing", "journal")),
    ],
)
def test_killed_it_goes_on_and_repeats_nothing(tmp_path: Path, lost: str) -> None:
    spec = write_spec(tmp_path, SPEC)
    trials = tmp_path / "studies" / "adaptive" / "trials"
    with started(tmp_path, "run", spec, *CPUS) as driver:
        wait_until(lambda: len(list(trials.glob("pack-*.parquet"))) >= 2, what="two packs")
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    before = table(tmp_path, "adaptive", "trials")
    journal = tmp_path / "studies" / "adaptive" / "optuna.journal"
    if lost == "journal":
        journal.unlink()
    elif lost == "the journal's end":  # as a power cut leaves it
        os.truncate(journal, journal.stat().st_size - 15)
    succeed(tmp_path, "resume", "adaptive")
    after = table(tmp_path, "adaptive", "trials")
    kept = after[after["trial_id"].isin(before["trial_id"])]
    pd.testing.assert_frame_equal(
        *(f.sort_values("trial_id", ignore_index=True) for f in (kept, before))
    )
    assert_in_line(tmp_path)


BAD = [
    ("strategy.objectives.maximise=test_elbow", "strategy.objectives.0: 'test_elbow' is no measur"),
    ("strategy.constraints=[beta <= 1]", "strategy.constraints.0: 'beta' is no measured column"),
    ("strategy.constraints=[active_units]", "strategy.constraints: 'active_units' is not a compar"),
    (
        "strategy.sampler=tpo",
        "strategy.sampler: 'tpo' is not a sampler of Optuna (did",
    ),
    ("strategy.sampler={name: tpe, n_start: 3}", "strategy.sampler.n_start: TPESampler has no suc"),
    ("strategy.pruner=halving", "strategy.pruner: 'halving' is not a pruner of Optuna"),
    (
        "strategy.objectives=[{maximise: test_elbo}, {minimise: active_units}]",
        "strategy: has the p",
    ),
    ("strategy.objectives.maximise=test_mse", "strategy.pruner: 'successive_halving' goes by the"),
    ("strategy.first=[{beta: 9}]", "strategy.first.0.beta: 9 is not among the values of its axis"),
    ("strategy.first=[{betta: 1}]", "strategy.first.0.betta: is nothing that Optuna may choose"),
    ("strategy.storage=postgresql://u:secret@127.0.0.1:9/none", "strategy.storage: 'postgresql:"),
    ("axes.data_seed=[0, 1]", "axes.data_seed: [0, 1] is not allowed with a pruner"),
    ("axes={architecture: linear, latent_dim: 4}", "axes: each has a single value"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[change for change, _ in BAD])
def test_what_cannot_be_sought_is_one_error(tmp_path: Path, change: str, message: str) -> None:
    spec = write_spec(tmp_path, SPEC)
    refused = vae_study(tmp_path, "run", spec, "--set", change)
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.strip().startswith(f"vae-study: {message}"), refused.stderr
    assert "Traceback" not in refused.stderr
    assert "secret" not in refused.stderr
    assert not (tmp_path / "studies" / "adaptive" / "trials").exists()


def test_failures_are_not_retried_behind_optuna_s_back(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, SPEC)
    refused = vae_study(tmp_path, "run", spec, "--retry-failed")
    assert refused.returncode == 2
    assert "--retry-failed: Optuna has been told" in refused.stderr


def test_a_plan_says_what_it_would_take_at_most(tmp_path: Path) -> None:
    planned = succeed(tmp_path, "plan", write_spec(tmp_path, SPEC))
    words = " ".join(planned.split())
    assert f"adaptive: {2 * POINTS} trials at most, chosen by Optuna (tpe), pruned by" in words
    assert not (tmp_path / "studies").exists()


@pytest.mark.slow
def test_the_dashboard_shows_it_while_it_runs_and_afterwards(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, SPEC)
    journal = tmp_path / "studies" / "adaptive" / "optuna.journal"
    longer = ["--set", "training.epochs=60", "--set", "dataset.train_images=1000"]
    with started(tmp_path, "run", spec, *longer, *CPUS) as driver:
        wait_until(journal.exists, what="Optuna's journal")
        with dashboard(journal) as ask:
            wait_until(lambda: "Running" in states(ask("api/studies/0")), what="a proposal")
            assert driver.poll() is None
            assert driver.wait(240) == 0
            done = ask("api/studies/0")
            (listed,) = ask("api/studies")["study_summaries"]
    assert (listed["study_name"], listed["directions"]) == ("adaptive", ["maximize"])
    assert done["objective_names"] == ["maximise test_elbo"]
    rows = table(tmp_path, "adaptive", "trials").set_index("trial_id")
    epochs = table(tmp_path, "adaptive", "epochs")
    assert len(done["trials"]) == POINTS
    assert states(done) == {"Complete", "Pruned"}
    seen = set()
    for trial in done["trials"]:
        (ids,) = (json.loads(a["value"]) for a in trial["user_attrs"] if a["key"] == "trial_ids")
        own = rows.loc[ids]
        seen |= set(ids)
        state = "Complete" if set(own["status"]) == {"completed"} else "Pruned"
        assert trial["state"] == state
        shown = {p["name"]: float(p["param_external_value"]) for p in trial["params"]}
        assert set(shown) == {"beta", "learning_rate", "depth"}
        for name, value in shown.items():
            assert value == pytest.approx(own[name].iloc[0], rel=1e-11)
        history = epochs[epochs["trial_id"].isin(ids)].groupby("epoch")["test_elbo"].mean()
        assert trial["intermediate_values"]
        for step in trial["intermediate_values"]:
            assert step["value"] == pytest.approx(history[step["step"]])
    assert seen == set(rows.index)


def states(study: dict[str, Any]) -> set[str]:
    return {trial["state"] for trial in study["trials"]}


@contextmanager
def dashboard(storage: Path) -> Iterator[Callable[[str], Any]]:
    """optuna-dashboard on a journal; yields a function that asks it."""
    port = free_port()
    command = Path(sys.executable).with_name("optuna-dashboard")
    server = subprocess.Popen(
        [command, "--port", str(port), str(storage)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=30) as answer:
            return json.load(answer)

    def answers() -> bool:
        try:
            return bool(ask("api/studies"))
        except OSError:
            return False

    try:
        wait_until(answers, what="the dashboard")
        yield ask
    finally:
        server.kill()
        server.wait()


def test_it_starts_from_what_another_study_found(ran: Path) -> None:
    before = of_optuna(ran)
    warm = SPEC | {
        "study": "warm",
        "strategy": SPEC["strategy"] | {"points": 2, "first": [], "warm_start": "adaptive"},
        "axes": SPEC["axes"] | {"seed": [7]},
    }
    spec = write_spec(ran, warm)
    nothing = vae_study(ran, "run", spec, "--set", "training.epochs=2")
    assert nothing.returncode == 2
    assert "strategy.warm_start.0: none of the" in nothing.stderr
    assert "the nearest differ in epochs" in nothing.stderr
    assert not (ran / "studies" / "warm").exists()
    succeed(ran, "run", spec)
    after = of_optuna(ran, "warm")
    assert len(after) == len(before) + 2
    told = [t for t in after if t.user_attrs.get("warm_start") == "adaptive"]
    by_beta = [sorted(trials, key=lambda t: t.params["beta"]) for trials in (told, before)]
    for ours, theirs in zip(*by_beta, strict=True):
        assert ours.state == theirs.state
        assert ours.params == pytest.approx(theirs.params, rel=1e-11)
        assert ours.values == pytest.approx(theirs.values)
        assert ours.intermediate_values == pytest.approx(theirs.intermediate_values)
    assert len(table(ran, "warm", "trials")) == 2
    again = vae_study(ran, "resume", "warm")
    assert "all 2 points have been tried" in again.stderr
    assert len(of_optuna(ran, "warm")) == len(after)


def test_a_storage_made_from_the_tables_is_what_optuna_was_told(ran: Path) -> None:
    url = f"sqlite:///{ran / 'exported.db'}"
    told = of_optuna(ran)
    assert f"{len(told)} points added, 0 were there" in succeed(
        ran, "optuna-export", "adaptive", "--storage", url
    )
    assert "0 points added" in succeed(ran, "optuna-export", "adaptive", "--storage", url)
    exported = optuna.load_study(study_name="adaptive", storage=url).get_trials()
    by_ids = {tuple(trial.user_attrs["trial_ids"]): trial for trial in exported}
    for trial in told:
        again = by_ids[tuple(trial.user_attrs["trial_ids"])]
        assert again.state == trial.state
        assert again.params == pytest.approx(trial.params, rel=1e-11)
        assert again.distributions == trial.distributions
        assert again.values == pytest.approx(trial.values)
        assert again.intermediate_values == pytest.approx(trial.intermediate_values)
        assert again.constraints == pytest.approx(trial.constraints)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--maximise", "test_elbow"], "--maximise: 'test_elbow' is no measured column"),
        (["--target", "active_units"], "--target: 'active_units' is not a comparison"),
        (["--target", "active_units <= 8"], "--target: 'active_units <= 8' is no target"),
        (["--constraint", "beta <= 8"], "--constraint: 'beta' is no measured column"),
        (["--storage", "postgresql://u:secret@127.0.0.1:9/n"], "--storage: 'postgresql://u:***@"),
        (["--storage", "spec.yaml"], "--storage: 'spec.yaml' is no journal file"),
    ],
)
def test_what_cannot_be_exported_is_one_error(ran: Path, options: list[str], message: str) -> None:
    export = ("optuna-export", "adaptive", "--storage", "new.journal")
    refused = vae_study(ran, *export, *options)
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.startswith(f"vae-study: {message}"), refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (ran / "new.journal").exists()
