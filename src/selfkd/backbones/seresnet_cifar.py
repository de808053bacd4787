"""SE-ResNets for small images: ResNets whose residuals are weighted channel by channel.

Shapes as in ResNet-18 and -34. As in the releases of TESKD and DTSKD, all convolutions have biases and a residual ends
with a ReLU before it is weighted; initialisation is PyTorch's.
Source: Hu et al. 2018, arXiv:1709.01507; the small-image form as in the release of TESKD.
"""

from __future__ import annotations

from timm.layers.squeeze_excite import SEModule
from torch import nn
from torchvision.ops import Conv2dNormActivation

from selfkd.backbones.resnet_cifar import ResidualBlock, ResNetCifar

__all__ = ["seresnet18_cifar", "seresnet34_cifar"]


def _squeeze_excitation_block(in_channels: int, planes: int, stride: int, shortcut: nn.Module | None) -> ResidualBlock:
    residual = nn.Sequential(
        Conv2dNormActivation(in_channels, planes, 3, stride, bias=True),
        Conv2dNormActivation(planes, planes, 3, bias=True),
        SEModule(planes, rd_ratio=1 / 16, rd_divisor=1),
    )
    return ResidualBlock(residual, shortcut)


def seresnet18_cifar(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """SE-ResNet-18 for small images: 11,314,012 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and the first stage; the papers' is 64.
        in_channels: channels of the images.
    """
    return ResNetCifar(_squeeze_excitation_block, (2, 2, 2, 2), num_classes, width, in_channels, bias=True)


def seresnet34_cifar(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """SE-ResNet-34 for small images: 21,498,000 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and the first stage; the papers' is 64.
        in_channels: channels of the images.
    """
    return ResNetCifar(_squeeze_excitation_block, (3, 4, 6, 3), num_classes, width, in_channels, bias=True)
