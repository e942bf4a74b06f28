"""The package's front: names it does not know, and what it may not import."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search_spaces import BadInput
from trainables.datasets import fetch_dataset, list_datasets


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashion-mnist", "did you mean 'fashion_mnist'"),
        ("cifar10", "'kmnist'"),
        ("tiles", "nothing to fetch"),
        ("manifold", "nothing to fetch"),
    ],
)
def test_what_cannot_be_fetched(name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        fetch_dataset(name)


def test_every_dataset_is_listed_with_what_it_is(tmp_path: Path) -> None:
    listed: dict[str, Any] = {info.name: info for info in list_datasets(tmp_path)}
    assert set(listed) == {"mnist", "fashion_mnist", "kmnist", "tiles", "manifold"}
    assert all(info.description and info.where for info in listed.values())
    assert listed["kmnist"].status == "missing"
    assert str(tmp_path / "kmnist") in listed["kmnist"].where
    assert listed["tiles"].status == "generated"


def test_neither_torch_nor_ray_is_imported() -> None:
    code = (
        "import sys, trainables.datasets; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
