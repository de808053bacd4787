"""DTSKD: two teachers at once, the network's own past and its own deepest classifier.

Li, Li, Yang, Song, Yang, Pan: Dual teachers for self-knowledge distillation, Pattern Recognition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

from selfkd.backbones.staged import NUM_STAGES, Staged
from selfkd.branches.exits import BRANCHES
from selfkd.branches.pooled_fusion import FUSIONS, LATERALS, DirectBranches, PooledFusionBranches
from selfkd.contract import Batch, DatasetInfo, Features, Progress, StepOutput
from selfkd.errors import OptionError
from selfkd.losses import kl_to_target, softened_kl, total
from selfkd.methods.base import Method
from selfkd.option_checks import (
    LARGEST_TEMPERATURE,
    either,
    non_negative,
    one_of,
    one_positive,
    positive,
    subset_of,
    unit_interval,
    weights,
)
from selfkd.supervision.decay import DECAYS, Decay
from selfkd.supervision.historical import PreviousPrediction

__all__ = ["DTSKD"]


class _HistoricalTeacher(PreviousPrediction):
    """The target of `L_his`, with beta from the options of `DTSKD`."""

    def __init__(self, decay: str, beta_max: float, beta_min: float, beta_offset: int) -> None:
        self._decay: Decay = DECAYS[one_of("decay", decay, DECAYS)]
        self._beta_max = unit_interval("beta_max", beta_max)
        self._beta_min = unit_interval("beta_min", beta_min)
        if beta_min > beta_max:
            raise OptionError("beta_min", beta_min, f"at most beta_max={beta_max}")
        self._beta_offset = either("beta_offset", beta_offset, 0, 1)

    def label_share(self, progress: Progress) -> float:
        return self._decay(progress, self._beta_max, self._beta_min, self._beta_offset)


class DTSKD(Method):
    """`L = historical_weight * L_his + structural_weight * L_stru`.

    `L_his`: every head learns, at temperature 1, from the label mixed with its own prediction of the last epoch.
    `L_stru`: every branch learns from the backbone's current softened prediction. The gradient flows through this
    prediction, too, as in the release. The branches normalise over the batch, so a training batch needs two samples.

    Args:
        backbone: the staged network that will be deployed.
        data: facts about the training set.
        historical_weight: weight of the historical loss, the paper's alpha_1; alpha_1 + alpha_2 = 1 in the paper
            (ResNet-18 0.2, VGG-16 0.6, ResNeXt-18 0.8, ImageNet 0.9).
        structural_weight: weight of the structural loss, the paper's alpha_2; 0 with historical_weight 1 is its
            "history only".
        head_weights: weights lambda of the heads' historical losses: main, branch1 (shallowest), branch2, branch3;
            on ImageNet the paper's first is 4.
        temperature: temperature of the structural loss, > 0.
        decay: how beta, the weight of the label, falls: "cosine" or "linear" from beta_max to beta_min; "fixed" is
            always beta_max (Table 9).
        beta_max: weight of the label at the start, in [0, 1] (Table 10).
        beta_min: weight of the label at the end, in [0, beta_max]; beta_max = beta_min = 1 switches the historical
            teacher off, the paper's "structure only".
        beta_offset: 0 counts epochs from 0 in the decay, as the release does; 1 counts from 1, as the paper does.
        fusion: how a branch fuses its top-down and its lateral feature: "mixed" (the paper's), "concat" or "add"
            (Table 8); "none" puts each branch directly on its stage, without a top-down path (Table 7).
        lateral: how a stage enters a branch: "pooled" pools it and then convolves; "convolved" convolves at full
            resolution, pools and convolves again, as the release does for ShuffleNetV2 (not with fusion "none").
        structural_branches: the branches that learn from the structural teacher, 1 is the shallowest; the others learn
            from their historical teacher alone (Table 7).
        detach_teacher: whether to stop the gradient of the structural loss into the backbone's classifier.
        epsilon: number added to all target probabilities, as in the release.
    Raises: OptionError: if an option is out of range.
    Source: sections 3.2 to 3.4; released code for the details named above.
    """

    group = "structure"
    refused: ClassVar[Mapping[str, str]] = {
        "supervision": "its heads have their own, the historical teacher (method.beta_max, method.decay, ...)"
    }

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        historical_weight: float = 0.2,
        structural_weight: float = 0.8,
        head_weights: tuple[float, ...] = (3.0, 1.0, 1.0, 1.0),
        temperature: float = 4.0,
        decay: Literal["cosine", "linear", "fixed"] = "cosine",
        beta_max: float = 0.9,
        beta_min: float = 0.0,
        beta_offset: Literal[0, 1] = 0,
        fusion: Literal["mixed", "concat", "add", "none"] = "mixed",
        lateral: Literal["pooled", "convolved"] = "pooled",
        structural_branches: tuple[int, ...] = (1, 2, 3),
        detach_teacher: bool = False,
        epsilon: float = 1e-7,
    ) -> None:
        super().__init__(backbone, data)
        heads = ("main", *BRANCHES)
        self.historical_teacher = _HistoricalTeacher(decay, beta_max, beta_min, beta_offset)
        self.historical_weight = non_negative("historical_weight", historical_weight)
        self.structural_weight = non_negative("structural_weight", structural_weight)
        one_positive(historical_weight=historical_weight, structural_weight=structural_weight)
        self.head_weights = dict(
            zip(heads, weights("head_weights", head_weights, len(heads), ", ".join(heads)), strict=True)
        )
        if not structural_weight and not any(head_weights):
            reason = "structural_weight is 0, too, so nothing would be learnt; set one of them above 0"
            raise OptionError("head_weights", head_weights, reason=reason)
        self.temperature = positive("temperature", temperature, LARGEST_TEMPERATURE)
        self.detach_teacher = detach_teacher
        self.epsilon = non_negative("epsilon", epsilon, maximum=1)
        channels = [shape[0] for shape in backbone.stage_shapes[:-1]]
        self.structural_branches = tuple(
            f"branch{i}" for i in subset_of("structural_branches", structural_branches, range(1, NUM_STAGES))
        )
        one_of("fusion", fusion, (*FUSIONS, "none"))
        self.branches: nn.Module
        if fusion != "none":
            self.branches = PooledFusionBranches(
                channels, backbone.num_features, data.num_classes, fusion, one_of("lateral", lateral, LATERALS)
            )
        elif lateral != "pooled":
            reason = "with fusion=none the branches have no lateral links; leave lateral out"
            raise OptionError("lateral", lateral, reason=reason)
        else:
            self.branches = DirectBranches(channels, backbone.num_features, data.num_classes)
        backbone.initialize_branches(self.branches)
        self.supervise(self.historical_teacher, data, heads)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        logits = self._logits(self.backbone(batch.images))
        historical = total(
            weight * kl_to_target(logits[head], self.historical_teacher.target(head, batch), self.epsilon)
            for head, weight in self.head_weights.items()
        )
        teacher_BK = logits["main"].detach() if self.detach_teacher else logits["main"]
        structural = total(
            softened_kl(logits[branch], teacher_BK, self.temperature, self.epsilon)
            for branch in self.structural_branches
        )
        loss = self.historical_weight * historical + self.structural_weight * structural
        return StepOutput(loss, terms={"historical": historical, "structural": structural}, logits=logits)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        return self._logits(self.backbone(images))

    def _logits(self, features: Features) -> dict[str, Tensor]:
        return {"main": features.logits, **self.branches(features.stages[:-1], features.pooled)}
