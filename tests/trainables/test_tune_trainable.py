"""A pack as a trainable, called as Tune calls it: its results, and lanes that are pruned."""

from typing import Any

import numpy as np
import pytest
import ray
from ray.tune.trainable import Trainable

from search_spaces import RecordSettings, Trial
from tests.trainables.small_packs import ids, small_images, small_trial
from trainables.pack_config import pack_config
from trainables.rows import PackRows
from trainables.tune_trainable import METRICS, ROWS, PackTrainable

EPOCHS = 3


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return [small_trial(epochs=EPOCHS, seed=seed) for seed in range(3)]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start packs of some trials; there is no actor, and no GPU that Ray has reserved."""
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [])

    def start(trials: list[Trial]) -> Trainable:
        config = pack_config("pack", trials, ids(trials), RecordSettings(), report_seconds=0)
        trainable = PackTrainable.__new__(PackTrainable)
        trainable.setup(config, {trials[0].dataset.label: small_images()})
        return trainable

    return start


def test_a_result_holds_each_lane_and_their_summary(started: Any, trials: list[Trial]) -> None:
    pack = started(trials)
    result = pack.step()
    assert (result["epoch"], result["done"]) == (1, False)
    assert list(result["lanes"]) == ids(trials)
    for metric in METRICS:
        values = [lane[metric] for lane in result["lanes"].values()]
        assert result[metric] == pytest.approx(np.mean(values))
        assert result[f"{metric}_min"] == min(values)
        assert result[f"{metric}_max"] == max(values)
    pack.step()
    epochs = pack._training.rows().epochs.set_index(["trial_id", "epoch"])
    last = pack.step()
    assert last["done"]
    rows: PackRows = last[ROWS]
    for trial_id, lane in last["lanes"].items():
        own = rows.epochs.set_index(["trial_id", "epoch"]).loc[(trial_id, EPOCHS)]
        assert lane["epoch"] == EPOCHS
        for name in ("train_elbo", "test_elbo", "active_units"):
            assert lane[name] == own[name]
    assert len(epochs) == 2 * len(trials)


def test_one_trial_has_plain_scalars_too(started: Any, trials: list[Trial]) -> None:
    result = started(trials[:1]).step()
    (lane,) = result["lanes"].values()
    assert all(result[metric] == lane[metric] for metric in METRICS)
    assert "test_elbo_min" not in result


def test_pruned_lanes_leave_the_next_result_and_come_with_the_rows(
    started: Any, trials: list[Trial]
) -> None:
    pack = started(trials)
    pack.step()
    pack.prune(ids(trials)[1:])
    result = pack.step()
    assert list(result["lanes"]) == ids(trials)[:1]
    last = pack.step()
    statuses = last[ROWS].trials.set_index("trial_id")["status"]
    assert statuses.loc[ids(trials)].tolist() == ["completed", "pruned", "pruned"]


def test_a_pack_pruned_to_nothing_ends_with_its_rows(started: Any, trials: list[Trial]) -> None:
    pack = started(trials)
    pack.step()
    pack.prune(ids(trials))
    result = pack.step()
    assert result["done"]
    assert (result[ROWS].trials["status"] == "pruned").all()


def test_pruning_before_there_is_a_pack_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [])
    waiting = PackTrainable.__new__(PackTrainable)
    waiting.setup({})
    waiting.prune(["a"])
    assert waiting._training is None
