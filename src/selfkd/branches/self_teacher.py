"""The self-teacher (FRSKD): it refines the maps of a network on a path down and a path up, and classifies the last one.

It is built like EfficientDet's BiFPN. Every map that is fused has passed a ReLU already, so the ReLUs that the release
has before each fusion are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d
from torchvision.ops import Conv2dNormActivation

from selfkd.branches.separable import separable

__all__ = ["SelfTeacher", "SelfTeacherOutput"]

_EPSILON = 1e-6
"""Keeps the sum of the fusion weights above 0, as in the release."""


class SelfTeacherOutput(NamedTuple):
    """The refined maps `[B, C_i, H_i, W_i]`, shallow to deep, and the logits `[B, K]`."""

    maps: list[Tensor]
    logits: Tensor


class _Node(nn.Module):
    """Fuses a map of the network with refined maps of the same size.

    The map of the network and a refined map of a neighbouring level pass a 1x1 convolution, batch normalisation and
    ReLU each. The weighted mean of all maps passes `depth` times a depthwise 3x3 convolution, a 1x1 convolution, batch
    normalisation and ReLU. The weights are learnt; they are cut at 0 and divided by their sum.

    Args:
        in_channels: channels of the network's map.
        neighbour_channels: channels of the neighbour's map.
        channels: channels of the fused map.
        num_maps: number of maps that are fused.
        depth: number of depthwise separable convolutions.
    """

    def __init__(self, in_channels: int, neighbour_channels: int, channels: int, num_maps: int, depth: int) -> None:
        super().__init__()
        self.lateral = Conv2dNormActivation(in_channels, channels, kernel_size=1)
        self.neighbour = Conv2dNormActivation(neighbour_channels, channels, kernel_size=1)
        self.weights = nn.Parameter(torch.ones(num_maps))
        self.convolutions = nn.Sequential(*(separable(channels, channels) for _ in range(depth)))

    def forward(self, network_map: Tensor, neighbour: Tensor, *refined: Tensor) -> Tensor:
        """The fused map.

        Args:
            network_map: the map of the network.
            neighbour: the refined map of a neighbouring level, brought to the same size.
            refined: a further refined map of this level, if `num_maps` is 3.
        """
        maps = (self.lateral(network_map), *refined, self.neighbour(neighbour))
        weights = self.weights.relu()
        weights = weights / (weights.sum() + _EPSILON)
        first, *others = (weight * each for weight, each in zip(weights, maps, strict=True))
        fused: Tensor = self.convolutions(sum(others, start=first))
        return fused


class SelfTeacher(nn.Module):
    """A pyramid of refined maps with a classifier on the deepest one.

    `P_i` and `L_i` are 1x1 convolutions of the network's map i. Down: `U_S = P_S`, `U_i = node(P_i, up(U_(i+1)))`. Up:
    `O_1 = U_1`, `O_i = node(L_i, U_i, down(O_(i-1)))`, `O_S = node(L_S, down(O_(S-1)))`. `up` repeats the nearest
    values, `down` is a 3x3 max pooling of stride 2; between maps of equal size neither changes the size. Level i has
    `width_factor` times as many channels as map i.

    Args:
        channels: channels of the network's maps, shallow to deep.
        num_classes: K.
        width_factor: the channels of a level divided by those of the network's map.
        depth: number of depthwise separable convolutions after each fusion.
    Source: Ji et al. 2021 (FRSKD), arXiv:2103.08273, and its release.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, width_factor: int = 2, depth: int = 2) -> None:
        super().__init__()
        widths = [width_factor * each for each in channels]
        last = len(channels) - 1
        self.top = Conv2dNormActivation(channels[-1], widths[-1], kernel_size=1)
        self.path_down = nn.ModuleList(
            _Node(channel, deeper, width, 2, depth)
            for channel, (width, deeper) in zip(channels[:-1], pairwise(widths), strict=True)
        )
        self.path_up = nn.ModuleList(
            _Node(channels[i], widths[i - 1], widths[i], 2 if i == last else 3, depth) for i in range(1, last + 1)
        )
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, maps: Sequence[Tensor]) -> SelfTeacherOutput:
        """Refined maps and logits.

        Args:
            maps: the network's maps `[B, C_i, H_i, W_i]`, shallow to deep; each is as large as the map before, or half
                its size, rounded up.
        """
        top_down: list[Tensor] = [self.top(maps[-1])]
        for node, network_map in zip(reversed(self.path_down), reversed(maps[:-1]), strict=True):
            top_down.insert(0, node(network_map, interpolate(top_down[0], size=network_map.shape[2:])))
        refined = top_down[:1]
        same_level = [*((each,) for each in top_down[1:-1]), ()]  # the deepest level fuses no map of the path down
        for node, network_map, further in zip(self.path_up, maps[1:], same_level, strict=True):
            refined.append(node(network_map, _reduced(refined[-1], network_map.shape[2:]), *further))
        return SelfTeacherOutput(refined, self.classifier(refined[-1].mean(dim=(2, 3))))


def _reduced(maps: Tensor, size: torch.Size) -> Tensor:
    """Maps brought to a size, which is their own or half of it, rounded up.

    Windows reach one place beyond the end of an even side, and beyond both ends of an odd side (TensorFlow's "same").
    Zeros there would change nothing, because no value is negative.
    """
    if maps.shape[2:] == size:
        return maps
    height, width = maps.shape[2:]
    return max_pool2d(maps, kernel_size=3, stride=2, padding=(height % 2, width % 2), ceil_mode=True)
