"""ShuffleNetV1 with three groups for small images, as in LOTH.

Shapes for a 32x32 image and width 24: stages 24@32 (the stem), 240@16, 480@8, 960@4. All convolutions have biases, and
the first unit is grouped like the others. Convolutions start from N(0, sqrt(2 / (k * k * output channels))).
Source: Zhang et al. 2018, arXiv:1707.01083; the small-image form as in the release of LOTH.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.shufflenetv2 import channel_shuffle
from torchvision.ops import Conv2dNormActivation

from selfkd.backbones.initialization import FAN_OUT
from selfkd.backbones.small_image import SmallImageNetwork, StagePlan, check_sizes
from selfkd.errors import OptionError

__all__ = ["GroupedShuffleUnit", "ShuffleNetV1Cifar"]

_GROUPS = 3
_BOTTLENECK = 4
"""Output channels of a unit for each of its inner channels."""


class ShuffleNetV1Cifar(SmallImageNetwork):
    """Shuffle units behind a 3x3 stem, which is the first stage.

    Args:
        num_classes: K.
        width: channels of the stem, a multiple of 6; 24 in the paper. The other stages have 10, 20 and 40 times as
            many.
        in_channels: channels of the images.
    Raises: OptionError: if a size is below 1 or `width` is no multiple of 6.
    """

    def __init__(self, num_classes: int, *, width: int = 24, in_channels: int = 3) -> None:
        check_sizes(num_classes, width, in_channels, width_multiple=6)
        channel_multiple = _GROUPS * _BOTTLENECK
        super().__init__(
            num_classes,
            stem={},
            stem_channels=in_channels,
            stages=[
                StagePlan(_stem, channels=[width], stride=1),
                StagePlan(GroupedShuffleUnit, channels=[10 * width] * 4, channel_multiple=channel_multiple),
                StagePlan(GroupedShuffleUnit, channels=[20 * width] * 8, channel_multiple=channel_multiple),
                StagePlan(GroupedShuffleUnit, channels=[40 * width] * 4, channel_multiple=channel_multiple),
            ],
            initialize=FAN_OUT,
        )


class GroupedShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1. Stride 1 adds the input; stride 2 concatenates its average.

    Args:
        in_channels: a multiple of 3.
        out_channels: a multiple of 12; equal to `in_channels` with stride 1, above it with stride 2.
        stride: 1 or 2.
    Raises: OptionError: if `out_channels` leaves no channels beside the input's.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.keeps_input = stride > 1
        own_channels = out_channels - in_channels if self.keeps_input else out_channels
        if own_channels <= 0:
            raise OptionError(
                "out_channels", out_channels, f"above {in_channels}: a strided unit of ShuffleNetV1 keeps its input"
            )
        inner_channels = out_channels // _BOTTLENECK
        self.reduce = Conv2dNormActivation(in_channels, inner_channels, 1, groups=_GROUPS, bias=True)
        self.depthwise = Conv2dNormActivation(
            inner_channels, inner_channels, 3, stride, groups=inner_channels, activation_layer=None, bias=True
        )
        self.expand = Conv2dNormActivation(
            inner_channels, own_channels, 1, groups=_GROUPS, activation_layer=None, bias=True
        )
        self.shortcut = nn.AvgPool2d(3, stride, padding=1) if self.keeps_input else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """A map `[B, out_channels, H / stride, W / stride]`."""
        own = self.expand(self.depthwise(channel_shuffle(self.reduce(x), _GROUPS)))
        shortcut = self.shortcut(x)
        joined = torch.cat((shortcut, own), dim=1) if self.keeps_input else shortcut + own
        return functional.relu(joined, inplace=True)


def _stem(in_channels: int, out_channels: int, stride: int) -> Conv2dNormActivation:
    return Conv2dNormActivation(in_channels, out_channels, 3, stride, bias=True)
