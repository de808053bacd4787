"""A measured value with its unit."""

from __future__ import annotations

from typing import NotRequired, TypedDict

__all__ = ["Score", "Scores", "digits", "in_words", "percent"]

_PERCENT = "%"


class Score(TypedDict):
    """A measured value, of any task.

    Keys: `value`; `unit`, which is "%", another unit, or "" for none; `n`, the number of samples; `interval`, the ends
    of the 95 % interval in the same unit, where it was computed.
    """

    value: float
    unit: str
    n: int
    interval: NotRequired[tuple[float, float]]


Scores = dict[str, dict[str, Score]]
"""Head name to metric name to score."""


def percent(fraction: float, n: int) -> Score:
    """The score of a fraction, in percent with four decimals.

    Args:
        fraction: from 0 to 1.
        n: number of samples.
    """
    return Score(value=round(100 * fraction, 4), unit=_PERCENT, n=n)


def digits(value: float, unit: str) -> str:
    """A value as text, without its unit: a percentage with two decimals, any other with four significant digits."""
    return f"{value:.2f}" if unit == _PERCENT else f"{value:.4g}"


def in_words(measured: Score) -> str:
    """A score as text, with its unit: "33.33 %", "0.1234 nat"."""
    return f"{digits(measured['value'], measured['unit'])} {measured['unit']}".rstrip()
