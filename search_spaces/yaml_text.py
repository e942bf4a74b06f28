"""YAML with two of its traps closed: keys given twice, and `1e-3` read as a string."""

import re
from typing import Any

import yaml

from search_spaces.errors import BadInput


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    raise yaml.MarkedYAMLError(
                        problem=f"{key.value!r} is there already, in line {lines[key.value]}; "
                        "remove one of them",
                        problem_mark=key.start_mark,
                    )
                lines[key.value] = key.start_mark.line + 1
        return node


class _Dumper(yaml.SafeDumper):
    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML folds these line breaks into spaces unless they are escaped in double quotes.
        style = '"' if set(data) & set("\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


# YAML 1.1, which PyYAML reads, wants a dot and a sign in `1.0e-3`; YAML 1.2 does not. The dumper
# has to know too, or it would leave the text '1e3' without quotes.
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+\Z"),
        list("-+.0123456789"),
    )


def parse_yaml(text: str, source: str) -> Any:
    """Read one YAML document.

    Args:
        text: The document.
        source: Where it comes from, for the message.

    Raises:
        BadInput: It is not YAML, or a mapping has a key twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BadInput(f"{source!r}{place}: {error.problem or error.context}") from None
    except RecursionError:
        raise BadInput(f"{source!r} is nested too deeply; a spec needs few levels") from None
    except (yaml.YAMLError, ValueError) as error:  # For example a date without such a day.
        raise BadInput(f"{source!r} is not YAML: {' '.join(str(error).split())}") from None


def format_yaml(content: Any) -> str:
    """Write a value as YAML, its innermost lists and mappings on one line."""
    return yaml.dump(
        content,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
