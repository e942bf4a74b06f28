"""What a job takes along: this very source code, the spec, the user's files, and what they are."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from search_spaces import ArrayDataset, BadInput, DatasetSpec, StudySpec, dump_spec
from study.cluster.job_entry import MANIFEST_FILE, cluster_versions

__all__ = ["Shipment", "source_digest", "stage", "with_data_there", "with_shipped_data"]

PACKAGES = ("analysis", "search_spaces", "study", "trainables")
SPEC_FILE = "spec.yaml"
DATA_LIMIT = 96 * 2**20
"""Bytes: Ray's dashboard takes 100 MiB in one piece, and the source code needs some of it."""

DATA_FOLDER = "~/.cache/vae-study/shipped"  # of the head; the user's home there


@dataclass(frozen=True)
class Shipment:
    """A folder that is ready to be sent.

    Attributes:
        folder: The folder, the job's working directory.
        source: Digest of the source code, with the git commit where there is one.
    """

    folder: Path
    source: str


def stage(
    folder: Path,
    command: Sequence[str],
    spec: StudySpec | None = None,
    files: Mapping[Path, str] | None = None,
) -> Shipment:
    """Fill an empty folder with all that a job needs.

    Args:
        folder: The folder.
        command: Arguments of `vae-study` on the cluster.
        spec: Written as spec.yaml, if given.
        files: The user's files, with the places that they get on the cluster.
    """
    from trainables.pack import NUMERICS_VERSION  # imports torch

    for package in PACKAGES:
        for relative, path in _package_files(package):
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    _write_metadata(folder)
    shipped = {f"data/{number}": file for number, file in enumerate(files or {})}
    for name, file in shipped.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, folder / name)
    if spec is not None:
        (folder / SPEC_FILE).write_text(dump_spec(spec))
    versions = {
        **cluster_versions(),
        "vae-study": version("vae-study"),
        "numerics_version": NUMERICS_VERSION,
    }
    source = source_digest()
    manifest = {
        "versions": versions,
        "source": source,
        "command": list(command),
        "files": {name: (files or {})[file] for name, file in shipped.items()},
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2))
    return Shipment(folder, source)


def with_shipped_data(spec: StudySpec) -> tuple[StudySpec, dict[Path, str]]:
    """Give the user's own files places on the cluster, named after what is in them.

    The same content gets the same place, so a study can be submitted again and resumed.

    Returns:
        The spec with these places, and the places by file.

    Raises:
        BadInput: A file is missing or cannot be read, or they are more than Ray takes.
    """
    files: dict[Path, str] = {}
    moved: dict[DatasetSpec, DatasetSpec] = {}
    size = 0
    for dataset in spec.datasets:
        if isinstance(dataset, ArrayDataset):
            file = Path(os.path.abspath(os.path.expanduser(dataset.path)))
            try:
                size += file.stat().st_size
                if size > DATA_LIMIT:
                    raise BadInput(
                        f"dataset.path: with {dataset.path} there are {size / 2**20:.0f} MiB to "
                        f"send, and {DATA_LIMIT / 2**20:.0f} fit; put the data where the cluster "
                        "sees them, give their path there, and add --data-on-cluster"
                    )
                with file.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise BadInput(
                    f"dataset.path: {dataset.path} cannot be read ({error.strerror}); if it is "
                    "a path on the cluster, add --data-on-cluster"
                ) from None
            files[file] = f"{DATA_FOLDER}/{digest[:16]}/{file.name}"
            moved[dataset] = dataset.model_copy(update={"path": files[file]})
    return spec.with_datasets(moved), files


def with_data_there(spec: StudySpec) -> tuple[StudySpec, dict[Path, str]]:
    """Leave the user's own files where they are on the cluster.

    Returns:
        The spec, and no files.

    Raises:
        BadInput: A path is relative.
    """
    for dataset in spec.datasets:
        if isinstance(dataset, ArrayDataset) and not dataset.path.startswith(("/", "~/")):
            raise BadInput(
                f"dataset.path: {dataset.path!r} is not an absolute path, so it names no file on "
                "the cluster; give an absolute one, or leave out --data-on-cluster"
            )
    return spec, {}


def source_digest() -> str:
    """Return the first 16 digits of a SHA-256 of the source code, and the git commit.

    The commit is followed by `+changes` where the files are not what was committed.
    """
    digest = hashlib.sha256()
    for package in PACKAGES:
        for relative, path in _package_files(package):
            content = path.read_bytes()
            digest.update(f"{relative}\0{len(content)}\0".encode() + content)
    commit = _commit()
    return digest.hexdigest()[:16] + (f" (commit {commit})" if commit else "")


def _package_folder(package: str) -> Path:
    found = find_spec(package)
    assert found is not None
    assert found.submodule_search_locations
    return Path(next(iter(found.submodule_search_locations)))


def _package_files(package: str) -> Iterator[tuple[str, Path]]:
    """Every file of a package as this process imports it, by its path relative to the parent."""
    top = _package_folder(package)
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            path = Path(folder, name)
            if name[0] != "." and path.suffix not in (".pyc", ".pyo"):
                yield f"{package}/{path.relative_to(top).as_posix()}", path


def _write_metadata(folder: Path) -> None:
    """Make `importlib.metadata.version("vae-study")` work where the package is not installed."""
    own = version("vae-study")
    metadata = folder / f"vae_study-{own}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: vae-study\nVersion: {own}\n")


def _commit() -> str:
    """Return the commit that the packages belong to; empty where git knows nothing of them."""
    parent = _package_folder("study").parent

    def git(*arguments: str) -> str | None:
        try:
            ran = subprocess.run(
                ["git", "-C", str(parent), *arguments], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return ran.stdout.strip()

    if git("ls-files", "--error-unmatch", "study/__init__.py") is None:
        return ""
    commit = git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return ""
    return commit + ("+changes" if git("status", "--porcelain", "--", *PACKAGES) else "")
