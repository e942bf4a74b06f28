"""study.yaml: the resolved spec a study was started with, and with which versions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import unified_diff

import yaml

from search_spaces import (
    BadInput,
    OptunaStrategy,
    RecordSettings,
    StudySpec,
    Trial,
    dump_spec,
    load_spec,
    plan_parts,
)
from search_spaces.yaml_text import parse_yaml
from study.storage import Folder

__all__ = ["SPEC_FILE", "FrozenSpec", "freeze", "read_frozen", "reconcile"]

SPEC_FILE = "study.yaml"
_MOST_NAMED = 5
_TOLD_BY_ARCHITECTURE = ("family", "depth", "widths")


@dataclass(frozen=True)
class FrozenSpec:
    """What study.yaml holds.

    Attributes:
        spec: The resolved spec.
        versions: Versions the study was started with, by name (vae-study, torch, ray,
            numerics_version).
    """

    spec: StudySpec
    versions: Mapping[str, str | int]


def freeze(folder: Folder, spec: StudySpec, versions: Mapping[str, str | int]) -> None:
    """Write study.yaml: the spec with every default, and the versions."""
    text = dump_spec(spec) + yaml.safe_dump({"versions": dict(versions)}, sort_keys=False)
    folder.write_whole(SPEC_FILE, text.encode())


def read_frozen(folder: Folder) -> FrozenSpec:
    """Read study.yaml.

    Raises:
        BadInput: It is not the file that `freeze` wrote.
        StorageError: It is missing or cannot be read.
    """
    file = str(folder.child(SPEC_FILE))
    content = parse_yaml(folder.read_bytes(SPEC_FILE).decode(errors="replace"), file)
    versions = content.pop("versions", None) if isinstance(content, dict) else None
    if not isinstance(versions, dict):
        raise BadInput(
            f"{file}: there is no mapping 'versions', so this is not the file that the study was "
            "started with; restore it, or use another study name"
        )
    try:
        return FrozenSpec(load_spec(content), versions)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from error


def reconcile(folder: Folder, spec: StudySpec, extend: bool = False) -> None:
    """Compare a spec with the study's own, and take over what may change.

    The description and the resources determine no result and may always change; so may the place
    where parts' settings stand, outside or in each, and a scale that changes no part. With
    `extend`, the rest may change too, as long as every trial planned so far stays planned and the
    same is recorded of it.

    Raises:
        BadInput: The spec differs in what determines results, or loses planned trials. Nothing
            was written.
    """
    frozen = read_frozen(folder)
    old = frozen.spec.model_copy(
        update={"description": spec.description, "resources": spec.resources}
    )
    if old.all_parts != spec.all_parts:
        if not extend:
            told = "has another spec"
            if old.scale != spec.scale:
                told = f"has scale {old.scale!r}, and this is scale {spec.scale!r}"
            raise BadInput(
                f"study: {spec.study!r} {told}; give the study another name (--set study=...), or "
                f"--extend if the new spec only adds points:\n{_difference(old, spec)}"
            )
        _check_extension(old, spec)
    if spec != frozen.spec:
        freeze(folder, spec, frozen.versions)


def _check_extension(old: StudySpec, new: StudySpec) -> None:
    if isinstance(old.strategy, OptunaStrategy):
        _check_more_points(old, new)
        return
    before, after = _records(old), _records(new)
    lost = [trial for trial in before if trial not in after]
    changed = [trial for trial in before if trial in after and before[trial] != after[trial]]
    if changed:
        raise BadInput(
            f"record: {new.study!r} records other statistics, which would tell its old trials "
            f"from its new ones; give the study another name:\n{_difference(old, new)}"
        )
    if lost:
        planned = list(after)
        more = f"; and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        raise BadInput(
            f"study: --extend only adds points, but {len(lost)} planned trials of {new.study!r} "
            f"are not in the new spec: {_points(lost, planned)}{more}; add them, or give the "
            f"study another name:\n{_difference(old, new)}"
        )


def _check_more_points(old: StudySpec, new: StudySpec) -> None:
    """Of a study in which Optuna chooses, only the number of points may grow."""
    assert isinstance(old.strategy, OptunaStrategy)
    points = getattr(new.strategy, "points", 0)
    more = old.strategy.model_copy(update={"points": points})
    if old.model_copy(update={"strategy": more}).all_parts != new.all_parts:
        raise BadInput(
            f"study: Optuna has chosen points of {new.study!r} in the light of its old spec; "
            f"--extend with more strategy.points, and change nothing else:\n{_difference(old, new)}"
        )
    if points < old.strategy.points:
        raise BadInput(
            f"strategy.points: {points} is fewer than the {old.strategy.points} that were given "
            "before; give as many or more"
        )


def _records(spec: StudySpec) -> dict[Trial, RecordSettings]:
    """What a spec records of each of its trials."""
    parts = spec.all_parts
    return {
        trial: parts[name].record for name, trials in plan_parts(spec).items() for trial in trials
    }


def _points(lost: list[Trial], planned: Collection[Trial]) -> str:
    """The first few lost trials, by the hyperparameters in which any two trials differ."""
    rows = [trial.hyperparameters() for trial in (*lost, *planned)]
    telling = [
        name
        for name in rows[0]
        if len({row[name] for row in rows}) > 1 and name not in _TOLD_BY_ARCHITECTURE
    ] or ["dataset"]
    return "; ".join(
        ", ".join(f"{name} {row[name]}" for name in telling)
        for row in rows[: min(_MOST_NAMED, len(lost))]
    )


def _difference(old: StudySpec, new: StudySpec) -> str:
    lines = unified_diff(
        dump_spec(old).splitlines(),
        dump_spec(new).splitlines(),
        "the study's spec",
        "the spec given",
        n=2,
        lineterm="",
    )
    return "\n".join(lines)
