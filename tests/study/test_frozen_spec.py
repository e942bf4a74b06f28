from pathlib import Path
from typing import Any

import pytest

from search_spaces import BadInput, StudySpec, load_spec
from study.frozen_spec import freeze, read_frozen, reconcile
from study.storage import Folder, StorageError

VERSIONS: dict[str, str | int] = {
    "vae-study": "0.1.0",
    "torch": "2.13.0",
    "ray": "2.60.0",
    "numerics_version": 1,
}


def spec(**changes: Any) -> StudySpec:
    """A study of 8 trials, with some of its fields changed: `axes__beta=[1]`."""
    raw: dict[str, Any] = {
        "study": "small",
        "dataset": {"name": "tiles", "train_images": 200, "test_images": 100},
        "axes": {
            "architecture": ["paper-dense-tiles", "linear"],
            "latent_dim": [2, 4],
            "beta": 0.5,
            "seed": [0, 1],
        },
        "training": {"epochs": 1, "learning_rate": 1e-5},
    }
    for path, value in changes.items():
        *sections, field = path.split("__")
        place = raw
        for section in sections:
            place = place.setdefault(section, {})
        place[field] = value
    return load_spec(raw)


def content(folder: Folder) -> bytes:
    return folder.read_bytes("study.yaml")


def test_what_is_frozen_is_read_back(folder: Folder) -> None:
    freeze(folder, spec(), VERSIONS)
    frozen = read_frozen(folder)
    assert frozen.spec == spec()
    assert frozen.versions == VERSIONS
    text = content(folder).decode()
    assert "batch_size: 128" in text  # defaults are written out
    assert text.index("versions:") > text.index("record:")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace(b"versions:", b"version:"), "no mapping 'versions'"),
        (lambda text: text.replace(b"latent_dim", b"latent_dims"), "did you mean 'latent_dim'"),
        (lambda text: text[: len(text) // 2], "no mapping 'versions'|line"),
        (lambda text: b"", "no mapping 'versions'"),
        (lambda text: b"\xff\xfe: [", "study.yaml"),
    ],
)
def test_a_damaged_file_is_bad_input(tmp_path: Path, damage: Any, message: str) -> None:
    folder = Folder.at(tmp_path)
    freeze(folder, spec(), VERSIONS)
    folder.write_whole("study.yaml", damage(content(folder)))
    with pytest.raises(BadInput, match=message) as raised:
        read_frozen(folder)
    assert str(tmp_path / "study.yaml") in str(raised.value)


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*study\.yaml"):
        read_frozen(Folder.at(tmp_path))


def test_the_same_spec_changes_nothing(folder: Folder) -> None:
    freeze(folder, spec(), VERSIONS)
    before = content(folder)
    for extend in (False, True):
        reconcile(folder, spec(), extend)
    assert content(folder) == before


def test_description_and_resources_may_change(folder: Folder) -> None:
    freeze(folder, spec(), VERSIONS)
    changed = spec(description="tiles, again", resources={"pack_size": 4, "max_failures": 0})
    reconcile(folder, changed)
    assert read_frozen(folder).spec == changed
    assert read_frozen(folder).versions == VERSIONS


@pytest.mark.parametrize(
    "change",
    [
        {"axes__latent_dim": [2, 4, 8]},
        {"axes__latent_dim": [2]},
        {"training__learning_rate": 1e-3},
        {"dataset__train_images": 300},
        {"record__active_variance": 0.02},
    ],
)
def test_another_spec_is_refused_with_a_difference(folder: Folder, change: dict[str, Any]) -> None:
    freeze(folder, spec(), VERSIONS)
    before = content(folder)
    with pytest.raises(BadInput, match="--extend") as raised:
        reconcile(folder, spec(**change, description="new", resources={"cpus_per_pack": 3}))
    assert content(folder) == before
    lines = str(raised.value).splitlines()
    field = next(iter(change)).rpartition("__")[2]
    changed = [line for line in lines if line[0] in "-+" and line[:3] not in ("---", "+++")]
    assert {line[0] for line in changed} == {"-", "+"}
    assert all(field in line for line in changed)


@pytest.mark.parametrize(
    "change",
    [
        {"axes__latent_dim": [2, 4, 8]},
        {"axes__latent_dim": [4, 3, 2]},
        {"axes__latent_dim": {"range": [2, 4]}},
        {"axes__seed": [0, 1, 7], "axes__beta": [0.5, 2]},
        {"axes__objective": ["elbo", "no_sampling"]},
        {"dataset": [{"name": "tiles", "train_images": 200, "test_images": 100}, "mnist"]},
    ],
)
def test_extending_adds_points(folder: Folder, change: dict[str, Any]) -> None:
    freeze(folder, spec(), VERSIONS)
    extended = spec(**change)
    reconcile(folder, extended, extend=True)
    assert read_frozen(folder).spec == extended
    assert read_frozen(folder).versions == VERSIONS


def test_a_setting_may_become_an_axis(folder: Folder) -> None:
    freeze(folder, spec(), VERSIONS)
    extended = spec(axes__epochs=[1, 5], training={"learning_rate": 1e-5})
    reconcile(folder, extended, extend=True)
    assert read_frozen(folder).spec == extended


def test_extending_may_not_lose_points(folder: Folder) -> None:
    freeze(folder, spec(), VERSIONS)
    before = content(folder)
    with pytest.raises(BadInput) as raised:
        reconcile(folder, spec(axes__latent_dim=[2, 8], axes__seed=[0, 1, 2]), extend=True)
    message = str(raised.value)
    assert "4 planned trials of 'small' are not in the new spec" in message
    first = message.partition("not in the new spec: ")[2].partition(";")[0]
    assert first == "architecture dense-512-256-64-32, latent_dim 4, seed 0"
    assert message.count("latent_dim 4, seed") == 4
    with pytest.raises(BadInput, match=r"8 planned trials.*; and 3 more") as raised:
        reconcile(folder, spec(axes__beta=[1, 2]), extend=True)
    assert str(raised.value).count("beta 0.5,") == 5
    with pytest.raises(BadInput, match=r"(?s)8 planned trials.*train_images: 300"):
        reconcile(folder, spec(dataset__train_images=300), extend=True)
    assert content(folder) == before


def test_extending_may_not_change_what_is_recorded(folder: Folder) -> None:
    freeze(folder, spec(), VERSIONS)
    before = content(folder)
    with pytest.raises(BadInput, match=r"(?s)record: .*active_variance: 0\.02"):
        reconcile(folder, spec(axes__seed=[0, 1, 2], record__active_variance=0.02), extend=True)
    assert content(folder) == before


def in_parts(**changes: Any) -> StudySpec:
    """The study of `spec()` as a part, and one beside it that records more."""
    raw: dict[str, Any] = {
        "study": "small",
        "dataset": {"name": "tiles", "train_images": 200, "test_images": 100},
        "training": {"epochs": 1, "learning_rate": 1e-5},
        "parts": {
            "first": {
                "axes": {
                    "architecture": ["paper-dense-tiles", "linear"],
                    "latent_dim": [2, 4],
                    "beta": 0.5,
                    "seed": [0, 1],
                }
            },
            "second": {
                "axes": {"architecture": "linear", "latent_dim": 3},
                "record": {"every": 1},
            },
        },
        "scales": {"small": {"parts.second.training.epochs": 9}},
    }
    overrides = [f"{path.replace('__', '.')}={value}" for path, value in changes.items()]
    return load_spec(raw, overrides)


def test_parts_are_frozen_and_read_back(folder: Folder) -> None:
    freeze(folder, in_parts(), VERSIONS)
    assert read_frozen(folder).spec == in_parts()
    reconcile(folder, in_parts())


def test_where_parts_settings_stand_is_no_difference(folder: Folder) -> None:
    freeze(folder, in_parts(), VERSIONS)
    complete = {name: part.model_dump() for name, part in in_parts().all_parts.items()}
    moved = load_spec({"study": "small", "parts": complete})
    reconcile(folder, moved)
    assert read_frozen(folder).spec == moved


@pytest.mark.parametrize(
    "change",
    [
        {"training__batch_size": 64},
        {"parts__second__training__epochs": 2},
        {"parts__second__record__models": "true"},
        {"parts": "first"},
        {"parts__third": "{axes: {architecture: linear, latent_dim: 9}}"},
    ],
)
def test_other_parts_are_refused(folder: Folder, change: dict[str, Any]) -> None:
    freeze(folder, in_parts(), VERSIONS)
    before = content(folder)
    with pytest.raises(BadInput, match=r"(?s)has another spec; .*--extend.*\n[-+]"):
        reconcile(folder, in_parts(**change))
    assert content(folder) == before


@pytest.mark.parametrize(
    "change",
    [
        {"parts__third": "{axes: {architecture: linear, latent_dim: 9}, record: {every: 7}}"},
        {"parts__second__axes__seed": [0, 1]},
        # A point that another part takes over is still planned, and recorded as it was.
        {"parts__first__axes__latent_dim": [2, 3, 4], "parts__first__record__every": 0,
         "parts__second__axes__latent_dim": [3, 5], "parts__second__training__epochs": 2,
         "parts__keep": "{axes: {architecture: linear, latent_dim: 3}, record: {every: 1}}"},
    ],
)  # fmt: skip
def test_parts_may_be_added_and_grow(folder: Folder, change: dict[str, Any]) -> None:
    freeze(folder, in_parts(), VERSIONS)
    extended = in_parts(**change)
    reconcile(folder, extended, extend=True)
    assert read_frozen(folder).spec == extended


def test_a_study_may_become_a_part_of_a_larger_one(folder: Folder) -> None:
    freeze(folder, spec(), VERSIONS)
    reconcile(folder, in_parts(), extend=True)
    assert read_frozen(folder).spec == in_parts()
    with pytest.raises(BadInput, match="1 planned trials of 'small' are not in the new spec"):
        reconcile(folder, spec(), extend=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": "first"}, "1 planned trials.*: architecture linear, latent_dim 3"),
        ({"parts__second__record__every": 2}, r"record: 'small' records other(?s:.*)every: 2"),
        ({"record__models": "true"}, r"record: 'small' records other(?s:.*)models: true"),
        ({"training__batch_size": 64}, "9 planned trials"),
        ({"parts__second__training__epochs": 3}, "1 planned trials"),
    ],
)
def test_extending_may_neither_lose_nor_change_a_part_s_trials(
    folder: Folder, change: dict[str, Any], message: str
) -> None:
    freeze(folder, in_parts(), VERSIONS)
    before = content(folder)
    with pytest.raises(BadInput, match=message):
        reconcile(folder, in_parts(**change), extend=True)
    assert content(folder) == before


def test_two_scales_are_two_studies(folder: Folder) -> None:
    freeze(folder, in_parts(scale="small"), VERSIONS)
    frozen = read_frozen(folder).spec
    assert frozen == in_parts(scale="small")
    assert frozen.scale == "small"
    reconcile(folder, in_parts(scale="small"))
    with pytest.raises(BadInput) as raised:
        reconcile(folder, in_parts())
    message = str(raised.value)
    assert "'small' has scale 'small', and this is scale 'full'; give the study another" in message
    assert "-    training: {epochs: 9}" in message
    with pytest.raises(BadInput, match="1 planned trials"):
        reconcile(folder, in_parts(), extend=True)
    with pytest.raises(BadInput, match="has another spec"):
        reconcile(folder, in_parts(scale="small", parts__second__training__epochs=5))


def test_a_scale_may_extend_another(folder: Folder) -> None:
    freeze(folder, in_parts(parts="first"), VERSIONS)
    larger = in_parts(scale="small")
    with pytest.raises(BadInput, match="has scale 'full', and this is scale 'small'"):
        reconcile(folder, larger)
    reconcile(folder, larger, extend=True)
    assert read_frozen(folder).spec == larger


def test_a_scale_that_changes_no_part_is_no_other_study(folder: Folder) -> None:
    freeze(folder, in_parts(), VERSIONS)
    for scale in ("full", "fast"):  # whether it is there to be chosen, or chosen
        content = in_parts().model_dump(exclude_none=True)
        content["scales"] = {"fast": {"resources.pack_size": 2}}
        changed = load_spec(content, [f"scale={scale}"])
        reconcile(folder, changed)
        assert read_frozen(folder).spec == changed
