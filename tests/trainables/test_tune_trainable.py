"""A pack as a trainable, called as Tune calls it: its results, and lanes that are pruned."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray
from ray.tune.trainable import Trainable

from search_spaces import BadInput, RecordSettings, Trial
from tests.trainables.small_packs import ids, small_images, small_trial
from trainables.pack_config import pack_config
from trainables.rows import PackRows
from trainables.tune_trainable import ENDED, METRICS, ROWS, PackTrainable, read_checkpoint

EPOCHS = 3


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return [small_trial(epochs=EPOCHS, seed=seed) for seed in range(3)]


class Store:
    """A store of a study's, in memory."""

    def __init__(self) -> None:
        self.saved: dict[str, bytes] = {}

    def load(self, pack_id: str) -> bytes | None:
        return self.saved.get(pack_id)

    def save(self, pack_id: str, checkpoint: bytes) -> str | None:
        self.saved[pack_id] = checkpoint
        return None


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start packs of some trials; there is no actor, and no GPU that Ray has reserved."""
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [])

    def start(trials: list[Trial], store: bool = True, **settings: Any) -> Trainable:
        options: dict[str, Any] = {"report_seconds": 0} | settings
        config = pack_config("pack", trials, ids(trials), RecordSettings(), **options)
        trainable = PackTrainable.__new__(PackTrainable)
        images = {trials[0].dataset.label: small_images()}
        trainable.setup(config, images, Store() if store else None)
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


def test_without_a_store_tune_keeps_checkpoints_and_rows(
    started: Any, trials: list[Trial], tmp_path: Path
) -> None:
    pack = started(trials, store=False, checkpoint_seconds=0)
    alone = started(trials)
    first = pack.step()
    assert (first[ENDED], first["should_checkpoint"]) == ((), True)
    pack.save_checkpoint(str(tmp_path))
    other = started(trials, store=False, checkpoint_seconds=0)
    other.load_checkpoint(str(tmp_path))
    assert other.step()["epoch"] == 2
    last = other.step()
    assert last["done"]
    assert last["should_checkpoint"]
    assert ROWS not in last
    other.save_checkpoint(str(tmp_path))
    while not (theirs := alone.step())["done"]:
        pass
    wanted = theirs[ROWS]
    rows = read_checkpoint(tmp_path, ids(trials))
    pd.testing.assert_frame_equal(rows.units, wanted.units, check_exact=True)
    kept = [json.loads(json.dumps(row, default=str)) for row in last[ENDED]]
    assert [row["trial_id"] for row in kept] == ids(trials)
    assert [row["test_elbo"] for row in kept] == wanted.trials["test_elbo"].tolist()


def test_a_checkpoint_is_asked_for_when_it_is_due_and_at_the_end(
    started: Any, trials: list[Trial]
) -> None:
    pack = started(trials, store=False, checkpoint_seconds=3600)
    asked = [pack.step()["should_checkpoint"] for _ in range(EPOCHS)]
    assert asked == [False] * (EPOCHS - 1) + [True]


def test_lanes_that_ended_early_are_told_with_every_result(
    started: Any, trials: list[Trial]
) -> None:
    pack = started(trials, store=False)
    pack.step()
    pack.prune(ids(trials)[:1])
    (row,) = pack.step()[ENDED]
    assert (row["trial_id"], row["status"], row["epochs_trained"]) == (ids(trials)[0], "pruned", 1)


def test_a_pack_of_which_nothing_is_left_has_metrics_all_the_same(started: Any) -> None:
    diverging = [small_trial(decoder="gaussian", decoder_variance=1e-310)]
    result = started(diverging, store=False).step()
    assert result["done"]
    assert [row["status"] for row in result[ENDED]] == ["diverged"]
    assert all(math.isnan(result[metric]) for metric in METRICS)  # Tune may insist on one
    assert json.loads(json.dumps(result["lanes"])) == {}


def test_a_pack_for_a_gpu_is_not_trained_on_a_cpu(started: Any, trials: list[Trial]) -> None:
    with pytest.raises(BadInput, match=r"cut for a GPU, and it has none; give PackSearcher"):
        started(trials, gpu_share=0.5).step()


def test_other_images_than_planned_are_refused(started: Any, trials: list[Trial]) -> None:
    assert started(trials, dataset_fingerprint=small_images().fingerprint).step()["epoch"] == 1
    with pytest.raises(BadInput, match=r"dataset: 'small' holds other images .* datasets="):
        started(trials, dataset_fingerprint="f" * 20).step()
