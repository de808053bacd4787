"""DML: two networks learn together, each from the labels and from the other's predictions.

Zhang, Xiang, Hospedales, Lu: Deep Mutual Learning, CVPR 2018, arXiv:1706.00384.
"""

from __future__ import annotations

from torch import Tensor

from selfkd.backbones.staged import Staged
from selfkd.contract import Batch, DatasetInfo, Needs, Progress, StepOutput
from selfkd.losses import softened_kl
from selfkd.methods.base import Method
from selfkd.supervision.base import Supervision

__all__ = ["DML"]


class DML(Method):
    """`L = L_1 + L_2` with `L_1 = CE(z_1, y) + KL(softmax(sg(z_2)) || softmax(z_1))`, and `L_2` the other way round.

    `z_1` are the logits of the network, `z_2` those of its peer, `sg` stops the gradient; the temperature is 1. Both
    networks take one step together. (The paper updates them in turn.)

    Args:
        backbone: the staged network that will be deployed.
        data: facts about the training set.
        peer: the second network, of any architecture, with weights of its own.
        supervision: target of both networks in the cross-entropy; the labels by default.
    Source: equations 3 to 6, for two networks.
    """

    group = "teacher"
    needs = Needs(peer=True)

    def __init__(
        self, backbone: Staged, data: DatasetInfo, *, peer: Staged, supervision: Supervision | None = None
    ) -> None:
        super().__init__(backbone, data, peer=peer)
        self.supervise(supervision, data, ("main", "peer"))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        logits = self.predict(batch.images)
        main_BK, peer_BK = logits["main"], logits["peer"]
        labels = self.label_losses(logits, batch)
        mutual = softened_kl(main_BK, peer_BK.detach(), 1.0) + softened_kl(peer_BK, main_BK.detach(), 1.0)
        return StepOutput(labels + mutual, terms={"labels": labels, "mutual": mutual}, logits=logits)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        return {"main": self.backbone(images).logits, "peer": self.peer(images).logits}
