"""TESKD's students in the literal order of paper and release: what `selfkd.branches.TopDownStudents` is measured with.

Upsampling before its 1x1 convolution, sum and concatenation held in memory, strided convolutions as convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, relu

from selfkd.branches.patch_conv import PatchConv2d
from selfkd.branches.top_down_students import ConcatMapFusion, MixedMapFusion, TopDownStudents

__all__ = ["literal"]


class _Upsampling(nn.Module):
    def __init__(self, fast: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = fast.conv, fast.norm

    def forward(self, deeper: Tensor, size: tuple[int, int]) -> Tensor:
        return relu(self.norm(self.conv(interpolate(deeper, size=size, mode="bilinear", align_corners=True))))


class _Mixed(nn.Module):
    def __init__(self, fast: MixedMapFusion) -> None:
        super().__init__()
        self.reduce, self.norm = fast.reduce, fast.norm

    def forward(self, top_down: Tensor, lateral: Tensor) -> Tensor:
        return relu(self.norm(self.reduce(torch.cat([top_down + lateral, top_down], dim=1))))


class _Concat(_Mixed):
    def forward(self, top_down: Tensor, lateral: Tensor) -> Tensor:
        return relu(self.norm(self.reduce(torch.cat([lateral, top_down], dim=1))))


class _Strided(nn.Module):
    def __init__(self, fast: PatchConv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.stride = fast.weight, fast.bias, fast.stride

    def forward(self, maps: Tensor) -> Tensor:
        return conv2d(maps, self.weight, self.bias, stride=self.stride)


def literal(students: TopDownStudents) -> TopDownStudents:
    """Rebuild students in place around the same layers, in the literal order; returns them."""
    for level in students.levels.values():
        level.upsampling = _Upsampling(level.upsampling)
        if isinstance(level.fusion, MixedMapFusion):
            level.fusion = _Mixed(level.fusion)
        elif isinstance(level.fusion, ConcatMapFusion):
            level.fusion = _Concat(level.fusion)
    for student in students.students.values():
        student.convolutions[0][0] = _Strided(student.convolutions[0][0])
    return students
