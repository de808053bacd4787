"""The name of a run and of its folder: the recipe's name, and the options that the overrides change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfkd.recipes.files import ENDINGS
from selfkd.recipes.values import not_allowed, written

__all__ = ["changes_in_name", "checked_name", "recipe_stem"]

_LONGEST_SUFFIX = 120
_LONGEST_NAME = 200  # bytes of one folder's name; file systems allow 255
_LONGEST_PATH = 1000  # bytes of the whole name; systems allow 4096 for the path of a file
_MOST_FOLDERS = 32


def recipe_stem(name: str) -> str:
    """The run's name without overrides: the recipe's name, or that of its file without folder and ending."""
    return Path(name).stem if name.endswith(ENDINGS) else name


def changes_in_name(changed: Mapping[str, Any]) -> str:
    """The end of a run's name, which lists the changed options; a checksum if the list is too long for a folder."""
    suffix = "".join(f"+{key}={written(value)}" for key, value in changed.items()).replace("/", "_").replace(" ", "")
    if len(suffix) > _LONGEST_SUFFIX or "\\" in suffix or not suffix.isprintable():
        suffix = "+" + hashlib.sha256(suffix.encode(errors="surrogatepass")).hexdigest()[:12]
    return suffix


def checked_name(name: str) -> str:
    """The name of a run, after a check that a folder can have it.

    Raises: RecipeError: if no folder can have this name.
    """
    folders = Path(name).parts
    if not name or name.startswith(("/", ".")) or ".." in folders or "\\" in name:
        raise not_allowed("name", name, "a relative path without '..'")
    if not name.isprintable():
        raise not_allowed("name", name, "a name of printable characters")
    if any(len(folder.encode()) > _LONGEST_NAME for folder in folders):
        raise not_allowed("name", name, f"a path whose parts have at most {_LONGEST_NAME} bytes each")
    if len(folders) > _MOST_FOLDERS or len(name.encode()) > _LONGEST_PATH:
        raise not_allowed("name", name, f"a path of at most {_MOST_FOLDERS} parts and {_LONGEST_PATH} bytes")
    return name
