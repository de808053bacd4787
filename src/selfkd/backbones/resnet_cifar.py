"""ResNets for small images: timm's blocks behind a 3x3 stem without pooling.

Shapes for a 32x32 image and width 64: stem 64@32, stages 64@32, 128@16, 256@8, 512@4 (times 4 with bottlenecks).
Parameters and initialisation are those of the papers: PyTorch's defaults everywhere, no bias in convolutions.
Source: He et al. 2016, arXiv:1512.03385; the small-image form as in the releases of TESKD, DTSKD and LOTH.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import Tensor, nn

from selfkd.option_checks import at_least

__all__ = [
    "ResNetCifar",
    "resnet18_cifar",
    "resnet34_cifar",
    "resnet50_cifar",
    "resnet101_cifar",
    "resnet152_cifar",
]

_NUM_STAGES = 4


class ResNetCifar(nn.Module):
    """A residual network for small images, with timm's `forward_intermediates` and `forward_head`.

    Args:
        block: timm's `BasicBlock` or `Bottleneck`.
        layers: blocks in each of the four stages.
        num_classes: K.
        width: channels of the stem; stage i has `width * 2**i` (times the block's expansion).
        in_channels: channels of the images.
    Raises: OptionError: if a size is below 1.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        num_classes: int,
        width: int = 64,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        at_least("width", width, 1)
        at_least("num_classes", num_classes, 2)
        self.block, self.layers, self.width, self.num_classes = block, tuple(layers), width, num_classes
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.layer1, self.layer2, self.layer3, self.layer4 = (self.new_stage(i) for i in range(_NUM_STAGES))
        self.num_features = self._out_channels(_NUM_STAGES - 1)
        self.fc = self.new_classifier()
        self.feature_info = [
            {"num_chs": self._out_channels(i), "reduction": 2**i, "module": f"layer{i + 1}"} for i in range(_NUM_STAGES)
        ]

    def _planes(self, index: int) -> int:
        return self.width * int(2**index)

    def _out_channels(self, index: int) -> int:
        return self._planes(index) * self.block.expansion

    def new_stage(self, index: int, depth: int | None = None, width_factor: float = 1) -> nn.Sequential:
        """A freshly initialised stage; arguments as in `Staged.new_stage`."""
        in_channels = self.width if index == 0 else self._out_channels(index - 1)
        planes = round(self._planes(index) * width_factor)
        out_channels = planes * self.block.expansion
        blocks = []
        for position in range(self.layers[index] if depth is None else depth):
            stride = 2 if index > 0 and position == 0 else 1
            shortcut = None
            if stride != 1 or in_channels != out_channels:
                shortcut = downsample_conv(in_channels, out_channels, kernel_size=1, stride=stride)
            blocks.append(self.block(in_channels, planes, stride=stride, downsample=shortcut))
            in_channels = out_channels
        return nn.Sequential(*blocks)

    def new_classifier(self) -> nn.Linear:
        """A freshly initialised classifier on the pooled vector."""
        return nn.Linear(self.num_features, self.num_classes)

    def forward_intermediates(
        self, x: Tensor, indices: Sequence[int] | None = None, output_fmt: str = "NCHW", **ignored: Any
    ) -> tuple[Tensor, list[Tensor]]:
        """The last map and the maps of the wanted stages (all four by default), as timm's networks give them."""
        x = self.act1(self.bn1(self.conv1(x)))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return x, maps if indices is None else [maps[i] for i in indices]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits `[B, K]` of the last map, or the pooled vector `[B, D]` if `pre_logits`."""
        pooled = x.mean(dim=(2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[B, K]` of images `[B, C, H, W]`."""
        return self.forward_head(self.forward_intermediates(x)[0])


def resnet18_cifar(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """ResNet-18 for small images: 11,220,132 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and the first stage; the papers' is 64.
        in_channels: channels of the images.
    """
    return ResNetCifar(BasicBlock, (2, 2, 2, 2), num_classes, width, in_channels)


def resnet34_cifar(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """ResNet-34 for small images: 21,328,292 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and the first stage; the papers' is 64.
        in_channels: channels of the images.
    """
    return ResNetCifar(BasicBlock, (3, 4, 6, 3), num_classes, width, in_channels)


def resnet50_cifar(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """ResNet-50 for small images: 23,705,252 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and a quarter of the first stage's; the papers' is 64.
        in_channels: channels of the images.
    """
    return ResNetCifar(Bottleneck, (3, 4, 6, 3), num_classes, width, in_channels)


def resnet101_cifar(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """ResNet-101 for small images: 42,697,380 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and a quarter of the first stage's; the papers' is 64.
        in_channels: channels of the images.
    """
    return ResNetCifar(Bottleneck, (3, 4, 23, 3), num_classes, width, in_channels)


def resnet152_cifar(num_classes: int, *, width: int = 64, in_channels: int = 3) -> ResNetCifar:
    """ResNet-152 for small images: 58,341,028 parameters at 100 classes.

    Args:
        num_classes: K.
        width: channels of the stem and a quarter of the first stage's; the papers' is 64.
        in_channels: channels of the images.
    """
    return ResNetCifar(Bottleneck, (3, 8, 36, 3), num_classes, width, in_channels)
