"""Label smoothing: the label mixed with the uniform distribution.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture, CVPR 2016, arXiv:1512.00567.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from selfkd.backbones.staged import Staged
from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.methods.base import Method
from selfkd.methods.plain import cross_entropy_step
from selfkd.option_checks import unit_interval
from selfkd.supervision.smoothed import Smoothed

__all__ = ["LabelSmoothing"]


class LabelSmoothing(Method):
    """Cross-entropy with the target `(1 - smoothing) * label + smoothing / K` (PyTorch's convention).

    Args:
        backbone: the staged network that will be deployed.
        data: facts about the training set.
        smoothing: weight of the uniform distribution, in [0, 1].
    Raises: OptionError: if `smoothing` is out of range.
    Source: section 7.
    """

    group = "labels"
    refused: ClassVar[Mapping[str, str]] = {
        "supervision": "it is plain with supervision=smoothed; use method=plain with another supervision"
    }

    def __init__(self, backbone: Staged, data: DatasetInfo, *, smoothing: float = 0.1) -> None:
        super().__init__(backbone, data)
        self.supervise(Smoothed(smoothing=unit_interval("smoothing", smoothing)), data, ("main",))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        return cross_entropy_step(self, batch, "soft_cross_entropy")
