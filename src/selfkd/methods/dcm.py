"""DCM: two networks with branches learn together, every classifier of one from every classifier of the other.

Yao, Sun: Knowledge Transfer via Dense Cross-Layer Mutual-Distillation, ECCV 2020, arXiv:2008.07816.
"""

from __future__ import annotations

from itertools import product

from torch import Tensor

from selfkd.backbones.staged import Staged
from selfkd.branches.dks_branches import DKSBranches
from selfkd.contract import Batch, DatasetInfo, Needs, Progress, StepOutput
from selfkd.losses import softened_kl, total
from selfkd.methods.base import Method
from selfkd.supervision.base import Supervision

__all__ = ["DCM"]

_OWN = ("main", "branch1", "branch2")
_PEERS = ("peer", "peer_branch1", "peer_branch2")


class DCM(Method):
    """`L = L(u, v) + L(v, u)` with `L(a, b) = sum_m CE(a_m, y) + sum_m sum_j KL(softmax(sg(b_j)) || softmax(a_m))`.

    `u_1` to `u_3` are the classifiers of the network: its own ("main") and those of its two branches, as in DKS; `v_1`
    to `v_3` are those of the peer; `sg` stops the gradient. Classifiers of one network do not teach each other. The
    temperature is 1, and so are all weights. Both networks take one step together.

    Args:
        backbone: the staged network that will be deployed; its family must be able to build new stages.
        data: facts about the training set.
        peer: the second network, with weights of its own; its family must be able to build new stages, too.
        last_width_factor: how many times as wide as the last stage its copy in the second branch is, in (0, 8]; the
            same for both networks. DKS takes 1 for VGGs.
        supervision: target of the six classifiers in the cross-entropies; the labels by default.
    Raises:
        OptionError: if an option is out of range.
        BackboneError: if the family of a network cannot build new stages.
    Source: the paper, as its released code has it: loss, detaching, and the branches, which are DKS's.
    """

    group = "structure"
    needs = Needs(peer=True, own_blocks=True)

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        peer: Staged,
        last_width_factor: float = 2.0,
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data, peer=peer)
        self.branches = DKSBranches(backbone, last_width_factor)
        self.peer_branches = DKSBranches(peer, last_width_factor)
        self.supervise(supervision, data, (*_OWN, *_PEERS))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        logits = self.predict(batch.images)
        labels = self.label_losses(logits, batch)
        pairs = (*product(_OWN, _PEERS), *product(_PEERS, _OWN))
        mutual = total(softened_kl(logits[learner], logits[teacher].detach(), 1.0) for learner, teacher in pairs)
        return StepOutput(labels + mutual, terms={"labels": labels, "mutual": mutual}, logits=logits)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        own, peers = self.backbone(images), self.peer(images)
        branches = {f"peer_{head}": z_BK for head, z_BK in self.peer_branches(peers.stages).items()}
        return {"main": own.logits, **self.branches(own.stages), "peer": peers.logits, **branches}
