"""A measured figure with its unit, as runs keep and show it."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["Score", "Scores", "in_words", "score"]

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


def score(value: float, unit: str, n: int) -> Score:
    """A figure as a run keeps it: fractions with the unit "%" as percentages of four digits, all others as they are.

    Args:
        value: what was measured: a fraction where the unit is "%".
        unit: in which it is kept.
        n: number of samples.
    """
    return Score(value=round(100 * value, 4) if unit == _PERCENT else value, unit=unit, n=n)


def in_words(measured: Score) -> str:
    """A figure as progress shows it: "33.3 %", "0.1234 nat"."""
    digits = ".1f" if measured["unit"] == _PERCENT else ".4g"
    return f"{measured['value']:{digits}} {measured['unit']}".rstrip()
