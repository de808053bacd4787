"""Range checks of tensors that do not wait for the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from selfkd.errors import BatchError

__all__ = ["IndexRange", "RecordedRange", "readable_now"]

_MOST_RECORDED = 1000
"""After so many batches the records are checked, so that they take little memory in a loop that never checks them."""


def readable_now(values: Tensor) -> bool:
    """Whether values can be read without waiting: they are in main memory, and no graph is being compiled."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


class RecordedRange:
    """Records the least and the greatest value of each batch on the device; a check reads the records.

    Args:
        lowest: least allowed value.
        highest: greatest allowed value.
        error: makes an error from a value outside and the number of its batch, counted from 1.
    """

    def __init__(self, lowest: float, highest: float, error: Callable[[float, int], Exception]) -> None:
        self.lowest, self.highest = lowest, highest
        self._error = error
        self._extremes: list[Tensor] = []
        self._checked = 0

    @torch.no_grad()
    def record(self, values: Tensor) -> None:
        """Record the extremes of one batch. Does not wait for the device.

        Raises: what `check_recorded` raises; every thousandth batch calls it.
        """
        self._extremes.extend(values.aminmax())
        if len(self._extremes) >= 2 * _MOST_RECORDED:
            self.check_recorded()

    def check_recorded(self) -> None:
        """Check the batches recorded since the last check. Waits for the device if there are any.

        Raises: what `error` makes, for the first batch with a value outside the range; NaN is outside.
        """
        if not self._extremes:
            return
        extremes = torch.stack(self._extremes).view(-1, 2).tolist()
        first, self._checked = self._checked + 1, self._checked + len(extremes)
        self._extremes.clear()
        for number, (low, high) in enumerate(extremes, start=first):
            if not low >= self.lowest:
                raise self._error(low, number)
            if not high <= self.highest:
                raise self._error(high, number)

    def clear(self) -> None:
        """Drop the records; the next batch is number 1."""
        self._extremes.clear()
        self._checked = 0


class IndexRange:
    """Checks sample indices: those in main memory at once, those on a device when `check_recorded` is called.

    Args:
        num_samples: indices lie in [0, num_samples).
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self._recorded = RecordedRange(0, num_samples - 1, self._recorded_error)

    def check(self, indices: Tensor, now: bool) -> None:
        """Check the indices of one batch now, or record them.

        Raises: BatchError: if an index is out of range; without `now`, what `check_recorded` raises, every thousandth
            batch.
        """
        if not len(indices):
            return
        if not now:
            self._recorded.record(indices)
            return
        low, high = (int(value) for value in indices.aminmax())
        if low < 0 or high >= self.num_samples:
            raise BatchError(self._message(low if low < 0 else high))

    def clamp(self, indices: Tensor) -> Tensor:
        """The indices, with one out of range replaced by the nearest in range."""
        return indices.clamp(0, self.num_samples - 1)

    def check_recorded(self) -> None:
        """Check the batches recorded since the last check. Waits for the device if there are any.

        Raises: BatchError: naming the first index out of range and the number of its batch since `clear`.
        """
        self._recorded.check_recorded()

    def clear(self) -> None:
        """Drop the records; the next batch is number 1."""
        self._recorded.clear()

    def _recorded_error(self, index: float, number: int) -> BatchError:
        return BatchError(f"in batch {number} of the epoch, {self._message(index)}")

    def _message(self, index: float) -> str:
        return (
            f"sample index {index} lies outside [0, {self.num_samples}); "
            "DatasetInfo.num_samples must be the size of the training set"
        )
