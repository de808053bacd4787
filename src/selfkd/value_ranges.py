"""Ranges that values of tensors must lie in, checked without waiting for the device that holds them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from selfkd.errors import BatchError

__all__ = ["DeferredRange", "IndexRange", "at_hand"]

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


class IndexRange:
    """The range of sample indices: those in main memory are refused at once, those of a device at the next look.

    Args:
        num_samples: indices lie in [0, num_samples).
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self._deferred = DeferredRange(0, num_samples - 1, self._outside)

    def check(self, indices: Tensor, now: bool) -> None:
        """Look at the indices of one batch now, or note them.

        Raises: BatchError: if one is outside; without `now`, what `look` raises, with every thousandth batch.
        """
        if not len(indices):
            return
        if not now:
            self._deferred.note(indices)
            return
        low, high = (int(value) for value in indices.aminmax())
        if low < 0 or high >= self.num_samples:
            raise BatchError(self._in_words(low if low < 0 else high))

    def inside(self, indices: Tensor) -> Tensor:
        """The indices, one outside replaced by the nearest inside."""
        return indices.clamp(0, self.num_samples - 1)

    def look(self) -> None:
        """Look at what was noted since the last time; waits for the device if there is anything.

        Raises: BatchError: naming the first index outside and the number of its batch since `forget`.
        """
        self._deferred.look()

    def forget(self) -> None:
        """Drop what was noted; the next batch is number 1."""
        self._deferred.forget()

    def _outside(self, index: float, number: int) -> BatchError:
        return BatchError(f"in batch {number} of the epoch, {self._in_words(index)}")

    def _in_words(self, index: float) -> str:
        return (
            f"sample index {index} lies outside [0, {self.num_samples}); "
            "DatasetInfo.num_samples must be the size of the training set"
        )
