"""PS-KD: the label is mixed with the network's own prediction of the last epoch, more and more from epoch to epoch.

Kim, Ji, Yoon, Hwang: Self-Knowledge Distillation with Progressive Refinement of Targets, ICCV 2021, arXiv:2006.12000.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from selfkd.backbones.staged import Staged
from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.methods.base import Method
from selfkd.methods.plain import cross_entropy_step
from selfkd.option_checks import unit_interval
from selfkd.supervision.historical import Historical

__all__ = ["PSKD"]


class PSKD(Method):
    """Cross-entropy with the target `(1 - alpha_e) * label + alpha_e * own prediction of epoch e - 1`.

    `alpha_e = alpha * (e + 1) / E` (equation 4). The prediction is the softmax, at temperature 1, of the training pass.

    Args:
        backbone: the staged network that will be deployed.
        data: facts about the training set.
        alpha: weight of the past prediction in the last epoch, in [0, 1]; 0.8 in the paper for CIFAR-100.
    Raises: OptionError: if `alpha` is out of range.
    Source: equations 3 and 4.
    """

    group = "history"
    refused: ClassVar[Mapping[str, str]] = {
        "supervision": "it is plain with supervision=historical; use method=plain with another supervision"
    }

    def __init__(self, backbone: Staged, data: DatasetInfo, *, alpha: float = 0.8) -> None:
        super().__init__(backbone, data)
        self.supervise(Historical(alpha=unit_interval("alpha", alpha), decay="linear"), data, ("main",))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        return cross_entropy_step(self, batch, "soft_cross_entropy")
