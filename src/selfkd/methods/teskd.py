"""TESKD: students on the network's own stages learn from it, and their gradients improve it.

Li, Li, Yang, Yang, Pan: Student Helping Teacher: Teacher Evolution via Self-Knowledge Distillation, 2021.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from selfkd.backbones.staged import NUM_STAGES, Staged
from selfkd.branches.top_down_students import TopDownStudents
from selfkd.contract import Batch, DatasetInfo, Features, Needs, Progress, StepOutput
from selfkd.losses import masked_squared_distance, softened_kl, total
from selfkd.methods.base import Method
from selfkd.option_checks import (
    LARGEST_SIZE,
    LARGEST_TEMPERATURE,
    at_least,
    either,
    non_negative,
    one_positive,
    positive,
    subset_of,
)
from selfkd.supervision.base import Supervision

__all__ = ["TESKD"]


class TESKD(Method):
    """`L = label_weight * L_ce + distillation_weight * L_kl + feature_weight * L_fea`.

    The network to deploy is the teacher. `L_ce`: every head, the teacher's too, learns from the label. `L_kl`: every
    student learns from the teacher's softened prediction; the gradient flows through this prediction, too, as in the
    release. `L_fea`: every student's pooled feature becomes like the teacher's, which gets no gradient.

    Args:
        backbone: the staged network that will be deployed; each stage half the size of the one before.
        data: facts about the training set.
        label_weight: weight of the cross-entropies, the paper's alpha_1: 0.2 on CIFAR, 0.8 on ImageNet.
        distillation_weight: weight of the divergences, the paper's alpha_2 = 1 - alpha_1; with feature_weight 0 and
            label_weight 1, weight 0 is the paper's "without knowledge distillation" (Table 4).
        feature_weight: weight of the feature loss, the paper's beta; 0 is its "without F". The loss is a sum over
            batch and channels.
        temperature: temperature of the divergence, > 0; the release had 3 until October 2021, then 4.
        students: numbers of the students to build; 1 is the shallowest (Table 5). Levels below the shallowest student
            are not built.
        fusion: how a student fuses its top-down and its lateral map: "mixed" (the paper's), "add" (like FPN), "concat"
            (like UNet) or "none" (no lateral connection from the shallower stages): Table 4.
        top_lateral: whether the last stage's map passes through a lateral block before it is upsampled, as in the
            release; false with fusion "none" is the paper's "no connection" (Table 4).
        student_convolutions: number of convolutions of each student before its pooling: 2 (the release) or 1 (the
            paper's text).
        student_width: channels of the student maps; None for as many as the last stage has, the paper's rule. By this
            rule, networks with bottlenecks have hundreds of millions of parameters while they train.
        detach_teacher: whether to stop the gradient of the divergence into the teacher's classifier.
        epsilon: number added to all target probabilities of the divergence, as in the release.
        supervision: target of every head in `L_ce`; the labels by default.
    Raises:
        BackboneError: if not every stage is half the size of the stage before.
        OptionError: if an option is out of range.
    Source: sections 3.2 and 3.3; released code for the details named above.
    """

    group = "structure"
    needs = Needs(stages="halving")

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        label_weight: float = 0.2,
        distillation_weight: float = 0.8,
        feature_weight: float = 1e-7,
        temperature: float = 4.0,
        students: tuple[int, ...] = (1, 2, 3),
        fusion: Literal["mixed", "add", "concat", "none"] = "mixed",
        top_lateral: bool = True,
        student_convolutions: Literal[1, 2] = 2,
        student_width: int | None = None,
        detach_teacher: bool = False,
        epsilon: float = 1e-7,
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data)
        self.label_weight = non_negative("label_weight", label_weight)
        self.distillation_weight = non_negative("distillation_weight", distillation_weight)
        self.feature_weight = non_negative("feature_weight", feature_weight)
        one_positive(label_weight=label_weight, distillation_weight=distillation_weight, feature_weight=feature_weight)
        self.temperature = positive("temperature", temperature, LARGEST_TEMPERATURE)
        self.detach_teacher = detach_teacher
        self.epsilon = non_negative("epsilon", epsilon, maximum=1)
        either("student_convolutions", student_convolutions, 1, 2)
        numbers = subset_of("students", students, range(1, NUM_STAGES))
        width = backbone.stage_shapes[-1][0]
        if student_width is not None:
            width = at_least("student_width", student_width, 1, LARGEST_SIZE)
        self.students = TopDownStudents(
            backbone.stage_shapes,
            width,
            backbone.num_features,
            data.num_classes,
            numbers,
            fusion,
            student_convolutions,
            top_lateral,
        )
        backbone.initialize_branches(self.students)
        self.supervise(supervision, data, ("main", *(f"branch{number}" for number in numbers)))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        features = self.backbone(batch.images)
        pooled, students = self.students(features.stages)
        logits = {"main": features.logits, **students}
        teacher_BK = features.logits.detach() if self.detach_teacher else features.logits
        teacher_BD = features.pooled.detach()
        label = self.label_losses(logits, batch)
        distillation = total(softened_kl(z, teacher_BK, self.temperature, self.epsilon) for z in students.values())
        feature = total(masked_squared_distance(each, teacher_BD) for each in pooled.values())
        loss = self.label_weight * label + self.distillation_weight * distillation + self.feature_weight * feature
        return StepOutput(
            loss,
            terms={"label": label, "distillation": distillation, "feature": feature},
            logits=logits,
        )

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        features: Features = self.backbone(images)
        return {"main": features.logits, **self.students(features.stages)[1]}
