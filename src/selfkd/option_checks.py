"""Range checks for options; each returns the value or raises an `OptionError` naming option, value and range."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from selfkd.errors import OptionError

__all__ = ["at_least", "multiple_of", "non_negative", "one_of", "positive", "subset_of", "unit_interval", "weights"]


def _number(option: str, value: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise OptionError(option, value, "a number")


def positive(option: str, value: float) -> float:
    """A finite number above 0."""
    _number(option, value)
    if not (math.isfinite(value) and value > 0):
        raise OptionError(option, value, "a finite number > 0")
    return value


def non_negative(option: str, value: float) -> float:
    """A finite number, 0 or above."""
    _number(option, value)
    if not (math.isfinite(value) and value >= 0):
        raise OptionError(option, value, "a finite number >= 0")
    return value


def unit_interval(option: str, value: float) -> float:
    """A number in [0, 1]."""
    _number(option, value)
    if not 0 <= value <= 1:
        raise OptionError(option, value, "in [0, 1]")
    return value


def at_least(option: str, value: int, minimum: int) -> int:
    """A whole number of at least `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise OptionError(option, value, f"a whole number >= {minimum}")
    return value


def subset_of(option: str, values: Sequence[int], allowed: Collection[int]) -> tuple[int, ...]:
    """At least one of a few whole numbers, none twice; sorted."""
    whole = isinstance(values, Sequence) and all(type(value) is int for value in values)
    if not whole or not values or len(set(values)) < len(values) or not set(values) <= set(allowed):
        raise OptionError(option, values, f"one or more of {', '.join(map(str, sorted(allowed)))}, none twice")
    return tuple(sorted(values))


def one_of(option: str, value: str, allowed: Collection[str]) -> str:
    """One of a few names."""
    if value not in allowed:
        raise OptionError(option, value, f"one of {', '.join(sorted(allowed))}")
    return value


def weights(option: str, values: Sequence[float], count: int, meaning: str) -> tuple[float, ...]:
    """Exactly `count` finite, non-negative numbers; `meaning` says what they stand for, in order."""
    result = tuple(float(value) for value in values)
    if len(result) != count or any(not math.isfinite(value) or value < 0 for value in result):
        raise OptionError(option, tuple(values), f"{count} finite numbers >= 0 ({meaning})")
    return result


def multiple_of(option: str, value: int, divisor: int) -> int:
    """A whole number above 0 that `divisor` divides."""
    at_least(option, value, 1)
    if value % divisor:
        raise OptionError(option, value, f"a multiple of {divisor}")
    return value
