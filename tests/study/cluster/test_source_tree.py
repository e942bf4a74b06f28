"""What jobs take along, and the entry that runs it on the cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from search_spaces import BadInput, dump_spec, load_spec
from study.cluster import job_entry, source_tree
from study.cluster.job_entry import difference
from study.cluster.source_tree import (
    DATA_FOLDER,
    PACKAGES,
    source_digest,
    stage,
    with_data_there,
    with_shipped_data,
)

REPOSITORY = Path(__file__).resolve().parents[3]
SPEC = {"study": "mine", "dataset": "tiles", "axes": {"architecture": "linear", "latent_dim": 2}}


def test_the_whole_source_goes_along(tmp_path: Path) -> None:
    shipment = stage(tmp_path, ["run", "spec.yaml"], load_spec(SPEC))
    expected = {
        path.relative_to(REPOSITORY)
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name[0] != "."
    }
    shipped = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    own = {path for path in shipped if path.parts[0] not in PACKAGES}
    assert shipped - own == expected
    assert {path.suffix for path in expected} >= {".py", ".yaml", ".jinja", ".css", ".js"}
    for path in expected:
        assert (tmp_path / path).read_bytes() == (REPOSITORY / path).read_bytes()
    version = source_tree.version("vae-study")
    assert {str(path) for path in own} == {
        "shipment.json",
        "spec.yaml",
        f"vae_study-{version}.dist-info/METADATA",
    }
    manifest = json.loads((tmp_path / "shipment.json").read_text())
    assert manifest["source"] == shipment.source
    assert set(manifest["versions"]) == {
        *("python", "ray", "torch", "pyarrow", "vae-study", "numerics_version"),
    }
    assert manifest["versions"]["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert load_spec(tmp_path / "spec.yaml") == load_spec(SPEC)


def test_the_shipped_package_is_what_is_imported(tmp_path: Path) -> None:
    """Whatever version is installed, or none."""
    stage(tmp_path, [])
    next(tmp_path.glob("*.dist-info/METADATA")).write_text(
        "Metadata-Version: 2.1\nName: vae-study\nVersion: 7.8.9\n"
    )
    code = (
        "import importlib.metadata, study, analysis, trainables, search_spaces\n"
        "print(importlib.metadata.version('vae-study'))\n"
        "print(*(m.__file__ for m in (study, analysis, trainables, search_spaces)), sep='\\n')"
    )
    for how in (
        {"cwd": tmp_path, "env": os.environ},  # the driver
        {"cwd": "/", "env": os.environ | {"PYTHONPATH": str(tmp_path)}},  # workers
    ):
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, **how
        )
        version, *files = ran.stdout.split()
        assert version == "7.8.9"
        assert all(file.startswith(str(tmp_path)) for file in files)


def test_the_digest_is_of_what_is_in_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    monkeypatch.setattr(source_tree, "_package_folder", lambda package: tmp_path / package)
    empty = source_digest()
    assert source_digest() == empty
    assert len(empty) == 16, "no commit: git knows nothing of these"
    (tmp_path / "study" / "__pycache__").mkdir()
    (tmp_path / "study" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert source_digest() == empty
    (tmp_path / "study" / "a.py").write_text("x")
    one = source_digest()
    (tmp_path / "study" / "a.py").rename(tmp_path / "study" / "b.py")
    assert len({empty, one, source_digest()}) == 3

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        ran = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *arguments], capture_output=True, check=True
        )
        return ran.stdout.decode().strip()

    git("init", "-q")
    assert len(source_digest()) == 16, "in a repository, but not part of it"
    git("add", ".")
    git("commit", "-q", "-m", "a")
    commit = git("rev-parse", "--short=12", "HEAD")
    assert source_digest().endswith(f" (commit {commit})")
    (tmp_path / "notes.txt").touch()
    assert source_digest().endswith(f" (commit {commit})"), "not a change of the source"
    (tmp_path / "study" / "b.py").write_text("y")
    assert source_digest().endswith(f" (commit {commit}+changes)")


def test_data_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("faces.npy", np.zeros((4, 2, 2), np.uint8))
    np.save("other.npy", np.ones((4, 2, 2), np.uint8))
    datasets = [{"path": "faces.npy"}, "tiles", {"path": "other.npy", "name": "b", "label": "B"}]
    spec = load_spec(SPEC | {"dataset": datasets})
    sent, files = with_shipped_data(spec)
    assert [dataset.label for dataset in sent.dataset] == ["faces", "tiles", "B"]
    assert set(files) == {tmp_path / "faces.npy", tmp_path / "other.npy"}
    place = files[tmp_path / "faces.npy"]
    assert place.startswith(f"{DATA_FOLDER}/")
    assert place.endswith("/faces.npy")
    assert sent.dataset[0].path == place
    assert sent.dataset[1] == spec.dataset[1]
    # The same content under the same name has the same place, other content another.
    Path("there").mkdir()
    os.rename("faces.npy", "there/faces.npy")
    moved = load_spec(SPEC | {"dataset": {"path": "there/faces.npy"}})
    assert with_shipped_data(moved)[0].dataset[0].path == place
    np.save("there/faces.npy", np.full((4, 2, 2), 7, np.uint8))
    assert with_shipped_data(moved)[0].dataset[0].path != place

    (tmp_path / "folder").mkdir()
    stage(tmp_path / "folder", [], sent, {tmp_path / "other.npy": files[tmp_path / "other.npy"]})
    manifest = json.loads((tmp_path / "folder" / "shipment.json").read_text())
    [(name, target)] = manifest["files"].items()
    assert (tmp_path / "folder" / name).read_bytes() == Path("other.npy").read_bytes()
    assert target == files[tmp_path / "other.npy"]

    monkeypatch.setattr(source_tree, "DATA_LIMIT", 200)
    with pytest.raises(BadInput, match=r"--data-on-cluster"):
        with_shipped_data(spec)
    with pytest.raises(BadInput, match=r"gone.npy cannot be read .No such file"):
        with_shipped_data(load_spec(SPEC | {"dataset": {"path": "gone.npy"}}))
    with pytest.raises(BadInput, match=r"'faces.npy' is not an absolute path"):
        with_data_there(spec)
    there = load_spec(SPEC | {"dataset": {"path": "/nfs/faces.npy"}})
    assert with_data_there(there) == (there, {})


OURS = {"python": "3.11", "ray": "2.60.0", "torch": "2.13.0", "pyarrow": "26.0.1"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"torch": "2.13.0+cu128"}, ""),
        ({"pyarrow": "1.0"}, ""),
        ({"torch": "2.13.1"}, "has torch 2.13.1, and this job was submitted with torch 2.13.0"),
        ({"ray": "none"}, "has ray none, and this job was submitted with ray 2.60.0"),
        (
            {"python": "3.12", "ray": "2.61.0"},
            "has python 3.12 and ray 2.61.0, and this job was submitted with python 3.11 and ray 2",
        ),
    ],
)
def test_versions(change: dict[str, str], said: str) -> None:
    for submitted, there in (
        (OURS, OURS | change),
        (OURS | {"torch": "2.13.0+cpu"}, OURS | change),
    ):
        message = difference(submitted, there)
        assert said.replace("torch 2.13.0", f"torch {submitted['torch']}") in message
        assert bool(message) == bool(said)


def run_entry(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "study.cluster.job_entry"],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_entry(tmp_path: Path) -> None:
    folder, home = tmp_path / "folder", tmp_path / "home"
    folder.mkdir()
    (tmp_path / "faces.npy").write_bytes(b"content")
    files = {tmp_path / "faces.npy": f"{DATA_FOLDER}/abc/faces.npy"}
    stage(folder, ["list", "--storage", str(tmp_path / "empty")], None, files)
    for _ in range(2):
        ran = run_entry(folder, HOME=str(home))
        assert ran.returncode == 0, ran.stderr
        assert job_entry.AGREED in ran.stdout
        assert "no studies in" in ran.stdout
    placed = [path for path in home.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in placed] == [b"content"]
    assert str(placed[0]) == f"{home}/.cache/vae-study/shipped/abc/faces.npy"

    manifest = folder / "shipment.json"
    content = json.loads(manifest.read_text())
    content["versions"]["torch"] = "1.0.0"
    manifest.write_text(json.dumps(content))
    ran = run_entry(folder)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("vae-study: the cluster (")
    assert "torch 1.0.0" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_the_entry_needs_nothing_before_it_has_compared(tmp_path: Path) -> None:
    """A cluster without torch, Ray and the rest hears that, not an ImportError."""
    stage(tmp_path, ["list"])
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
         "import study.cluster.job_entry; study.cluster.job_entry.main()"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "has ray none and torch none" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_data_files_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("faces", "other"):
        np.save(f"{name}.npy", np.full((4, 2, 2), len(name), np.uint8))
    axes = {"architecture": "linear", "latent_dim": 2}
    spec = load_spec(
        {
            "study": "s",
            "dataset": {"path": "faces.npy"},
            "parts": {
                "shared": {"axes": axes},
                "again": {"axes": axes, "training": {"epochs": 3}},
                "own": {"axes": axes, "dataset": ["tiles", {"path": "other.npy"}]},
            },
        }
    )
    monkeypatch.setattr(source_tree, "DATA_LIMIT", sum(p.stat().st_size for p in Path().iterdir()))
    sent, files = with_shipped_data(spec)  # each file once, or they would not fit
    assert set(files) == {tmp_path / "faces.npy", tmp_path / "other.npy"}
    for name, part in sent.all_parts.items():
        places = [getattr(dataset, "path", None) for dataset in part.dataset]
        wanted = [None, "other.npy"] if name == "own" else ["faces.npy"]
        assert places == [w and files[tmp_path / w] for w in wanted]
    # What travels is what `dump_spec` writes: no path of this machine may be left in it.
    assert str(tmp_path) not in dump_spec(sent)
    assert "path: faces.npy" not in dump_spec(sent)
    assert load_spec(yaml.safe_load(dump_spec(sent))) == sent
    with pytest.raises(BadInput, match=r"'other.npy' is not an absolute path"):
        with_data_there(load_spec({"study": "s", "parts": {"own": spec.parts["own"].model_dump()}}))
