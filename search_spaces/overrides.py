"""Setting fields of a spec that is not validated yet: overrides, scales, and a choice of parts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.errors import BadInput, nearest_name
from search_spaces.study_spec import FULL
from search_spaces.yaml_text import parse_yaml

_INHERITED_WHOLE = ("dataset", "strategy")
_CHOOSES_SCALES = ("scale", "scales")


@dataclass(frozen=True)
class _Override:
    """A field and its new value.

    Attributes:
        path: Sections, and the field last.
        value: What it is set to.
        source: How the user wrote it, for messages.
    """

    path: tuple[str, ...]
    value: Any
    source: str

    @property
    def field(self) -> str:
        """The path as users write it."""
        return ".".join(self.path)


@dataclass(frozen=True)
class ScaledFields:
    """The fields that hold what a scale says, so that an error in one of them names the scale.

    Attributes:
        scale: Path of the scale.
        fields: Paths of the fields, each with that of the outermost section made for it, or with
            its own where all sections were there.
    """

    scale: str
    fields: tuple[tuple[str, str], ...]

    def explain(self, error: BadInput) -> BadInput:
        """Return the error, with the path of the scale before the field if the scale set it."""
        place = str(error).partition(":")[0]
        for field, made in self.fields:
            if _within(place, field) or (_within(field, place) and _within(place, made)):
                return BadInput(f"{self.scale}.{error}")
        return error


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> ScaledFields:
    """Apply the scale that a spec or an override chooses, then all other overrides, in their order.

    Args:
        raw: The spec, changed in place; what it holds is not.
        overrides: Fields to set, as "training.epochs=5". "parts=dense" or "parts=[dense, conv]"
            keeps only these parts.

    Returns:
        Which fields hold what the scale says in the end.

    Raises:
        BadInput: What is no override, goes into a field that has no fields, or names a part that
            is not there.
    """
    ours = [_read(text) for text in overrides]
    for setting in ours:
        if setting.path == ("scale",):
            _set(raw, setting)
    scaled = [(setting, _set(raw, setting)) for setting in _scale_overrides(raw)]
    for setting in ours:
        _set(raw, setting)
    fields = tuple(
        (setting.field, made)
        for setting, made in scaled
        if setting.field != "parts"  # a choice, which gives no field a value
        and not any(_within(setting.field, other.field) for other in ours)
    )
    return ScaledFields(f"scales.{raw.get('scale')}", fields)


def _within(path: str, section: str) -> bool:
    """Whether a path is a section or leads into it."""
    return path == section or path.startswith((f"{section}.", f"{section}["))


def _read(text: str) -> _Override:
    field, equals, value = text.partition("=")
    path = tuple(field.strip().split("."))
    if not equals or not all(path):
        raise BadInput(f"{text!r} is not an override; write it as 'training.epochs=5'")
    if path[0] == "scales":
        raise BadInput(
            f"{text!r} changes a scale, which is a set of overrides; override the field itself"
        )
    return _Override(path, parse_yaml(value, text), text)


def _scale_overrides(raw: dict[str, Any]) -> list[_Override]:
    """Take what the chosen scale says out of the spec; nothing where validation will refuse it."""
    scale, scales = raw.get("scale", FULL), raw.get("scales")
    if not isinstance(scale, str) or scale == FULL or not isinstance(scales, dict):
        return []
    fields = scales.get(scale)
    if not isinstance(fields, dict) or not all(isinstance(field, str) for field in fields):
        return []
    raw["scales"] = {scale: {}}  # What is written down later has nothing left to be applied again.
    found = []
    for field, value in fields.items():
        path, source = tuple(field.split(".")), f"scales.{scale}.{field}"
        if not all(path) or path[0] in _CHOOSES_SCALES:
            raise BadInput(
                f"{source}: {field!r} is not a field that a scale may set; write it as "
                "'training.epochs'"
            )
        found.append(_Override(path, value, source))
    return found


def _set(raw: dict[str, Any], setting: _Override) -> str:
    """Set one field; return its path, or that of the outermost section that was not there."""
    *sections, field = setting.path
    if setting.path == ("parts",) and isinstance(setting.value, (str, list)):
        raw["parts"] = _some_parts(raw.get("parts"), setting)
        return setting.field
    made = setting.path
    place = raw
    for depth, section in enumerate(sections, start=1):
        if depth == 2 and sections[0] == "parts" and section not in place:
            raise _no_such_part(section, place, setting.source)
        if section not in place:
            made = min(made, setting.path[:depth], key=len)
        inner = place.get(section, _from_outside(raw, sections[:depth]))
        if isinstance(inner, str):  # The short form of a dataset or a strategy.
            inner = {"name": inner}
        if not isinstance(inner, dict):
            whole = ".".join(sections[:depth])
            raise BadInput(
                f"{setting.source!r} goes into {whole}, which is {inner!r}; set {whole} whole"
            )
        # A copy: with YAML's anchors, a mapping may stand in other places too.
        place[section] = place = dict(inner)
    place[field] = setting.value
    return ".".join(made)


def _from_outside(raw: dict[str, Any], path: Sequence[str]) -> Any:
    """What a section that is not there starts from: in a part, what it would take from outside."""
    inherited = len(path) == 3 and path[0] == "parts" and path[2] in _INHERITED_WHOLE
    return raw.get(path[2], {}) if inherited else {}


def _some_parts(parts: Any, setting: _Override) -> dict[str, Any]:
    names = setting.value if isinstance(setting.value, list) else [setting.value]
    if not isinstance(parts, dict):
        raise BadInput(f"{setting.source!r} chooses among parts, and this study has none")
    for name in names:
        if name not in list(parts):  # a list compares; a dict would hash what may be a list
            raise _no_such_part(name, parts, setting.source)
    if not names:
        raise BadInput(f"{setting.source!r} leaves no part{nearest_name('', map(str, parts))}")
    return {name: part for name, part in parts.items() if name in names}


def _no_such_part(name: Any, parts: Iterable[Any], source: str) -> BadInput:
    there = [str(part) for part in parts]
    hint = nearest_name(str(name), there) if there else " (there are none)"
    return BadInput(f"{source!r}: {name!r} is not a part of this study{hint}")
