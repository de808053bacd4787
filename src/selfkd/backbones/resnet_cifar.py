"""ResNets for small images: timm's blocks behind a 3x3 stem without pooling.

Shapes for a 32x32 image and width 64: stem 64@32, stages 64@32, 128@16, 256@8, 512@4 (times 4 with bottlenecks).
Source: He et al. 2016, arXiv:1512.03385; the small-image form as in the releases of TESKD, DTSKD and LOTH.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from torch.nn import functional

from selfkd.backbones.initialization import FAN_OUT, Initialization
from selfkd.backbones.small_image import SmallImageNetwork, StagePlan, check_sizes
from selfkd.option_checks import one_of

__all__ = ["ResNetCifar", "ResidualBlock", "resnet_cifar"]

_BLOCKS: Mapping[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}
_INITIALIZATIONS = {"pytorch": None, "fan_out": FAN_OUT}

Block = Callable[[int, int, int, nn.Module | None], nn.Module]
"""`block(in_channels, planes, stride, shortcut)`; without a shortcut (None) the block adds its input as it is."""


def resnet_cifar(
    block: Literal["basic", "bottleneck"],
    layers: Sequence[int],
    num_classes: int,
    *,
    width: int = 64,
    in_channels: int = 3,
    initialization: Literal["pytorch", "fan_out"] = "pytorch",
) -> ResNetCifar:
    """A ResNet for small images.

    Args:
        block: which residual block the stages are built of.
        layers: blocks in each of the four stages.
        num_classes: K.
        width: channels of the stem; 64 in the papers. The first stage has as many, or four times as many with
            bottlenecks (ResNet-50 and deeper).
        in_channels: channels of the images.
        initialization: rule of the initial weights: "pytorch" as in TESKD and DTSKD, or "fan_out" as in LOTH.
    Raises: OptionError: if a size is below 1, or `initialization` has another value.
    """
    one_of("initialization", initialization, _INITIALIZATIONS)
    block_class = _BLOCKS[block]
    return ResNetCifar(
        block_class,
        layers,
        num_classes,
        width,
        in_channels,
        expansion=block_class.expansion,
        initialize=_INITIALIZATIONS[initialization],
    )


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
        width_multiple: `width` must be a multiple of it.
        initialize: the family's initialisation of a module; None leaves PyTorch's.
    Raises: OptionError: if a size is below 1, or `width` is no multiple of `width_multiple`.
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
        initialize: Initialization | None = None,
    ) -> None:
        check_sizes(num_classes, width, in_channels, width_multiple)
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
            initialize=initialize,
        )


class ResidualBlock(nn.Module):
    """`relu(residual(x) + shortcut(x))`, for the residuals that timm's `BasicBlock` cannot build.

    Args:
        residual: its output is added to the input.
        shortcut: brings the input to the shape of the residual's output; None if it has that shape already.
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
