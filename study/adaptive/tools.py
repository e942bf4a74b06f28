"""Optuna's samplers, pruners and storages by name, and what a wrong one is answered with."""

import inspect
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from search_spaces import BadInput, nearest_name
from search_spaces.optuna_strategy import NamedTool, OptunaStrategy

__all__ = ["build_pruner", "build_sampler", "mend_journal", "open_storage"]

_NEEDS_OBJECTS = {"PartialFixedSampler", "GridSampler", "BaseGASampler", "BaseSampler"}
"""Samplers that take more than plain values; a grid is strategy grid."""
_PRUNERS_OF_PRUNERS = {"PatientPruner", "BasePruner", "NopPruner"}


def build_sampler(strategy: OptunaStrategy, after: int = 0) -> optuna.samplers.BaseSampler:
    """Build the sampler of a strategy.

    Args:
        strategy: Which one, with which options.
        after: How many points there are already. A sampler that goes on draws from another stream
            than the one that began; but for QMC, which numbers its points.

    Raises:
        BadInput: There is none of that name, or it does not take an option.
    """
    found = _classes(optuna.samplers, "Sampler", _NEEDS_OBJECTS)
    qmc = _short(strategy.sampler.name, "Sampler") == "qmc"
    seed = strategy.seed if qmc else strategy.seed + 1_000_003 * after
    sampler: optuna.samplers.BaseSampler = _build("sampler", strategy.sampler, found, seed)
    return sampler


def build_pruner(strategy: OptunaStrategy) -> optuna.pruners.BasePruner:
    """Build the pruner of a strategy; one that never prunes where it has none.

    Raises:
        BadInput: There is none of that name, or it does not take an option.
    """
    if strategy.pruner is None:
        return optuna.pruners.NopPruner()
    found = _classes(optuna.pruners, "Pruner", _PRUNERS_OF_PRUNERS)
    pruner: optuna.pruners.BasePruner = _build("pruner", strategy.pruner, found, None)
    return pruner


def open_storage(address: str | Path, field: str = "strategy.storage") -> BaseStorage:
    """Open Optuna's storage: a journal file, or a database by its URL.

    Args:
        address: File or URL.
        field: Where the address was given, for messages.

    Raises:
        BadInput: The database cannot be reached, or its driver is not installed.
    """
    if isinstance(address, Path):
        try:
            address.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(address)))
        except (OSError, ValueError) as error:  # the latter: it holds something else
            reason = str(error).splitlines()[0]
            raise BadInput(f"{field}: {str(address)!r} is no journal file ({reason})") from None
    try:
        return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})
    except Exception as error:  # SQLAlchemy's, or of the driver that it loads: any kind there is
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"{field}: {_without_password(address)!r} cannot be opened ({reason}); give "
            "the URL of a database that answers, such as sqlite:///optuna.db, or leave it out"
        ) from None


def mend_journal(journal: Path) -> None:
    """Take out of a journal what a full disk or a power cut left of it.

    Half a line at the end is cut off, since Optuna would write its next line behind it. A journal
    that cannot be read for another reason is put aside, as optuna.journal.damaged.

    Args:
        journal: A file that holds nothing but what the tables tell as well; it need not be there.
    """
    if not journal.exists():
        return
    whole = 0
    with journal.open("rb") as file:
        for line in file:
            if not _is_entry(line):
                break
            whole += len(line)
        rest = file.read(1)
    if whole == journal.stat().st_size:
        return
    if rest:
        os.replace(journal, journal.with_name(f"{journal.name}.damaged"))
    else:
        os.truncate(journal, whole)


def _is_entry(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _without_password(address: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(address).render_as_string(hide_password=True)
    except ArgumentError:
        return address


def _classes(module: Any, ending: str, without: set[str]) -> dict[str, type]:
    """Return classes by short name."""
    return {
        _short(name, ending): getattr(module, name)
        for name in module.__all__
        if name.endswith(ending) and name not in without
    }


def _short(name: str, ending: str) -> str:
    """Return a class's name as a spec may have it: NSGAIISampler is nsgaii, CmaEsSampler cma_es."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name.removesuffix(ending)).lower()


def _build(kind: str, tool: NamedTool, found: dict[str, type], seed: int | None) -> Any:
    short = _short(tool.name, kind.capitalize())
    if short not in found:
        hint = nearest_name(tool.name, found)
        raise BadInput(f"strategy.{kind}: {tool.name!r} is not a {kind} of Optuna{hint}")
    taken = inspect.signature(found[short]).parameters
    options = dict(tool.options)
    for name in options:
        if name not in taken or name in ("self", "seed"):
            own = [other for other in taken if other not in ("self", "seed")]
            raise BadInput(
                f"strategy.{kind}.{name}: {found[short].__name__} has no such option"
                f"{nearest_name(name, own)}"
                + ("; strategy.seed is for it" if name == "seed" else "")
            )
    if seed is not None and "seed" in taken:
        options["seed"] = seed % 2**32
    try:
        with warnings.catch_warnings():  # of options that Optuna may change in another version
            warnings.simplefilter("ignore", ExperimentalWarning)
            return found[short](**options)
    except (ValueError, TypeError) as error:
        raise BadInput(f"strategy.{kind}: {error}") from None
