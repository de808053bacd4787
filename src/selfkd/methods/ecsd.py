"""ECSD: light exits behind attention masks learn from the labels, the deepest classifier and its feature.

Zhang, Bao, Ma: Self-Distillation: Towards Efficient and Compact Neural Networks, IEEE Transactions on Pattern Analysis
and Machine Intelligence 44(8), 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from selfkd.backbones.staged import Staged
from selfkd.branches.attention_mask import AttentionMask
from selfkd.branches.exit_chains import Block, depthwise_separable, exit_chains
from selfkd.branches.exits import BRANCHES, EXITS
from selfkd.branches.separable import normalised_separable_pair, separable_pair
from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.losses import euclidean_distance, full_precision, soft_cross_entropy, total
from selfkd.methods.exit_method import ExitMethod
from selfkd.option_checks import LARGEST_TEMPERATURE, non_negative, one_of, positive, unit_interval
from selfkd.supervision.base import Supervision

__all__ = ["ECSD"]


def halving_depthwise_separable(channels: int) -> nn.Module:
    """`depthwise_separable` with stride 2, which keeps the channels."""
    return depthwise_separable(channels, channels, 2)


class _ExitForm(NamedTuple):
    """What halves a map of C channels in the mask, and the blocks of the chains."""

    halve: Callable[[int], nn.Module]
    block: Block


EXIT_FORMS: Mapping[str, _ExitForm] = {
    "official": _ExitForm(normalised_separable_pair, separable_pair),
    "loth": _ExitForm(halving_depthwise_separable, depthwise_separable),
}
"""Forms of the exits by name."""


def deepest(logits: Mapping[str, Tensor]) -> Tensor:
    """The network's own logits."""
    return logits["main"]


def mean_of_exits(logits: Mapping[str, Tensor]) -> Tensor:
    """The mean of the logits of the network and all exits."""
    return torch.stack([logits[head] for head in EXITS]).mean(dim=0)


TARGETS: Mapping[str, Callable[[Mapping[str, Tensor]], Tensor]] = {"deepest": deepest, "mean": mean_of_exits}
"""The logits that teach the exits, from those of all heads, by name."""
_COMPARED = BRANCHES[:-1]
"""The exits whose feature learns; the deepest exit has no such term."""


class ECSD(ExitMethod):
    """`L = L_label + distillation_weight L_distillation + feature_weight L_feature`.

    Over exits i = 1 (shallowest) to 3 and the network itself, i = 4:
    `L_label = CE(z_4, y) + (1 - distillation_weight) sum_{i<4} CE(z_i, y)`,
    `L_distillation = sum_{i<4} H(softmax(sg(z_4) / T), softmax(z_i / T))`, the cross-entropy without a factor T^2, and
    `L_feature = sum_{i<3} |A_i g_i - sg(g_4)|`, where g are pooled features, A_i learnt linear layers, and the norm is
    the square root of the sum of squares over the whole batch, not its square. `sg` stops the gradient.

    Args:
        backbone: the staged network that will be deployed; its maps must halve or keep their size from stage to stage.
        data: facts about the training set.
        distillation_weight: weight of the distillation in each exit, in [0, 1]; the label has the rest.
        feature_weight: weight of the features' distances, >= 0, which grow with the square root of the batch: 0.03 is
            for batches of 128.
        temperature: temperature T of the distillation, > 0.
        exit_form: layers of the masks and the exits. "official": pairs of depthwise separable convolutions (the
            authors' code); "loth": single ones (LOTH's release, for its Table 4).
        target: logits that teach the exits. "deepest": the network's own (the authors' code); "mean": the mean of
            the network's and all exits' logits (our reading of LOTH's poster).
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
        distillation_weight: float = 0.3,
        feature_weight: float = 0.03,
        temperature: float = 3.0,
        exit_form: Literal["official", "loth"] = "official",
        target: Literal["deepest", "mean"] = "deepest",
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data)
        self.distillation_weight = unit_interval("distillation_weight", distillation_weight)
        self.feature_weight = non_negative("feature_weight", feature_weight)
        self.temperature = positive("temperature", temperature, LARGEST_TEMPERATURE)
        self.target = TARGETS[one_of("target", target, TARGETS)]
        form = EXIT_FORMS[one_of("exit_form", exit_form, EXIT_FORMS)]
        masked_chains = (
            nn.Sequential(AttentionMask(form.halve(channels)), chain)
            for (channels, _, _), chain in zip(
                backbone.stage_shapes[:-1], exit_chains(backbone, form.block), strict=True
            )
        )
        self.build_exits(masked_chains)
        backbone.initialize_branches(self.branches)
        widths = backbone.final_shape[0], backbone.num_features
        self.adapters = nn.ModuleDict({head: nn.Linear(*widths) for head in _COMPARED})
        self.supervise(supervision, data, EXITS)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        features, exits, logits = self.run_exits(batch.images)
        teacher_BK = (full_precision(self.target(logits)) / self.temperature).softmax(dim=1).detach()
        teacher_BD = features.pooled.detach()

        exit_labels = total(self.label_loss(head, each.logits, batch) for head, each in exits.items())
        labels = self.label_loss("main", logits["main"], batch) + (1 - self.distillation_weight) * exit_labels
        distillation = total(
            soft_cross_entropy(full_precision(each.logits) / self.temperature, teacher_BK) for each in exits.values()
        )
        feature = total(
            euclidean_distance(adapter(exits[head].feature.mean(dim=(2, 3))), teacher_BD)
            for head, adapter in self.adapters.items()
        )
        return StepOutput(
            labels + self.distillation_weight * distillation + self.feature_weight * feature,
            terms={"labels": labels, "distillation": distillation, "feature": feature},
            logits=logits,
        )
