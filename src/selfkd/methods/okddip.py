"""OKDDip: peers learn from targets of their own, which attention makes of all peers; a leader learns from their mean.

Chen, Mei, Wang, Feng, Chen: Online Knowledge Distillation with Diverse Peers, AAAI 2020, arXiv:1912.00350.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from selfkd.backbones.staged import Staged
from selfkd.branches.peer_attention import PeerAttention
from selfkd.branches.stage_copies import last_stage_copy
from selfkd.contract import Batch, DatasetInfo, Needs, Progress, StepOutput
from selfkd.losses import full_precision, softened_kl, total
from selfkd.methods.base import Method
from selfkd.methods.ramp import RampUp
from selfkd.option_checks import LARGEST_BRANCHES, LARGEST_TEMPERATURE, at_least, non_negative, positive
from selfkd.supervision.base import Supervision

__all__ = ["OKDDip"]


class OKDDip(Method):
    """`L = sum_a CE(z_a, y) + CE(z_L, y) + weight w(epoch) (sum_a KL_T(t_a || z_a) + KL_T(mean of z_a || z_L))`.

    `z_L` are the logits of the network, the leader; those of its peers, `z_a`, come from copies of its last stage and
    classifier on the map of stage 3. `t_a = sum_b A_ab z_b`; the attention `A` compares the peers' pooled features.
    `KL_T(u || v) = T^2 KL(softmax(u / T) || softmax(v / T))`, and `w` grows from 0.0067 to 1.

    No target is detached: the attention's projections get their gradient through the targets `t_a` alone.

    Args:
        backbone: the staged network that will be deployed; it must build new stages (`Staged.new_stage`).
        data: facts about the training set.
        branches: number of branches, from 3 to 64: the leader and two or more peers.
        temperature: temperature T of the divergences, > 0.
        weight: weight of the divergences after the ramp, >= 0.
        ramp_share: share of the epochs after which the divergences have their full weight, in (0, 1]; 80 of 300 epochs
            in the release.
        supervision: target of leader and peers in the cross-entropies; the labels by default.
    Raises:
        OptionError: if an option is out of range.
        BackboneError: if the network cannot build new stages.
    Source: released code, the form with branches; its ramp is made for 300 epochs.
    """

    group = "structure"
    needs = Needs(own_blocks=True)

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        branches: int = 4,
        temperature: float = 3.0,
        weight: float = 1.0,
        ramp_share: float = 80 / 300,
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data)
        at_least("branches", branches, 3, LARGEST_BRANCHES)
        self.temperature = positive("temperature", temperature, LARGEST_TEMPERATURE)
        self.weight = non_negative("weight", weight)
        self.ramp = RampUp(ramp_share)
        self.branches = nn.ModuleDict({f"branch{a}": last_stage_copy(backbone) for a in range(1, branches)})
        self.attention = PeerAttention(backbone.final_shape[0])
        self.supervise(supervision, data, ("main", *self.branches))

    def prepare_step(self, batch: Batch, progress: Progress) -> None:
        self.ramp.update(progress, batch.images.device)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        features = self.backbone(batch.images)
        outputs = {head: peer(features.stages[-2]) for head, peer in self.branches.items()}
        peers = list(outputs.values())
        logits = {"main": features.logits, **{head: each.logits for head, each in outputs.items()}}
        labels = self.label_losses(logits, batch)

        targets = self.attention([each.feature.mean(dim=(2, 3)) for each in peers], [each.logits for each in peers])
        to_peers = total(
            self._divergence(each.logits, target_BK) for each, target_BK in zip(peers, targets, strict=True)
        )
        mean_BK = torch.stack([full_precision(each.logits) for each in peers]).mean(dim=0)
        to_leader = self._divergence(features.logits, mean_BK)

        loss = labels + self.weight * self.ramp.value * (to_peers + to_leader)
        return StepOutput(loss, terms={"labels": labels, "peers": to_peers, "leader": to_leader}, logits=logits)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        features = self.backbone(images)
        peers = {head: peer(features.stages[-2]).logits for head, peer in self.branches.items()}
        return {"main": features.logits, **peers}

    def _divergence(self, student_BK: Tensor, teacher_BK: Tensor) -> Tensor:
        return softened_kl(student_BK, teacher_BK, self.temperature)
