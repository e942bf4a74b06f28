"""Packs handed to Tune and taken from it; a stand-in for Tune's trials has what is read of them."""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ray.tune.search import Searcher
from rich.console import Console

from search_spaces import Trial, load_spec
from study import ledger
from study.dispatch import PackCallback, PackSearcher
from study.pack_checkpoints import FolderCheckpoints
from study.packing import PackQueue
from study.progress import Progress
from study.storage import Folder
from tests.study.conftest import pack_rows
from tests.study.plans import costs_of, planned_trials
from trainables.rows import PackRows
from trainables.tune_trainable import ROWS

AXES = {"architecture": "linear", "latent_dim": 2, "seed": {"range": [0, 5]}}
PLANNED = planned_trials(AXES)
SPEC = load_spec(
    {
        "study": "test",
        "dataset": "tiles",
        "axes": AXES,
        "resources": {"cpus_per_pack": 3, "checkpoint_seconds": 0.5},
        "record": {"every": 4},
    }
)


@dataclass
class TuneTrial:
    trial_id: str
    error_file: str | None = None


class Run:
    """A searcher and a callback on an empty study."""

    def __init__(self, place: Path, pack_size: int = 3) -> None:
        self.folder = Folder.at(place / "test")
        ledger.create_tables(self.folder)
        costs = costs_of(PLANNED)
        queue = PackQueue(PLANNED, costs, pack_size=pack_size, workers=2, memory=10**9, gpu=False)
        self.searcher = PackSearcher(queue, SPEC)
        self.text = io.StringIO()
        work = {trial_id: cost.work for trial_id, cost in costs.items()}
        console = Console(file=self.text, width=200)
        self.progress = Progress(console, len(PLANNED), 0, work)
        self.callback = PackCallback(
            self.folder, SPEC, self.searcher, {PLANNED[0].trial_id: 2}, self.progress
        )
        self.checkpoints = FolderCheckpoints(self.folder)

    def start(self, tune_id: str) -> list[str]:
        """Hand out a pack; return its trials. It has a checkpoint from then on."""
        config = self.searcher.suggest(tune_id)
        self.checkpoints.save(config["pack_id"], b"so far")
        return list(config["trial_ids"])

    def result(self, tune_id: str, rows: PackRows | None = None) -> dict[str, Any]:
        result: dict[str, Any] = {"epoch": 1, "hostname": "host-1"} | ({ROWS: rows} if rows else {})
        self.callback.on_trial_result(0, [], TuneTrial(tune_id), result)  # type: ignore[arg-type]
        return result

    def error(self, tune_id: str, file: Path | None = None) -> None:
        trial = TuneTrial(tune_id, str(file) if file else None)
        self.callback.on_trial_error(0, [], trial)  # type: ignore[arg-type]

    def committed(self) -> pd.DataFrame:
        return ledger.read_trials(self.folder).set_index("trial_id")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def rows_of(trial_ids: list[str]) -> PackRows:
    made = pack_rows("p", trial_ids)
    measured = ["trial_id", "status", "active_units", "active_units_kl", "train_objective"]
    measured += ["parameters", "variance_law_mean", "variance_law_variance"]
    measured += [
        f"{split}_{part}"
        for split in ("train", "test")
        for part in ("elbo", "reconstruction", "kl", "mse")
    ]
    trials = made["trials"][measured].assign(epochs_trained=20, decoder_variance=None)
    return PackRows(
        trials, made["units"].drop(columns="study"), made["epochs"].drop(columns="study")
    )


def test_the_config_of_a_pack(run: Run) -> None:
    config = run.searcher.suggest("a")
    assert config["trial_ids"] == [m.trial_id for m in run.searcher.running["a"].members]
    trials = [Trial.model_validate(trial) for trial in config["trials"]]
    assert trials == [m.trial for m in run.searcher.running["a"].members]
    assert config["threads"] == 3
    assert config["checkpoint_seconds"] == 0.5
    assert config["report_seconds"] <= 0.5
    assert config["record"]["every"] == 4
    assert pickle.loads(pickle.dumps(config)) == config


def test_the_searcher_ends_when_nothing_can_come_back(run: Run) -> None:
    first, second = run.start("a"), run.start("b")
    assert sorted(first + second) == [p.trial_id for p in PLANNED]
    assert run.searcher.suggest("c") is None  # wait: a pack may fail and be split
    run.result("a", rows_of(first))
    assert run.searcher.suggest("c") is None
    run.result("b", rows_of(second))
    assert run.searcher.suggest("c") == Searcher.FINISHED
    assert run.searcher.running == {}


def test_a_result_on_the_way_commits_nothing(run: Run) -> None:
    run.start("a")
    run.result("a")
    assert run.committed().empty
    assert len(run.folder.files("checkpoints")) == 1
    assert "3 training in 1 pack" in run.progress.line()


def test_the_last_result_is_committed(run: Run) -> None:
    ids = run.start("a")
    pack_id = run.searcher.running["a"].pack_id
    result = run.result("a", rows_of(ids))
    assert ROWS not in result  # Tune keeps results; rows may be large
    trials = run.committed()
    assert sorted(trials.index) == sorted(ids)
    assert set(trials["node"]) == {"host-1"}
    assert set(trials["pack_id"]) == {pack_id}
    assert dict(trials["attempt"]) == {i: 2 if i == PLANNED[0].trial_id else 1 for i in ids}
    assert run.folder.files("checkpoints") == []
    assert "3/6 trials done" in run.progress.line()


def test_a_failed_pack_is_split(run: Run, tmp_path: Path) -> None:
    ids, others = run.start("a"), run.start("b")
    text = "Traceback (most recent call last):\n  File ...\nValueError: bad lane\n\n"
    (tmp_path / "error.txt").write_text(text)
    run.error("a", tmp_path / "error.txt")
    assert run.committed().empty
    assert "bad lane" in run.text.getvalue()
    assert len(run.folder.files("checkpoints")) == 1  # of the other pack
    alone = [run.start(name) for name in ("c", "d", "e")]
    assert sorted(alone) == sorted([trial_id] for trial_id in ids)
    assert run.searcher.suggest("f") is None
    for name, (trial_id,) in zip(("c", "d"), alone[:2], strict=True):
        run.result(name, rows_of([trial_id]))
    run.error("e", tmp_path / "error.txt")
    trials = run.committed()
    assert dict(trials["status"]) == {
        alone[0][0]: "completed",
        alone[1][0]: "completed",
        alone[2][0]: "failed",
    }
    assert trials["error"][alone[2][0]] == "ValueError: bad lane"
    run.result("b", rows_of(others))
    assert run.searcher.suggest("f") == Searcher.FINISHED
    assert run.progress.failed == 1
    assert run.folder.files("checkpoints") == []


def test_an_error_after_the_commit_changes_nothing(run: Run) -> None:
    """The actor dies on its way out, when its rows are long on storage."""
    ids = run.start("a")
    run.result("a", rows_of(ids))
    run.error("a")
    assert set(run.committed()["status"]) == {"completed"}
    assert run.progress.failed == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "the worker died without a word"),
        ("Traceback:\n  x\nRuntimeError: CUDA out of memory\n", "RuntimeError: CUDA out of memory"),
        (
            "ray.exceptions.RayTaskError(ValueError): x\n  File\nsearch_spaces.BadInput: no\n",
            "search_spaces.BadInput: no",
        ),
        ("something else\n", "something else"),
        ("", "the worker died without a word"),
    ],
)
def test_the_reason_of_a_failure(tmp_path: Path, text: str | None, reason: str) -> None:
    run = Run(tmp_path, pack_size=1)
    (trial_id,) = run.start("a")
    if text is not None:
        (tmp_path / "error.txt").write_text(text)
    run.error("a", tmp_path / "error.txt")
    assert run.committed()["error"][trial_id] == reason
    assert f"trial {trial_id} failed: {reason}" in run.text.getvalue()


def test_a_pack_that_starts_again_is_told(run: Run) -> None:
    run.start("a")
    run.callback.on_trial_recover(0, [], TuneTrial("a"))  # type: ignore[arg-type]
    run.callback.on_trial_recover(0, [], TuneTrial("unknown"))  # type: ignore[arg-type]
    (line,) = run.text.getvalue().splitlines()
    assert "starts again: the worker died without a word" in line
    assert len(run.searcher.running) == 1


def test_tune_may_pickle_both_and_restores_neither(run: Run) -> None:
    assert pickle.dumps(run.searcher)
    assert pickle.dumps(run.callback)
    with pytest.raises(RuntimeError, match="vae-study resume"):
        run.searcher.restore("anywhere")
