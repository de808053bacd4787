"""Every option of the parts of a recipe, for jsonargparse and for a reader: from their signatures and docstrings."""

from __future__ import annotations

import argparse
import functools
import re
import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentParser

from selfkd.catalogue import is_own
from selfkd.errors import UserError
from selfkd.recipes.sections import CHOSEN, part, sections_of
from selfkd.recipes.values import in_words, written
from selfkd.terminal import printable

__all__ = ["option_keys", "options_help", "options_parser", "type_of"]

_NOTATION = """\
Numbers are written in plain decimals: 1000, 0.5, 1e-4; not 1_000, 010 or 1:30. A list is written
[1,2]; null stands for no value.
"""


def options_parser(parts: Mapping[str, str]) -> ArgumentParser:
    """A jsonargparse parser that knows every option of the chosen parts, from their signatures and docstrings."""
    parser = ArgumentParser(
        exit_on_error=False, add_help=False, default_env=False, usage=argparse.SUPPRESS, formatter_class=_KeyValueHelp
    )
    parser.add_argument("--seed", type=int, default=0, help="number from which everything random is drawn")
    for section in sections_of(parts):
        name = parts.get(section)
        target = part(section, name)
        skipped, reserved = (CHOSEN[section].leading, CHOSEN[section].reserved) if section in CHOSEN else (0, ())
        if isinstance(target, functools.partial):
            skipped += len(target.args)
            target = target.func
        add = parser.add_class_arguments if isinstance(target, type) else parser.add_function_arguments
        try:
            add(target, section, skip={skipped, *reserved} if skipped else set(reserved), fail_untyped=False)
        except Exception as error:
            if name is None or not is_own(name):
                raise
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"the parameters of {section} {name!r} cannot be read as options: {reason}") from error
    return parser


def option_keys(parser: ArgumentParser) -> list[str]:
    """The keys that an override can name, sections apart."""
    return [action.dest for action in parser._actions if "." in action.dest or action.dest == "seed"]


def options_help(parts: Mapping[str, str], flat: Mapping[str, Any]) -> str:
    """Every option of a recipe with its meaning, type and value.

    Args:
        parts: section to the name of what was chosen.
        flat: the recipe's flat keys.
    """
    parser = options_parser(parts)
    parser.set_defaults({key: flat[key] for key in option_keys(parser)})
    for group in parser._action_groups:
        sections = {action.dest.partition(".")[0] for action in group._group_actions if "." in action.dest}
        for section in sections:
            group.title = f"{section}={parts[section]}" if section in parts else section
            group.description = None
    chosen = "\n".join(
        f"  {section}={parts.get(section, 'null')}\n{_others(section, parts.get(section))}" for section in CHOSEN
    )
    return f"parts, each with its own options below:\n{chosen}\n\n{parser.format_help()}\n{_NOTATION}"


def _others(section: str, name: str | None) -> str:
    """What may stand in a section instead of a part, or of none."""
    chosen = CHOSEN[section]
    others = [other for other in chosen.catalogue if other != name]
    others += ["null"] if chosen.optional and name is not None else []
    others += [others_in_words for others_in_words, _ in chosen.others]
    if chosen.catalogue.takes_own:
        others.append("package.module:Name")
    indent = " " * 6
    width = shutil.get_terminal_size().columns - 2
    return textwrap.fill(
        f"or {', '.join(others)}", width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def type_of(action: argparse.Action) -> Any:
    return getattr(action, "_typehint", None) or action.type


class _KeyValueHelp(argparse.HelpFormatter):
    """Options as they are written here: `key=value`, with type and default."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(prog, max_help_position=40, **kwargs)

    def add_argument(self, action: argparse.Action) -> None:
        if "." in action.dest or action.dest == "seed":  # jsonargparse adds one action for each whole section
            super().add_argument(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return printable(f"{action.dest}={written(action.default)}")

    def _expand_help(self, action: argparse.Action) -> str:
        said = re.sub(r"\bNone\b", "null", action.help or "")  # docstrings speak to Python, too
        return f"{said} ({in_words(type_of(action))})".strip()

    def _split_lines(self, text: str, width: int) -> list[str]:
        # Names and values stay whole: bf16-mixed, /data/photos.
        return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)
