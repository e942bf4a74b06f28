"""A Ray that tests share."""

import os
from collections.abc import Iterator

import pytest

from tests.end_to_end.ray_nodes import one_node


@pytest.fixture(scope="session")
def _ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with one_node(tmp_path_factory.mktemp("ray"), cpus=1) as address:
        yield address


@pytest.fixture(scope="module")
def shared_ray(_ray_address: str) -> Iterator[None]:
    """Studies of a module run one pack at a time on a Ray that is up, through RAY_ADDRESS.

    Starting and stopping one takes longer than most studies of the tests. For modules that neither
    kill it nor say how many CPUs there are.
    """
    os.environ["RAY_ADDRESS"] = _ray_address
    yield
    del os.environ["RAY_ADDRESS"]
