import pandas as pd
import pytest

from search_spaces import load_spec, plan_trials, stack_key
from study.plan_table import count_planned, read_plan_ids, write_plan
from study.storage import Folder
from study.tables import HYPERPARAMETERS, PLAN

SPEC = load_spec(
    {
        "study": "small",
        "dataset": "mnist",
        "axes": {
            "architecture": ["paper-dense-mnist", "linear"],
            "latent_dim": [2, 4],
            "decoder": ["bernoulli", "gaussian", "gaussian_learned"],
            "seed": [0, 2**63 - 1],
        },
    }
)


def test_a_plan_is_written_and_read_back(folder: Folder) -> None:
    assert read_plan_ids(folder) == []
    assert count_planned(folder) == 0
    trials = plan_trials(SPEC)
    ids = [f"{97 * number % 101:020x}" for number in range(len(trials))]
    write_plan(folder, trials, ids)
    assert read_plan_ids(folder) == ids
    assert count_planned(folder) == len(trials) == 24
    frame = pd.read_parquet(folder.full("plan/trials.parquet"), filesystem=folder.filesystem)
    assert list(frame.columns) == PLAN.names
    assert frame["position"].tolist() == list(range(24))
    for trial, row in zip(trials, frame.to_dict("records"), strict=True):
        for name, value in trial.hyperparameters().items():
            assert row[name] == value or (value is None and pd.isna(row[name]))
    write_plan(folder, trials[:3], ids[:3])
    assert read_plan_ids(folder) == ids[:3]


def test_groups_are_trials_that_can_be_stacked(folder: Folder) -> None:
    trials = plan_trials(SPEC)
    write_plan(folder, trials, [str(number) for number in range(len(trials))])
    groups = pd.read_parquet(folder.full("plan/trials.parquet"), filesystem=folder.filesystem)[
        "stack_group"
    ].tolist()
    for first, group in zip(trials, groups, strict=True):
        for second, other in zip(trials, groups, strict=True):
            assert (stack_key(first) == stack_key(second)) == (group == other)
    assert sorted(set(groups)) == list(range(6))


def test_every_trial_needs_an_id(folder: Folder) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_plan(folder, plan_trials(SPEC), ["only one"])
    assert not folder.exists("plan/trials.parquet")


def test_equal_plans_are_equal_files(folder: Folder) -> None:
    trials = plan_trials(SPEC)
    ids = [str(number) for number in range(len(trials))]
    write_plan(folder, trials, ids)
    first = folder.read_bytes("plan/trials.parquet")
    write_plan(folder, trials, ids)
    assert folder.read_bytes("plan/trials.parquet") == first


def test_hyperparameters_lead_from_plan_to_trials() -> None:
    assert set(HYPERPARAMETERS) < set(PLAN.names)
