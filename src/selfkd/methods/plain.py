"""Plain training: cross-entropy with the labels. The yardstick of every other method."""

from __future__ import annotations

from selfkd.backbones.staged import Staged
from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.methods.base import Method
from selfkd.supervision.base import Supervision

__all__ = ["Plain", "cross_entropy_step"]


class Plain(Method):
    """Cross-entropy of the network's prediction with the label; nothing else.

    Args:
        backbone: the staged network that will be deployed.
        data: what is known of the training set.
        supervision: what the network is asked to predict; the labels by default.
    """

    def __init__(self, backbone: Staged, data: DatasetInfo, *, supervision: Supervision | None = None) -> None:
        super().__init__(backbone, data)
        self.supervise(supervision, data, ("main",))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        return cross_entropy_step(self, batch, "cross_entropy")


def cross_entropy_step(method: Method, batch: Batch, term: str) -> StepOutput:
    """The objective of plain training, which other names give another supervision.

    Args:
        method: whose one head that learns from labels is "main".
        batch: of this step.
        term: name of the loss in the log.
    """
    logits_BK = method.backbone(batch.images).logits
    loss = method.label_loss("main", logits_BK, batch)
    return StepOutput(loss, terms={term: loss}, logits={"main": logits_BK})
