"""MobileNetV2 for small images, as in LOTH, with ReLU instead of ReLU6.

Shapes for a 32x32 image and width 32: stem 16@32 (it contains the first block, which does not expand), stages 24@32,
32@16, 96@8, 320@4, all linear. The classifier pools a map of 1280@4.
Source: Sandler et al. 2018, arXiv:1801.04381; the small-image form as in the release of LOTH.
"""

from __future__ import annotations

import functools

from timm.models._efficientnet_blocks import InvertedResidual
from torch import nn
from torchvision.ops import Conv2dNormActivation

from selfkd.backbones.initialization import FAN_OUT_SMALL_LINEAR
from selfkd.backbones.small_image import SmallImageNetwork, StagePlan, check_sizes, nearest_multiple

__all__ = ["MobileNetV2Cifar"]

_STEM_WIDTH = 32


class MobileNetV2Cifar(SmallImageNetwork):
    """Inverted residuals behind a 3x3 stem.

    Args:
        num_classes: K.
        width: channels of the stem's convolution; 32 in the paper. All other widths are scaled by the same factor and
            rounded, the inner ones of the blocks to a multiple of 8.
        in_channels: channels of the images.
    Raises: OptionError: if a size is below 1.
    """

    def __init__(self, num_classes: int, *, width: int = _STEM_WIDTH, in_channels: int = 3) -> None:
        check_sizes(num_classes, width, in_channels)
        scaled = functools.partial(_scaled, factor=width / _STEM_WIDTH)
        stem = nn.Sequential(
            Conv2dNormActivation(in_channels, width, 3),
            Conv2dNormActivation(width, width, 3, groups=width),
            Conv2dNormActivation(width, scaled(16), 1, activation_layer=None),
        )
        super().__init__(
            num_classes,
            stem={"stem": stem},
            stem_channels=scaled(16),
            stages=[
                StagePlan(_inverted_residual, channels=[scaled(24)] * 2, stride=1),
                StagePlan(_inverted_residual, channels=[scaled(32)] * 3),
                StagePlan(_inverted_residual, channels=[scaled(64)] * 4 + [scaled(96)] * 3),
                StagePlan(_inverted_residual, channels=[scaled(160)] * 3 + [scaled(320)]),
            ],
            final=functools.partial(_final, scaled(320), scaled(1280)),
            num_features=scaled(1280),
            initialize=FAN_OUT_SMALL_LINEAR,
        )


def _scaled(channels: int, factor: float) -> int:
    return nearest_multiple(factor * channels)


def _final(in_channels: int, out_channels: int, width_factor: float) -> nn.Module:
    wide = functools.partial(_scaled, factor=width_factor)
    return nn.Sequential(nn.ReLU(), Conv2dNormActivation(wide(in_channels), wide(out_channels), 1))


def _inverted_residual(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return InvertedResidual(in_channels, out_channels, stride=stride, exp_ratio=6, act_layer=nn.ReLU)
