"""The name of a run and of its folder: the recipe's name, and the options that the overrides change."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from selfkd.recipes.files import ENDINGS
from selfkd.recipes.recipe import WITHOUT_EFFECT
from selfkd.recipes.sections import CHOSEN
from selfkd.recipes.values import not_allowed, written

__all__ = ["checked_name", "name_with_changes", "recipe_stem"]

_LONGEST_OPTION = 60  # bytes, where not all options fit; a longer one is cut
_CUT = "..."
_LONGEST_NAME = 200  # bytes of one folder's name; file systems allow 255
_LONGEST_PATH = 1000  # bytes of the whole name; systems allow 4096 for the path of a file
_MOST_FOLDERS = 32
_CHECKSUM_DIGITS = 8
# What comes after an option in a name: the next one, the end of a name that does not show everything, or nothing.
_NEXT_OPTION = rf"\+\w+(?:\.\w+)*=|(?:\+\d+_more)?-[0-9a-f]{{{_CHECKSUM_DIGITS}}}$|$"

_IMPORTANT = (
    "backbone.pretrained",
    "backbone.weights",
    "trainer.epochs",
    "optimizer.lr",
    "trainer.freeze",
    "optimizer.head_lr_factor",
    "optimizer.layer_decay",
    "loader.batch_size",
    "data.image_size",
    "trainer.freeze_epochs",
)
_SECTIONS = (
    "method",
    "backbone",
    "data",
    "teacher",
    "peer",
    "supervision",
    "augmentation",
    "regularization",
    "optimizer",
    "schedule",
    "trainer",
    "loader",
    "history",
)
"""The order in which a name that has no room for all options takes them: the chosen parts by their sections, then the
options in `_IMPORTANT`, then the other options by their sections, and last those without an effect on the result."""


def recipe_stem(name: str) -> str:
    """The run's name without overrides: the recipe's name, or that of its file without folder and ending."""
    return Path(name).stem if name.endswith(ENDINGS) else name


def name_with_changes(stem: str, changed: Mapping[str, Any]) -> str:
    """The name of a run whose overrides change options.

    Each option adds `+key=value`, sorted by key. If a folder's name has no room for all of them, it has those that fit
    whole, the most important first, the number of the others and a checksum of all: `+method=loth+6_more-0c1d2e3f`.
    An option that the stem names already is named once, with its new value. Spaces are left out, `/` becomes `_`, and
    what no folder can have is escaped as in a URL.

    Args:
        stem: the name without overrides.
        changed: the changed keys, in the order of the name, with their values; instead of a path its last part.
    Raises: RecipeError: if no folder can have this name.
    """
    stem = _without(stem, changed)
    texts = {key: f"+{key}={_as_text(value)}" for key, value in changed.items()}
    whole = "".join(texts.values())
    bytes_left = _LONGEST_NAME - len(stem.rpartition("/")[2].encode(errors="replace"))
    if len(whole.encode()) <= bytes_left:
        return checked_name(stem + whole)
    checksum = hashlib.sha256(whole.encode()).hexdigest()[:_CHECKSUM_DIGITS]
    named = ""
    left = len(texts)
    for key in sorted(texts, key=_rank):
        text = _cut(texts[key])
        if len((named + text + _tail(left - 1, checksum)).encode()) <= bytes_left:
            named += text
            left -= 1
    return checked_name(stem + named + _tail(left, checksum))


def _without(stem: str, changed: Mapping[str, Any]) -> str:
    """A name without the options that change again, and without those of parts that change."""
    folders, slash, last = stem.rpartition("/")
    for key in changed:
        option = re.escape(key) + (r"(?:\.\w+)*" if key in CHOSEN else "")
        last = re.sub(rf"\+{option}=.*?(?={_NEXT_OPTION})", "", last)
    return folders + slash + last


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


def _as_text(value: Any) -> str:
    """A value as a folder's name can have it."""
    text = written(value).replace("/", "_").replace(" ", "")
    return "".join(character if _is_allowed(character) else _escaped(character) for character in text)


def _is_allowed(character: str) -> bool:
    return character.isprintable() and character != "\\"


def _escaped(character: str) -> str:
    return quote(character, safe="", errors="surrogatepass")


def _tail(left: int, checksum: str) -> str:
    """The end of a name that does not show everything.

    Args:
        left: number of options that the name does not have.
        checksum: of all options and their values.
    """
    return f"+{left}_more-{checksum}" if left else f"-{checksum}"


def _cut(text: str) -> str:
    """The text, or its beginning if it is long."""
    encoded = text.encode()
    if len(encoded) <= _LONGEST_OPTION:
        return text
    return encoded[: _LONGEST_OPTION - len(_CUT)].decode(errors="ignore") + _CUT


def _rank(key: str) -> tuple[int, int, str]:
    """The place of a key in the order of importance, see `_SECTIONS`."""
    section = key.partition(".")[0]
    place = _SECTIONS.index(section) if section in _SECTIONS else len(_SECTIONS)
    if key in CHOSEN:
        return 0, place, key
    if key in _IMPORTANT:
        return 1, _IMPORTANT.index(key), key
    return (3 if key in WITHOUT_EFFECT else 2), place, key
