"""Studies of all kinds in Optuna's words, against pandas on their tables."""

from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search_spaces import BadInput, Goal, StudySpec, load_spec
from study.adaptive.export import export_to_optuna
from study.adaptive.tools import open_storage
from study.loading import Study, load_study
from study.storage import Folder
from study.tables import to_table
from tests.analysis.simulated_study import random_spec, simulated_spec, write_simulated_study

ELBO = [Goal(maximise="test_elbo")]
SEEDS = ["seed", "data_seed", "trial_id"]


def simulated(folder: Path, spec: StudySpec) -> Study:
    return load_study(write_simulated_study(folder / spec.study, spec=spec, pack_size=5))


def exported(storage: BaseStorage, name: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=storage).get_trials()


def without_failures(study: Study) -> int:
    """Points of which no trial failed."""
    points = ["architecture", "latent_dim", "beta", "initialisation", "decoder", "decoder_variance"]
    failed = study.trials["status"] == "failed"
    return int((~failed.groupby([study.trials[p] for p in points], dropna=False).any()).sum())


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return simulated(tmp_path_factory.mktemp("grid"), simulated_spec(120, "grid"))


def test_each_point_is_one_trial_with_the_means_over_its_seeds(grid: Study) -> None:
    storage = InMemoryStorage()
    counts = export_to_optuna(grid, storage, "grid", ELBO, ["active_units <= 8"])
    whole = without_failures(grid)
    assert (counts.added, counts.there, counts.unfinished) == (whole, 0, 40 - whole)
    assert whole < 40
    trials = grid.trials.set_index("trial_id")
    epochs = grid.epochs
    states = set()
    for point in exported(storage, "grid"):
        own = trials.loc[point.user_attrs["trial_ids"]]
        assert sorted(own["seed"]) == [0, 1, 2]
        for name, value in point.params.items():
            assert set(own[name]) == {value}
        assert set(point.params) == {
            "architecture",
            "latent_dim",
            "beta",
            "initialisation",
        }
        states.add(point.state)
        if set(own["status"]) != {"completed"}:
            assert point.state == TrialState.FAIL
            assert point.values is None
            continue
        assert point.state == TrialState.COMPLETE
        assert point.value == pytest.approx(own["test_elbo"].mean())
        assert point.constraints == {
            "active_units <= 8": pytest.approx(own["active_units"].mean() - 8)
        }
        assert point.user_attrs["active_units"] == pytest.approx(own["active_units"].mean())
        theirs = epochs[epochs["trial_id"].isin(own.index) & (epochs["epoch"] > 0)]
        by_epoch = theirs.groupby("epoch")["test_elbo"]
        of_all = by_epoch.mean()[by_epoch.count() == 3]
        assert point.intermediate_values == pytest.approx(of_all.to_dict())
        assert point.datetime_start is not None
        started = own["started_at"].min().floor("us").to_pydatetime()
        assert point.datetime_start.astimezone() == started
    assert states == {TrialState.COMPLETE, TrialState.FAIL}


def test_numbers_are_ranges_and_names_are_categories(grid: Study) -> None:
    storage = InMemoryStorage()
    export_to_optuna(grid, storage, "grid", ELBO)
    (first, *_) = exported(storage, "grid")
    assert first.distributions == {
        "architecture": CategoricalDistribution(["conv-16-32", "dense-256-32-24"]),
        "latent_dim": IntDistribution(4, 28),
        "beta": FloatDistribution(0.5, 2.0),
        "initialisation": CategoricalDistribution(["glorot", "torch"]),
    }


def test_wide_ranges_are_logarithmic(tmp_path: Path) -> None:
    study = simulated(tmp_path, random_spec(30, "drawn"))
    storage = InMemoryStorage()
    export_to_optuna(study, storage, "drawn", ELBO)
    ranges = exported(storage, "drawn")[0].distributions
    assert ranges["beta"].log is True  # type: ignore[attr-defined]
    assert ranges["learning_rate"].log is True  # type: ignore[attr-defined]
    assert ranges["latent_dim"].low >= 2  # type: ignore[attr-defined]


def test_once_more_adds_what_is_new(grid: Study, tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "a.journal")
    export_to_optuna(grid, storage, "s", ELBO)
    again = export_to_optuna(grid, open_storage(tmp_path / "a.journal"), "s", ELBO)
    whole = without_failures(grid)
    assert (again.added, again.there) == (0, whole)
    assert len(exported(storage, "s")) == whole


def test_a_point_that_failed_follows_when_it_was_run_again(grid: Study, tmp_path: Path) -> None:
    folder = write_simulated_study(tmp_path / "grid", spec=grid.spec, pack_size=5)
    storage = InMemoryStorage()
    first = export_to_optuna(load_study(folder), storage, "s", ELBO)
    for file in (tmp_path / "grid" / "trials").glob("failed-*.parquet"):
        rows = pd.read_parquet(file).assign(status="diverged")  # the next attempt did
        pq.write_table(to_table("trials", rows), file)
    second = export_to_optuna(load_study(folder), storage, "s", ELBO)
    assert second.added == first.unfinished > 0
    assert (second.there, second.unfinished) == (first.added, 0)


def test_points_without_all_their_seeds_are_left_out(grid: Study, tmp_path: Path) -> None:
    folder = write_simulated_study(tmp_path / "grid", spec=grid.spec, pack_size=5)
    (tmp_path / "grid" / "trials").glob("*.parquet")
    removed = next((tmp_path / "grid" / "trials").glob("*.parquet"))
    gone = set(pd.read_parquet(removed)["trial_id"])
    removed.unlink()
    storage = InMemoryStorage()
    counts = export_to_optuna(load_study(folder), storage, "s", ELBO)
    named = {i for point in exported(storage, "s") for i in point.user_attrs["trial_ids"]}
    assert not named & gone
    points = grid.trials.groupby(["architecture", "latent_dim", "beta", "initialisation"])
    failed = set(grid.trials.loc[grid.trials["status"] == "failed", "trial_id"])
    whole = sum(not set(own["trial_id"]) & (gone | failed) for _, own in points)
    assert (counts.added, counts.unfinished) == (whole, 40 - whole)
    assert 0 < whole < 40


def test_other_objectives_under_the_same_name_are_refused(grid: Study) -> None:
    storage = InMemoryStorage()
    export_to_optuna(grid, storage, "s", ELBO)
    several = [Goal(target="active_units == 8"), Goal(minimise="test_kl")]
    for goals in (several, [Goal(minimise="test_elbo")], [Goal(maximise="train_elbo")]):
        with pytest.raises(BadInput, match="'s' in this storage is to maximise test_elbo, and"):
            export_to_optuna(grid, storage, "s", goals)
    export_to_optuna(grid, storage, "t", several)
    of_trial = grid.trials.set_index("trial_id")
    for point in exported(storage, "t"):
        if point.state == TrialState.COMPLETE:
            own = of_trial.loc[point.user_attrs["trial_ids"]]
            distance = abs(own["active_units"].mean() - 8)
            assert point.values == pytest.approx([distance, own["test_kl"].mean()])
            assert point.intermediate_values == {}  # Optuna follows one objective only


def test_other_parameters_under_the_same_name_are_refused(grid: Study, tmp_path: Path) -> None:
    storage = InMemoryStorage()
    other = simulated(tmp_path, random_spec(5, "drawn", architecture=["dense-32", "dense-128"]))
    export_to_optuna(grid, storage, "s", ELBO)
    with pytest.raises(
        BadInput, match=r"--name: 'architecture' is Categorical.* in Optuna's study 's', and"
    ):
        export_to_optuna(other, storage, "s", ELBO)
    assert len(exported(storage, "s")) == without_failures(grid)


ADAPTIVE: dict[str, Any] = {
    "study": "adaptive",
    "dataset": "mnist",
    "axes": {
        "architecture": ["dense-32", "dense-128"],
        "latent_dim": 16,
        "beta": [0.5, 1, 2],
        "seed": [0, 1],
    },
    "training": {"epochs": 20},
}


def test_parts_and_settings_that_not_all_have(tmp_path: Path) -> None:
    axes = ADAPTIVE["axes"]
    parts = {
        "a": {"axes": axes},
        "b": {"axes": axes | {"decoder": "gaussian", "decoder_variance": [0.1, 0.5]}},
    }
    spec = load_spec({"study": "parts", "dataset": "mnist", "parts": parts})
    study = simulated(tmp_path, spec)
    storage = InMemoryStorage()
    assert export_to_optuna(study, storage, "parts", ELBO).added == without_failures(study)
    for point in exported(storage, "parts"):
        gaussian = point.params["decoder"] == "gaussian"
        assert ("decoder_variance" in point.params) == gaussian
        assert "epochs" not in point.params


def test_a_search_keeps_its_parameters(tmp_path: Path) -> None:
    """A grid's rows under the spec of a search: Optuna goes on from all of its points."""
    spec = load_spec(ADAPTIVE)
    folder = write_simulated_study(tmp_path / "adaptive", spec=spec, pack_size=5)
    strategy = {"name": "optuna", "points": 6, "objectives": {"maximise": "test_elbo"}}
    searched = load_spec(ADAPTIVE | {"strategy": strategy})
    study = Study(Folder.at(folder.path), searched, {})
    storage = InMemoryStorage()
    assert export_to_optuna(study, storage, "s", ELBO).added == 6
    for point in exported(storage, "s"):
        assert point.distributions == {
            "architecture": CategoricalDistribution(["dense-32", "dense-128"]),
            "beta": CategoricalDistribution([0.5, 1.0, 2.0]),
        }
    proposal = optuna.load_study(study_name="s", storage=storage).ask()
    assert proposal.suggest_categorical("beta", [0.5, 1.0, 2.0]) in (0.5, 1.0, 2.0)
