"""The exception for input that a user has to change, and the hint for a misspelt name."""

from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(ValueError):  # noqa: N818 - reads as what it is: the input is bad, not the program
    """Input that cannot be used as it is: a spec, an override, a file or an option.

    Its message is a single sentence for the user: the field (dotted path), the value found there
    and what would be right. The command line prints it and exits with code 2.
    """


def nearest_name(name: str, valid: Iterable[str]) -> str:
    """Say which of the valid names a wrong one was probably meant to be.

    Args:
        name: The name that was not found.
        valid: The names that would have been found.

    Returns:
        Text to append to a message: `" (did you mean 'beta'?)"` where a valid name is close,
        otherwise the list of valid names, `" (choose from 'beta', 'seed')"`.
    """
    by_spelling = {_plain(candidate): candidate for candidate in sorted(valid)}
    close = get_close_matches(_plain(name), by_spelling, n=1)
    if close:
        return f" (did you mean {by_spelling[close[0]]!r}?)"
    return f" (choose from {', '.join(map(repr, by_spelling.values()))})"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
