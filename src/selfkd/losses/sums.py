"""The sum of several losses."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

__all__ = ["total"]


def total(terms: Iterable[Tensor]) -> Tensor:
    """The terms added up in their order.

    Args:
        terms: one or more tensors of one shape.
    Raises: ValueError: if there are no terms.
    """
    first, *others = terms
    return sum(others, start=first)
