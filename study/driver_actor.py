"""The Ray actor that keeps a second driver off a study on the same cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search_spaces import BadInput
from study.driver_folder import Driver
from study.storage import Folder

__all__ = ["driver_actor"]

NAMESPACE = "vae-study"
ANSWER_SECONDS = 30.0


class _Holder:
    """Holds a name while its driver lives, and says who that is."""

    def __init__(self, driver: str) -> None:
        self._driver = driver

    def driver(self) -> str:
        return self._driver


@contextmanager
def driver_actor(folder: Folder) -> Iterator[None]:
    """Hold a study on a Ray cluster while its driver runs; Ray frees it when the driver dies.

    An actor's name is taken by one actor of a cluster at a time, wherever its storage lies. The
    actor runs beside the driver and needs no CPU.

    Args:
        folder: The study's folder, whose URI makes the name.

    Raises:
        BadInput: Another driver of this cluster holds it.
    """
    name = f"vae-study-driver/{folder}"
    here = ray.get_runtime_context().get_node_id()
    options = {
        "name": name,
        "namespace": NAMESPACE,
        "num_cpus": 0,
        "max_restarts": -1,  # while the driver lives, whatever happens to the process
        "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False),
    }
    try:
        holder: Any = ray.remote(_Holder).options(**options).remote(str(Driver.here()))
    except ValueError:  # the name is taken
        raise BadInput(
            f"study: {folder.name!r} is being run on this cluster ({_who(name)}); wait for it or "
            "stop it"
        ) from None
    try:
        yield
    finally:
        ray.kill(holder)


def _who(name: str) -> str:
    try:
        holder = ray.get_actor(name, namespace=NAMESPACE)
        return str(ray.get(holder.driver.remote(), timeout=ANSWER_SECONDS))
    except (ValueError, RayError):  # it has ended in the meantime, or is starting
        return "its driver does not say who it is"
