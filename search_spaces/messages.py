"""From pydantic's validation errors to one sentence that names the field and says what is right."""

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from search_spaces.errors import BadInput, nearest_name


def explain(error: ValidationError, raw: Any) -> BadInput:
    """Turn what pydantic found into one message about what the user wrote.

    Args:
        error: What the validation raised.
        raw: The input that was validated, as the user wrote it.

    Returns:
        An exception, to be raised, about the first field that is wrong.
    """
    details = _telling(error)
    first = details[0]
    path = _path(first["loc"], raw)
    kind, context = first["type"], first.get("ctx", {})
    if kind == "unknown_key":
        return BadInput(f"{_join(path, context['key'])}: {first['msg']}")
    if kind == "wrong_field":
        return BadInput(f"{_join(path, context['path'])}: {context['message']}")
    if kind == "missing" and isinstance(first["loc"][-1], str):
        return BadInput(f"{_join(path, first['loc'][-1])}: is missing; give it a value")
    if kind == "value_error":
        return BadInput(f"{path}: {context['error']}" if path else str(context["error"]))
    # The branches of a union each report what they would have taken.
    branches = [detail for detail in details if _path(detail["loc"], raw) == path]
    if kind == "literal_error" and len(branches) == 1:
        names = re.findall(r"'([^']*)'", context["expected"])
        advice = nearest_name(str(first["input"]), names)
    else:
        advice = f"; give {' or '.join(dict.fromkeys(map(_expected, branches)))}"
    # The message shows the value, so its place in a list would say nothing more.
    field = re.sub(r"(\[\d+\])+$", "", path)
    return BadInput(f"{field}: {_shown(first['input'])} is not allowed{advice}")


def _telling(error: ValidationError) -> list[ErrorDetails]:
    """Leave out what only follows from another error."""
    details = [
        detail
        for detail in error.errors(include_url=False)
        if detail["type"] != "default_factory_not_called"
    ]
    containers = {
        detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))
    }
    return [detail for detail in details if detail["loc"] not in containers]


def _path(location: tuple[int | str, ...], raw: Any) -> str:
    """Follow the location through what the user wrote, past the steps that only pydantic knows."""
    path = ""
    for step in location:
        if isinstance(raw, dict) and step in raw:
            path = _join(path, step)
        elif isinstance(raw, (list, tuple)) and isinstance(step, int) and step < len(raw):
            path += f"[{step}]"
        else:
            continue
        raw = raw[step]
    return path


def _join(path: str, step: int | str) -> str:
    return f"{path}.{step}" if path else str(step)


def _shown(value: Any) -> str:
    """The value as YAML writes it, cut where it is long."""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _expected(detail: ErrorDetails) -> str:
    """What a value of the wrong type or size should have been."""
    kind, context = detail["type"], detail.get("ctx", {})
    match kind:
        case "int_type" | "int_from_float":
            return "a whole number"
        case "float_type":
            return "a number"
        case "finite_number":
            return "a finite number"
        case "bool_type":
            return "true or false"
        case "string_type":
            return "text, in quotes if it looks like a number"
        case "string_too_short":
            return "a text that is not empty"
        case "string_too_long":
            return f"a text of at most {context['max_length']} characters"
        case "tuple_type" | "list_type":
            return "a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "a mapping of its fields"
        case "too_short":
            return "at least one value"
        case "too_long":
            return f"a list of {context['max_length']}"
        case "missing":
            return "one more value"
        case "literal_error":
            return str(context["expected"])
        case "greater_than_equal":
            return _number("of {} or more", context["ge"])
        case "greater_than":
            return _number("above {}", context["gt"])
        case "less_than_equal":
            return _number("of at most {}", context["le"])
        case "less_than":
            return _number("below {}", context["lt"])
        case _:
            return f"another value ({detail['msg']})"


def _number(place: str, bound: float) -> str:
    if isinstance(bound, int):
        return f"a whole number {place.format(bound)}"
    return f"a number {place.format(f'{bound:g}')}"
