"""ResNets for small images: timm's blocks behind a 3x3 stem without pooling.

Shapes for a 32x32 image and width 64: stem 64@32, stages 64@32, 128@16, 256@8, 512@4 (times 4 with bottlenecks).
Source: He et al. 2016, arXiv:1512.03385; the small-image form as in the releases of TESKD, DTSKD and LOTH.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal

from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from torch.nn import functional

from selfkd.backbones.initialization import FAN_OUT
from selfkd.backbones.small_image import SmallImageNetwork, StagePlan, check_sizes
from selfkd.option_checks import one_of

__all__ = [
    "ResNetCifar",
    "ResidualBlock",
    "resnet18_cifar",
    "resnet34_cifar",
    "resnet50_cifar",
    "resnet101_cifar",
    "resnet152_cifar",
]

_INITIALIZATIONS = {"pytorch": None, "fan_out": FAN_OUT}

Block = Callable[[int, int, int, nn.Module | None], nn.Module]
"""`block(in_channels, planes, stride, shortcut)`; the shortcut is None where the input itself is added."""


class ResNetCifar(SmallImageNetwork):
    """A residual network for small images.

    Args:
        block: builds one block, for example timm's `BasicBlock` or `Bottleneck`.
        layers: blocks in each of the four stages.
        num_classes: K.
        width: channels of the stem; the blocks of stage i have `width * 2**i` planes.
        in_channels: channels of the images.
        expansion: output channels of a block for each of its planes.
        bias: whether the convolutions of stem and shortcuts have biases.
        width_multiple: what the blocks need `width` to be a multiple of.
        initialization: "pytorch" for its defaults; "fan_out" draws convolutions from N(0, sqrt(2 / (9 * channels)))
            and the like.
    Raises: OptionError: if a size is below 1, or `width` or `initialization` is not allowed.
    """

    def __init__(
        self,
        block: Block,
        layers: Sequence[int],
        num_classes: int,
        width: int = 64,
        in_channels: int = 3,
        *,
        expansion: int = 1,
        bias: bool = False,
        width_multiple: int = 1,
        initialization: str = "pytorch",
    ) -> None:
        check_sizes(num_classes, width, in_channels, width_multiple)
        one_of("initialization", initialization, _INITIALIZATIONS)
        build = functools.partial(_with_shortcut, block=block, expansion=expansion, bias=bias)
        super().__init__(
            num_classes,
            stem={
                "conv1": nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=bias),
                "bn1": nn.BatchNorm2d(width),
                "act1": nn.ReLU(inplace=True),
            },
            stem_channels=width,
            stages=[
                StagePlan(
                    build,
                    channels=[width * 2**index * expansion] * depth,
                    stride=1 if index == 0 else 2,
                    channel_multiple=width_multiple * expansion,
                )
                for index, depth in enumerate(layers)
            ],
            initialize=_INITIALIZATIONS[initialization],
        )


class ResidualBlock(nn.Module):
    """`relu(residual(x) + shortcut(x))`, for the forms that timm's `BasicBlock` does not take.

    Args:
        residual: the layers that are added to the input.
        shortcut: what makes the input fit; None if it fits.
    """

    def __init__(self, residual: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.residual = residual
        self.downsample = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """A map of the residual's shape."""
        return functional.relu(self.residual(x) + self.downsample(x), inplace=True)


def _with_shortcut(
    in_channels: int, out_channels: int, stride: int, *, block: Block, expansion: int, bias: bool
) -> nn.Module:
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=bias), nn.BatchNorm2d(out_channels)
        )
    return block(in_channels, out_channels // expansion, stride, shortcut)


def resnet18_cifar(
    num_classes: int,
    *,
    width: int = 64,
    in_channels: int = 3,
    initialization: Literal["pytorch", "fan_out"] = "pytorch",
) -> ResNetCifar:
    """ResNet-18 for small images: 11,220,132 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and the first stage; the papers' is 64.
        in_channels: channels of the images.
        initialization: "pytorch" as in TESKD and DTSKD, "fan_out" as in LOTH.
    """
    return ResNetCifar(
        BasicBlock,
        (2, 2, 2, 2),
        num_classes,
        width,
        in_channels,
        initialization=initialization,
    )


def resnet34_cifar(
    num_classes: int,
    *,
    width: int = 64,
    in_channels: int = 3,
    initialization: Literal["pytorch", "fan_out"] = "pytorch",
) -> ResNetCifar:
    """ResNet-34 for small images: 21,328,292 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and the first stage; the papers' is 64.
        in_channels: channels of the images.
        initialization: "pytorch" as in TESKD and DTSKD, "fan_out" as in LOTH.
    """
    return ResNetCifar(
        BasicBlock,
        (3, 4, 6, 3),
        num_classes,
        width,
        in_channels,
        initialization=initialization,
    )


def resnet50_cifar(
    num_classes: int,
    *,
    width: int = 64,
    in_channels: int = 3,
    initialization: Literal["pytorch", "fan_out"] = "pytorch",
) -> ResNetCifar:
    """ResNet-50 for small images: 23,705,252 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and a quarter of the first stage's; the papers' is 64.
        in_channels: channels of the images.
        initialization: "pytorch" as in TESKD and DTSKD, "fan_out" as in LOTH.
    """
    return ResNetCifar(
        Bottleneck,
        (3, 4, 6, 3),
        num_classes,
        width,
        in_channels,
        expansion=Bottleneck.expansion,
        initialization=initialization,
    )


def resnet101_cifar(
    num_classes: int,
    *,
    width: int = 64,
    in_channels: int = 3,
    initialization: Literal["pytorch", "fan_out"] = "pytorch",
) -> ResNetCifar:
    """ResNet-101 for small images: 42,697,380 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and a quarter of the first stage's; the papers' is 64.
        in_channels: channels of the images.
        initialization: "pytorch" as in TESKD and DTSKD, "fan_out" as in LOTH.
    """
    return ResNetCifar(
        Bottleneck,
        (3, 4, 23, 3),
        num_classes,
        width,
        in_channels,
        expansion=Bottleneck.expansion,
        initialization=initialization,
    )


def resnet152_cifar(
    num_classes: int,
    *,
    width: int = 64,
    in_channels: int = 3,
    initialization: Literal["pytorch", "fan_out"] = "pytorch",
) -> ResNetCifar:
    """ResNet-152 for small images: 58,341,028 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and a quarter of the first stage's; the papers' is 64.
        in_channels: channels of the images.
        initialization: "pytorch" as in TESKD and DTSKD, "fan_out" as in LOTH.
    """
    return ResNetCifar(
        Bottleneck,
        (3, 8, 36, 3),
        num_classes,
        width,
        in_channels,
        expansion=Bottleneck.expansion,
        initialization=initialization,
    )
