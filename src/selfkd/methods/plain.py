"""Plain training: cross-entropy with the labels. The yardstick of every other method."""

from __future__ import annotations

from torch.nn.functional import cross_entropy

from selfkd.contract import Batch, Progress, StepOutput
from selfkd.losses import full_precision
from selfkd.methods.base import Method

__all__ = ["Plain"]


class Plain(Method):
    """Cross-entropy of the network's prediction with the label; nothing else."""

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        logits_BK = self.backbone(batch.images).logits
        loss = cross_entropy(full_precision(logits_BK), batch.labels)
        return StepOutput(loss, terms={"cross_entropy": loss}, logits={"main": logits_BK})
