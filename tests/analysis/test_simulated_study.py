from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search_spaces import plan_trials
from study import ledger
from study.loading import Study, load_study
from study.storage import Folder
from tests.analysis.simulated_study import simulated_spec, true_dimension, write_simulated_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """1,000 trials, 25 seeds for each of 40 points."""
    folder = tmp_path_factory.mktemp("studies") / "simulated"
    return load_study(write_simulated_study(folder, trials=1_000))


def files_of(folder: Folder) -> dict[str, bytes]:
    paths = sorted(Path(folder.path).rglob("*"))
    return {str(p.relative_to(folder.path)): p.read_bytes() for p in paths if p.is_file()}


def test_every_planned_trial_is_committed_and_nothing_else(study: Study) -> None:
    trials = study.trials
    planned = plan_trials(study.spec)
    assert len(planned) == 1_000
    named = [(t.architecture.name, t.latent_dim, t.beta, t.seed) for t in planned]
    columns = ["architecture", "latent_dim", "beta", "seed"]
    assert list(trials[columns].itertuples(index=False, name=None)) == named
    assert set(trials["status"]) == {"completed", "diverged", "failed"}
    before = files_of(study.folder)
    ledger.clean(study.folder)
    assert files_of(study.folder) == before


def test_files_are_those_that_commit_writes(study: Study, tmp_path: Path) -> None:
    other = Folder.at(tmp_path / "committed")
    ledger.create_tables(other)
    for pack_id, trials in study.trials.groupby("pack_id"):
        units, epochs = (
            rows[rows["trial_id"].isin(trials["trial_id"])] for rows in (study.units, study.epochs)
        )
        done = trials[trials["status"] != "failed"]
        ledger.commit(other, str(pack_id), done, units, epochs)
        for place in range(len(failed := trials[trials["status"] == "failed"])):
            empty = units[:0], epochs[:0]
            ledger.commit(other, str(pack_id), failed[place : place + 1], *empty)
    tables = {
        name: data
        for name, data in files_of(study.folder).items()
        if name.partition("/")[0] in ("trials", "units", "epochs")
    }
    assert files_of(other) == tables


def test_packs_hold_trials_that_can_be_stacked(study: Study) -> None:
    packs = study.trials.groupby("pack_id")
    assert packs["architecture"].nunique().max() == 1
    assert packs.size().max() == 64
    assert len(packs) == 16  # 500 trials of each architecture


def test_trials_say_what_their_units_say(study: Study) -> None:
    done = study.trials[study.trials["status"] != "failed"].set_index("trial_id")
    units = study.units.join(done[["epochs_trained", "beta"]], on="trial_id")
    last = units[units["epoch"] == units["epochs_trained"]]
    train = last[last["split"] == "train"]
    assert set(train["trial_id"]) == set(done.index)
    for trial_id, rows in train.groupby("trial_id"):
        trial = done.loc[trial_id]
        assert rows["unit"].tolist() == list(range(trial["latent_dim"]))
        law = (rows["posterior_variance"] + rows["mean_variance"]).to_numpy()
        assert trial["active_units"] == (rows["mean_variance"] > 0.01).sum()
        assert trial["active_units_kl"] == (rows["kl"] > 0.1).sum()
        assert trial["variance_law_mean"] == pytest.approx(np.mean(law))
        assert trial["variance_law_variance"] == pytest.approx(np.var(law))
    for split in ("train", "test"):
        kl = last[last["split"] == split].groupby("trial_id")["kl"].sum()
        pd.testing.assert_series_equal(done[f"{split}_kl"].sort_index(), kl, check_names=False)
        elbo = -(done[f"{split}_reconstruction"] + done[f"{split}_kl"])
        np.testing.assert_allclose(done[f"{split}_elbo"], elbo, rtol=1e-12)
    objective = done["train_reconstruction"] + done["beta"] * done["train_kl"]
    np.testing.assert_allclose(done["train_objective"], objective, rtol=1e-12)


def test_units_obey_equation_6_and_nearly_the_variance_law(study: Study) -> None:
    units = study.units
    variance, second_moment = units["posterior_variance"], units["second_moment"]
    assert (units["active"] == (units["mean_variance"] > 0.01)).all()
    np.testing.assert_allclose(second_moment, units["mean"] ** 2 + units["mean_variance"])
    kl = 0.5 * (second_moment + variance - np.log(variance) - 1)
    np.testing.assert_allclose(units["kl"], kl, rtol=1e-9)
    completed = study.trials[study.trials["status"] == "completed"]
    final = study.final_units.merge(completed[["trial_id", "beta"]], on="trial_id")
    law = final["posterior_variance"] + final["mean_variance"]
    assert law.groupby(final["trial_id"]).mean().mean() == pytest.approx(1.005, abs=0.01)
    assert law.between(0.85, 1.2).all()
    active = final["active"]
    assert final.loc[active, "posterior_variance"].max() <= 0.9
    assert final.loc[~active, "posterior_variance"].min() > 0.99
    assert final.loc[~active, "mean_variance"].max() < 1e-3
    pays = final["reconstruction_gain"] > final["beta"] * final["kl"]
    assert (pays == active).all()


def test_active_units_stop_at_the_true_dimension(study: Study) -> None:
    completed = study.trials[study.trials["status"] == "completed"]
    truth = np.minimum(true_dimension(completed), completed["latent_dim"])
    difference = completed["active_units"] - truth
    assert difference.abs().max() <= 2
    assert 0.3 < (difference != 0).mean() ** 0.5 < 0.5  # a normal deviate of 0.35, rounded
    by_group = completed.assign(difference=difference)[completed["latent_dim"] >= 16]
    points = ["architecture", "beta", "initialisation", "latent_dim"]
    assert by_group.groupby(points)["difference"].mean().abs().max() < 0.35
    dense = completed.assign(truth=true_dimension(completed))
    dense = dense[dense["architecture"] == "dense-256-32-24"]
    assert dense.groupby(["beta", "initialisation"])["truth"].agg(set).to_dict() == {
        (0.5, "glorot"): {12},  # 10 / 0.5 ** 0.25 = 11.9
        (0.5, "torch"): {10},
        (2.0, "glorot"): {8},  # 8.4
        (2.0, "torch"): {6},
    }


def test_which_epochs_are_recorded(study: Study) -> None:
    trials = study.trials[study.trials["status"] != "failed"].set_index("trial_id")
    of_units = study.units.groupby(["trial_id", "split"])["epoch"].agg(lambda e: sorted(set(e)))
    of_epochs = study.epochs.groupby("trial_id")["epoch"].agg(list).to_dict()
    assert (study.units["step"] == 469 * study.units["epoch"]).all()
    for trial_id, trial in trials.iterrows():
        trained = int(trial["epochs_trained"])
        assert (trained == 20) == (trial["status"] == "completed")
        at = sorted({*range(0, trained, 5), trained}) if trial["seed"] == 0 else [trained]
        assert of_units[trial_id, "train"] == of_units[trial_id, "test"] == at
        start = 0 if trial["seed"] == 0 else 1
        assert of_epochs.get(trial_id, []) == list(range(start, trained + 1))
    assert (trials["seed"] == 0).sum() >= 38
    assert study.units["trial_id"].nunique() == len(trials)
    first = study.epochs[study.epochs["epoch"] == 0].set_index("trial_id")
    assert (first["active_units"] == trials["latent_dim"].reindex(first.index)).all()
    assert first[["train_elbo", "train_reconstruction", "train_kl"]].isna().all(axis=None)
    last = study.epochs[study.epochs["epoch"] == 20].set_index("trial_id").sort_index()
    completed = trials[trials["status"] == "completed"].sort_index()
    for column in ("test_elbo", "train_kl", "active_units"):
        np.testing.assert_allclose(last[column], completed[column], rtol=1e-9)


def test_the_seed_decides_all(tmp_path: Path) -> None:
    one, same, other = (
        files_of(write_simulated_study(tmp_path / place / "s", 200, seed))
        for place, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert one == same
    assert one.keys() != other.keys() or one != other
    units = [name for name in one if name.startswith("units/pack")]
    assert any(one[name] != other[name] for name in units)


@pytest.mark.parametrize("pack_size", [1, 7])
def test_packs_of_other_sizes_hold_the_same_number_of_trials(
    tmp_path: Path, pack_size: int
) -> None:
    study = load_study(write_simulated_study(tmp_path / "s", 80, pack_size=pack_size))
    assert len(study.trials) == 80
    assert study.trials.groupby("pack_id").size().max() == pack_size


def test_the_large_study_is_as_large_as_announced() -> None:
    axes: Any = simulated_spec(100_000, "s").axes
    sizes = [getattr(axes, name).size for name in ("architecture", "beta", "initialisation")]
    assert sizes == [10, 10, 2]
    latent_dims = axes.latent_dim.values()
    # Both splits, and four more epochs of the first of 50 seeds.
    assert 2 * np.mean(latent_dims) * (1 + 4 / 50) * 100_000 == pytest.approx(3.28e6, rel=0.01)
    assert np.prod(sizes) * len(latent_dims) * axes.seed.size == 100_000
    assert simulated_spec(200, "s").axes.seed.size == 5


@pytest.mark.parametrize("trials", [0, 39, 250, 11_000])
def test_numbers_that_make_no_grid_are_refused(trials: int) -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        simulated_spec(trials, "s")
