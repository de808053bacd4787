"""ResNeXts for small images: as TESKD and DTSKD released them, and with the grouped convolutions of the name.

Shapes as in the ResNets of the same depth. `resnext18_cifar` and `resnext34_cifar` are the papers': twice the inner
width of a ResNet and no groups at all. The `_grouped` networks split the second convolution into 32 groups, so their
width must be a multiple of what 32 groups need. All draw convolutions from N(0, sqrt(2 / (k * k * output channels))).
Source: Xie et al. 2017, arXiv:1611.05431; the ungrouped form as in the release of TESKD.
"""

from __future__ import annotations

import functools

from timm.models.resnet import Bottleneck
from torch import nn
from torchvision.ops import Conv2dNormActivation

from selfkd.backbones.resnet_cifar import ResidualBlock, ResNetCifar

__all__ = [
    "resnext18_cifar",
    "resnext18_cifar_grouped",
    "resnext34_cifar",
    "resnext34_cifar_grouped",
    "resnext152_cifar_grouped",
]

_GROUPS = 32
_GROUP_WIDTH = 4
"""Inner channels of a bottleneck's group for 64 planes."""


def _double_width_block(
    in_channels: int, planes: int, stride: int, shortcut: nn.Module | None, *, groups: int = 1
) -> ResidualBlock:
    residual = nn.Sequential(
        Conv2dNormActivation(in_channels, 2 * planes, 3, stride),
        Conv2dNormActivation(2 * planes, planes, 3, groups=groups, activation_layer=None),
    )
    return ResidualBlock(residual, shortcut)


_grouped_block = functools.partial(_double_width_block, groups=_GROUPS)
_grouped_network = functools.partial(ResNetCifar, _grouped_block, width_multiple=_GROUPS, initialization="fan_out")
_grouped_bottleneck = functools.partial(Bottleneck, cardinality=_GROUPS, base_width=_GROUP_WIDTH)


def resnext18_cifar(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """The papers' ResNeXt-18, which has no grouped convolutions: 22,209,444 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and the first stage; the papers' is 64.
        in_channels: channels of the images.
    """
    return ResNetCifar(_double_width_block, (2, 2, 2, 2), num_classes, width, in_channels, initialization="fan_out")


def resnext34_cifar(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """The papers' ResNeXt-34, which has no grouped convolutions: 42,422,052 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and the first stage; the papers' is 64.
        in_channels: channels of the images.
    """
    return ResNetCifar(_double_width_block, (3, 4, 6, 3), num_classes, width, in_channels, initialization="fan_out")


def resnext18_cifar_grouped(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """ResNeXt-18 with 32 groups: 10,067,364 parameters at 100 classes. No paper's network.

    Args:
        num_classes: K.
        width: channels of the stem and the first stage, a multiple of 32.
        in_channels: channels of the images.
    """
    return _grouped_network((2, 2, 2, 2), num_classes, width, in_channels)


def resnext34_cifar_grouped(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """ResNeXt-34 with 32 groups: 20,494,884 parameters at 100 classes. No paper's network.

    Args:
        num_classes: K.
        width: channels of the stem and the first stage, a multiple of 32.
        in_channels: channels of the images.
    """
    return _grouped_network((3, 4, 6, 3), num_classes, width, in_channels)


def resnext152_cifar_grouped(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """ResNeXt-152 (32x4d) for small images: 58,099,620 parameters at 100 classes.

    A teacher for TESKD's two-stage comparison (its Table 3), whose text does not settle whether its own ResNeXt-152 was
    grouped.

    Args:
        num_classes: K.
        width: channels of the stem and a quarter of the first stage's, a multiple of 16.
        in_channels: channels of the images.
    """
    return ResNetCifar(
        _grouped_bottleneck,
        (3, 8, 36, 3),
        num_classes,
        width,
        in_channels,
        expansion=Bottleneck.expansion,
        width_multiple=64 // _GROUP_WIDTH,
        initialization="fan_out",
    )
