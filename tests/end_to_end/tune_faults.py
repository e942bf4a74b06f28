"""Packs that go wrong, for a user's own Tuner; workers import them by name."""

import os
import signal
from pathlib import Path
from typing import Any

from ray.tune import Callback

from study import PackTrainable

__all__ = ["DyingPack", "FailingPack", "LoggedPack", "Stop", "TornPack"]

LOG = "PACK_LOG"


class LoggedPack(PackTrainable):
    """Notes its pack and epoch after each step, in the file that LOG names."""

    def step(self) -> dict[str, Any]:
        result = super().step()
        with open(os.environ[LOG], "a") as log:
            log.write(f"{self._pack_id} {result['epoch']:g}\n")
        return result


class DyingPack(LoggedPack):
    """Is killed in its third epoch, once."""

    def step(self) -> dict[str, Any]:
        log = Path(os.environ[LOG])
        mine = f"{self._assigned['pack_id']} 2\n"
        if log.exists() and mine in log.read_text():
            marker = log.with_name(f"{self._assigned['pack_id']}-died")
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().step()


class FailingPack(PackTrainable):
    """Fails in its second epoch where it has a lane with seed 1."""

    def step(self) -> dict[str, Any]:
        training = self._training
        if training is not None and any(trial["seed"] == 1 for trial in self._assigned["trials"]):
            raise RuntimeError("seed 1 was told to fail")
        return super().step()


class TornPack(PackTrainable):
    """Fails before it has begun."""

    def step(self) -> dict[str, Any]:
        raise RuntimeError("nothing works here")


class Stop(Callback):
    """Kills the driver when some packs are done."""

    def __init__(self, packs: int) -> None:
        self.left = packs

    def on_trial_complete(self, *arguments: Any, **info: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
