"""The help of a recipe: the parts that the user can choose, and every option with its meaning, type and value."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from selfkd.recipes.part_options import Option, options_of
from selfkd.recipes.sections import CHOSEN
from selfkd.recipes.values import in_words, written
from selfkd.terminal import printable

__all__ = ["options_help"]

_NOTATION = """\
name=NAME names the run's folder: runs/NAME/seed-<n>. Without it, the folder has the recipe's name
and the options that you change; if these are many, the most important ones.
Write numbers in plain decimals: 1000, 0.5, 1e-4; not 1_000, 010 or 1:30. Write a list as [1,2].
null means no value.
"""
_MEANING_COLUMN = 40
_LEAST_WIDTH = 11


def options_help(parts: Mapping[str, str], flat: Mapping[str, Any]) -> str:
    """Every option of a recipe with its meaning, type and value.

    Args:
        parts: section to the name of the chosen part.
        flat: the recipe's flat keys.
    """
    chosen = "\n".join(
        f"  {section}={parts.get(section, 'null')}\n{_alternatives(section, parts.get(section))}" for section in CHOSEN
    )
    blocks = [f"parts, each with its own options below:\n{chosen}"]
    for section, options in groupby(options_of(parts).values(), lambda option: option.key.rpartition(".")[0]):
        title = f"{section}={parts[section]}" if section in parts else section or "options"
        blocks.append("\n".join([f"{title}:", *(_lines_of(option, flat[option.key]) for option in options)]))
    return "\n\n".join([*blocks, _NOTATION])


def _alternatives(section: str, name: str | None) -> str:
    """The other parts that the user can choose in a section."""
    chosen = CHOSEN[section]
    others = [other for other in chosen.catalogue if other != name]
    others += ["null"] if chosen.optional and name is not None else []
    others += [description for description, _ in chosen.others]
    if chosen.catalogue.takes_own:
        others.append("package.module:Name")
    return _filled(f"or {', '.join(others)}", " " * 6)


def _lines_of(option: Option, value: Any) -> str:
    """An option as the command line takes it, `key=value`, with its meaning and type in the column beside it."""
    setting = "  " + printable(f"{option.key}={written(value)}")
    lines = _filled(f"{option.meaning_in_recipes} ({in_words(option.kind)})".strip(), " " * _MEANING_COLUMN)
    return setting + (lines[len(setting) :] if len(setting) <= _MEANING_COLUMN - 2 else f"\n{lines}")


def _filled(text: str, indent: str) -> str:
    """Fill indented lines to the width of the terminal. Names and values are not broken: bf16-mixed, /data/photos."""
    width = max(shutil.get_terminal_size().columns - 2, len(indent) + _LEAST_WIDTH)
    words = " ".join(text.split())
    return textwrap.fill(
        words, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
