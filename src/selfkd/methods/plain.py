"""Plain training: cross-entropy with the labels. The baseline of every other method."""

from __future__ import annotations

from selfkd.backbones.staged import Staged
from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.methods.base import Method
from selfkd.supervision.base import Supervision

__all__ = ["Plain", "cross_entropy_step"]


class Plain(Method):
    """Cross-entropy of the network's prediction with the label.

    Args:
        backbone: the staged network that will be deployed.
        data: facts about the training set.
        supervision: target of the network; the labels by default.
    """

    group = "baseline"

    def __init__(self, backbone: Staged, data: DatasetInfo, *, supervision: Supervision | None = None) -> None:
        super().__init__(backbone, data)
        self.supervise(supervision, data, ("main",))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        return cross_entropy_step(self, batch, "cross_entropy")


def cross_entropy_step(method: Method, batch: Batch, term: str) -> StepOutput:
    """The step of plain training, shared by methods that only change the target.

    Args:
        method: the method; its only head that learns from labels is "main".
        batch: the batch of this step.
        term: name of the loss in the log.
    """
    logits_BK = method.backbone(batch.images).logits
    loss = method.label_loss("main", logits_BK, batch)
    return StepOutput(loss, terms={term: loss}, logits={"main": logits_BK})
