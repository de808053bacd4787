"""The name of a run, which is its folder: the recipe's, and what overrides change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfkd.recipes.files import ENDINGS
from selfkd.recipes.values import not_allowed, written

__all__ = ["changes_in_name", "checked_name", "recipe_stem"]

_LONGEST_SUFFIX = 120
_LONGEST_NAME = 200  # of one folder; file systems allow 255 bytes
_LONGEST_PATH = 1000  # of all folders; systems allow 4096 bytes for a file in them
_MOST_FOLDERS = 32


def recipe_stem(name: str) -> str:
    """The name that a recipe gives its run: its own, or that of its file without folder and ending."""
    return Path(name).stem if name.endswith(ENDINGS) else name


def changes_in_name(changed: Mapping[str, Any]) -> str:
    """The end of a run's name, which says what overrides change; a checksum where that is too long for a folder."""
    suffix = "".join(f"+{key}={written(value)}" for key, value in changed.items()).replace("/", "_").replace(" ", "")
    if len(suffix) > _LONGEST_SUFFIX or "\\" in suffix or not suffix.isprintable():
        suffix = "+" + hashlib.sha256(suffix.encode(errors="surrogatepass")).hexdigest()[:12]
    return suffix


def checked_name(name: str) -> str:
    """A run's name, if a folder can have it.

    Raises: RecipeError: if none can.
    """
    folders = Path(name).parts
    if not name or name.startswith(("/", ".")) or ".." in folders or "\\" in name:
        raise not_allowed("name", name, "a relative path without '..'")
    if not name.isprintable():
        raise not_allowed("name", name, "a name of printable characters only")
    if any(len(folder.encode()) > _LONGEST_NAME for folder in folders):
        raise not_allowed("name", name, f"a path whose parts have at most {_LONGEST_NAME} bytes each")
    if len(folders) > _MOST_FOLDERS or len(name.encode()) > _LONGEST_PATH:
        raise not_allowed("name", name, f"a path of at most {_MOST_FOLDERS} parts and {_LONGEST_PATH} bytes")
    return name
