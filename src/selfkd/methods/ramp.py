"""The weight of a distillation that grows over the first epochs (ONE, OKDDip, AHBF)."""

from __future__ import annotations

import math

from selfkd.contract import Progress
from selfkd.option_checks import positive
from selfkd.supervision.epoch_number import EpochNumber

__all__ = ["RampUp", "ramp"]


def ramp(epoch: int, ramp_epochs: float) -> float:
    """`exp(-5 (1 - min(epoch, ramp_epochs) / ramp_epochs)^2)`: 0.0067 in epoch 0, and 1 from `ramp_epochs` on.

    Args:
        epoch: number of the epoch, counted from 0.
        ramp_epochs: number of epochs until the weight is 1, > 0; not always a whole number.
    Source: Laine, Aila 2017, Temporal Ensembling for Semi-Supervised Learning, arXiv:1610.02242.
    """
    return math.exp(-5 * (1 - min(epoch, ramp_epochs) / ramp_epochs) ** 2)


class RampUp(EpochNumber):
    """The ramp's weight in the current epoch, as a tensor.

    Args:
        share: share of all epochs after which the weight is 1, in (0, 1].
    Raises: OptionError: if `share` is out of range.
    """

    def __init__(self, share: float) -> None:
        super().__init__(self._weight)
        self.share = positive("ramp_share", share, 1)

    def _weight(self, progress: Progress) -> float:
        return ramp(progress.epoch, self.share * progress.total_epochs)
