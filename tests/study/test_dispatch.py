"""Packs handed to Tune and taken from it; a stand-in for Tune's trials has what is read of them."""

import io
import pickle
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from ray.tune.search import Searcher
from rich.console import Console

from search_spaces import RecordSettings, Trial, load_spec
from study import ledger, pack_callback
from study import workers as workers_module
from study.dispatch import PackStopper, WorkerSearcher
from study.pack_callback import LOST_NODES, PackCallback
from study.pack_checkpoints import FolderCheckpoints
from study.packing import PackQueue
from study.progress import Progress
from study.storage import Folder
from study.workers import WorkerError, Workers
from tests.study.conftest import pack_rows
from tests.study.plans import costs_of, planned_trials
from trainables.rows import PackRows
from trainables.tune_trainable import ROWS, WORKER, Worker, versions

AXES = {"architecture": "linear", "latent_dim": 2, "seed": {"range": [0, 5]}}
PLANNED = planned_trials(AXES, record={"every": 4})
SPEC = load_spec(
    {
        "study": "test",
        "dataset": "tiles",
        "axes": AXES,
        "resources": {"cpus_per_pack": 3, "checkpoint_seconds": 0.5, "max_failures": 0},
        "record": {"every": 4},
    }
)


class Actor:
    """A trainable's actor, as far as the driver calls it."""

    def __init__(self) -> None:
        self.assigned: list[dict[str, Any]] = []
        self.assign = SimpleNamespace(remote=self.assigned.append)


@dataclass
class TuneTrial:
    """What is read of Tune's trials."""

    trial_id: str
    error_file: str | None = None
    pickled_error_file: str | None = None
    actor: Actor = field(default_factory=Actor)

    @property
    def temporary_state(self) -> SimpleNamespace:
        return SimpleNamespace(ray_actor=self.actor)


Nodes = dict[str, dict[str, float]]
NODES: Nodes = {"node-1": {"CPU": 60, "memory": 2e9}, "node-2": {"CPU": 60, "memory": 2e9}}


@pytest.fixture(autouse=True)
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """The nodes that are up; a test may take one away."""
    there = dict(NODES)
    monkeypatch.setattr(workers_module, "_nodes", lambda: dict(there))
    monkeypatch.setattr(workers_module, "REFRESH_SECONDS", -1.0)
    return there


def a_worker(**changes: Any) -> Worker:
    there: dict[str, Any] = {
        "host": "host-1",
        "node_id": "node-1",
        "reserved_gpu": False,
        "device": "cpu",
        "gpu_memory": None,
        "versions": versions(),
        "lacks_mixed": None,
    }
    return Worker(**there | changes)


class Run:
    """A searcher and a callback on an empty study."""

    def __init__(
        self, place: Path, pack_size: Any = 3, max_failures: int = 0, gpus: float = 0.0
    ) -> None:
        self.place = place
        self.folder = Folder.at(place / "test")
        ledger.create_tables(self.folder)
        costs = costs_of(PLANNED)
        self.workers = Workers(3, gpus)
        queue = PackQueue(
            PLANNED, costs, pack_size=pack_size, workers=1, memory=10**9, gpu=gpus > 0
        )
        self.searcher = WorkerSearcher(queue, self.workers)
        self.stopper = PackStopper(self.searcher)
        self.text = io.StringIO()
        work = {trial_id: cost.work for trial_id, cost in costs.items()}
        console = Console(file=self.text, width=200)
        self.progress = Progress(console, len(PLANNED), 0, work)
        resources = SPEC.resources.model_copy(update={"max_failures": max_failures})
        self.callback = PackCallback(
            self.folder,
            SPEC.model_copy(update={"resources": resources}),
            self.searcher,
            self.workers,
            {PLANNED[0].trial_id: 2},
            self.progress,
        )
        self.checkpoints = FolderCheckpoints(self.folder)

    def ask(self, tune_id: str) -> None:
        """Let Tune ask for a trial, for which there must be something to do."""
        assert self.searcher.suggest(tune_id) == {}

    def arrive(self, tune_id: str, **worker: Any) -> dict[str, Any]:
        """Let the worker of a Tune trial start; return the config that it is assigned."""
        trial = TuneTrial(tune_id)
        result = {WORKER: a_worker(**worker), "done": False}
        self.callback.on_trial_result(0, [], trial, result)  # type: ignore[arg-type]
        assert WORKER not in result  # Tune keeps results
        (config,) = trial.actor.assigned
        return config

    def start(self, tune_id: str, **worker: Any) -> list[str]:
        """Hand out a pack; return its trials. It has a checkpoint from then on."""
        self.ask(tune_id)
        config = self.arrive(tune_id, **worker)
        self.checkpoints.save(config["pack_id"], b"so far")
        return list(config["trial_ids"])

    def result(self, tune_id: str, rows: PackRows | None = None) -> dict[str, Any]:
        result: dict[str, Any] = {"share_done": 0.1, "share_before": 0.0, "hostname": "host-1"}
        result |= {ROWS: rows} if rows else {}
        self.callback.on_trial_result(0, [], TuneTrial(tune_id), result)  # type: ignore[arg-type]
        return result

    def error(self, tune_id: str, text: str | None = None) -> None:
        """Let a Tune trial fail, with a text in its error file."""
        file = None
        if text is not None:
            file = self.place / "error.txt"
            file.write_text(text)
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
    run.ask("a")
    config = run.arrive("a")
    assert config["trial_ids"] == [m.trial_id for m in run.searcher.running["a"].members]
    trials = [Trial.model_validate(trial) for trial in config["trials"]]
    assert trials == [m.trial for m in run.searcher.running["a"].members]
    assert config["threads"] == 3
    assert config["checkpoint_seconds"] == 0.5
    assert config["report_seconds"] <= 0.5
    assert config["record"]["every"] == 4
    assert pickle.loads(pickle.dumps(config)) == config


def test_many_workers_report_less_often(tmp_path: Path, nodes: Nodes) -> None:
    """800 packs that report every two seconds would keep the driver from anything else."""
    for count, seconds in ((3, 2.0), (800, 16.0)):
        nodes.clear()
        nodes["a"] = {"CPU": 3 * count, "memory": 1e9}
        run = Run(tmp_path / str(count))
        resources = SPEC.resources.model_copy(update={"checkpoint_seconds": 60.0})
        run.callback._spec = SPEC.model_copy(update={"resources": resources})
        run.ask("a")
        assert run.arrive("a")["report_seconds"] == seconds


def test_the_searcher_ends_when_nothing_can_come_back(run: Run) -> None:
    first, second = run.start("a"), run.start("b")
    assert sorted(first + second) == [p.trial_id for p in PLANNED]
    assert run.searcher.suggest("c") is None  # wait: a pack may fail and come back
    run.result("a", rows_of(first))
    assert run.searcher.suggest("c") is None
    assert not run.stopper.stop_all()
    run.result("b", rows_of(second))
    assert run.searcher.suggest("c") == Searcher.FINISHED
    assert run.stopper.stop_all()
    assert run.searcher.running == {}


def test_no_more_workers_are_asked_for_than_there_are_packs(run: Run) -> None:
    """The autoscaler would start nodes for them."""
    run.ask("a")
    run.ask("b")
    assert run.searcher.suggest("c") is None  # there are two packs to cut
    assert not run.stopper.stop_all()


def test_no_more_packs_run_than_there_is_room_for(tmp_path: Path, nodes: Nodes) -> None:
    nodes.clear()
    nodes["small"] = {"CPU": 7, "memory": 1e9}  # two packs of three CPUs
    run = Run(tmp_path, pack_size=1)
    run.ask("a")
    run.ask("b")
    assert run.searcher.suggest("c") is None
    run.arrive("a")
    assert run.searcher.suggest("c") is None
    nodes["new"] = {"CPU": 3, "memory": 1e9}
    run.ask("c")
    assert run.searcher.suggest("d") is None


def test_without_a_node_one_worker_is_asked_for(tmp_path: Path, nodes: Nodes) -> None:
    nodes.clear()
    run = Run(tmp_path, pack_size=1)
    run.ask("a")
    assert run.searcher.suggest("b") is None


def test_a_worker_that_comes_too_late_is_sent_home(tmp_path: Path) -> None:
    """Packs were cut larger than was thought when the workers were asked for."""
    run = Run(tmp_path, pack_size="auto")  # of three lanes, on a CPU with one worker
    for name in "ab":
        run.ask(name)
    run.searcher._queue._groups[0].lanes = 6
    run.workers._max_packs = 1
    run.searcher._queue._rounds = 1
    taken = run.arrive("a")["trial_ids"]
    assert len(taken) == 6
    assert run.arrive("b") == {}
    assert run.result("b") == {
        "share_done": 0.1,
        "share_before": 0.0,
        "hostname": "host-1",
    }  # nothing happens
    run.result("a", rows_of(taken))
    assert run.stopper.stop_all()
    assert len(run.committed()) == 6


def test_packs_are_cut_for_the_gpu_that_turned_up(tmp_path: Path, nodes: Nodes) -> None:
    """A small GPU gets as many lanes as fit into it, and the next one as many as fit there."""
    nodes.clear()
    nodes["gpus"] = {"CPU": 9, "GPU": 2, "memory": 1e9}
    run = Run(tmp_path, pack_size="auto", gpus=0.5)
    assert run.workers.count == 3
    sizes = []
    for name, lanes in (("a", 2), ("b", 1), ("c", 2)):
        run.ask(name)
        # Half of a GPU, of which a fifth is kept free, for lanes of one byte.
        memory = int(2 * lanes / 0.8) + 1
        config = run.arrive(name, reserved_gpu=True, device="a GPU", gpu_memory=memory)
        sizes.append(len(config["trial_ids"]))
        assert config["gpu_share"] == 0.5
    assert sizes == [2, 1, 2]


@pytest.mark.parametrize(("node", "lanes"), [("small", 1), ("large", 3)])
def test_packs_are_cut_for_the_node_that_turned_up(
    tmp_path: Path, nodes: Nodes, node: str, lanes: int
) -> None:
    nodes.clear()
    nodes["small"] = {"CPU": 6, "memory": 2 * 1 / 0.8 + 0.1}  # a byte for each of its two packs
    nodes["large"] = {"CPU": 3, "memory": 3 / 0.8 + 0.1}
    run = Run(tmp_path, pack_size="auto")
    run.ask("a")
    run.workers._max_packs = 1  # so that memory alone decides
    assert len(run.arrive("a", node_id=node)["trial_ids"]) == lanes


@pytest.mark.parametrize(
    ("name", "version"),
    [("PyTorch", "2.0.1"), ("Ray", "2.9.0"), ("Python", "3.8.1"), ("numerics", "1")],
)
def test_a_worker_of_other_versions_ends_the_run(run: Run, name: str, version: str) -> None:
    run.ask("a")
    other = versions() | {name: version}
    with pytest.raises(WorkerError) as caught:
        run.arrive("a", versions=other)
    text = str(caught.value)
    assert f"{name} {version} there and {versions()[name]} here" in text
    assert "host-1" in text
    assert [n for n in versions() if f"{n} {versions()[n]} there" in text] == []
    assert run.searcher.running == {}


def test_a_worker_that_cannot_do_what_a_pack_asks_ends_the_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.ask("a")
    run.arrive("a", lacks_mixed="it has no bfloat16")  # nor need it have
    mixed = [replace(p, trial=p.trial.model_copy(update={"precision": "mixed"})) for p in PLANNED]
    monkeypatch.setattr(sys.modules[__name__], "PLANNED", mixed)
    other = Run(tmp_path / "mixed")
    other.ask("a")
    with pytest.raises(WorkerError, match=r"^host-1: it has no bfloat16"):
        other.arrive("a", lacks_mixed="it has no bfloat16")


def test_a_gpu_that_pytorch_does_not_find_ends_the_run(run: Run) -> None:
    run.ask("a")
    with pytest.raises(WorkerError, match=r"host-1 reserved a GPU.*gpus_per_pack=0"):
        run.arrive("a", reserved_gpu=True)


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


def test_a_failed_pack_is_split(run: Run) -> None:
    ids, others = run.start("a"), run.start("b")
    text = "Traceback (most recent call last):\n  File ...\nValueError: bad lane\n\n"
    run.error("a", text)
    assert run.committed().empty
    assert "bad lane" in run.text.getvalue()
    assert len(run.folder.files("checkpoints")) == 1  # of the other pack
    alone = [run.start(name) for name in ("c", "d", "e")]
    assert sorted(alone) == sorted([trial_id] for trial_id in ids)
    assert run.searcher.suggest("f") is None
    for name, (trial_id,) in zip(("c", "d"), alone[:2], strict=True):
        run.result(name, rows_of([trial_id]))
    run.error("e", text)
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
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: A\n"
            "The actor is dead because all references to the actor were removed.\n"
            "The actor never ran - it was cancelled before it started running.\n",
            "The actor is dead because all references to the actor were removed.",
        ),
        ("", "the worker died without a word"),
    ],
)
def test_the_reason_of_a_failure(tmp_path: Path, text: str | None, reason: str) -> None:
    run = Run(tmp_path, pack_size=1)
    (trial_id,) = run.start("a")
    run.error("a", text)
    assert run.committed()["error"][trial_id] == reason
    assert f"trial {trial_id} failed: {reason}" in run.text.getvalue()


LOSSES = {  # as Ray says it, in full
    "silent": "The actor 3bdb3ebd is unavailable: The actor is temporarily unavailable: RpcError: "
    "RPC error: Socket closed rpc_code: 14. The task may or may not have been executed.",
    "said": "The actor died unexpectedly before finishing this task.\n\tclass_name: A\n"
    "The actor died because its node has died. Node Id: 859f\n"
    "\tthe actor's node was terminated expectedly: received SIGTERM",
}
CRASH = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: A\nThe actor is dead "
    "because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
    "Worker unexpectedly exits with a connection error code 2. End of file."
)


def test_a_pack_whose_worker_died_starts_again_elsewhere(tmp_path: Path) -> None:
    run = Run(tmp_path, max_failures=2)
    ids, others = run.start("a"), run.start("b")
    for name, next_name in (("a", "c"), ("c", "d")):
        run.error(name, CRASH)
        assert "starts again: The actor is dead because its worker" in run.text.getvalue()
        assert len(run.folder.files("checkpoints")) == 2
        assert run.start(next_name) == ids  # before all others, as it was
    run.error("d", CRASH)
    assert "one by one" in run.text.getvalue()
    run.result("b", rows_of(others))
    assert sorted(run.start(name) for name in "efg") == sorted([i] for i in ids)


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_a_lost_node_is_not_held_against_a_pack(tmp_path: Path, kind: str) -> None:
    run = Run(tmp_path, max_failures=0)
    ids = run.start("a")
    for number in range(3 * LOST_NODES):
        run.error("a", LOSSES[kind])
        assert run.text.getvalue().count("starts again: its node was lost") == number + 1
        assert run.start("a") == ids
        run.result("a")  # it gets on
    run.result("a", rows_of(ids))
    assert set(run.committed()["status"]) == {"completed"}


def test_a_pack_that_costs_one_node_after_the_other_fails(tmp_path: Path) -> None:
    run = Run(tmp_path, pack_size=1, max_failures=1)
    (trial_id,) = run.start("a")
    for _ in range(LOST_NODES + 1):
        run.error("a", LOSSES["said"])
        assert run.committed().empty
        assert run.start("a") == [trial_id]
    run.error("a", LOSSES["said"])
    assert run.committed()["status"][trial_id] == "failed"


def test_a_worker_that_died_with_its_node_is_not_held_against_a_pack(
    tmp_path: Path, nodes: Nodes
) -> None:
    """Seen at once, or only when the pack fails again: workers may go before their node."""
    run = Run(tmp_path, pack_size=1, max_failures=1)
    (trial_id,) = run.start("a", node_id="node-2")
    run.error("a", CRASH)
    assert run.start("a", node_id="node-1") == [trial_id]
    del nodes["node-2"]
    run.error("a", CRASH)  # the first that counts
    assert run.start("a", node_id="node-3") == [trial_id]
    run.error("a", CRASH)  # node-3 is not there any more
    assert run.start("a", node_id="node-1") == [trial_id]
    assert run.committed().empty
    run.error("a", CRASH)
    assert run.committed()["status"][trial_id] == "failed"


def test_workers_that_do_not_start_are_no_fault_of_a_trial(run: Run) -> None:
    text = "ImportError: no such library\n"
    for name in "ab":
        run.ask(name)
        run.error(name, text)
    run.ask("c")
    run.error("c", LOSSES["said"])  # that is another matter
    run.ask("d")
    with pytest.raises(WorkerError, match=r"do not start, 3 in a row.*no such library"):
        run.error("d", text)
    assert run.committed().empty


def test_one_machine_that_is_broken_does_not_end_a_study(tmp_path: Path) -> None:
    run = Run(tmp_path)
    ids = run.start("a")
    for _ in range(10):
        run.ask("b")
        run.error("b", CRASH)
    run.result("a", rows_of(ids))
    run.ask("c")
    run.error("c", CRASH)  # the first since that result, though nothing else runs
    assert len(run.start("d")) == 3


def test_what_is_waited_for_is_told(
    run: Run, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(pack_callback.time, "monotonic", lambda: clock[0])
    run.callback._waited = clock[0]
    nodes.clear()
    nodes["head"] = {"CPU": 0, "memory": 1e9}

    def lines() -> list[str]:
        run.callback.on_step_begin(1, [])
        return run.text.getvalue().splitlines()

    run.callback.on_step_begin(0, [])
    assert lines() == ["waiting for a node with 3 CPUs for a pack; 1 node is up, with 0 CPUs"]
    clock[0] += 61
    assert len(lines()) == 2
    assert len(lines()) == 2
    nodes["big"] = {"CPU": 3, "memory": 1e9}
    clock[0] += 61
    assert "have room for 1 pack, but others use it, or workers" in lines()[-1]
    run.start("a")
    clock[0] += 1000
    assert len(lines()) == 3


def test_tune_may_pickle_them_and_restores_none(run: Run) -> None:
    assert pickle.dumps(run.searcher)
    assert pickle.dumps(run.stopper)
    assert pickle.dumps(run.callback)
    with pytest.raises(RuntimeError, match="vae-study resume"):
        run.searcher.restore("anywhere")


def test_a_pack_is_recorded_as_its_members_want_it(run: Run) -> None:
    """Not as the study's other parts do."""
    other = RecordSettings(every=9, models=True)
    run.searcher._queue = PackQueue(
        [replace(planned, record=other) for planned in PLANNED[:3]],
        costs_of(PLANNED),
        pack_size=3,
        workers=1,
        memory=10**9,
        gpu=False,
    )
    run.ask("a")
    assert RecordSettings.model_validate(run.arrive("a")["record"]) == other
