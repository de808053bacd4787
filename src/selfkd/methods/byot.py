"""BYOT: exits on the shallow stages learn from the labels, the deepest classifier and its feature.

Zhang, Song, Gao, Chen, Bao, Ma: Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self
Distillation, ICCV 2019, arXiv:1905.08094.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from torch import Tensor, nn

from selfkd.backbones.initialization import FAN_OUT
from selfkd.backbones.staged import Staged
from selfkd.branches.exit_chains import bottleneck_step, narrow_step
from selfkd.branches.exits import EXITS, ExitOutput
from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.losses import masked_squared_distance, softened_kl, total
from selfkd.methods.exit_method import ExitMethod
from selfkd.option_checks import LARGEST_TEMPERATURE, non_negative, one_of, positive, unit_interval
from selfkd.supervision.base import Supervision

__all__ = ["BYOT"]

_Shape = tuple[int, int, int]


class _ExitForm(NamedTuple):
    """The layers of an exit, from its stage's shape and the last map's, and whether whole maps are compared."""

    chain: Callable[[_Shape, _Shape], nn.Module]
    compares_maps: bool


EXIT_FORMS: Mapping[str, _ExitForm] = {
    "narrow": _ExitForm(narrow_step, compares_maps=False),
    "loth": _ExitForm(bottleneck_step, compares_maps=True),
}
"""Forms of the exits by name."""


class BYOT(ExitMethod):
    """`L = (1 - alpha) L_label + alpha L_distillation + feature_weight L_feature`.

    `L_label = sum_{i<=4} CE(z_i, y)`, `L_distillation = sum_{i<4} T^2 KL_T(sg(z_4) || z_i)` and
    `L_feature = sum_{i<4} |g_i - sg(g_4)|^2`, over exits i = 1 (shallowest) to 3 and the network itself, i = 4; z are
    logits, g pooled features, `sg` stops the gradient. The squared distance is a sum over batch and channels.

    Args:
        backbone: the staged network that will be deployed; its maps must halve or keep their size from stage to stage.
        data: facts about the training set.
        alpha: weight of the distillation, in [0, 1); the cross-entropies, also the network's own, have 1 - alpha.
        temperature: temperature T of the distillation, > 0.
        feature_weight: weight of the features' distances, >= 0, which grow with the batch: 1e-6 is for batches of 128.
        exit_form: layers of the exits. "narrow": a quarter of the last channels, one convolution as large as its
            stride, and pooled features are compared. "loth": 3x3 with the same stride at full width, and maps are
            compared (LOTH's release, for its Table 4).
        supervision: target of the exits and of the network in the cross-entropies; the labels by default.
    Raises:
        OptionError: if an option is out of range.
        BackboneError: if a map is neither as large as the map before nor half its size.
    Source: public implementations, because the authors published no code. The exits' layers are those with which the
        multiply-adds of DTSKD's Table 2 come out.
    """

    def __init__(
        self,
        backbone: Staged,
        data: DatasetInfo,
        *,
        alpha: float = 0.1,
        temperature: float = 3.0,
        feature_weight: float = 1e-6,
        exit_form: Literal["narrow", "loth"] = "narrow",
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(backbone, data)
        self.alpha = unit_interval("alpha", alpha, with_one=False)  # with 1 no head would learn from labels
        self.temperature = positive("temperature", temperature, LARGEST_TEMPERATURE)
        self.feature_weight = non_negative("feature_weight", feature_weight)
        form = EXIT_FORMS[one_of("exit_form", exit_form, EXIT_FORMS)]
        self.compares_maps = form.compares_maps
        chains = (form.chain(shape, backbone.final_shape) for shape in backbone.stage_shapes[:-1])
        self.build_exits(chains)
        FAN_OUT(self.branches)
        self.supervise(supervision, data, EXITS)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        features, exits, logits = self.run_exits(batch.images)
        teacher_BK = features.logits.detach()
        teacher_feature = (features.final if self.compares_maps else features.pooled).detach()

        labels = self.label_losses(logits, batch)
        distillation = total(softened_kl(each.logits, teacher_BK, self.temperature) for each in exits.values())
        feature = total(masked_squared_distance(self._feature(each), teacher_feature) for each in exits.values())
        loss = (1 - self.alpha) * labels + self.alpha * distillation + self.feature_weight * feature
        return StepOutput(
            loss, terms={"labels": labels, "distillation": distillation, "feature": feature}, logits=logits
        )

    def _feature(self, exit_: ExitOutput) -> Tensor:
        return exit_.feature if self.compares_maps else exit_.feature.mean(dim=(2, 3))
