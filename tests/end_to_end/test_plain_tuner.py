"""A Ray Tune user's own Tuner over the packs of a spec, against a study of the same spec."""

import json
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pandas as pd
import pytest
import ray
from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter

import study.tune_search
from search_spaces import BadInput
from study import PackPruning, PackSearcher, PackTrainable, pack_rows, run_study
from study.tables import KEYS
from tests.end_to_end.command import TIMES, environment
from tests.end_to_end.tune_faults import LOG, DyingPack, FailingPack, LoggedPack, TornPack

ROOT = Path(__file__).resolve().parents[2]
SPEC: dict[str, Any] = {
    "study": "plain",
    "dataset": {"name": "tiles", "train_images": 300, "test_images": 60},
    "axes": {
        "architecture": [{"family": "dense", "widths": [16]}, {"family": "conv", "channels": [4]}],
        "latent_dim": [2, 3],
        "seed": {"range": [0, 3]},
    },
    "training": {"epochs": 3},
    "record": {"every": 1, "models": True, "samples": 2},
    "resources": {"checkpoint_seconds": 0},
}
ADAPTIVE = SPEC | {
    "axes": {
        "architecture": {"family": "dense", "depth": [1, 2], "width": 16},
        "latent_dim": 4,
        "beta": {"log_range": [0.05, 5.0]},
        "seed": [0, 1],
    },
    "strategy": {
        "name": "optuna",
        "points": 8,
        "objectives": {"maximise": "test_elbo"},
        "constraints": ["active_units <= 3"],
    },
}
TABLES = ("trials", "units", "epochs", "samples")


@pytest.fixture(scope="module", autouse=True)
def own_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray of the user's; where packs log what they do."""
    log = tmp_path_factory.mktemp("log") / "epochs.txt"
    own = {LOG: str(log), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": own},
    )
    yield log
    ray.shutdown()


@pytest.fixture
def log(own_ray: Path) -> Path:
    own_ray.unlink(missing_ok=True)
    return own_ray


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, own_ray: Path) -> Any:
    return run_study(SPEC, storage=tmp_path_factory.mktemp("studies"))


def tune_it(
    searcher: Any,
    place: Path,
    trainable: Any = PackTrainable,
    most: int | None = 1,
    scheduler: Any = None,
    reuse: bool = True,
    **run: Any,
) -> tune.ResultGrid:
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=most,
            scheduler=scheduler,
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(name="run", storage_path=str(place), verbose=0, **run),
    )
    return tuner.fit()


def only(rows: Any, trial_ids: "pd.Series[str]") -> SimpleNamespace:
    """The rows of some trials."""
    frames = ((name, getattr(rows, name)) for name in TABLES)
    return SimpleNamespace(**{name: f[f["trial_id"].isin(trial_ids)] for name, f in frames})


def assert_same(rows: Any, undisturbed: Any) -> None:
    """Each table has the numbers of the study, to the last bit."""
    for name in TABLES:
        ours, theirs = getattr(rows, name), getattr(undisturbed, name)
        own_times = [column for column in TIMES if column in ours]
        assert len(ours) == len(theirs) > 0
        pd.testing.assert_frame_equal(
            *(
                frame.drop(columns=own_times).sort_values(KEYS[name], ignore_index=True)
                for frame in (ours, theirs)
            ),
            check_exact=True,
            check_dtype=False,  # a column that has null in other rows
        )


def of_optuna(searcher: PackSearcher) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="plain", storage=searcher._optuna).get_trials()


def assert_told(rows: pd.DataFrame, told: list[optuna.trial.FrozenTrial], points: int) -> None:
    """Each of Optuna's trials is what the rows say of its seeds."""
    trials = rows.set_index("trial_id")
    named = [trial_id for trial in told for trial_id in trial.user_attrs["trial_ids"]]
    assert len(told) == points
    assert sorted(named) == sorted(trials.index)
    for trial in told:
        own = trials.loc[trial.user_attrs["trial_ids"]]
        assert len(own) == 2
        assert own["beta"].nunique() == 1
        assert trial.params["beta"] == pytest.approx(own["beta"].iloc[0], rel=1e-11)
        if set(own["status"]) == {"completed"}:
            assert trial.state == TrialState.COMPLETE
            assert trial.value == pytest.approx(own["test_elbo"].mean())
            violation = own["active_units"].mean() - 3
            assert trial.constraints["active_units <= 3"] == violation
        else:
            assert set(own["status"]) <= {"completed", "pruned"}
            assert trial.state == TrialState.PRUNED


def test_the_example(tmp_path: Path) -> None:
    """As it stands in the module, with all of Tune's loggers, in a process of its own."""
    text = (study.tune_search.__doc__ or "").splitlines()
    example = textwrap.dedent("\n".join(line for line in text if line[:4].strip() == ""))
    more = "\nassert len(rows.trials) == 12 and len(searcher.trials) == 12"
    code = f"storage_path = {str(tmp_path)!r}\n{example}{more}"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    # Ray ends workers with SIGTERM; in the midst of a destructor they print what that raises.
    own = [line for line in ran.stderr.splitlines() if "(PackTrainable pid=" not in line]
    assert "Traceback" not in "\n".join(own)


def test_a_grid_has_a_study_s_numbers_and_tune_s_logs(tmp_path: Path, undisturbed: Any) -> None:
    searcher = PackSearcher(SPEC)
    results = tune_it(searcher, tmp_path, most=2, reuse=False)
    rows = pack_rows(results)
    assert_same(rows, undisturbed)
    pd.testing.assert_frame_equal(rows.trials, searcher.trials)
    assert set(rows.models) == set(rows.trials["trial_id"])
    sizes = Counter(rows.trials["pack_id"])
    assert len(results) == len(sizes)
    for result in results:
        place = Path(result.path)
        config = json.loads((place / "params.json").read_text())
        assert config == result.config
        lines = [json.loads(line) for line in (place / "result.json").read_text().splitlines()]
        assert [row["trial_id"] for row in lines[-1]["trials"]] == config["trial_ids"]
        own = rows.trials[rows.trials["trial_id"].isin(config["trial_ids"])]
        assert lines[-1]["test_elbo"] == pytest.approx(own["test_elbo"].mean())
        assert pd.read_csv(place / "progress.csv")["test_elbo"].iloc[-1] == lines[-1]["test_elbo"]
        assert list(place.glob("events.out.tfevents.*"))
        assert result.metrics["done"]
    (state,) = (tmp_path / "run").glob("experiment_state-*.json")
    units = sum(rows.units.memory_usage(deep=True)) + sum(map(len, rows.models.values()))
    assert state.stat().st_size < units  # it is written again and again


def test_a_worker_that_dies_goes_on_from_tune_s_checkpoint(
    tmp_path: Path, undisturbed: Any, log: Path
) -> None:
    searcher = PackSearcher(SPEC, ["axes.latent_dim=2"], report_seconds=0)
    results = tune_it(
        searcher,
        tmp_path,
        DyingPack,
        most=2,
        failure_config=tune.FailureConfig(max_failures=1),
        checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
    )
    assert results.num_errors == 0
    ours = undisturbed.trials.query("latent_dim == 2")
    assert_same(pack_rows(results), only(undisturbed, ours["trial_id"]))
    packs = set(ours["pack_id"])
    assert len(list(log.parent.glob("*-died"))) == len(results)
    steps = Counter(log.read_text().splitlines())
    assert len(packs) <= len(results)
    assert set(steps.values()) == {1}, steps  # no epoch was trained twice


def test_a_lane_that_fails_harms_no_other(tmp_path: Path, undisturbed: Any) -> None:
    searcher = PackSearcher(SPEC, ["axes.latent_dim=2"], report_seconds=0)
    results = tune_it(searcher, tmp_path, FailingPack)
    assert results.num_errors == 4  # two packs, and of each the lane by itself
    rows = pack_rows(results)
    for trials in (rows.trials, searcher.trials):
        failed = trials["status"] == "failed"
        assert (failed == (trials["seed"] == 1)).all()
        assert len(trials) == 8
    assert rows.trials.loc[rows.trials["status"] == "failed", "error"].str.contains("told to").all()
    well = undisturbed.trials.query("seed != 1 and latent_dim == 2")["trial_id"]
    assert_same(only(rows, well), only(undisturbed, well))


def test_where_nothing_works_no_pack_is_taken_apart(tmp_path: Path) -> None:
    searcher = PackSearcher(SPEC, ["axes.latent_dim=2"])
    results = tune_it(searcher, tmp_path, TornPack)
    assert set(searcher.trials["status"]) == {"failed"}
    rows = pack_rows(results).trials
    assert len(results) == rows["pack_id"].nunique() == searcher.trials["pack_id"].nunique()
    assert sorted(rows["trial_id"]) == sorted(searcher.trials["trial_id"])
    assert rows["error"].str.contains("nothing works here").all()


def test_optuna_hears_and_proposes(tmp_path: Path) -> None:
    searcher = PackSearcher(ADAPTIVE)
    results = tune_it(searcher, tmp_path)
    rows = pack_rows(results)
    assert_told(rows.trials, of_optuna(searcher), 8)
    assert {trial.state for trial in of_optuna(searcher)} == {TrialState.COMPLETE}
    assert len(results) < 16  # packs


def test_a_limiter_that_holds_results_back(tmp_path: Path) -> None:
    searcher = PackSearcher(ADAPTIVE)
    limited = ConcurrencyLimiter(searcher, max_concurrent=2, batch=True)
    rows = pack_rows(tune_it(limited, tmp_path, most=None))
    assert_told(rows.trials, of_optuna(searcher), 8)


def test_a_scheduler_of_tune_s_prunes_whole_packs(tmp_path: Path) -> None:
    overrides = ["training.epochs=9", "strategy.points=12"]
    searcher = PackSearcher(ADAPTIVE, overrides, report_seconds=0)
    asha = ASHAScheduler(
        time_attr="epoch", metric="test_elbo", mode="max", max_t=9, grace_period=1,
        reduction_factor=2,
    )  # fmt: skip
    results = tune_it(searcher, tmp_path, scheduler=asha)
    rows = pack_rows(results)
    assert_told(rows.trials, of_optuna(searcher), 12)
    pruned = rows.trials.query("status == 'pruned'")
    assert len(pruned) > 0
    assert (pruned["epochs_trained"] < 9).all()
    assert pruned["test_elbo"].isna().all()
    ended = rows.epochs.groupby("trial_id")["epoch"].max()
    trained = rows.trials.set_index("trial_id")["epochs_trained"]
    assert (ended.loc[trained.index] == trained).all()  # checkpoint_seconds is 0


def test_the_pruner_of_a_spec(tmp_path: Path) -> None:
    pruner = "strategy.pruner={name: successive_halving, min_resource: 1, reduction_factor: 3}"
    overrides = ["training.epochs=9", "strategy.points=12", pruner]
    with pytest.raises(BadInput, match=r"strategy.pruner: nobody .*callbacks=\[PackPruning"):
        tune_it(PackSearcher(ADAPTIVE, overrides), tmp_path / "refused")
    searcher = PackSearcher(ADAPTIVE, overrides)
    results = tune_it(searcher, tmp_path, callbacks=[PackPruning(searcher)])
    rows = pack_rows(results)
    told = of_optuna(searcher)
    assert_told(rows.trials, told, 12)
    pruned = rows.trials.query("status == 'pruned'")
    assert 0 < len(pruned) < 24
    assert (pruned["epochs_trained"] < 9).all()
    assert pruned["test_elbo"].notna().all()
    for trial in told:
        history = rows.epochs[rows.epochs["trial_id"].isin(trial.user_attrs["trial_ids"])]
        means = history.groupby("epoch")["test_elbo"].mean()
        expected = means[means.index.isin(trial.intermediate_values)].to_dict()
        assert len(expected) > 0
        assert trial.intermediate_values == pytest.approx(expected)


KILLED = """
import json, sys
from ray import tune
from study import PackSearcher
from tests.end_to_end.tune_faults import LoggedPack, Stop

tune.Tuner(
    tune.with_resources(LoggedPack, {"cpu": 1}),
    tune_config=tune.TuneConfig(
        search_alg=PackSearcher(json.loads(sys.argv[1]), report_seconds=0),
        num_samples=-1,
        max_concurrent_trials=2,
    ),
    run_config=tune.RunConfig(
        name="run", storage_path=sys.argv[2], verbose=0, callbacks=[Stop(packs=3)]
    ),
).fit()
"""


@pytest.mark.slow
@pytest.mark.parametrize("spec", [SPEC, ADAPTIVE], ids=["grid", "optuna"])
def test_a_killed_driver_is_restored(
    tmp_path: Path, undisturbed: Any, log: Path, spec: dict[str, Any]
) -> None:
    own = {LOG: str(log), "TUNE_GLOBAL_CHECKPOINT_S": "0", "PYTHONPATH": str(ROOT)}
    arguments = [json.dumps(spec), str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        env=environment(**own) | {"RAY_ADDRESS": "local"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == -9, ran.stderr
    before = set(log.read_text().splitlines())
    tuner = tune.Tuner.restore(str(tmp_path / "run"), tune.with_resources(LoggedPack, {"cpu": 1}))
    searcher = tuner._local_tuner._tune_config.search_alg
    assert len(searcher.trials) == 0  # nothing yet: it is Tune that restores it
    tuner._local_tuner._run_config.callbacks = []
    results = tuner.fit()
    rows = pack_rows(results)
    assert set(rows.trials["status"]) == {"completed"}
    pd.testing.assert_frame_equal(rows.trials, searcher.trials)
    if spec is SPEC:
        assert_same(rows, undisturbed)
    else:
        assert_told(rows.trials, of_optuna(searcher), 8)
    last = [line for line in log.read_text().splitlines() if line.endswith(" 3")]
    repeated = [line for line, times in Counter(last).items() if times > 1]
    assert len(before) > 0
    assert len(repeated) <= 2, repeated  # those that ended after Tune's last snapshot
