"""Auxiliary exits (LOTH): a chain of blocks from each shallow stage to the size of the last map, and a classifier.

Every block reduces the map as one stage of the network does, so all chains end with a map of the last map's size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from selfkd.branches.exits import Exit, ExitOutput
from selfkd.option_checks import one_of

__all__ = ["BLOCKS", "ExitChains", "exit_chain"]


def bottleneck(in_channels: int, out_channels: int, stride: int, groups: int = 1) -> nn.Sequential:
    """1x1, 3x3 with the stride, 1x1; each with batch normalisation and ReLU. Poster: "Bottle" (Bn)."""
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


BLOCKS: Mapping[str, Callable[[int, int, int], nn.Module]] = {
    "bn": bottleneck,
    "gbn": grouped_bottleneck,
    "dsc": depthwise_separable,
}
"""Auxiliary blocks by name: `(in_channels, out_channels, stride) -> module`."""


def exit_chain(in_channels: int, chain_channels: Sequence[int], strides: Sequence[int], block: str) -> nn.Sequential:
    """A chain of blocks.

    Args:
        in_channels: channels of the stage map at its start.
        chain_channels: output channels of each block.
        strides: stride of each block.
        block: a name of `BLOCKS`.
    Raises: OptionError: if `block` is unknown.
    """
    build = BLOCKS[one_of("block", block, BLOCKS)]
    channels = pairwise((in_channels, *chain_channels))
    return nn.Sequential(
        *(build(before, after, stride) for (before, after), stride in zip(channels, strides, strict=True))
    )


class ExitChains(nn.Module):
    """One exit on each shallow stage. The exit of stage i has the last blocks of the longest chain.

    Exit i (from 1) starts with `stage_channels[i - 1]` channels and has the blocks `chain_channels[i - 1:]`, of strides
    `strides[i - 1:]`. No two exits share a parameter.

    Args:
        stage_channels: channels of stages 1 to 3, shallow to deep.
        chain_channels: output channels of the blocks of exit 1; the last is P, the same for all exits.
        strides: strides of the blocks of exit 1.
        num_classes: K.
        block: "bn", "gbn" or "dsc".
    Raises: OptionError: if `block` is unknown.
    Source: LOTH's poster, Tables 1 and 2 and Fig. 4; tests compare every published parameter count.
    """

    def __init__(
        self,
        stage_channels: Sequence[int],
        chain_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        block: str = "bn",
    ) -> None:
        super().__init__()
        self.exits = nn.ModuleList(
            Exit(
                exit_chain(channels, chain_channels[i:], strides[i:], block), nn.Linear(chain_channels[-1], num_classes)
            )
            for i, channels in enumerate(stage_channels)
        )

    def forward(self, stages: Sequence[Tensor]) -> list[ExitOutput]:
        """Features and logits of every exit, shallowest first.

        Args:
            stages: stage maps 1 to 3, `[B, C_i, H_i, W_i]`, shallow to deep.
        """
        return [exit_(stage_map) for exit_, stage_map in zip(self.exits, stages, strict=True)]
