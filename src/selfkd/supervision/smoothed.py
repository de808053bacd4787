"""The label mixed with the uniform distribution."""

from __future__ import annotations

from torch import Tensor

from selfkd.contract import Batch
from selfkd.losses import label_probabilities, smooth
from selfkd.option_checks import unit_interval
from selfkd.supervision.base import Supervision

__all__ = ["Smoothed"]


class Smoothed(Supervision):
    """`(1 - smoothing) * label + smoothing / K` (PyTorch's convention), for every head.

    Args:
        smoothing: weight of the uniform distribution, in [0, 1]; 0 gives the label itself.
    Raises: OptionError: if `smoothing` is out of range.
    Source: Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """

    def __init__(self, *, smoothing: float = 0.1) -> None:
        self.smoothing = unit_interval("supervision.smoothing", smoothing)

    def target(self, head: str, batch: Batch) -> Tensor:
        return smooth(label_probabilities(batch.labels, self.num_classes), self.smoothing)
