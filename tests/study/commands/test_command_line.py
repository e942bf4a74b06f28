"""Arguments to functions, exceptions to exit codes; what the functions do is tested elsewhere."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

import study.run
from search_spaces import BadInput, load_spec
from study import ledger
from study.commands.command_line import cli, main
from study.commands.options import wide_console
from study.frozen_spec import freeze
from study.loading import load_study
from study.plan_table import write_plan
from study.planning import PlannedTrial
from study.storage import Folder, StorageError
from tests.study.plans import planned_trials

MakePack = Callable[..., dict[str, Any]]

AXES = {"architecture": "linear", "latent_dim": 2, "seed": [0, 1, 2]}
PLANNED: list[PlannedTrial] = planned_trials(AXES)
IDS = [p.trial_id for p in PLANNED]


@pytest.fixture
def storage(tmp_path: Path, make_pack: MakePack) -> Path:
    """A storage folder with one study: two of three trials completed, none of another study's."""
    folder = Folder.at(tmp_path / "kept").child("mine")
    spec = load_spec({"study": "mine", "dataset": "tiles", "axes": AXES})
    freeze(folder, spec, {"numerics_version": 1})
    write_plan(folder, PLANNED)
    ledger.create_tables(folder)
    pack = make_pack("p", IDS[:2])
    pack["trials"]["epochs_trained"] = 2
    ledger.commit(folder, **pack)
    return tmp_path / "kept"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `main` as the installed command does."""
    monkeypatch.setattr(sys, "argv", ["vae-study", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code if isinstance(left.value.code, int) else 0


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BadInput("axes.beta: no"), 2, "vae-study: axes.beta: no\n"),
        (
            StorageError("cannot write x: disk full"),
            3,
            "vae-study: cannot write x: disk full; `vae-study resume` goes on from here\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted; `vae-study resume` goes on from here\n"),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(study.run, "run_study", fail)
    assert exit_code(monkeypatch, "run", "quickstart") == code
    said = capsys.readouterr()
    assert said.err.endswith(message)
    assert said.out == ""


@pytest.mark.parametrize("failed", [0, 1])
def test_failed_trials_show_in_the_exit_code(
    failed: int,
    storage: Path,
    make_pack: MakePack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Folder.at(storage / "mine")
    ledger.commit(
        folder,
        **make_pack("q", [], failed=IDS[2:][:failed])
        if failed
        else make_pack("p", IDS[:2]) | {"trials": ledger.read_trials(folder)},
    )
    monkeypatch.setattr(study.run, "run_study", lambda *args, **options: load_study(folder))
    assert exit_code(monkeypatch, "run", "quickstart") == failed
    said = capsys.readouterr()
    assert f"tables: {folder}" in said.out
    assert ("1 trials failed" in said.out or "1 trial failed" in said.out) == bool(failed)


def test_options_reach_the_function(monkeypatch: pytest.MonkeyPatch, storage: Path) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = []

    def record(spec: Any, **options: Any) -> Any:
        calls.append((spec, options))
        return load_study(storage / "mine")

    monkeypatch.setattr(study.run, "run_study", record)
    invoke("run", "quickstart", "--set", "training.epochs=3", "--set", "axes.beta=[1, 2]",
           "--storage", "s", "--data-dir", "d", "--cpus", "3", "--extend", "--retry-failed",
           "--address", "ray://x", "--no-reuse")  # fmt: skip
    spec, options = calls.pop()
    assert spec.training.epochs == 3
    assert spec.axes.beta.values() == [1, 2]
    assert options == {
        "storage": "s",
        "data_dir": Path("d"),
        "cpus": 3,
        "extend": True,
        "retry_failed": True,
        "address": "ray://x",
        "reuse": False,
    }
    invoke("run", "quickstart")
    spec, options = calls.pop()
    assert options["storage"] == "studies"
    assert options["reuse"] is True
    assert not any(options[name] for name in ("extend", "retry_failed", "address", "cpus"))


def test_storage_from_the_environment(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_STUDY_STORAGE", str(storage))
    assert "mine" in invoke("list").output
    assert "2 of 3 trials done" in invoke("status", "mine").output


def test_status_of_a_study_under_way(storage: Path) -> None:
    output = invoke("status", "mine", "--storage", storage).output
    assert "2 of 3 trials done" in output
    assert "failed: 0, waiting or running: 1" in output


def test_status_before_the_first_row(storage: Path) -> None:
    """Killed before the tables were there: nothing is known of times, and nothing breaks."""
    folder = Folder.at(storage / "young")
    freeze(folder, load_spec({"study": "young", "dataset": "tiles", "axes": AXES}), {"x": 1})
    result = invoke("status", "young", "--storage", storage)
    assert result.exception is None, result.exception
    assert "0 of 0 trials done" in result.output
    assert invoke("list", "--storage", storage).exception is None
    assert "no completed trials yet" in invoke("results", "young", "--storage", storage).output


def test_results_in_rows(storage: Path, tmp_path: Path) -> None:
    for table, key in (("trials", "trial_id"), ("units", "unit"), ("epochs", "epoch")):
        target = tmp_path / f"{table}.parquet"
        options = ("--storage", storage, "--table", table, "--format", "parquet", "-o", target)
        assert invoke("results", "mine", *options).exception is None
        expected = getattr(load_study(storage / "mine"), table)
        pd.testing.assert_frame_equal(pd.read_parquet(target), expected)
        assert key in expected


def test_a_stranger_among_the_tables(storage: Path) -> None:
    result = invoke("columns", "trails")
    assert isinstance(result.exception, BadInput)
    assert "trials" in str(result.exception)


def test_every_command_explains_itself() -> None:
    runner = CliRunner()
    for name, command in cli.commands.items():
        shown = runner.invoke(cli, [name, "--help"])
        assert shown.exit_code == 0
        assert command.help
        assert "\b" not in shown.output
    shown = runner.invoke(cli, ["--version"])
    assert shown.exit_code == 0


def test_tables_are_wide_enough_in_a_file() -> None:
    assert wide_console().width >= 120


ON_GPUS = ("plan", "quickstart", "--gpus", "3", "--set", "axes.seed=[0]", "--set", "axes.beta=1")
ON_GPUS += ("--set", "dataset={name: tiles, train_images: 1000, test_images: 10}")


def test_plan_on_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Packs of one trial, each 1,000 images × 7 epochs / 100 per second: 70 s, and 10 to start."""
    monkeypatch.chdir(tmp_path)
    settings = ("--set", "training.epochs=7", "--set", "resources.pack_size=1")
    settings += ("--set", "axes.latent_dim=[2,3]", "--set", "axes.architecture=[linear,paper-conv]")
    done = invoke(*ON_GPUS, *settings, "--samples-per-second", "100")
    assert not list(tmp_path.iterdir())
    lines = {line.split("│")[1].strip(): line for line in done.output.splitlines() if "│" in line}
    assert "quickstart: 4 trials" in done.output
    assert "4, 3 at a time" in lines["packs"]
    assert "1 trial," in lines["largest pack"]
    assert "2 min 30 s" in lines["makespan"]
    assert "0.1, if" in lines["GPU hours"]  # (150 + 80 + 80) s = 0.086 h
    assert "0.0 more" in lines["idle GPU hours"]  # 2 × 70 s = 0.039 h
    assert "100 images per second and pack, as given" in done.output
    assert "probe" not in done.output


HERE = ("plan", "quickstart", "--set", "axes={architecture: linear, latent_dim: 2, seed: [0, 1]}")
HERE += ("--set", "dataset={name: tiles, train_images: 1000, test_images: 10}")
HERE += ("--set", "training.epochs=9", "--set", "resources.pack_size=1", "--cpus", "4")


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({}, "about 1 min 30 s on 2 CPUs of this machine"),  # two trials, 90 s each
        ({"max_packs": 1}, "about 3 min 0 s on 1 CPU of this machine"),
        ({"cpus_per_pack": 2}, "about 1 min 30 s on 4 CPUs of this machine"),
        ({"cpus_per_pack": 3}, "about 3 min 0 s on 3 CPUs of this machine"),
    ],
)
def test_plan_on_the_cpus_that_packs_may_have(
    monkeypatch: pytest.MonkeyPatch, resources: dict[str, int], told: str
) -> None:
    threads = []

    def rate(members: Any, data: Any, device: Any, of_pack: int) -> float:
        threads.append(of_pack)
        return 100.0

    monkeypatch.setattr("study.estimate.samples_per_second", rate)
    settings = [f"resources.{name}={value}" for name, value in resources.items()]
    output = invoke(*HERE, *(x for s in settings for x in ("--set", s))).output
    assert told in output
    assert threads == [resources.get("cpus_per_pack", 1)]
    hours = 2 * 90 * threads[0] / 3600
    assert f"({hours:.2f} core hours)" in output


def test_plan_wants_no_more_cpus_than_there_are() -> None:
    refused = invoke(*HERE, "--set", "resources.cpus_per_pack=5").exception
    assert isinstance(refused, BadInput)
    assert str(refused).startswith("resources.cpus_per_pack: 5 CPUs per pack, and there are 4")


def test_plan_counts_probes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """7 epochs and 1 + 10 + 2 + 4 expected of the probe, 10 s each, and 10 to start."""
    monkeypatch.chdir(tmp_path)
    probe = "{name: deterioration, increment: 0.25, collapse_epochs: 2, recovery_epochs: 4}"
    probe = f"record.probe={probe}"
    settings = ("--set", "training.epochs=7", "--set", "resources.pack_size=1", "--set", probe)
    settings += ("--set", "axes.latent_dim=[2]", "--set", "axes.architecture=[linear]")
    done = invoke(*ON_GPUS, *settings, "--samples-per-second", "100")
    assert "4 min 10 s" in done.output
    assert "trials that go on through a probe: 1, counted with 17 epochs more" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "quickstart", "--samples-per-second", "5"), "give --gpus with it"),
        ((*ON_GPUS, "--cpus", "2"), "give --cpus or --gpus"),
        (
            (*ON_GPUS, "--set", "resources.gpus_per_pack=0", "--samples-per-second", "5"),
            "resources.gpus_per_pack: 0",
        ),
        (ON_GPUS, "nothing tells how fast a GPU trains"),
    ],
)
def test_plans_on_gpus_that_cannot_be(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BadInput, match=re.escape(message)):
        raise (invoke(*arguments).exception or AssertionError("no error"))


def test_presets_are_listed_with_their_parts_and_scales() -> None:
    output = invoke("presets").output
    paper = output[output.index("\npaper ") :].split("\nquickstart")[0]
    assert "parts: dense-mnist, dense-mnist-gaussian, dense-tiles" in paper
    assert "scales: small" in paper
    assert output.count("scales:") == 1, "the other presets have none"


def test_parts_reach_the_spec_after_all_else_that_is_set(
    monkeypatch: pytest.MonkeyPatch, storage: Path
) -> None:
    specs: list[Any] = []

    def record(spec: Any, **options: Any) -> Any:
        specs.append(spec)
        assert "parts" not in options
        return load_study(storage / "mine")

    monkeypatch.setattr(study.run, "run_study", record)
    invoke("run", "paper", "--part", "conv", "--set", "parts.sampling.training.epochs=3",
           "--part", "sampling", "--set", "scale=small")  # fmt: skip
    assert list(specs[0].all_parts) == ["conv", "sampling"], "in the order of the spec"
    assert specs[0].all_parts["sampling"].training.epochs == 3
    assert specs[0].scale == "small"
    for arguments, message in (
        (("plan", "paper", "--part", "samplin"), "'samplin' is not a part of this study (did you "),
        (("submit", "quickstart", "--part", "x", "--address", "http://127.0.0.1:1"), "has none"),
    ):
        error = invoke(*arguments).exception
        assert isinstance(error, BadInput)
        assert message in str(error)
