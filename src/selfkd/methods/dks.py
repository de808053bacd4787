"""DKS: the network and two branches made of its own blocks teach each other, each one both others.

Sun, Yao, Zhou, Zhao: Deeply-supervised Knowledge Synergy, CVPR 2019, arXiv:1906.00675.
"""

from __future__ import annotations

from torch import Tensor

from selfkd.backbones.staged import Staged
from selfkd.branches.dks_branches import DKSBranches
from selfkd.contract import Batch, DatasetInfo, Needs, Progress, StepOutput
from selfkd.losses import softened_kl, total
from selfkd.methods.base import Method
from selfkd.supervision.base import Supervision

__all__ = ["DKS"]


class DKS(Method):
    """`L = sum_m CE(z_m, y) + sum_m sum_{j != m} KL(softmax(sg(z_j)) || softmax(z_m))` over three classifiers.

    The classifiers are the network's own ("main") and those of the two branches; `sg` stops the gradient. Each learns
    from the labels and from both others: the shallow ones teach the deep ones, too. The temperature is 1, and so are
    all weights.

    Args:
        backbone: the staged network that will be deployed; its family must be able to build new stages.
        data: facts about the training set.
        last_width_factor: how many times as wide as the last stage its copy in the second branch is, in (0, 8]. With 1,
            VGGs have the cost that DTSKD's Table 2 publishes; the other networks have theirs with 2.
        supervision: target of the three classifiers in the cross-entropies; the labels by default.
    Raises:
        OptionError: if an option is out of range.
        BackboneError: if the network's family cannot build new stages.
    Source: the paper, as its released code has it: loss, detaching, depth and width of the branches.
    """

    group = "structure"
    needs = Needs(own_blocks=True)

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        last_width_factor: float = 2.0,
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data)
        self.branches = DKSBranches(backbone, last_width_factor)
        self.supervise(supervision, data, ("main", "branch1", "branch2"))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        logits = self.predict(batch.images)
        labels = self.label_losses(logits, batch)
        mutual = total(
            softened_kl(learner_BK, logits[teacher].detach(), 1.0)
            for learner, learner_BK in logits.items()
            for teacher in logits
            if teacher != learner
        )
        return StepOutput(labels + mutual, terms={"labels": labels, "mutual": mutual}, logits=logits)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        features = self.backbone(images)
        return {"main": features.logits, **self.branches(features.stages)}
