"""Values of options: how they are read from what was written, how they are written, and what a type allows in words."""

from __future__ import annotations

import types
import typing
from typing import Any

from selfkd.errors import RecipeError, shown
from selfkd.recipes.yaml_files import is_plain_number, list_value

__all__ = ["as_given", "as_written", "in_words", "members", "other_notation", "read_list", "written"]

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
_MOST_DIGITS = 100  # of a number in the text of an option


def in_words(kind: Any) -> str:
    """What values a type allows."""
    *others, last = sorted(_alternatives(kind), key=lambda words: words.startswith(_LIST))
    return f"{', '.join(others)} or {last}" if others else last


def _alternatives(kind: Any) -> list[str]:
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return [words for argument in arguments for words in _alternatives(argument)]
    if origin is typing.Literal:
        return [written(argument) for argument in arguments]
    if origin in (tuple, list) and arguments:
        number = "" if origin is list or arguments[-1] is Ellipsis else f" of {len(arguments)}"
        return [f"{_LIST}{number}, each {in_words(arguments[0])}"]
    return _WORDS.get(kind) or [str(getattr(kind, "__name__", kind))]


def written(value: Any) -> str:
    """A value as a recipe or a command line has it."""
    if isinstance(value, tuple | list):
        return "[" + ",".join(written(item) for item in value) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_given(key: str, value: Any, kind: Any) -> Any:
    """A value as jsonargparse is to read it.

    Raises: RecipeError: if it can be no value of any option of this type, naming the option.
    """
    if isinstance(value, str) and not _takes_text(kind):
        read = read_list(key, value)
        if read is value and value.lstrip().startswith("["):
            raise RecipeError(f"{key}={shown(value)} is not allowed; {key} must be {in_words(kind)}")
        value = read
    if any(isinstance(each, str) and is_plain_number(each) and len(each) > _MOST_DIGITS for each in members(value)):
        raise RecipeError(f"{key}={shown(value)} is not allowed; write numbers in at most {_MOST_DIGITS} characters")
    # As text a number can be whatever the option's type makes of it: 32 a precision, 1 a float.
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def read_list(key: str, value: Any) -> Any:
    """A value; where it is the text of a list, that list.

    Raises: RecipeError: if the list is beyond the limits, naming the option.
    """
    try:
        read = list_value(value) if isinstance(value, str) else None
    except RecipeError as error:
        raise RecipeError(f"{key}={shown(value)} is not allowed; {error}") from error
    return value if read is None else read


def other_notation(key: str, value: Any) -> RecipeError:
    """The error of a number that is not written in plain decimals."""
    return RecipeError(
        f"{key}={shown(value)} is not allowed; write numbers in plain decimals: no zeros before them, no underscores, "
        "no colons"
    )


def members(value: Any) -> list[Any]:
    """Of a list its members, else the value alone."""
    return value if isinstance(value, list) else [value]


def _takes_text(kind: Any) -> bool:
    """Whether any text is a value of a type."""
    return kind is str or str in typing.get_args(kind)


def as_written(key: str, given: Any, read: Any, kind: Any) -> Any:
    """What jsonargparse read, but text where it took for a number what is not written as one: `010`, `1:30`, `1_000`.

    Raises: RecipeError: if the option takes no text, naming the option.
    """
    if isinstance(given, list) and isinstance(read, list | tuple) and len(given) == len(read):
        inner = next(
            (each for each in (kind, *typing.get_args(kind)) if typing.get_origin(each) in (tuple, list)), None
        )
        return type(read)(
            as_written(key, *each, (typing.get_args(inner) or (None,))[0]) for each in zip(given, read, strict=True)
        )
    if not isinstance(given, str) or is_plain_number(given):
        return read
    if isinstance(read, bool) or not isinstance(read, int | float):
        return read
    if _takes_text(kind):
        return given
    raise other_notation(key, given)
