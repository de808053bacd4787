"""A measured figure with its unit, as runs keep and show it."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["Score", "Scores", "digits", "in_words", "percent"]

_PERCENT = "%"


class Score(TypedDict):
    """One measured figure of any task.

    Keys: `value`, in its unit; `unit` ("%", or a name; empty for a bare number); `n`, how many samples it was measured
    on.
    """

    value: float
    unit: str
    n: int


Scores = dict[str, dict[str, Score]]
"""Head name to metric name to score."""


def percent(fraction: float, n: int) -> Score:
    """A fraction as runs keep it: in percent, with four decimals. A figure of another unit is a `Score` as it is.

    Args:
        fraction: of 1.
        n: number of samples.
    """
    return Score(value=round(100 * fraction, 4), unit=_PERCENT, n=n)


def digits(value: float, unit: str) -> str:
    """A figure without its unit, as progress and tables show it.

    Percentages have two decimals, all others four significant digits.
    """
    return f"{value:.2f}" if unit == _PERCENT else f"{value:.4g}"


def in_words(measured: Score) -> str:
    """A figure with its unit: "33.33 %", "0.1234 nat"."""
    return f"{digits(measured['value'], measured['unit'])} {measured['unit']}".rstrip()
