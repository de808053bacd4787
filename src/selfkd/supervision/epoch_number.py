"""A number that changes from epoch to epoch, as a tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from selfkd.contract import Progress

__all__ = ["EpochNumber"]


class EpochNumber:
    """The value of a function of the epoch, as a tensor on a device.

    A Python number would give a compiled method a new graph for each value, and a tensor in each step would make the
    device wait. So the tensor is made once per epoch, outside the graph: a method calls `update` in its
    `prepare_step`, a supervision in its `prepare`.

    Args:
        value_of: the number in an epoch; it depends on `epoch` and `total_epochs` alone.
    Attributes:
        value: 0-d float32 tensor, set by `update`.
    """

    value: Tensor

    def __init__(self, value_of: Callable[[Progress], float]) -> None:
        self._value_of = value_of
        self._made_for: tuple[int, int, torch.device] | None = None

    def update(self, progress: Progress, device: torch.device) -> None:
        """Set `value` to the epoch's number on this device."""
        key = (progress.epoch, progress.total_epochs, device)
        if key != self._made_for:
            number = self._value_of(progress)
            self._made_for, self.value = key, torch.full((), number, dtype=torch.float32, device=device)
