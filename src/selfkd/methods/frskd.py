"""FRSKD: a self-teacher refines the maps of the network, and teaches it with its prediction and its attention.

Ji, Shin, Hwang, Park, Moon: Refine Myself by Teaching Myself: Feature Refinement via Self-Knowledge Distillation,
CVPR 2021.
"""

from __future__ import annotations

from torch import Tensor

from selfkd.backbones.staged import Staged
from selfkd.branches.self_teacher import SelfTeacher
from selfkd.contract import Batch, DatasetInfo, Features, Needs, Progress, StepOutput
from selfkd.losses import attention_distance, softened_kl, total
from selfkd.methods.base import Method
from selfkd.option_checks import LARGEST_SIZE, LARGEST_TEMPERATURE, at_least, non_negative, positive
from selfkd.supervision.base import Supervision

__all__ = ["FRSKD"]

_LARGEST_DEPTH = 64


class FRSKD(Method):
    """`L = CE(z, y) + CE(z_t, y) + distillation_weight * L_kd + attention_weight * L_att`.

    `L_kd = KL_T(sg(z_t) || z)`: the network learns from the self-teacher's softened prediction; `sg` stops the
    gradient. `L_att` is the sum, over four levels, of the distance between the attention of the network's map and that
    of the self-teacher's refined map, which gets no gradient. The self-teacher learns from the labels alone. The
    network's maps enter it with their gradient, so `CE(z_t, y)` also trains the network.

    Args:
        backbone: the staged network that will be deployed; its maps must halve or keep their size from stage to stage.
        data: facts about the training set.
        width_factor: the channels of each level of the self-teacher divided by those of the network's map, >= 1; 2 on
            CIFAR-100, 1 in Self-KD-Lib's ImageNet setting.
        depth: number of depthwise separable convolutions after each fusion, from 1 to 64; 2 on CIFAR-100, 1 in
            Self-KD-Lib's ImageNet setting.
        distillation_weight: weight of the divergence, the release's alpha, >= 0.
        attention_weight: weight of the distances between attention maps, the release's beta, >= 0.
        temperature: temperature of the divergence, > 0.
        supervision: target of the network and of the self-teacher in the cross-entropies; the labels by default.
    Raises:
        OptionError: if an option is out of range.
        BackboneError: if a map is neither as large as the map before nor half its size.
    Source: the paper's released code: layers of the self-teacher, loss, detaching and defaults.
    """

    group = "structure"
    needs = Needs(stages="halving_or_equal")

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        width_factor: int = 2,
        depth: int = 2,
        distillation_weight: float = 2.0,
        attention_weight: float = 100.0,
        temperature: float = 4.0,
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data)
        channels = [shape[0] for shape in (*backbone.stage_shapes[:-1], backbone.final_shape)]
        at_least("width_factor", width_factor, 1, LARGEST_SIZE // max(channels))
        at_least("depth", depth, 1, _LARGEST_DEPTH)
        self.distillation_weight = non_negative("distillation_weight", distillation_weight)
        self.attention_weight = non_negative("attention_weight", attention_weight)
        self.temperature = positive("temperature", temperature, LARGEST_TEMPERATURE)
        self.self_teacher = SelfTeacher(channels, data.num_classes, width_factor, depth)
        backbone.initialize_branches(self.self_teacher)
        self.supervise(supervision, data, ("main", "fusion"))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        features = self.backbone(batch.images)
        network_maps = _maps(features)
        refined_maps, teacher_BK = self.self_teacher(network_maps)
        logits = {"main": features.logits, "fusion": teacher_BK}

        labels = self.label_losses(logits, batch)
        distillation = softened_kl(features.logits, teacher_BK.detach(), self.temperature)
        attention = total(
            attention_distance(network_map, refined.detach())
            for network_map, refined in zip(network_maps, refined_maps, strict=True)
        )
        loss = labels + self.distillation_weight * distillation + self.attention_weight * attention
        terms = {"labels": labels, "distillation": distillation, "attention": attention}
        return StepOutput(loss, terms=terms, logits=logits)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        features: Features = self.backbone(images)
        return {"main": features.logits, "fusion": self.self_teacher(_maps(features)).logits}


def _maps(features: Features) -> tuple[Tensor, ...]:
    """The maps that are refined: those of stages 1 to 3, and the one that the classifier pools."""
    return (*features.stages[:-1], features.final)
