"""What parts share: settings that stand outside them, and how a part comes by them.

In a file, `dataset`, `training`, `strategy` and `record` may stand outside the parts. They are
what a part has unless it says otherwise: `training` and `record` field by field, a dataset or a
strategy as a whole. A validated `Part` is complete; what follows works on plain mappings, before
validation and after it.
"""

from typing import Any

_WHOLE = ("dataset", "strategy")
_BY_FIELD = ("training", "record")


def complete_parts(raw: dict[str, Any]) -> dict[str, Any]:
    """Give each part what it takes from outside.

    What is no mapping where one should be stays as it is, for the validation to find.

    Args:
        raw: A spec as its user wrote it; it is left as it is.

    Returns:
        The spec with complete parts; one without parts comes back unchanged.
    """
    parts = raw.get("parts")
    if not isinstance(parts, dict):
        return raw
    return raw | {"parts": {name: _complete(part, raw) for name, part in parts.items()}}


def without_shared(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out of complete parts what is the same outside: the inverse of `complete_parts`.

    Args:
        content: A validated spec as mappings; it is left as it is.
    """
    if "parts" not in content:
        return content
    return content | {
        "parts": {name: _own(part, content) for name, part in content["parts"].items()}
    }


def _complete(part: Any, outside: dict[str, Any]) -> Any:
    if not isinstance(part, dict):
        return part
    whole = {name: outside[name] for name in _WHOLE if name in outside and name not in part}
    axes = part.get("axes")
    by_field = {}
    for section in _BY_FIELD:
        shared, own = outside.get(section, {}), part.get(section, {})
        if isinstance(shared, dict) and isinstance(own, dict) and shared:
            # An axis of the part's own is nearer to it than a setting from outside.
            varied = axes if section == "training" and isinstance(axes, dict) else {}
            by_field[section] = {k: v for k, v in shared.items() if k not in varied} | own
    return whole | part | by_field


def _own(part: dict[str, Any], outside: dict[str, Any]) -> dict[str, Any]:
    own = {}
    for section, value in part.items():
        if section in _BY_FIELD:
            value = {k: v for k, v in value.items() if (k, v) not in outside[section].items()}
            if not value:
                continue
        elif section in _WHOLE and value == outside.get(section):
            continue
        own[section] = value
    return own
