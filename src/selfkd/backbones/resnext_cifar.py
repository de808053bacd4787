"""ResNeXts for small images: as TESKD and DTSKD released them, and with the grouped convolutions of the name.

The shapes are those of the ResNets of the same depth. `resnext18_cifar` and `resnext34_cifar` are the papers': they
have twice the inner width of a ResNet and no groups at all. The `_grouped` networks split the second convolution of a
block into 32 groups, so their width must be a multiple of 32 (of 16 with bottlenecks). No paper uses ResNeXt-18 and -34
with groups. `resnext152_cifar_grouped` (32x4d) is a teacher for TESKD's two-stage comparison (its Table 3), whose text
does not say whether its own ResNeXt-152 was grouped. All draw convolutions from N(0, sqrt(2 / (k * k * output
channels))).
Source: Xie et al. 2017, arXiv:1611.05431; the ungrouped form as in the release of TESKD.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

from timm.models.resnet import Bottleneck
from torch import nn
from torchvision.ops import Conv2dNormActivation

from selfkd.backbones.initialization import FAN_OUT
from selfkd.backbones.resnet_cifar import ResidualBlock, ResNetCifar

__all__ = ["resnext_cifar"]

_GROUPS = 32
_GROUP_WIDTH = 4
"""Inner channels of a bottleneck's group for 64 planes."""


def resnext_cifar(
    form: Literal["ungrouped", "grouped", "bottleneck"],
    layers: Sequence[int],
    num_classes: int,
    *,
    width: int = 64,
    in_channels: int = 3,
) -> ResNetCifar:
    """A ResNeXt for small images.

    Args:
        form: which residual block the stages are built of; "grouped" and "bottleneck" have 32 groups.
        layers: blocks in each of the four stages.
        num_classes: K.
        width: channels of the stem; 64 in the papers. The first stage has as many, in ResNeXt-152 four times as many.
            With groups the width must be a multiple of 32, in ResNeXt-152 of 16.
        in_channels: channels of the images.
    Raises: OptionError: if a size is below 1, or `width` is no multiple of what the groups need.
    """
    return _FORMS[form](layers, num_classes, width, in_channels, initialize=FAN_OUT)


def _double_width_block(
    in_channels: int, planes: int, stride: int, shortcut: nn.Module | None, *, groups: int = 1
) -> ResidualBlock:
    residual = nn.Sequential(
        Conv2dNormActivation(in_channels, 2 * planes, 3, stride),
        Conv2dNormActivation(2 * planes, planes, 3, groups=groups, activation_layer=None),
    )
    return ResidualBlock(residual, shortcut)


_FORMS = {
    "ungrouped": functools.partial(ResNetCifar, _double_width_block),
    "grouped": functools.partial(
        ResNetCifar, functools.partial(_double_width_block, groups=_GROUPS), width_multiple=_GROUPS
    ),
    "bottleneck": functools.partial(
        ResNetCifar,
        functools.partial(Bottleneck, cardinality=_GROUPS, base_width=_GROUP_WIDTH),
        expansion=Bottleneck.expansion,
        width_multiple=64 // _GROUP_WIDTH,
    ),
}
