"""Ranges that values of tensors must lie in, checked without waiting for the device that holds them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["DeferredRange", "at_hand"]

_MOST_NOTED = 1000
"""Batches after which a loop that never looks is made to, so that its notes take little memory."""


def at_hand(values: Tensor) -> bool:
    """Whether values can be looked at now for nothing: they are in main memory, and no graph is being compiled."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


class DeferredRange:
    """The least and the greatest value of each batch, kept where the values are until somebody looks.

    Args:
        lowest: least allowed value.
        highest: greatest allowed value.
        error: from a value outside and the number of its batch, counted from 1.
    """

    def __init__(self, lowest: float, highest: float, error: Callable[[float, int], Exception]) -> None:
        self.lowest, self.highest = lowest, highest
        self._error = error
        self._extremes: list[Tensor] = []
        self._looked = 0

    @torch.no_grad()
    def note(self, values: Tensor) -> None:
        """Keep the extremes of one batch; one operation on its device, for which nobody waits.

        Raises: what `look` raises, which comes with every thousandth batch if nobody calls it.
        """
        self._extremes.extend(values.aminmax())
        if len(self._extremes) >= 2 * _MOST_NOTED:
            self.look()

    def look(self) -> None:
        """Look at what was noted since the last time; waits for the device if there is anything.

        Raises: what `error` makes, for the first batch with a value outside; NaN is outside.
        """
        if not self._extremes:
            return
        extremes = torch.stack(self._extremes).view(-1, 2).tolist()
        first, self._looked = self._looked + 1, self._looked + len(extremes)
        self._extremes.clear()
        for number, (low, high) in enumerate(extremes, start=first):
            if not low >= self.lowest:
                raise self._error(low, number)
            if not high <= self.highest:
                raise self._error(high, number)

    def forget(self) -> None:
        """Drop what was noted; the next batch is number 1."""
        self._extremes.clear()
        self._looked = 0
