"""AHBF: branches of growing depth are fused step by step; each fusion teaches the two parts that it is made of.

Gong, Lin, Zhang, Shen, Li, Qiao, Ren, Li, Yu, Ma: Adaptive Hierarchy-Branch Fusion for Online Knowledge Distillation,
AAAI 2023.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from selfkd.backbones.staged import NUM_STAGES, Staged
from selfkd.branches.branch_fusion import BranchFusion
from selfkd.branches.exits import ExitOutput
from selfkd.branches.stage_copies import last_stage_copy
from selfkd.contract import Batch, DatasetInfo, Features, Needs, Progress, StepOutput
from selfkd.losses import softened_kl, total
from selfkd.methods.base import Method
from selfkd.methods.ramp import RampUp
from selfkd.option_checks import LARGEST_BRANCHES, LARGEST_TEMPERATURE, at_least, non_negative, positive
from selfkd.supervision.base import Supervision

__all__ = ["AHBF"]

_LARGEST_DEPTH_STEP = 100


class AHBF(Method):
    """`L = sum_b CE(z_b, y) + sum_j CE(e_j, y) + weight w(epoch) sum_j D_j`, with

    `D_j = peer_weight KL_T(z_j || e_(j-1)) + fused_weight (KL_T(e_j || z_j) + KL_T(e_j || e_(j-1)))`.

    `e_0 = z_0` are the logits of the network. Branch j = 1 to m - 1 is a copy of its last stage with `j * depth_step`
    more blocks and of its classifier, on the map of stage 3. Fusion j joins the maps of fusion j - 1 (for j = 1 the
    network's last map) and of branch j, and by them weighs their logits: `e_j = g_0 e_(j-1) + g_1 z_j`.
    `KL_T(u || v) = T^2 KL(softmax(u / T) || softmax(v / T))`, and `w` grows from 0.0067 to 1. No target is detached.

    Args:
        backbone: the staged network that will be deployed; it must build new stages (`Staged.new_stage`).
        data: facts about the training set.
        branches: number of branches m, from 2 to 64: the network itself and the deeper ones.
        depth_step: blocks that each branch has more than the branch before, from 1 to 100.
        fused_weight: weight of what a fusion teaches its two parts, the release's lambda_1, >= 0.
        peer_weight: weight of what a branch teaches the fusion before it, the release's lambda_2, >= 0.
        weight: weight of all divergences after the ramp, >= 0.
        temperature: temperature T of the divergences, > 0.
        ramp_share: share of the epochs after which the divergences have their full weight, in (0, 1]; 80 of 200 epochs
            in LOTH's release.
        supervision: target of branches and fusions in the cross-entropies; the labels by default.
    Raises:
        OptionError: if an option is out of range.
        BackboneError: if the network cannot build new stages.
    Source: released code; the defaults are those of LOTH's release for ResNet-18.
    """

    group = "structure"
    needs = Needs(own_blocks=True)

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        branches: int = 3,
        depth_step: int = 2,
        fused_weight: float = 1.0,
        peer_weight: float = 2.0,
        weight: float = 1.0,
        temperature: float = 3.0,
        ramp_share: float = 80 / 200,
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data)
        at_least("branches", branches, 2, LARGEST_BRANCHES)
        at_least("depth_step", depth_step, 1, _LARGEST_DEPTH_STEP)
        self.fused_weight = non_negative("fused_weight", fused_weight)
        self.peer_weight = non_negative("peer_weight", peer_weight)
        self.weight = non_negative("weight", weight)
        self.temperature = positive("temperature", temperature, LARGEST_TEMPERATURE)
        self.ramp = RampUp(ramp_share)
        depth = backbone.stage_depth(NUM_STAGES - 1)
        steps = range(1, branches)
        self.branches = nn.ModuleDict({f"branch{j}": last_stage_copy(backbone, depth + j * depth_step) for j in steps})
        self.fusions = nn.ModuleDict({f"fusion{j}": BranchFusion(backbone.final_shape[0]) for j in steps})
        self.supervise(supervision, data, ("main", *self.branches, *self.fusions))

    def prepare_step(self, batch: Batch, progress: Progress) -> None:
        self.ramp.update(progress, batch.images.device)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        logits = self._logits(self.backbone(batch.images))
        labels = self.label_losses(logits, batch)

        to_parts, to_earlier = [], []
        for branch, (earlier, fusion) in zip(
            self.branches.keys(), pairwise(("main", *self.fusions.keys())), strict=True
        ):
            branch_BK, earlier_BK, fused_BK = logits[branch], logits[earlier], logits[fusion]
            to_parts += [self._divergence(branch_BK, fused_BK), self._divergence(earlier_BK, fused_BK)]
            to_earlier.append(self._divergence(earlier_BK, branch_BK))
        fused, branches = total(to_parts), total(to_earlier)

        distillation = self.fused_weight * fused + self.peer_weight * branches
        loss = labels + self.weight * self.ramp.value * distillation
        return StepOutput(loss, terms={"labels": labels, "fused": fused, "branches": branches}, logits=logits)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        return self._logits(self.backbone(images))

    def _logits(self, features: Features) -> dict[str, Tensor]:
        branches = {head: branch(features.stages[-2]) for head, branch in self.branches.items()}
        fused, ensembles = ExitOutput(features.final, features.logits), {}
        for (head, fusion), branch in zip(self.fusions.items(), branches.values(), strict=True):
            fused = fusion(fused, branch)
            ensembles[head] = fused.logits
        return {"main": features.logits, **{head: each.logits for head, each in branches.items()}, **ensembles}

    def _divergence(self, student_BK: Tensor, teacher_BK: Tensor) -> Tensor:
        return softened_kl(student_BK, teacher_BK, self.temperature)
