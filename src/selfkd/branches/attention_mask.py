"""The attention of an exit (ECSD): a map that scales its own values by weights between 0 and 1."""

from __future__ import annotations

from torch import Tensor, nn

from selfkd.branches.upsampling import upsampled

__all__ = ["AttentionMask"]


class AttentionMask(nn.Module):
    """`f * sigmoid(upsampled(halve(f)))`.

    The upsampling is bilinear, without aligned corners, to the size of f.

    Args:
        halve: from the map `[B, C, H, W]` to `[B, C, H/2, W/2]`, rounded up.
    Source: Zhang, Bao, Ma 2021 (ECSD), released code.
    """

    def __init__(self, halve: nn.Module) -> None:
        super().__init__()
        self.halve = halve

    def forward(self, stage_map: Tensor) -> Tensor:
        """`[B, C, H, W]` to the same."""
        height, width = stage_map.shape[2:]
        weights = upsampled(self.halve(stage_map), height, width, align_corners=False).sigmoid()
        return stage_map * weights
