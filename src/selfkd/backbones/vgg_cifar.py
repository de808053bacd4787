"""VGGs for small images: batch-normalised convolutions, and a perceptron of two hidden layers on the pooled map.

The first group of convolutions is the stem, the other four are the stages. In the networks of TESKD and DTSKD every
group ends with a max-pool, which belongs to its stage: for a 32x32 image and width 64 the stages are 128@8, 256@4,
512@2, 512@1. In those of LOTH (`_loth`) a stage begins with the max-pool and the last one has none: 128@16, 256@8,
512@4, 512@2. DTSKD names a VGG-11 and releases none; ours follows the release's VGG-16. LOTH uses no VGG-11.
Source: Simonyan and Zisserman 2015, arXiv:1409.1556; the small-image forms as in the releases of TESKD and LOTH.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

from torch import nn
from torchvision.ops import Conv2dNormActivation

from selfkd.backbones.initialization import LOTH_VGG, TESKD_VGG
from selfkd.backbones.small_image import SmallImageNetwork, StagePlan, check_sizes

__all__ = ["VggCifar"]

_MULTIPLES = (1, 2, 4, 8, 8)
"""Channels of the groups, in widths."""


class VggCifar(SmallImageNetwork):
    """A VGG for small images, in the form of TESKD and DTSKD or in that of LOTH.

    Args:
        form: "teskd", or "loth": max-pools before the stages, no biases in convolutions, dropout between the layers of
            the classifier, and weight 0.5 in batch normalisation at the start.
        layers: convolutions in each of the five groups.
        num_classes: K.
        width: channels of the first group; 64 in the papers. The other groups have 2, 4, 8 and 8 times as many.
        in_channels: channels of the images.
    Raises: OptionError: if a size is below 1.
    """

    def __init__(
        self,
        form: Literal["teskd", "loth"],
        layers: Sequence[int],
        num_classes: int,
        *,
        width: int = 64,
        in_channels: int = 3,
    ) -> None:
        check_sizes(num_classes, width, in_channels)
        loth = form == "loth"
        block = _pool_and_convolution if loth else _convolution_and_pool
        stem, *stages = (
            StagePlan(block, channels=[width * multiple] * depth, strided=0 if loth else -1)
            for multiple, depth in zip(_MULTIPLES, layers, strict=True)
        )
        if loth:
            stem = dataclasses.replace(stem, stride=1)
        super().__init__(
            num_classes,
            stem={"stem": stem.build(in_channels)},
            stem_channels=width,
            stem_reduction=stem.stride,
            stages=stages,
            classifier=functools.partial(_perceptron, dropout=0.5 if loth else 0),
            initialize=LOTH_VGG if loth else TESKD_VGG,
        )


def _convolution_and_pool(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    convolution: nn.Module = Conv2dNormActivation(in_channels, out_channels, 3, bias=True)
    return convolution if stride == 1 else nn.Sequential(convolution, nn.MaxPool2d(stride))


def _pool_and_convolution(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    convolution: nn.Module = Conv2dNormActivation(in_channels, out_channels, 3)
    return convolution if stride == 1 else nn.Sequential(nn.MaxPool2d(stride), convolution)


def _perceptron(num_features: int, num_classes: int, *, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(num_features, num_features), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(num_features, num_classes))
