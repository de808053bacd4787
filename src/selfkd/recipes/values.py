"""Read and write the values of options, and describe their types in words for errors and the help."""

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
_LONGEST_NUMBER = 100  # characters


def in_words(kind: Any) -> str:
    """The values that a type allows, in words."""
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
    """A value as text, as a recipe or a command line writes it."""
    if isinstance(value, tuple | list):
        return "[" + ",".join(written(item) for item in value) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def not_allowed(key: str, value: Any, allowed: str) -> RecipeError:
    """The error for an option whose value is not allowed."""
    return RecipeError(f"{key}={shown(value)} is not allowed; {key} must be {allowed}")


def read_value(key: str, value: Any, kind: Any) -> Any:
    """Read the value of an option with jsonargparse, by the option's type.

    Args:
        key: the option's key.
        value: the value in the recipe or on the command line: a text, or a value that YAML has read.
        kind: the option's type.
    Raises: RecipeError: if the type does not allow the value; the message names the option.
    """
    given = _as_text(key, value, kind)
    try:
        read = _parser(kind).parse_object({"value": given})["value"]
    except (argparse.ArgumentError, TypeError, ValueError, OverflowError) as error:
        raise not_allowed(key, value, in_words(kind)) from error
    return _plain_numbers_only(key, given, read, kind)


def check_notation(key: str, value: Any) -> None:
    """Check that an option for numbers has plain decimals.

    Raises: RecipeError: if a number is written in another way, or a list is too long; the message names the option.
    """
    if any(isinstance(each, str) and is_other_number(each) for each in _members(_read_list(key, value))):
        raise _other_notation(key, value)


@functools.cache
def _parser(kind: Any) -> ArgumentParser:
    """A parser for one value of a type. Its error messages are not used."""
    parser = ArgumentParser(exit_on_error=False, add_help=False, default_env=False)
    parser.add_argument("--value", type=kind)
    return parser


def _as_text(key: str, value: Any, kind: Any) -> Any:
    """The value for jsonargparse. A number becomes text, because the type decides its meaning: 32 may be a text."""
    if isinstance(value, str) and not _takes_text(kind):
        read = _read_list(key, value)
        if read is value and value.lstrip().startswith("["):
            raise not_allowed(key, value, in_words(kind))
        value = read
    numbers = (each for each in _members(value) if isinstance(each, str) and is_plain_number(each))
    if any(len(number) > _LONGEST_NUMBER for number in numbers):
        raise RecipeError(f"{key}={shown(value)} is not allowed; write numbers in at most {_LONGEST_NUMBER} characters")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _plain_numbers_only(key: str, given: Any, read: Any, kind: Any) -> Any:
    """The value that jsonargparse read; the text itself if that is a number in another notation: `010`, `1_000`.

    Raises: RecipeError: if the text is such a number, and the option takes no text.
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
    """The list that a text writes; any other value as it is.

    Raises: RecipeError: if the list is too long or too deep.
    """
    try:
        read = list_value(value) if isinstance(value, str) else None
    except RecipeError as error:
        raise RecipeError(f"{key}={shown(value)} is not allowed; {error}") from error
    return value if read is None else read


def _other_notation(key: str, value: Any) -> RecipeError:
    return RecipeError(
        f"{key}={shown(value)} is not allowed; write numbers in plain decimals, without leading zeros, underscores "
        "and colons"
    )


def _members(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _takes_text(kind: Any) -> bool:
    """Whether a type allows every text."""
    return kind is str or str in typing.get_args(kind)
