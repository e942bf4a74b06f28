"""Faults put into the processes of a command, workers included: a folder to put on PYTHONPATH."""

from collections.abc import Collection
from pathlib import Path

_SITECUSTOMIZE = '''\
import importlib.util, sys

class Faults:
    """Changes modules as they are loaded."""

    def find_spec(self, name, path=None, target=None):
        if name not in FAULTS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            FAULTS[name](module)

        spec.loader.exec_module = exec_module
        return spec

FAULTS = {}
sys.meta_path.insert(0, Faults())
'''

_ADVANCE = """
def fail(training):
    original = training.PackTraining.advance

    def advance(self):
        for trial in self._members.values():
            if trial.seed in RAISE or trial.seed in DIE:
                with open(LOG, "a") as log:
                    log.write(f"{len(self._members)} {trial.seed}\\\\n")
                if trial.seed in DIE:
                    import os, signal
                    os.kill(os.getpid(), signal.SIGKILL)
                raise RuntimeError(f"seed {trial.seed} was told to fail")
        original(self)

    training.PackTraining.advance = advance

FAULTS["trainables.training"] = fail
"""

_MEMORY = """
def limit(pack):
    import torch
    original = pack.Pack.train_epoch

    def train_epoch(self, *arguments):
        means = original(self, *arguments)
        if len(self.trials) > LANES or any(trial.seed in NEVER for trial in self.trials):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return means

    pack.Pack.train_epoch = train_epoch

FAULTS["trainables.pack"] = limit
"""

_NUMERICS = """
def change(pack):
    pack.NUMERICS_VERSION = NUMERICS

FAULTS["trainables.pack"] = change
"""


_STORAGE = """
def close(pack_checkpoints):
    from study.storage_faults import StorageError

    def load(self, pack_id):
        raise StorageError(f"cannot read {pack_id}: Permission denied")

    pack_checkpoints.FolderCheckpoints.load = load

FAULTS["study.pack_checkpoints"] = close
"""


def failing_seeds(folder: Path, raising: set[int], dying: set[int]) -> tuple[str, Path]:
    """Let trials with these seeds raise, or kill their worker, in their first epoch.

    Returns:
        The value of PYTHONPATH, and a file with a line per fault: lanes of the pack, and seed.
    """
    log = folder / "faults.txt"
    values = f"RAISE, DIE, LOG = {raising!r}, {dying!r}, {str(log)!r}\n"
    advance = _ADVANCE.replace("\\\\n", "\\n")
    return _write(folder, _SITECUSTOMIZE + values + advance), log


def limited_memory(folder: Path, lanes: int, never: Collection[int] = ()) -> str:
    """Let packs of more lanes run out of memory, and trials of some seeds even alone.

    Returns:
        The value of PYTHONPATH.
    """
    values = f"LANES, NEVER = {lanes!r}, {set(never)!r}\n"
    return _write(folder, _SITECUSTOMIZE + values + _MEMORY)


def checkpoints_that_cannot_be_read(folder: Path) -> str:
    """Let workers meet storage that does not let them read; return the value of PYTHONPATH."""
    return _write(folder, _SITECUSTOMIZE + _STORAGE)


def other_numerics(folder: Path, version: int) -> str:
    """Let processes have another numerics version; return the value of PYTHONPATH."""
    return _write(folder, _SITECUSTOMIZE + f"NUMERICS = {version}\n" + _NUMERICS)


def _write(folder: Path, code: str) -> str:
    place = folder / "faults"
    place.mkdir()
    (place / "sitecustomize.py").write_text(code)
    return str(place)
