"""The weight of a distillation that grows over the first epochs (ONE, OKDDip, AHBF)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from selfkd.contract import Progress
from selfkd.option_checks import positive

__all__ = ["RampUp", "ramp"]


def ramp(epoch: int, ramp_epochs: float) -> float:
    """`exp(-5 (1 - min(epoch, ramp_epochs) / ramp_epochs)^2)`: 0.0067 in epoch 0, and 1 from `ramp_epochs` on.

    Args:
        epoch: number of the epoch, counted from 0.
        ramp_epochs: number of epochs until the weight is 1, > 0; not always a whole number.
    Source: Laine, Aila 2017, Temporal Ensembling for Semi-Supervised Learning, arXiv:1610.02242.
    """
    return math.exp(-5 * (1 - min(epoch, ramp_epochs) / ramp_epochs) ** 2)


class RampUp:
    """The ramp's weight in the current epoch, as a tensor.

    A number would give a compiled method a new graph in every epoch. So a method calls `prepare` in its own `prepare`,
    and multiplies by `weight` in `forward`.

    Args:
        share: share of all epochs after which the weight is 1, in (0, 1].
    Attributes:
        weight: 0-d float32 tensor, set by `prepare`.
    Raises: OptionError: if `share` is out of range.
    """

    weight: Tensor

    def __init__(self, share: float) -> None:
        self.share = positive("ramp_share", share, 1)
        self._weight_of: tuple[int, int, torch.device] | None = None

    def prepare(self, progress: Progress, device: torch.device) -> None:
        """Set the weight, once per epoch, so that no step waits for the device."""
        key = (progress.epoch, progress.total_epochs, device)
        if key != self._weight_of:
            weight = ramp(progress.epoch, self.share * progress.total_epochs)
            self._weight_of, self.weight = key, torch.full((), weight, dtype=torch.float32, device=device)
