"""Label smoothing: the label mixed with the uniform distribution.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture, CVPR 2016, arXiv:1512.00567.
"""

from __future__ import annotations

from selfkd.backbones.staged import Staged
from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.losses import soft_cross_entropy
from selfkd.methods.base import Method
from selfkd.supervision import Smoothed

__all__ = ["LabelSmoothing"]


class LabelSmoothing(Method):
    """Cross-entropy with `(1 - smoothing) * label + smoothing / K` (PyTorch's convention).

    Args:
        backbone: the staged network that will be deployed.
        data: what is known of the training set.
        smoothing: share of the uniform distribution, in [0, 1].
    Raises: OptionError: if `smoothing` is out of range.
    Source: section 7.
    """

    def __init__(self, backbone: Staged, data: DatasetInfo, *, smoothing: float = 0.1) -> None:
        super().__init__(backbone, data)
        self.supervision = Smoothed(data.num_classes, ("main",), smoothing)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        target_BK = self.supervision.targets(batch, progress)["main"]
        logits_BK = self.backbone(batch.images).logits
        loss = soft_cross_entropy(logits_BK, target_BK)
        return StepOutput(loss, terms={"soft_cross_entropy": loss}, logits={"main": logits_BK})
