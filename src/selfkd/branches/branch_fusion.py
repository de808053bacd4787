"""The fusion of two branches: of their maps, and of their logits with weights from the fused map (AHBF)."""

from __future__ import annotations

import torch
from torch import nn

from selfkd.branches.exits import ExitOutput
from selfkd.branches.gates import Gate

__all__ = ["BranchFusion"]


class BranchFusion(nn.Module):
    """`E = BN(conv1x1(concat[X, Y]))`, without ReLU; the logits are `g_0 z_X + g_1 z_Y` with a gate `g` on E.

    Args:
        channels: C of both maps, and of the fused one.
    Source: Gong et al. 2023 (AHBF), its release, the fusion by convolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fuse = nn.Sequential(nn.Conv2d(2 * channels, channels, kernel_size=1), nn.BatchNorm2d(channels))
        self.gate = Gate(channels, 2)

    def forward(self, first: ExitOutput, second: ExitOutput) -> ExitOutput:
        """The fused map `[B, C, H, W]` and logits `[B, K]` of two branches, whose maps have one size."""
        fused = self.fuse(torch.cat([first.feature, second.feature], dim=1))
        return ExitOutput(fused, self.gate(fused, [first.logits, second.logits]))
