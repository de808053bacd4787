"""PS-KD: the network's own prediction of the last epoch, trusted more and more, softens the label.

Kim, Ji, Yoon, Hwang: Self-Knowledge Distillation with Progressive Refinement of Targets, ICCV 2021, arXiv:2006.12000.
"""

from __future__ import annotations

from typing import ClassVar

from selfkd.backbones.staged import Staged
from selfkd.contract import Batch, DatasetInfo, Needs, Progress, StepOutput
from selfkd.losses import soft_cross_entropy
from selfkd.methods.base import Method
from selfkd.option_checks import unit_interval
from selfkd.supervision import Historical
from selfkd.supervision.decay import linear

__all__ = ["PSKD"]


class PSKD(Method):
    """Soft cross-entropy with `(1 - alpha_e) * label + alpha_e * own prediction of epoch e - 1`, temperature 1.

    `alpha_e = alpha * (e + 1) / E` (equation 4). What is remembered is the softmax of the training pass.

    Args:
        backbone: the staged network that will be deployed.
        data: what is known of the training set.
        alpha: trust in the past prediction in the last epoch, in [0, 1]; the paper's CIFAR-100 value is 0.8.
    Raises: OptionError: if `alpha` is out of range.
    Source: equations 3 and 4.
    """

    needs: ClassVar[Needs] = Needs(sample_index=True)

    def __init__(self, backbone: Staged, data: DatasetInfo, *, alpha: float = 0.8) -> None:
        super().__init__(backbone, data)
        self.alpha = unit_interval("alpha", alpha)
        self.supervision = Historical(data, ("main",), self.label_share)
        self.history = self.supervision.history

    def label_share(self, progress: Progress) -> float:
        """`1 - alpha_e` (equation 4)."""
        return linear(progress, maximum=1.0, minimum=1.0 - self.alpha, offset=1)

    def begin_epoch(self, progress: Progress) -> None:
        super().begin_epoch(progress)
        self.supervision.begin_epoch(progress, next(self.parameters()).device)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        target_BK = self.supervision.targets(batch, progress)["main"]
        logits_BK = self.backbone(batch.images).logits
        loss = soft_cross_entropy(logits_BK, target_BK)  # equation 3
        return StepOutput(loss, terms={"soft_cross_entropy": loss}, logits={"main": logits_BK})

    def after_step(self, batch: Batch, output: StepOutput) -> None:
        super().after_step(batch, output)
        self.supervision.after_step(batch, output)
