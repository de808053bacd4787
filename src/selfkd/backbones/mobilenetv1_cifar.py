"""MobileNetV1 for small images, as in LOTH.

Shapes for a 32x32 image and width 32: stem 32@32, stages 128@32, 256@16, 512@8, 1024@4.
The initialisation is PyTorch's.
Source: Howard et al. 2017, arXiv:1704.04861; the small-image form as in the release of LOTH.
"""

from __future__ import annotations

from torch import nn
from torchvision.ops import Conv2dNormActivation

from selfkd.backbones.small_image import SmallImageNetwork, StagePlan, check_sizes

__all__ = ["MobileNetV1Cifar"]


class MobileNetV1Cifar(SmallImageNetwork):
    """Depthwise-separable convolutions behind a 3x3 stem.

    Args:
        num_classes: K.
        width: channels of the stem; 32 in the paper. All other widths are scaled by the same factor.
        in_channels: channels of the images.
    Raises: OptionError: if a size is below 1.
    """

    def __init__(self, num_classes: int, *, width: int = 32, in_channels: int = 3) -> None:
        check_sizes(num_classes, width, in_channels)
        super().__init__(
            num_classes,
            stem={"stem": Conv2dNormActivation(in_channels, width, 3)},
            stem_channels=width,
            stages=[
                StagePlan(_separable_convolution, channels=[2 * width, 4 * width, 4 * width], stride=1),
                StagePlan(_separable_convolution, channels=[8 * width] * 2),
                StagePlan(_separable_convolution, channels=[16 * width] * 6),
                StagePlan(_separable_convolution, channels=[32 * width] * 2),
            ],
        )


def _separable_convolution(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        Conv2dNormActivation(in_channels, in_channels, 3, stride, groups=in_channels),
        Conv2dNormActivation(in_channels, out_channels, 1),
    )
