"""How errors and records put things into words."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["few"]

_SHOWN = 5


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are; "none" if there is none."""
    if len(names) <= _SHOWN:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
