"""KD: a trained network's softened predictions teach a smaller one.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531.
"""

from __future__ import annotations

from selfkd.backbones.staged import Staged
from selfkd.contract import Batch, DatasetInfo, Needs, Progress, StepOutput
from selfkd.losses import softened_kl
from selfkd.methods.base import Method
from selfkd.option_checks import LARGEST_TEMPERATURE, non_negative, one_positive, positive
from selfkd.supervision.base import Supervision
from selfkd.teachers.teacher import Teacher

__all__ = ["KD"]


class KD(Method):
    """`L = label_weight * CE(z, y) + distillation_weight * T^2 * KL(softmax(z_t / T) || softmax(z / T))`.

    `z` are the logits of the network, `z_t` those of the teacher for the same augmented images.

    Args:
        backbone: the staged network that will be deployed.
        data: facts about the training set.
        teacher: the trained network.
        label_weight: weight of the cross-entropy with the labels.
        distillation_weight: weight of the divergence from the teacher.
        temperature: temperature of both predictions, > 0; on ImageNet 1, with both weights 0.5.
        supervision: target of the network in the cross-entropy; the labels by default.
    Raises: OptionError: if an option is out of range.
    Source: section 2; weights and temperature from RepDistiller, those for ImageNet from mdistiller.
    """

    group = "teacher"
    needs = Needs(teacher=True)

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        teacher: Teacher,
        label_weight: float = 0.1,
        distillation_weight: float = 0.9,
        temperature: float = 4.0,
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data, teacher=teacher)
        self.label_weight = non_negative("label_weight", label_weight)
        self.distillation_weight = non_negative("distillation_weight", distillation_weight)
        one_positive(label_weight=label_weight, distillation_weight=distillation_weight)
        self.temperature = positive("temperature", temperature, LARGEST_TEMPERATURE)
        self.supervise(supervision, data, ("main",))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        logits_BK = self.backbone(batch.images).logits
        teacher_BK = self.teacher(batch.images).logits
        labels = self.label_loss("main", logits_BK, batch)
        distillation = softened_kl(logits_BK, teacher_BK, self.temperature)
        loss = self.label_weight * labels + self.distillation_weight * distillation
        return StepOutput(loss, terms={"labels": labels, "distillation": distillation}, logits={"main": logits_BK})
