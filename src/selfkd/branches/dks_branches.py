"""The two branches of DKS and DCM, built from the network's own blocks: classifiers on stages 2 and 3."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from selfkd.backbones.staged import NUM_STAGES, Staged
from selfkd.branches.stage_copies import stage_copies
from selfkd.option_checks import positive

__all__ = ["DKSBranches"]

_LAST = NUM_STAGES - 1
_LARGEST_WIDTH_FACTOR = 8  # with it, the branch of a ResNet-18 has 463 million weights


class DKSBranches(nn.Module):
    """Two classifiers on stage maps, made of fresh copies of the stages that follow.

    `branch1` starts on the map of stage 2: a copy of stage 3, then a copy of stage 4 with half its blocks, rounded
    down, but at least one. `branch2` starts on the map of stage 3: a copy of stage 4, `last_width_factor` times as
    wide. Both end with global average pooling and one linear layer.

    Args:
        backbone: the network.
        last_width_factor: multiplies the channels of `branch2`, in (0, 8].
    Raises:
        OptionError: if `last_width_factor` is out of range.
        BackboneError: if the network's family cannot build new stages; the message names the networks that can.
    Source: Sun et al. 2019 (DKS), and the rule by which its release builds the branches of WRN and MobileNet. Tests
        compare the published multiply-adds.
    """

    def __init__(self, backbone: Staged, last_width_factor: float) -> None:
        super().__init__()
        positive("last_width_factor", last_width_factor, _LARGEST_WIDTH_FACTOR)
        half_depth = max(1, backbone.stage_depth(_LAST) // 2)
        self.branch1 = stage_copies(backbone, first=_LAST - 1, last_depth=half_depth)
        self.branch2 = stage_copies(backbone, first=_LAST, last_width_factor=last_width_factor)

    def forward(self, stages: Sequence[Tensor]) -> dict[str, Tensor]:
        """Logits `[B, K]` of `branch1` and `branch2`.

        Args:
            stages: the network's four stage maps, `[B, C_i, H_i, W_i]`, shallow to deep.
        """
        _, second, third, _ = stages
        return {"branch1": self.branch1(second).logits, "branch2": self.branch2(third).logits}
