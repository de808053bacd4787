"""Values of options: how they are read and written, and the words of an error or a help for their types."""

from __future__ import annotations

import argparse
import functools
import types
import typing
from typing import Any

from jsonargparse import ArgumentParser

from selfkd.errors import RecipeError, shown
from selfkd.recipes.yaml_files import is_other_number, is_plain_number, list_value

__all__ = ["check_notation", "in_words", "not_allowed", "read_value", "written"]

_LIST = "a list [...]"
_WORDS = {
    int: ["a whole number"],
    float: ["a number"],
    bool: ["true", "false"],
    str: ["a text"],
    type(None): ["null"],
    Any: ["any value"],
    list: [_LIST],
    tuple: [_LIST],
}
_PLURALS = {"a whole number": "whole numbers", "a number": "numbers", "a text": "texts"}
_MOST_DIGITS = 100  # of a number in the text of an option


def in_words(kind: Any) -> str:
    """The values that a type allows."""
    return _joined(sorted(_alternatives(kind), key=lambda words: words.startswith(_LIST)))


def _joined(alternatives: list[str]) -> str:
    *others, last = alternatives
    return f"{', '.join(others)} or {last}" if others else last


def _alternatives(kind: Any) -> list[str]:
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return [words for argument in arguments for words in _alternatives(argument)]
    if origin is typing.Literal:
        return [written(argument) for argument in arguments]
    if origin in (tuple, list) and arguments:
        number = "" if origin is list or arguments[-1] is Ellipsis else f"{len(arguments)} "
        items = [_PLURALS.get(words, words) for words in _alternatives(arguments[0])]
        return [f"{_LIST} of {number}{_joined(items)}"]
    return _WORDS.get(kind) or [str(getattr(kind, "__name__", kind))]


def written(value: Any) -> str:
    """A value as a recipe or a command line has it."""
    if isinstance(value, tuple | list):
        return "[" + ",".join(written(item) for item in value) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def not_allowed(key: str, value: Any, allowed: str) -> RecipeError:
    """The error of an option whose value its type or its name does not allow."""
    return RecipeError(f"{key}={shown(value)} is not allowed; {key} must be {allowed}")


def read_value(key: str, value: Any, kind: Any) -> Any:
    """The value of an option, which jsonargparse reads as the option's type says.

    Args:
        key: of the option.
        value: what a recipe or a command line has: a text, or what YAML made of it.
        kind: the type of the option.
    Raises: RecipeError: if the type does not allow the value; the message names the option.
    """
    given = _as_text(key, value, kind)
    try:
        read = _parser(kind).parse_object({"value": given})["value"]
    except (argparse.ArgumentError, TypeError, ValueError, OverflowError) as error:
        raise not_allowed(key, value, in_words(kind)) from error
    return _plain_numbers_only(key, given, read, kind)


def check_notation(key: str, value: Any) -> None:
    """Check that an option which takes numbers only has them in plain decimals.

    Raises: RecipeError: if one is written otherwise, or in a list beyond the limits; the message names the option.
    """
    if any(isinstance(each, str) and is_other_number(each) for each in _members(_read_list(key, value))):
        raise _other_notation(key, value)


@functools.cache
def _parser(kind: Any) -> ArgumentParser:
    """Reads one value of a type: whatever it refuses, the option is known without its message."""
    parser = ArgumentParser(exit_on_error=False, add_help=False, default_env=False)
    parser.add_argument("--value", type=kind)
    return parser


def _as_text(key: str, value: Any, kind: Any) -> Any:
    """A value as jsonargparse takes it. A number is text, which the type reads: 32 is a precision or 32.0."""
    if isinstance(value, str) and not _takes_text(kind):
        read = _read_list(key, value)
        if read is value and value.lstrip().startswith("["):
            raise not_allowed(key, value, in_words(kind))
        value = read
    if any(isinstance(each, str) and is_plain_number(each) and len(each) > _MOST_DIGITS for each in _members(value)):
        raise RecipeError(f"{key}={shown(value)} is not allowed; write numbers in at most {_MOST_DIGITS} characters")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _plain_numbers_only(key: str, given: Any, read: Any, kind: Any) -> Any:
    """What jsonargparse read, but the text where it took one for a number that is no plain decimal: `010`, `1_000`.

    Raises: RecipeError: if the option takes no text.
    """
    if isinstance(given, list) and isinstance(read, list | tuple) and len(given) == len(read):
        lists = (each for each in (kind, *typing.get_args(kind)) if typing.get_origin(each) in (tuple, list))
        inner = (typing.get_args(next(lists, None)) or (None,))[0]
        return type(read)(_plain_numbers_only(key, *each, inner) for each in zip(given, read, strict=True))
    is_number = isinstance(read, int | float) and not isinstance(read, bool)
    if not isinstance(given, str) or not is_number or is_plain_number(given):
        return read
    if _takes_text(kind):
        return given
    raise _other_notation(key, given)


def _read_list(key: str, value: Any) -> Any:
    """A value; where it is the text of a list, that list.

    Raises: RecipeError: if the list is beyond the limits.
    """
    try:
        read = list_value(value) if isinstance(value, str) else None
    except RecipeError as error:
        raise RecipeError(f"{key}={shown(value)} is not allowed; {error}") from error
    return value if read is None else read


def _other_notation(key: str, value: Any) -> RecipeError:
    return RecipeError(
        f"{key}={shown(value)} is not allowed; write numbers in plain decimals: no zeros before them, no underscores, "
        "no colons"
    )


def _members(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _takes_text(kind: Any) -> bool:
    """Whether any text is a value of a type."""
    return kind is str or str in typing.get_args(kind)
