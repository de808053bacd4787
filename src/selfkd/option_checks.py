"""Checks of options. A range check returns the value, or raises an `OptionError` with option, value and range."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence

from selfkd.errors import OptionError, UserError

__all__ = [
    "LARGEST_BRANCHES",
    "LARGEST_SIZE",
    "LARGEST_TEMPERATURE",
    "at_least",
    "check_arguments",
    "either",
    "multiple_of",
    "non_negative",
    "one_of",
    "one_positive",
    "positive",
    "subset_of",
    "unit_interval",
    "weights",
]

LARGEST_TEMPERATURE = 1e4
"""With a larger temperature, softened predictions are uniform in single precision."""
LARGEST_SIZE = 2**16
"""Largest number of channels, and of pixels in a row; no network or image has more."""
LARGEST_BRANCHES = 64
"""Largest number of branches that are copies of a stage; each costs as much memory as the stage."""
_LARGEST_NUMBER = 1e30  # single precision can hold its product with a loss
_LARGEST_COUNT = 2**31 - 1  # the largest C int


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_number(option: str, value: float) -> None:
    if not _is_number(value):
        raise OptionError(option, value, "a number")


def positive(option: str, value: float, maximum: float = _LARGEST_NUMBER) -> float:
    """A number above 0 and at most `maximum`."""
    _check_number(option, value)
    if not 0 < value <= maximum:
        raise OptionError(option, value, f"a finite number > 0 and at most {maximum:g}")
    return value


def non_negative(option: str, value: float, maximum: float = _LARGEST_NUMBER) -> float:
    """A number from 0 to `maximum`."""
    _check_number(option, value)
    if not 0 <= value <= maximum:
        raise OptionError(option, value, f"a finite number >= 0 and at most {maximum:g}")
    return value


def unit_interval(option: str, value: float, *, with_one: bool = True) -> float:
    """A number in [0, 1], or in [0, 1) without 1."""
    _check_number(option, value)
    if not 0 <= value <= 1 or (value == 1 and not with_one):
        raise OptionError(option, value, "in [0, 1]" if with_one else "in [0, 1)")
    return value


def at_least(option: str, value: int, minimum: int, maximum: int = _LARGEST_COUNT) -> int:
    """A whole number from `minimum` to `maximum`."""
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise OptionError(option, value, f"a whole number >= {minimum} and at most {maximum}")
    return value


def subset_of(option: str, values: Sequence[int], allowed: Collection[int]) -> tuple[int, ...]:
    """One or more of the allowed whole numbers, none twice. Returns them sorted."""
    whole = isinstance(values, Sequence) and all(type(value) is int for value in values)
    if not whole or not values or len(set(values)) < len(values) or not set(values) <= set(allowed):
        raise OptionError(option, values, f"one or more of {', '.join(map(str, sorted(allowed)))}, each at most once")
    return tuple(sorted(values))


def one_of(option: str, value: str, allowed: Collection[str]) -> str:
    """One of the allowed names."""
    if value not in allowed:
        raise OptionError(option, value, f"one of {', '.join(sorted(allowed))}")
    return value


def either(option: str, value: int, first: int, second: int) -> int:
    """One of two numbers."""
    if value not in (first, second):
        raise OptionError(option, value, f"{first} or {second}")
    return value


def weights(option: str, values: Sequence[float], count: int, meaning: str) -> tuple[float, ...]:
    """Exactly `count` finite numbers >= 0; `meaning` says what each stands for."""
    if len(values) != count or not all(_is_number(value) and 0 <= value <= _LARGEST_NUMBER for value in values):
        raise OptionError(
            option, tuple(values), f"{count} finite numbers >= 0 and at most {_LARGEST_NUMBER:g} ({meaning})"
        )
    return tuple(float(value) for value in values)


def one_positive(**values: float) -> None:
    """Several weights, at least one of them above 0."""
    if not any(values.values()):
        first, *others = values
        zero = f"{' and '.join(others)} {'is' if len(others) == 1 else 'are'} 0, too"
        raise OptionError(first, values[first], reason=f"{zero}, so nothing would be learnt; set one of them above 0")


def multiple_of(option: str, value: int, divisor: int, maximum: int = _LARGEST_COUNT) -> int:
    """A multiple of `divisor`, from 1 to `maximum`."""
    at_least(option, value, 1, maximum)
    if value % divisor:
        raise OptionError(option, value, f"a multiple of {divisor}")
    return value


def check_arguments(part: str, target: Callable[..., object], /, *positional: object, **options: object) -> None:
    """Check that a class or function can be called with these arguments.

    Args:
        part: what `target` is, for messages: "method 'kd'".
        target: the class or function.
        positional: its positional arguments.
        options: its keyword arguments.
    Raises:
        OptionError: if it has no such option.
        UserError: if a keyword argument is missing.
    """
    signature = inspect.signature(target)
    try:
        signature.bind(*positional, **options)
    except TypeError as error:
        known = [name for name, each in signature.parameters.items() if each.kind is each.KEYWORD_ONLY]
        for option in options:
            if option not in signature.parameters:
                reason = f"{part} has no such option; its options are: {', '.join(known) or 'none'}"
                raise OptionError(option, options[option], reason=reason) from error
        raise UserError(f"{part} cannot be created: {error}") from error
