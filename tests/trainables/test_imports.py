"""The layers: who may import whom, read from the source, and tried out with packages blocked."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {
    "search_spaces": {"torch", "ray", "optuna", "altair", "trainables", "study", "analysis"},
    "trainables": {"optuna", "altair", "rich", "click", "study", "analysis"},
    "analysis": {"torch", "ray", "trainables"},
    "study": {"analysis"},
}
COMMANDS = (
    "compare",
    "data",
    "latent_tables",
    "report",
    "reporting",
    "results",
    "sample_summaries",
    "search_tables",
)
ALLOWED = {(f"study/commands/{command}.py", "analysis") for command in COMMANDS}

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is not installed")

sys.meta_path.insert(0, Blocked())
"""
TRAIN = """
import torch
from search_spaces import RecordSettings, TilesDataset, Trial
from trainables.datasets import load_dataset
from trainables.device_data import DeviceData
from trainables.training import PackTraining

tiles = TilesDataset(train_images=60, test_images=20)
trials = [
    Trial(dataset=tiles, architecture=name, latent_dim=2, epochs=1, seed=seed)
    for seed, name in enumerate(["conv-4-4"] * 2)
]
data = DeviceData.load(load_dataset(tiles), torch.device("cpu"))
training = PackTraining(trials, ["a", "b"], data, RecordSettings(models=True))
while not training.done:
    checkpoint = training.checkpoint()
    training.advance()
print(len(training.rows().trials))
"""


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Top-level packages that a module imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "__import__",
        ):
            assert isinstance(node.args[0], ast.Constant), f"{path}: imports what it computes"
            yield str(node.args[0].value).partition(".")[0]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_layers(package: str) -> None:
    for path in modules(package):
        name = path.relative_to(ROOT).as_posix()
        for found in set(imported(path)) & FORBIDDEN[package]:
            assert (name, found) in ALLOWED, f"{name} imports {found}"


def test_one_module_of_trainables_knows_ray() -> None:
    knowing = [path.name for path in modules("trainables") if "ray" in set(imported(path))]
    assert set(knowing) <= {"tune_trainable.py"}
    others = [path for path in modules("trainables") if path.name != "tune_trainable.py"]
    assert not [path for path in others if "tune_trainable import" in path.read_text()]


def test_a_pack_trains_on_a_bare_machine() -> None:
    blocked = {"ray", "optuna", "altair", "rich", "click", "study", "analysis"}
    ran = run(BLOCK.format(blocked=blocked) + TRAIN)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "2"


def test_every_module_but_one_imports_on_a_bare_machine() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in [*modules("search_spaces"), *modules("trainables")]
        if path.name != "tune_trainable.py"
    ]
    blocked = {"ray", "optuna", "altair", "rich", "click", "study", "analysis"}
    code = BLOCK.format(blocked=blocked) + "\n".join(f"import {name}" for name in names)
    ran = run(code)
    assert ran.returncode == 0, ran.stderr


def test_the_block_blocks() -> None:
    ran = run(BLOCK.format(blocked={"ray"}) + "import ray")
    assert ran.returncode != 0
    assert "ray is not installed" in ran.stderr


def test_search_spaces_needs_neither_torch_nor_ray() -> None:
    code = "import sys, search_spaces; print({'torch', 'ray', 'numpy'} & set(sys.modules))"
    assert run(code).stdout.strip() == "set()"
    ran = run(BLOCK.format(blocked={"torch", "ray", "numpy", "pandas"}) + "import search_spaces")
    assert ran.returncode == 0, ran.stderr


def test_analysis_imports_without_torch_and_ray() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in modules("analysis")
    ]
    blocked = {"torch", "ray", "trainables"}
    ran = run(BLOCK.format(blocked=blocked) + "\n".join(f"import {name}" for name in names))
    assert ran.returncode == 0, ran.stderr
