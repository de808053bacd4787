"""BEED: the target of every exit, and of the network, is an ensemble of them all that prefers the deeper ones.

Lee, Lee: Rethinking Online Knowledge Distillation with Multi-Exits, ACCV 2022.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from selfkd.backbones.initialization import FAN_OUT
from selfkd.backbones.staged import Staged
from selfkd.branches.exit_chains import bottleneck, exit_chains
from selfkd.branches.exits import EXITS
from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.losses import full_precision, mean_squared_distance, softened_kl, total
from selfkd.methods.exit_method import ExitMethod
from selfkd.methods.exit_weights import distillation_weights
from selfkd.option_checks import LARGEST_TEMPERATURE, non_negative, positive
from selfkd.supervision.base import Supervision

__all__ = ["BEED"]


class BEED(ExitMethod):
    """`L = sum_i (2 - a_i) CE(z_i, y) + a_i T^2 KL_T(sg(z_e) || z_i) + feature_weight MSE(F_i, sg(F_e))`.

    The sum runs over exits i = 1 (shallowest) to 4 (the network itself), with `a_i = alpha^(4-i)`. The ensemble has the
    logits `z_e = sum_i b_i z_i` and the map `F_e = sum_i b_i F_i`, where F_i is the map that exit i pools, and
    `b_i = beta^(i-1) / sum_j beta^(j-1)`; `sg` stops the gradient.

    Args:
        backbone: the staged network that will be deployed; its maps must halve or keep their size from stage to stage.
        data: facts about the training set.
        alpha: base of the weight a_i of the distillation, in (0, 2^(1/3) = 1.260]: the larger it is, the more the
            shallow exits learn from the ensemble instead of the labels. 1 weighs both alike in all exits.
        beta: base of the exits' weights in the ensemble, > 0; above 1 the deeper exits weigh more, 1 weighs all alike.
        temperature: temperature T of the distillation, > 0.
        feature_weight: weight of the mean squared distances of the maps, >= 0.
        supervision: target of the exits and of the network in the cross-entropies; the labels by default.
    Raises:
        OptionError: if an option is out of range.
        BackboneError: if a map is neither as large as the map before nor half its size.
    Source: released code.
    """

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        alpha: float = 1.15,
        beta: float = 1.6,
        temperature: float = 3.0,
        feature_weight: float = 0.1,
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data)
        self.distillation_weights = distillation_weights(alpha, last_exponent=0)
        powers = {head: positive("beta", beta) ** i for i, head in enumerate(EXITS)}
        self.ensemble_weights = {head: power / sum(powers.values()) for head, power in powers.items()}
        self.temperature = positive("temperature", temperature, LARGEST_TEMPERATURE)
        self.feature_weight = non_negative("feature_weight", feature_weight)
        self.build_exits(exit_chains(backbone, bottleneck))
        FAN_OUT(self.branches)
        self.supervise(supervision, data, EXITS)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        features, exits, logits = self.run_exits(batch.images)
        maps = {**{head: each.feature for head, each in exits.items()}, "main": features.final}
        with torch.no_grad():
            teacher_BK, teacher_map = self._ensemble(logits), self._ensemble(maps)

        weights = self.distillation_weights
        labels = total((2 - weights[head]) * self.label_loss(head, logits[head], batch) for head in EXITS)
        distillation = total(weights[head] * softened_kl(logits[head], teacher_BK, self.temperature) for head in EXITS)
        feature = total(mean_squared_distance(maps[head], teacher_map) for head in EXITS)
        return StepOutput(
            labels + distillation + self.feature_weight * feature,
            terms={"labels": labels, "distillation": distillation, "feature": feature},
            logits=logits,
        )

    def _ensemble(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The weighted mean of all exits' logits, or of their maps."""
        return total(weight * full_precision(outputs[head]) for head, weight in self.ensemble_weights.items())
