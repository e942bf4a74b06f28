from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq

from search_spaces import RecordSettings, Trial, load_spec, plan_trials, stack_key
from study.plan_table import count_planned, read_plan_ids, read_plan_parts, write_plan
from study.planned_trial import PlannedTrial
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


def plan_of(trials: Sequence[Trial], ids: Sequence[str] | None = None) -> list[PlannedTrial]:
    ids = ids or [str(number) for number in range(len(trials))]
    pairs = zip(trials, ids, strict=True)
    return [PlannedTrial(trial, name, "f" * 16, RecordSettings()) for trial, name in pairs]


def test_a_plan_is_written_and_read_back(folder: Folder) -> None:
    assert read_plan_ids(folder) == []
    assert count_planned(folder) == 0
    trials = plan_trials(SPEC)
    ids = [f"{97 * number % 101:020x}" for number in range(len(trials))]
    planned = plan_of(trials, ids)
    write_plan(folder, planned)
    assert read_plan_ids(folder) == ids
    assert count_planned(folder) == len(trials) == 24
    frame = pd.read_parquet(folder.full("plan/trials.parquet"), filesystem=folder.filesystem)
    assert list(frame.columns) == PLAN.names
    assert frame["position"].tolist() == list(range(24))
    for trial, row in zip(trials, frame.to_dict("records"), strict=True):
        for name, value in trial.hyperparameters().items():
            assert row[name] == value or (value is None and pd.isna(row[name]))
    write_plan(folder, planned[:3])
    assert read_plan_ids(folder) == ids[:3]


def test_groups_are_trials_that_can_be_stacked(folder: Folder) -> None:
    trials = plan_trials(SPEC)
    write_plan(folder, plan_of(trials))
    groups = pd.read_parquet(folder.full("plan/trials.parquet"), filesystem=folder.filesystem)[
        "stack_group"
    ].tolist()
    for first, group in zip(trials, groups, strict=True):
        for second, other in zip(trials, groups, strict=True):
            assert (stack_key(first) == stack_key(second)) == (group == other)
    assert sorted(set(groups)) == list(range(6))


def test_trials_of_which_other_things_are_recorded_are_not_one_group(folder: Folder) -> None:
    planned = plan_of(plan_trials(SPEC)[:2])
    assert stack_key(planned[0].trial) == stack_key(planned[1].trial)
    for record, groups in ((RecordSettings(), [0, 0]), (RecordSettings(every=1), [0, 1])):
        write_plan(folder, [planned[0], replace(planned[1], record=record)])
        frame = pd.read_parquet(folder.full("plan/trials.parquet"), filesystem=folder.filesystem)
        assert frame["stack_group"].tolist() == groups


def test_the_parts_of_trials(folder: Folder) -> None:
    assert read_plan_parts(folder) == {}
    one, two = plan_of(plan_trials(SPEC)[:2])
    write_plan(folder, [replace(one, part="conv"), two])
    assert read_plan_parts(folder) == {one.trial_id: "conv", two.trial_id: ""}
    file = folder.full("plan/trials.parquet")
    without = pq.read_table(file, filesystem=folder.filesystem).drop_columns(["part"])
    pq.write_table(without, file, filesystem=folder.filesystem)
    assert read_plan_parts(folder) == {}, "as written before studies had parts"
    assert read_plan_ids(folder) == [one.trial_id, two.trial_id]


def test_equal_plans_are_equal_files(folder: Folder) -> None:
    planned = plan_of(plan_trials(SPEC))
    write_plan(folder, planned)
    first = folder.read_bytes("plan/trials.parquet")
    write_plan(folder, planned)
    assert folder.read_bytes("plan/trials.parquet") == first


def test_hyperparameters_lead_from_plan_to_trials() -> None:
    assert set(HYPERPARAMETERS) < set(PLAN.names)
