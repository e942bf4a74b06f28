"""Copying a study from a disk that only the cluster sees, through its head, over SSH.

A copy is a study like any other: readable at any moment, also while it is renewed or after that was
interrupted. Rows in `trials` are commit marks, so their files are listed first and put in place
last: every trial that the copy shows has its units and epochs.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from search_spaces import BadInput
from study.cluster.cluster import Cluster
from study.cluster.head_ssh import Head, fetch
from study.cluster.storage import storage_of_study
from study.frozen_spec import SPEC_FILE
from study.storage import Folder

__all__ = ["ORIGIN_FILE", "pull_study", "study_folder"]

ORIGIN_FILE = ".pulled.json"
STAGING = ".pulling"
TRIALS = ("--include=/" + SPEC_FILE, "--include=/trials/", "--include=/trials/[!._]*.parquet")
"""What is listed first."""

NOT_TABLES = ("--exclude=/trials/", f"--exclude=/{SPEC_FILE}", "--exclude=/checkpoints/")
HIDDEN = ("--exclude=.*", "--exclude=_*")


def study_folder(cluster: Cluster, study: str, storage: str | None, *, only_tables: bool) -> Folder:
    """Return a study's folder: where it lies, if that can be read from here, else a copy.

    The copy is kept in the cache and renewed each time.

    Args:
        cluster: The cluster that runs or ran the study.
        study: The study.
        storage: Where it lies, if the user says so.
        only_tables: Leave out saved models.

    Raises:
        BadInput: There is no such study, or no way to it.
        ClusterError: The head cannot be reached.
    """
    storage = storage_of_study(cluster, study, storage)
    if not _is_path(storage):
        return Folder.at(storage).child(study)
    cluster.head()  # before anything is written: is there a way?
    cache = Path(os.path.expanduser(os.environ.get("VAE_STUDY_CACHE") or "~/.cache/vae-study"))
    origin = hashlib.sha256(_origin(cluster, storage).encode()).hexdigest()[:16]
    return pull_study(cluster, study, storage, cache / "pulled" / origin, only_tables=only_tables)


def pull_study(
    cluster: Cluster, study: str, storage: str, to: Path, *, only_tables: bool = False
) -> Folder:
    """Copy a study, or bring an earlier copy up to date.

    Args:
        cluster: The cluster, given by its launcher's file.
        study: The study.
        storage: The folder of studies on the head.
        to: The local folder of studies.
        only_tables: Leave out saved models.

    Returns:
        The copy.

    Raises:
        BadInput: The storage is no folder of the head, has no such study, or the folder here holds
            something else.
        ClusterError: The head cannot be reached; what was copied is used the next time.
    """
    if not _is_path(storage):
        raise BadInput(
            f"storage: {storage} can be read from here; "
            f"`vae-study results {study} --storage {storage}` needs no copy"
        )
    head = cluster.head()
    source = f"{storage.removeprefix('file://').rstrip('/')}/{study}"
    target = Path(os.path.expanduser(to)) / study
    try:
        _claim(target, f"{_origin(cluster, storage)}/{study}")
        _copy(head, source, target, ["--exclude=/models/"] if only_tables else [])
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise
        raise BadInput(f"--to: {target} cannot be written ({error.strerror})") from None
    return Folder.at(target)


def _copy(head: Head, source: str, target: Path, without: Sequence[str]) -> None:
    staging = target / STAGING
    staging.mkdir(exist_ok=True)
    # Files that are there already are linked, not sent again.
    fetch(head, source, staging, ["--delete", "--link-dest=..", *TRIALS, "--exclude=*"])
    if not (staging / SPEC_FILE).exists():
        raise BadInput(f"study: {source!r} on the head ({head.target}) is not a study")
    listed, here = _names(staging / "trials"), _names(target / "trials")
    if strangers := here - listed:
        raise BadInput(
            f"--to: {target} holds trials that the cluster's study has not "
            f"(trials/{min(strangers)}), so it was run here, or anew there; give another folder"
        )
    # Files that are gone there go here too, within tables: the user's own files stay.
    rest = [*HIDDEN, *NOT_TABLES, *without]
    fetch(head, source, target, ["--delete", "--filter=P /*", *rest])
    (target / "trials").mkdir(exist_ok=True)
    for name in sorted(listed):
        os.replace(staging / "trials" / name, target / "trials" / name)
    os.replace(staging / SPEC_FILE, target / SPEC_FILE)
    shutil.rmtree(staging)


def _claim(target: Path, origin: str) -> None:
    """Mark a folder as the copy of one study; refuse one that is anything else."""
    mark = target / ORIGIN_FILE
    unfinished = mark.with_suffix(".new")
    if target.exists() and any(path != unfinished for path in target.iterdir()):
        found = _origin_in(mark)
        if found == origin:
            return
        what = f"a copy of {found}" if found else "no copy of a cluster's study"
        raise BadInput(f"--to: {target} is {what}; give another folder")
    target.mkdir(parents=True, exist_ok=True)
    unfinished.write_text(json.dumps({"origin": origin}))
    os.replace(unfinished, mark)


def _origin_in(mark: Path) -> str | None:
    """Return what a mark says; None where there is none."""
    try:
        return str(json.loads(mark.read_text())["origin"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise BadInput(
            f"--to: {mark} is damaged; remove {mark.parent}, and it is copied anew"
        ) from None


def _origin(cluster: Cluster, storage: str) -> str:
    """Where copies come from: a head's address may change, a cluster's name does not."""
    return f"{cluster.name}:{storage.removeprefix('file://').rstrip('/')}"


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.parquet")}


def _is_path(storage: str) -> bool:
    return "://" not in storage or storage.startswith("file://")
