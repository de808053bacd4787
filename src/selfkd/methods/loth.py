"""LOTH: the exits of a network teach a virtual teacher that is fused from their maps, and learn from it.

Wang, Hao, Wu, Bai: Live on the Hump: Self Knowledge Distillation via Virtual Teacher-Students Mutual Learning (poster).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from selfkd.backbones.staged import NUM_STAGES, Staged
from selfkd.branches.exit_chains import BLOCKS, exit_chains
from selfkd.branches.exit_fusion import ExitFusion
from selfkd.branches.exits import EXITS, StageExits
from selfkd.contract import Batch, DatasetInfo, Features, Needs, Progress, StepOutput
from selfkd.errors import OptionError
from selfkd.losses import full_precision, softened_kl, total
from selfkd.methods.base import Method
from selfkd.methods.exit_weights import distillation_weights
from selfkd.option_checks import LARGEST_SIZE, LARGEST_TEMPERATURE, at_least, non_negative, one_of, positive
from selfkd.supervision.base import Supervision

__all__ = ["LOTH"]


class LOTH(Method):
    """`L = L_ts + L_st`: the virtual teacher teaches the exits, their mean teaches the virtual teacher.

    `L_ts = sum_i (2 - alpha^(5-i)) CE(z_i, y) + alpha^(5-i) KL_T(sg(z') || z_i)` over exits i = 1 (shallowest) to 4
    (the backbone's own classifier); `L_st = CE(z', y) + KL_T(sg(mean of z_i) || z')`; `sg` stops the gradient. The
    fused maps are not detached: the virtual teacher's loss also trains chains and backbone, but no exit's classifier.

    Args:
        backbone: the staged network that will be deployed; its maps must halve or keep their size from stage to stage.
        data: facts about the training set.
        alpha: base of the teacher's weight in each exit, in (0, 2^(1/4) = 1.189]: the larger it is, the more the
            shallow exits learn from the teacher instead of the labels. 1 weighs all exits and both losses alike.
        temperature: temperature of both divergences, > 0.
        block: block of the exits' chains: "bn" (ResNets, VGGs), "gbn" (the small networks) or "dsc" (Fig. 4).
        fusion: the virtual teacher: "deca" (the release's latest), "deca_g2" and "deca_g1" (its earlier versions),
            "sum", "concat", "pooled_concat", "depthwise_concat" or "sample_attention".
        chain_channels: output channels of the first two blocks of exit 1's chain; exit 2's chain has the second. None
            takes the channels of stages 2 and 3, as the poster does except for MobileNetV2 (256, 512). All chains end
            with the channels of the backbone's last map.
        fusion_weight_decay: weight decay of the virtual teacher's parameters; all others have the optimiser's.
        epsilon: number added to all target probabilities of the divergences, as in the release.
        supervision: target of exits and virtual teacher in the cross-entropies; the labels by default.
    Raises:
        OptionError: if an option is out of range.
        BackboneError: if a map is neither as large as the map before nor half its size.
    Source: poster, the losses of both directions; released code for temperature, detaching and epsilon.
    """

    group = "structure"
    needs = Needs(stages="halving_or_equal")

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        alpha: float = 1.15,
        temperature: float = 3.0,
        block: Literal["bn", "gbn", "dsc"] = "bn",
        fusion: Literal[
            "deca", "deca_g2", "deca_g1", "sum", "concat", "pooled_concat", "depthwise_concat", "sample_attention"
        ] = "deca",
        chain_channels: tuple[int, int] | None = None,
        fusion_weight_decay: float = 1e-5,
        epsilon: float = 1e-7,
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data)
        self.teacher_weights = distillation_weights(alpha, last_exponent=1)
        self.temperature = positive("temperature", temperature, LARGEST_TEMPERATURE)
        self.fusion_weight_decay = non_negative("fusion_weight_decay", fusion_weight_decay)
        self.epsilon = non_negative("epsilon", epsilon, maximum=1)
        channels, height, width = backbone.final_shape
        inner_channels = None if chain_channels is None else _checked_channels(chain_channels)
        chains = exit_chains(backbone, BLOCKS[one_of("block", block, BLOCKS)], inner_channels)
        self.chains = StageExits(chains, channels, data.num_classes)
        backbone.initialize_branches(self.chains)
        self.fusion = ExitFusion(channels, (height, width), data.num_classes, fusion)
        self.supervise(supervision, data, (*EXITS, "fusion"))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        logits = self._logits(self.backbone(batch.images))
        virtual_BK = full_precision(logits["fusion"])
        exits = {head: full_precision(logits[head]) for head in EXITS}

        mean_BK = torch.stack(list(exits.values())).mean(dim=0).detach()
        to_teacher = self.label_loss("fusion", virtual_BK, batch) + self._divergence(virtual_BK, mean_BK)

        teacher_BK = virtual_BK.detach()
        to_students = total(
            (2 - self.teacher_weights[head]) * self.label_loss(head, exit_BK, batch)
            + self.teacher_weights[head] * self._divergence(exit_BK, teacher_BK)
            for head, exit_BK in exits.items()
        )
        return StepOutput(to_teacher + to_students, terms={"exits": to_students, "fusion": to_teacher}, logits=logits)

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        return self._logits(self.backbone(images))

    def exits(self) -> Mapping[str, nn.Module]:
        """The plain network as "main", and the networks that end at an exit, which share their tensors with the method.

        Raises: BackboneError: if the network cannot be cut after a stage; `deployed()` works nevertheless.
        """
        return self.chains.deployed(self.backbone)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [
            {"params": [*self.backbone.parameters(), *self.chains.parameters()]},
            {"params": list(self.fusion.parameters()), "weight_decay": self.fusion_weight_decay},
        ]

    def _logits(self, features: Features) -> dict[str, Tensor]:
        exits = self.chains(features.stages[:-1])
        fused_BK = self.fusion([*(each.feature for each in exits.values()), features.final])
        branches = {head: each.logits for head, each in exits.items()}
        return {"main": features.logits, **branches, "fusion": fused_BK}

    def _divergence(self, student_BK: Tensor, teacher_BK: Tensor) -> Tensor:
        return softened_kl(student_BK, teacher_BK, self.temperature, self.epsilon)


def _checked_channels(chain_channels: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(chain_channels, tuple | list) or len(chain_channels) != NUM_STAGES - 2:
        raise OptionError("chain_channels", chain_channels, "the output channels of exit 1's first two blocks, or None")
    return tuple(at_least("chain_channels", channels, 1, LARGEST_SIZE) for channels in chain_channels)
