"""Bad input, each kind through the command line: one clear message, exit code 2, no trace."""

import gzip
import os
import resource
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.command import (
    CPUS,
    contents,
    environment,
    started,
    vae_study,
    wait_until,
    write_spec,
)

SPEC: dict[str, Any] = {
    "study": "bad",
    "dataset": {"name": "tiles", "train_images": 200, "test_images": 50},
    "axes": {"architecture": {"family": "dense", "widths": [16]}, "latent_dim": [2, 3]},
    "training": {"epochs": 1},
}

Prepare = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """A command that must be refused.

    Attributes:
        name: For the test's id.
        words: What the message must contain.
        spec: The spec: fields that replace those of SPEC, or the text of the file.
        more: Arguments after `run spec.yaml`, or, if it starts with a command, the whole command.
        prepare: Puts files into the folder first.
        environment: Variables to set.
        limits: Called in the process before it starts.
    """

    name: str
    words: tuple[str, ...]
    spec: dict[str, Any] | str = field(default_factory=dict)
    more: tuple[str, ...] = ()
    prepare: Prepare | None = None
    environment: tuple[tuple[str, str], ...] = ()
    limits: Callable[[], None] | None = None

    @property
    def in_a_process(self) -> bool:
        """Whether it runs in a process of its own; of fields, files and data, one does."""
        return self.limits is not None or self.name in ("empty axis", "bad YAML", "missing array")


def axes(**changed: Any) -> dict[str, Any]:
    return {"axes": SPEC["axes"] | changed}


def dataset(**fields: Any) -> dict[str, Any]:
    return {"dataset": fields}


def array(values: Any) -> Prepare:
    return lambda folder: np.save(folder / "mine.npy", values)


def file(name: str, content: bytes) -> Prepare:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return write


def idx(images: int, magic: int = 0x0803, cut: int = 0) -> bytes:
    content = struct.pack(">IIII", magic, images, 28, 28) + bytes(images * 784)
    return content[: len(content) - cut]


def fake_mnist(folder: Path) -> None:
    """Four files of the right form with other images in them."""
    for stem, count in (("train", 60_000), ("t10k", 10_000)):
        path = folder / "data" / "mnist" / f"{stem}-images-idx3-ubyte.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(idx(count), 1))
        labels = struct.pack(">II", 0x0801, count) + bytes(count)
        path.with_name(f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels, 1))


def no_bytes_to_spare() -> None:
    """Let every write to a file fail, as on a full disk (EFBIG in place of ENOSPC)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


IMAGES = np.zeros((40, 8, 8), np.uint8)
MINE = {"path": "mine.npy"}

CASES = [
    Case("unknown key", ("axis", "axes"), {"axis": {"beta": 1}}),
    Case("misspelt axis", ("axes.latent_dims", "latent_dim"), axes(latent_dims=3)),
    Case("misspelt setting", ("training.epoch", "epochs"), {"training": {"epoch": 3}}),
    Case("negative latent_dim", ("axes.latent_dim", "-3"), axes(latent_dim=[2, -3])),
    Case("latent_dim not whole", ("axes.latent_dim", "2.5"), axes(latent_dim=2.5)),
    Case("wrong type", ("training.epochs", "many"), {"training": {"epochs": "many"}}),
    Case("no epochs", ("training.epochs", "0"), {"training": {"epochs": 0}}),
    Case("beta not finite", ("axes.beta", "inf"), axes(beta=float("inf"))),
    Case("empty axis", ("axes.beta", "[]"), axes(beta=[])),
    Case("missing axis", ("axes.latent_dim", "missing"), {"axes": {"architecture": "linear"}}),
    Case("a value twice", ("axes.latent_dim", "2"), axes(latent_dim=[2, 3, 2])),
    Case(
        "trials equal through an alias",
        ("axes.architecture", "dense-256-32-24"),
        axes(architecture=["paper-dense-mnist", {"family": "dense", "widths": [256, 32, 24]}]),
    ),
    Case("unknown architecture", ("'paper-cnov'", "'paper-conv'"), axes(architecture="paper-cnov")),
    Case("unknown objective", ("axes.objective", "elbow", "elbo"), axes(objective="elbow")),
    Case(
        "setting given twice over",
        ("training.epochs", "axes.epochs"),
        {"axes": SPEC["axes"] | {"epochs": [1, 2]}, "training": {"epochs": 3}},
    ),
    Case(
        "variance without its decoder",
        ("axes.decoder_variance", "gaussian"),
        axes(decoder_variance=0.5),
    ),
    Case(
        "conv net on vectors",
        ("axes.architecture", "conv-8", "manifold-3"),
        axes(architecture={"family": "conv", "channels": [8]}, decoder="gaussian")
        | dataset(name="manifold", true_dimension=3, train_images=100, test_images=20),
    ),
    Case(
        "too many conv stages",
        ("axes.architecture", "halves", "28x28"),
        axes(architecture={"family": "conv", "channels": [4] * 6}),
    ),
    Case(
        "too many conv stages for a user's images",
        ("axes.architecture", "halves", "8x8"),
        axes(architecture={"family": "conv", "channels": [4] * 4}) | dataset(**MINE),
        prepare=array(IMAGES),
    ),
    Case(
        "paper-conv on other images",
        ("axes.architecture", "paper-conv", "8x8"),
        axes(architecture="paper-conv") | dataset(**MINE),
        prepare=array(IMAGES),
    ),
    Case(
        "Bernoulli outside [0, 1]",
        ("axes.decoder", "bernoulli", "[0, 1]"),
        dataset(**MINE),
        prepare=array(np.linspace(-1, 2, 400, dtype=np.float32).reshape(40, 10)),
    ),
    Case(
        "batch of one for batch normalisation",
        ("training.batch_size", "1"),
        axes(architecture={"family": "conv", "channels": [4]})
        | {"training": {"batch_size": 1, "epochs": 1}},
    ),
    Case(
        "random space too small",
        ("points", "2"),
        {"strategy": {"name": "random", "points": 5}},
    ),
    Case("unknown strategy", ("strategy", "'gird'", "'grid'"), {"strategy": "gird"}),
    Case("unknown dataset", ("dataset", "'minst'", "'mnist'"), dataset(name="minst")),
    Case(
        "truncated IDX",
        ("mine.idx", "truncated"),
        dataset(path="mine.idx"),
        prepare=file("mine.idx", idx(20, cut=100)),
    ),
    Case(
        "wrong magic number",
        ("mine.idx", "magic"),
        dataset(path="mine.idx"),
        prepare=file("mine.idx", idx(20, magic=0x12340803)),
    ),
    Case(
        "wrong checksum",
        ("train-images-idx3-ubyte.gz", "SHA-256"),
        dataset(name="mnist"),
        more=("--data-dir", "data"),
        prepare=fake_mnist,
    ),
    Case(
        "data folder missing",
        ("VAE_STUDY_DATA", "not a folder"),
        dataset(name="mnist"),
        environment=(("VAE_STUDY_DATA", "nowhere"),),
    ),
    Case(
        "NaN in an array",
        ("dataset.path", "mine.npy", "nan"),
        dataset(**MINE),
        prepare=array(np.where(np.eye(40, 10) > 0, np.nan, 0.5)),
    ),
    Case(
        "object array",
        ("dataset.path", "mine.npy", "object"),
        dataset(**MINE),
        prepare=array(np.array([[1, "a"], [None, 2]], dtype=object)),
    ),
    Case("missing array", ("dataset.path", "nowhere.npy"), dataset(path="nowhere.npy")),
    Case("study name with a slash", ("study", "'a/b'"), {"study": "a/b"}),
    Case("study name that climbs", ("study", "'../up'"), more=("--set", "study=../up")),
    Case(
        "override of an unknown field",
        ("training.epohcs", "epochs"),
        more=("--set", "training.epohcs=3"),
    ),
    Case("override without a value", ("'training.epochs'", "="), more=("--set", "training.epochs")),
    Case("bad YAML", ("spec.yaml", "line 3", "',' or ']'"), "study: bad\naxes: [1, 2\n"),
    Case("a key twice", ("spec.yaml", "line 3", "'study'"), "study: bad\naxes: {}\nstudy: worse\n"),
    Case("an empty file", ("spec.yaml", "no spec"), ""),
    Case("unknown preset", ("'quikstart'", "'quickstart'"), more=("run", "quikstart")),
    Case("a folder as spec", ("cannot be read",), more=("run", ".")),
    Case("plan of a bad spec", ("axes.beta", "-1"), axes(beta=-1), more=("plan", "spec.yaml")),
    Case(
        "storage is a file",
        ("storage", "blocked"),
        more=("--storage", "blocked"),
        prepare=file("blocked", b"not a folder"),
    ),
    Case(
        "storage below a file",
        ("storage", "blocked"),
        more=("--storage", "blocked/deeper"),
        prepare=file("blocked", b"not a folder"),
    ),
    Case(
        "storage that nobody can write", ("storage", "/proc"), more=("--storage", "/proc/studies")
    ),
    Case("unknown kind of storage", ("storage", "s4://"), more=("--storage", "s4://bucket")),
    Case("full disk", ("storage", "File too large"), limits=no_bytes_to_spare),
    Case(
        "resume of an unknown study",
        ("nothing", "is not a study", "there are none"),
        more=("resume", "nothing"),
    ),
    Case("status of an unknown study", ("nothing", "is not a study"), more=("status", "nothing")),
    Case("results of an unknown study", ("nothing", "is not a study"), more=("results", "nothing")),
    Case("data of nobody", ("dataset.path", "~nobody-here"), dataset(path="~nobody-here/mine.npy")),
    Case(
        "an objective without a column",
        ("strategy.objectives", "maximise"),
        {"strategy": {"name": "optuna", "points": 4, "objectives": {"maximise": ""}}},
    ),
    Case("unknown table", ("'unit'", "units"), more=("columns", "unit")),
    Case("unknown dataset to fetch", ("'minst'", "'mnist'"), more=("data", "fetch", "minst")),
]

COMMANDS = ("run", "plan", "resume", "status", "results", "columns", "data")


def refuse(folder: Path, case: Case) -> str:
    """Run the case; return what is left on standard error after all the checks."""
    if isinstance(case.spec, str):
        (folder / "spec.yaml").write_text(case.spec)
    else:
        write_spec(folder, SPEC | case.spec)
    if case.prepare:
        case.prepare(folder)
    before = contents(folder)
    command = case.more
    if not command or command[0] not in COMMANDS:
        command = ("run", "spec.yaml", *command)
    env = environment(VAE_STUDY_CACHE=str(folder / "cache"), **dict(case.environment))
    options = {"preexec_fn": case.limits} if case.in_a_process else {}
    done = vae_study(folder, *command, env=env, **options)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert contents(folder) == before
    studies = folder / "studies"
    assert not studies.exists() or not [path for path in studies.rglob("*") if path.is_file()]
    return done.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(tmp_path: Path, case: Case) -> None:
    message = refuse(tmp_path, case)
    assert message.startswith("vae-study: ")
    assert message.count("vae-study:") == 1
    assert "Traceback" not in message
    assert "pydantic" not in message
    assert len(message.splitlines()) == 1, message
    assert len(message) < 600, message
    for word in case.words:
        assert word in message, f"{word!r} is not in: {message}"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("rnu", "quickstart"), ("No such command", "rnu")),
        (("run", "quickstart", "--fast"), ("No such option", "--fast")),
        (("run",), ("Missing argument", "SPEC")),
        (("run", "quickstart", "--cpus", "0"), ("--cpus", "0")),
        (("results", "quickstart", "--format", "excel"), ("--format", "excel", "csv")),
        (("results", "quickstart", "--table", "plans"), ("--table", "plans", "units")),
        (("results", "quickstart", "--table", "units"), ("--table", "units", "--format")),
        (("results", "quickstart", "-o", "x.csv"), ("--output", "x.csv", "--format")),
    ],
)
def test_bad_usage(tmp_path: Path, command: tuple[str, ...], words: tuple[str, ...]) -> None:
    done = vae_study(tmp_path, *command)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a study that a driver runs meanwhile."""
    folder = tmp_path_factory.mktemp("running")
    spec = write_spec(folder, SPEC | {"training": {"epochs": 100_000}})
    with started(folder, "run", spec, "--cpus", "1") as driver:
        wait_until((folder / "studies" / "bad" / "trials" / "empty.parquet").exists)
        time.sleep(0.2)
        yield folder
        assert driver.poll() is None


@pytest.mark.parametrize("command", [("run", "spec.yaml"), ("resume", "bad")])
def test_two_drivers(running: Path, command: tuple[str, ...]) -> None:
    done = vae_study(running, *command, *CPUS)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("vae-study: study: 'bad' is being run by another process")
    assert len(done.stderr.splitlines()) == 1


def test_a_misspelt_study(running: Path) -> None:
    for command in ("resume", "status", "results"):
        done = vae_study(running, command, "bda")
        assert done.returncode == 2
        assert "did you mean 'bad'?" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_parquet_needs_a_file(running: Path) -> None:
    done = vae_study(running, "results", "bad", "--format", "parquet")
    assert done.returncode == 2
    assert done.stderr.startswith("vae-study: --output: parquet needs a file")


@pytest.mark.parametrize("format_", ["csv", "json", "parquet"])
def test_results_into_a_folder_that_is_not_there(running: Path, format_: str) -> None:
    target = os.path.join("no", "such", f"rows.{format_}")
    done = vae_study(running, "results", "bad", "--format", format_, "-o", target)
    assert done.returncode == 2
    assert done.stderr.startswith("vae-study: --output: ")
    assert "Traceback" not in done.stderr


def test_results_of_a_study_without_rows(running: Path) -> None:
    done = vae_study(running, "results", "bad")
    assert done.returncode == 0
    assert "no completed trials yet" in done.stdout
