"""The layers of exits, from a shallow stage to a map of the last map's channels.

In a chain of blocks (LOTH, BEED, ECSD) every block reduces the map as one stage of the network does. BYOT's exits
reduce it in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from torch import nn
from torchvision.ops import Conv2dNormActivation

from selfkd.backbones.staged import Staged

__all__ = [
    "BLOCKS",
    "Block",
    "bottleneck",
    "bottleneck_step",
    "depthwise_separable",
    "exit_chains",
    "narrow_step",
]

Block = Callable[[int, int, int], nn.Module]
"""Builds a block of a chain: `(in_channels, out_channels, stride) -> module`."""


def bottleneck(in_channels: int, out_channels: int, stride: int | tuple[int, int], groups: int = 1) -> nn.Sequential:
    """1x1, 3x3 with the stride, 1x1; each with batch normalisation and ReLU. LOTH's "Bottle" (Bn), BEED's "Exit"."""
    return nn.Sequential(
        Conv2dNormActivation(in_channels, out_channels, kernel_size=1),
        Conv2dNormActivation(out_channels, out_channels, kernel_size=3, stride=stride, groups=groups),
        Conv2dNormActivation(out_channels, out_channels, kernel_size=1),
    )


def grouped_bottleneck(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """`bottleneck` with a depthwise 3x3. Poster: G-Bn."""
    return bottleneck(in_channels, out_channels, stride, groups=out_channels)


def depthwise_separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Depthwise 3x3 with the stride, 1x1; each with batch normalisation and ReLU. Poster: DSC (Fig. 4)."""
    return nn.Sequential(
        Conv2dNormActivation(in_channels, in_channels, kernel_size=3, stride=stride, groups=in_channels),
        Conv2dNormActivation(in_channels, out_channels, kernel_size=1),
    )


BLOCKS: Mapping[str, Block] = {
    "bn": bottleneck,
    "gbn": grouped_bottleneck,
    "dsc": depthwise_separable,
}
"""LOTH's blocks by name."""


def exit_chains(backbone: Staged, block: Block, inner_channels: Sequence[int] | None = None) -> Iterator[nn.Sequential]:
    """The chains of blocks on stages 1 to 3, shallowest first, all to a map like the network's last one.

    Each chain has a block for every step from its stage over the later stages to the last map. The stride is 2 if the
    next map is half as large, and 1 if it is equally large. So the chain of stage i has the last blocks of the chain of
    stage 1.

    Args:
        backbone: the network. Each of its maps is as large as the map before, or half as large, rounded up.
        block: builds a block.
        inner_channels: output channels of the first two blocks of the chain of stage 1; None for the channels of
            stages 2 and 3.
    Returns: the chains, built one after the other.
    Source: LOTH's poster, Tables 1 and 2 and Fig. 4; tests compare every published parameter count.
    """
    shapes = (*backbone.stage_shapes[:-1], backbone.final_shape)
    stage_channels = [channels for channels, _, _ in shapes[:-1]]
    chain_channels = (*(stage_channels[1:] if inner_channels is None else inner_channels), shapes[-1][0])
    strides = [1 if after == before else 2 for before, after in pairwise(shape[1:] for shape in shapes)]
    for i, channels in enumerate(stage_channels):
        steps = zip(pairwise((channels, *chain_channels[i:])), strides[i:], strict=True)
        yield nn.Sequential(*(block(before, after, stride) for (before, after), stride in steps))


def narrow_step(start: tuple[int, int, int], end: tuple[int, int, int]) -> nn.Sequential:
    """1x1 to a quarter of the channels, r x r with stride r, 1x1; each with bias, batch normalisation and ReLU.

    Args:
        start: (channels, height, width) of the stage map.
        end: (channels, height, width) of the network's last map; r is the quotient of the sizes, rounded down.
    Returns: layers to a map of the last map's channels, which is at least as large.
    Source: Zhang et al. 2019 (BYOT), whose authors published no code; with these layers the multiply-adds are those
        of DTSKD's Table 2.
    """
    width = max(end[0] // 4, 1)
    ratio = (start[1] // end[1], start[2] // end[2])
    return nn.Sequential(
        Conv2dNormActivation(start[0], width, kernel_size=1, bias=True),
        Conv2dNormActivation(width, width, kernel_size=ratio, stride=ratio, padding=0, bias=True),
        Conv2dNormActivation(width, end[0], kernel_size=1, bias=True),
    )


def bottleneck_step(start: tuple[int, int, int], end: tuple[int, int, int]) -> nn.Sequential:
    """One `bottleneck` from a stage map to the channels and size of the network's last map.

    Args:
        start: (channels, height, width) of the stage map.
        end: (channels, height, width) of the network's last map; the stride is the quotient of the sizes, rounded up.
    Source: LOTH's release, its BYOT for ResNets; tests compare the poster's parameter counts (Table 4).
    """
    return bottleneck(start[0], end[0], (-(-start[1] // end[1]), -(-start[2] // end[2])))
