"""ShuffleNetV2 1x for small images: one network, whose stages DTSKD and LOTH choose differently.

Shapes for a 32x32 image and width 24: stem 24@32, units 116@16, 232@8, 464@4, then a 1x1 convolution to 1024@4, which
the classifier pools. `shufflenetv2_cifar` is DTSKD's: that convolution is the fourth stage, the stem has no ReLU, and
the initialisation is PyTorch's. `shufflenetv2_cifar_loth` is LOTH's: the stem is the first stage and has a ReLU, and
convolutions start from N(0, sqrt(2 / (k * k * output channels))). All convolutions have biases.
Source: Ma et al. 2018, arXiv:1807.11164; the small-image forms as in the releases of DTSKD and LOTH.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.shufflenetv2 import channel_shuffle
from torchvision.ops import Conv2dNormActivation

from selfkd.backbones.initialization import FAN_OUT
from selfkd.backbones.small_image import SmallImageNetwork, StagePlan, check_sizes, nearest_multiple

__all__ = ["ShuffleNetV2Cifar", "SplitShuffleUnit"]

_STEM_WIDTH = 24


class ShuffleNetV2Cifar(SmallImageNetwork):
    """Split-and-shuffle units behind a 3x3 stem, in the form of DTSKD or in that of LOTH.

    Args:
        form: "dtskd" or "loth".
        num_classes: K.
        width: channels of the stem; 24 in the papers. All other widths are scaled by the same factor and rounded,
            those of the units to even numbers.
        in_channels: channels of the images.
    Raises: OptionError: if a size is below 1.
    """

    def __init__(
        self, form: Literal["dtskd", "loth"], num_classes: int, *, width: int = _STEM_WIDTH, in_channels: int = 3
    ) -> None:
        check_sizes(num_classes, width, in_channels)
        factor = width / _STEM_WIDTH
        units = [
            StagePlan(SplitShuffleUnit, channels=[nearest_multiple(factor * channels, 2)] * depth, channel_multiple=2)
            for channels, depth in ((116, 4), (232, 8), (464, 4))
        ]
        num_features = nearest_multiple(factor * 1024)
        if form == "loth":
            super().__init__(
                num_classes,
                stem={},
                stem_channels=in_channels,
                stages=[StagePlan(_stem, channels=[width], stride=1), *units],
                final=functools.partial(_final, units[-1].channels[-1], num_features),
                num_features=num_features,
                initialize=FAN_OUT,
            )
        else:
            super().__init__(
                num_classes,
                stem={"stem": _stem(in_channels, width, stride=1, activation=None)},
                stem_channels=width,
                stages=[*units, StagePlan(_pointwise_convolution, channels=[num_features], stride=1)],
            )


class SplitShuffleUnit(nn.Module):
    """One half of the channels stays, the other goes through 1x1, depthwise 3x3, 1x1; then both are shuffled.

    With stride 2 both paths get all channels, and the first has a depthwise 3x3 and a 1x1 of its own.

    Args:
        in_channels: even with stride 1.
        out_channels: even; equal to `in_channels` with stride 1.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.splits = stride == 1
        if self.splits:
            self.shortcut: nn.Module = nn.Identity()
            inner_channels = half
        else:
            self.shortcut = nn.Sequential(
                _depthwise_convolution(in_channels, stride), _pointwise_convolution(in_channels, half, stride=1)
            )
            inner_channels = in_channels
        self.residual = nn.Sequential(
            _pointwise_convolution(inner_channels, inner_channels, stride=1),
            _depthwise_convolution(inner_channels, stride),
            _pointwise_convolution(inner_channels, half, stride=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """A map `[B, out_channels, H / stride, W / stride]`."""
        kept, changed = x.chunk(2, dim=1) if self.splits else (x, x)
        joined: Tensor = channel_shuffle(torch.cat((self.shortcut(kept), self.residual(changed)), dim=1), 2)
        return joined


def _stem(
    in_channels: int, out_channels: int, stride: int, activation: type[nn.Module] | None = nn.ReLU
) -> Conv2dNormActivation:
    return Conv2dNormActivation(in_channels, out_channels, 3, stride, activation_layer=activation, bias=True)


def _final(in_channels: int, out_channels: int, width_factor: float) -> Conv2dNormActivation:
    wide_input = nearest_multiple(width_factor * in_channels, 2)  # as many as the wide last stage has
    return _pointwise_convolution(wide_input, nearest_multiple(width_factor * out_channels), stride=1)


def _pointwise_convolution(in_channels: int, out_channels: int, stride: int) -> Conv2dNormActivation:
    return Conv2dNormActivation(in_channels, out_channels, 1, stride, bias=True)


def _depthwise_convolution(channels: int, stride: int) -> Conv2dNormActivation:
    return Conv2dNormActivation(channels, channels, 3, stride, groups=channels, activation_layer=None, bias=True)
