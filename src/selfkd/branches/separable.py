"""Separable convolutions with nothing between the depthwise convolution and its 1x1 (ECSD, FRSKD)."""

from __future__ import annotations

from torch import nn
from torchvision.ops import Conv2dNormActivation

__all__ = ["normalised_separable_pair", "separable", "separable_pair"]


def separable(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Depthwise 3x3 with the stride, 1x1, batch normalisation, ReLU; without biases."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False),
        Conv2dNormActivation(in_channels, out_channels, kernel_size=1),
    )


def separable_pair(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Two separable convolutions. The first has the stride and keeps the channels. Source: ECSD's release."""
    return nn.Sequential(separable(in_channels, in_channels, stride), separable(in_channels, out_channels))


def normalised_separable_pair(channels: int) -> nn.Sequential:
    """`separable_pair` with stride 2, then once more batch normalisation and ReLU, as in ECSD's release."""
    return nn.Sequential(separable_pair(channels, channels, 2), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
