"""Specs from YAML files, presets and dictionaries, and back to YAML."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search_spaces.errors import BadInput, nearest_name
from search_spaces.messages import explain
from search_spaces.overrides import apply_overrides
from search_spaces.presets import is_preset, preset_names, preset_path
from search_spaces.shared import without_shared
from search_spaces.study_spec import FULL, StudySpec
from search_spaces.yaml_text import format_yaml, parse_yaml


def load_spec(source: str | Path | dict[str, Any], overrides: Sequence[str] = ()) -> StudySpec:
    """Read and validate a spec.

    Args:
        source: The path of a YAML file, the name of a preset ("quickstart"; hyphens and
            underscores are alike), or the spec as a dictionary. A file that is called like a
            preset is read as "./quickstart".
        overrides: Fields to set in it, as "training.epochs=5"; values are YAML. "scale=small"
            applies the overrides that the spec calls so, before all others; "parts=dense" keeps
            that part alone, "parts=[dense, conv]" two of them.

    Returns:
        The spec, valid throughout.

    Raises:
        BadInput: There is no such file or preset, it is not YAML, or the first thing wrong in it.

    Example:
        >>> load_spec("quickstart", ["training.epochs=5"]).training.epochs
        5
    """
    raw = deepcopy(source) if isinstance(source, dict) else _read(source)
    scaled = apply_overrides(raw, overrides)
    try:
        return StudySpec.model_validate(raw)
    except ValidationError as error:
        raise scaled.explain(explain(error, raw)) from None


def dump_spec(spec: StudySpec) -> str:
    """Write a spec as YAML with all its defaults, so that later defaults do not change it.

    Args:
        spec: The spec.

    Returns:
        YAML that `load_spec` reads back to an equal spec.
    """
    content = spec.model_dump(mode="json", exclude_none=True)
    if spec.scale == FULL:
        del content["scale"]
    for part in content.get("parts", {"": content}).values():
        for name in part["axes"].keys() & part["training"].keys():
            del part["training"][name]  # Not in use: the axis gives the values.
    for name, given in (spec.parts or {}).items():
        # A part without what stands outside has to say so: left out, it would have it again.
        record = content["parts"][name]["record"]
        record |= {
            field: None for field in content["record"] if getattr(given.record, field) is None
        }
    return format_yaml(without_shared(content))


def json_schema() -> dict[str, Any]:
    """Describe specs as JSON Schema, short forms included, so that editors complete them."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **StudySpec.model_json_schema(),
    }


def _read(source: str | Path) -> dict[str, Any]:
    is_name = isinstance(source, str) and is_preset(source)
    path = preset_path(str(source)) if is_name else Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = nearest_name(str(source), preset_names())
        raise BadInput(f"{str(source)!r} is neither a file nor a preset{hint}") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise BadInput(f"{str(source)!r} cannot be read: {error}; give a YAML file") from None
    content = parse_yaml(text, str(source))
    if not isinstance(content, dict):
        raise BadInput(
            f"{str(source)!r} holds no spec; a spec is a mapping with at least 'study', "
            "'dataset' and 'axes', or 'parts'"
        )
    return content
