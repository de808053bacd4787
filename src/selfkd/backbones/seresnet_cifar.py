"""SE-ResNets for small images: ResNets whose residuals are weighted channel by channel.

The shapes are those of ResNet-18 and -34. As in the releases of TESKD and DTSKD, all convolutions have biases, and a
ReLU ends a residual before it is weighted. The initialisation is PyTorch's.
Source: Hu et al. 2018, arXiv:1709.01507; the small-image form as in the release of TESKD.
"""

from __future__ import annotations

from collections.abc import Sequence

from timm.layers.squeeze_excite import SEModule
from torch import nn
from torchvision.ops import Conv2dNormActivation

from selfkd.backbones.resnet_cifar import ResidualBlock, ResNetCifar

__all__ = ["seresnet_cifar"]


def seresnet_cifar(layers: Sequence[int], num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """An SE-ResNet for small images.

    Args:
        layers: blocks in each of the four stages.
        num_classes: K.
        width: channels of the stem and the first stage; 64 in the papers.
        in_channels: channels of the images.
    Raises: OptionError: if a size is below 1.
    """
    return ResNetCifar(_squeeze_excitation_block, layers, num_classes, width, in_channels, bias=True)


def _squeeze_excitation_block(in_channels: int, planes: int, stride: int, shortcut: nn.Module | None) -> ResidualBlock:
    residual = nn.Sequential(
        Conv2dNormActivation(in_channels, planes, 3, stride, bias=True),
        Conv2dNormActivation(planes, planes, 3, bias=True),
        SEModule(planes, rd_ratio=1 / 16, rd_divisor=1),
    )
    return ResidualBlock(residual, shortcut)
