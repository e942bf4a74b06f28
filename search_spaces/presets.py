"""The specs that come with the package: YAML files in this folder, found by name."""

from pathlib import Path

from search_spaces.errors import BadInput, nearest_name

_FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """Names of all presets, in alphabetical order."""
    return sorted(path.stem.replace("_", "-") for path in _FOLDER.glob("*.yaml"))


def is_preset(name: str) -> bool:
    """Whether a preset has this name; hyphens and underscores are alike."""
    return name.replace("_", "-") in preset_names()


def preset_path(name: str) -> Path:
    """Find the file of a preset.

    Args:
        name: Its name, such as "mnist-dense"; hyphens and underscores are alike.

    Returns:
        Path of its YAML file.

    Raises:
        BadInput: There is no such preset.
    """
    if not is_preset(name):
        raise BadInput(f"{name!r} is not a preset{nearest_name(name, preset_names())}")
    return _FOLDER / f"{name.replace('-', '_')}.yaml"
