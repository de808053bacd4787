"""ONE: several copies of the last stage learn together from their gated ensemble.

Lan, Zhu, Gong: Knowledge Distillation by On-the-Fly Native Ensemble, NeurIPS 2018, arXiv:1806.04606.
"""

from __future__ import annotations

from torch import Tensor, nn

from selfkd.backbones.staged import Staged
from selfkd.branches.gates import Gate
from selfkd.branches.stage_copies import last_stage_copy
from selfkd.contract import Batch, DatasetInfo, Features, Needs, Progress, StepOutput
from selfkd.losses import softened_kl, total
from selfkd.methods.base import Method
from selfkd.methods.ramp import RampUp
from selfkd.option_checks import LARGEST_BRANCHES, LARGEST_TEMPERATURE, at_least, positive
from selfkd.supervision.base import Supervision

__all__ = ["ONE"]


class ONE(Method):
    """`L = sum_b CE(z_b, y) + CE(z_e, y) + w(epoch) sum_b T^2 KL(softmax(sg(z_e) / T) || softmax(z_b / T))`.

    `z_1` are the logits of the network, the other `z_b` those of copies of its last stage and classifier on the map of
    stage 3. `z_e = sum_b g_b z_b` is their ensemble; the gate `g` weighs the branches for each sample, by the same map.
    `sg` stops the gradient, so the gate learns from `CE(z_e, y)` alone. `w` grows from 0.0067 to 1.

    Args:
        backbone: the staged network that will be deployed; it must build new stages (`Staged.new_stage`).
        data: facts about the training set.
        branches: number of branches, from 2 to 64: the network itself and the copies.
        temperature: temperature of the divergences, > 0.
        ramp_share: share of the epochs after which the divergences have their full weight, in (0, 1]; 80 of 300 epochs
            in the release.
        supervision: target of branches and ensemble in the cross-entropies; the labels by default.
    Raises:
        OptionError: if an option is out of range.
        BackboneError: if the network cannot build new stages.
    Source: released code, whose ramp is made for 300 epochs.
    """

    group = "structure"
    needs = Needs(own_blocks=True)

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        branches: int = 3,
        temperature: float = 3.0,
        ramp_share: float = 80 / 300,
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data)
        at_least("branches", branches, 2, LARGEST_BRANCHES)
        self.temperature = positive("temperature", temperature, LARGEST_TEMPERATURE)
        self.ramp = RampUp(ramp_share)
        self.branches = nn.ModuleDict({f"branch{b}": last_stage_copy(backbone) for b in range(1, branches)})
        self.gate = Gate(backbone.stage_shapes[-2][0], branches)
        self.supervise(supervision, data, ("main", *self.branches, "fusion"))

    def prepare_step(self, batch: Batch, progress: Progress) -> None:
        self.ramp.update(progress, batch.images.device)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        logits = self._logits(self.backbone(batch.images))
        labels = self.label_losses(logits, batch)

        teacher_BK = logits["fusion"].detach()
        distillation = total(
            softened_kl(logits[head], teacher_BK, self.temperature) for head in ("main", *self.branches.keys())
        )
        loss = labels + self.ramp.value * distillation
        return StepOutput(loss, terms={"labels": labels, "distillation": distillation}, logits=logits)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        return self._logits(self.backbone(images))

    def _logits(self, features: Features) -> dict[str, Tensor]:
        shared_map = features.stages[-2]
        branches = {head: branch(shared_map).logits for head, branch in self.branches.items()}
        logits = {"main": features.logits, **branches}
        return {**logits, "fusion": self.gate(shared_map, list(logits.values()))}
