"""The label mixed with the uniform distribution."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from selfkd.contract import Batch, Progress
from selfkd.losses.labels import label_probabilities, smooth
from selfkd.option_checks import unit_interval
from selfkd.supervision.base import Supervision

__all__ = ["Smoothed"]


class Smoothed(Supervision):
    """The label mixed with the uniform distribution, for every head.

    Args:
        num_classes: K.
        heads: names of the heads.
        smoothing: share of the uniform distribution, in [0, 1]; 0 is the label itself.
    Raises: OptionError: if `smoothing` is out of range.
    Source: Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """

    def __init__(self, num_classes: int, heads: Sequence[str], smoothing: float) -> None:
        self.num_classes = num_classes
        self.heads = tuple(heads)
        self.smoothing = unit_interval("smoothing", smoothing)

    def targets(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        smoothed_BK = smooth(label_probabilities(batch.labels, self.num_classes), self.smoothing)
        return dict.fromkeys(self.heads, smoothed_BK)
