"""The virtual teacher (LOTH): it fuses the last feature maps of all exits and classifies the result.

N is the number of channels of all maps together: 4 C for four exits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from selfkd.errors import BatchError
from selfkd.option_checks import one_of

__all__ = ["FUSIONS", "ExitFusion", "GlobalAttention", "GlobalLocalAttention", "attention_kernel"]

NUM_EXITS = 4
_SQUEEZE = 16
"""Channels per hidden unit in `SampleAttention`."""


def attention_kernel(channels: int) -> int:
    """Kernel size of the attention's convolutions along the channels: `int((log2 N + 1) / 2)`, made odd.

    Source: Wang et al. 2020, ECA-Net, arXiv:1910.03151, with its gamma = 2 and b = 1.
    """
    size = int((math.log2(channels) + 1) / 2)
    return size + 1 if size % 2 == 0 else size


def _along_channels(width: int, channels: int) -> nn.Conv1d:
    """A convolution along the channels, without bias; every channel has `width` values, and the length stays."""
    kernel = attention_kernel(channels)
    return nn.Conv1d(width, width, kernel, padding=kernel // 2, bias=False)


class GlobalLocalAttention(nn.Module):
    """Scales every value of a map by weights from the neighbouring channels, per map (global) and position (local).

    `g = conv1d(channel means)`, `l = conv1d` with the H*W positions as its channels and the N channels as its sequence;
    `y = x * sigmoid(2 (1 - m) l + 2 m g)`. With `learned_balance`, `m = sigmoid(gamma)`; else m is 1/2: `l + g`.

    Args:
        channels: N.
        size: height and width of the maps. They are fixed, because the positions are channels of a convolution.
        learned_balance: gamma is a parameter that starts at 0.
    Source: LOTH's release, the last generation (August 2024); without `learned_balance` the generation before (July).
        That one also has a gamma without effect, which is left out here.
    """

    def __init__(self, channels: int, size: tuple[int, int], learned_balance: bool) -> None:
        super().__init__()
        self.size = size
        self.conv_global = _along_channels(1, channels)
        self.conv_local = _along_channels(size[0] * size[1], channels)
        self.gamma = nn.Parameter(torch.zeros(())) if learned_balance else None

    def forward(self, x: Tensor) -> Tensor:
        """`[B, N, H, W]` to the same.

        Raises: BatchError: if the maps have another size than the one given at construction.
        """
        if tuple(x.shape[2:]) != self.size:
            raise BatchError(
                f"LOTH's attention was built for maps of {self.size[0]}x{self.size[1]}, got {x.shape[2]}x{x.shape[3]}; "
                "train with images of the backbone's input_size, or use a fusion without local attention (concat, sum)"
            )
        local_BPN = self.conv_local(x.flatten(2).transpose(1, 2))  # P positions; with channels-last maps no copy
        global_B1N = self.conv_global(x.mean(dim=(2, 3)).unsqueeze(1))
        if self.gamma is None:
            mixed_BPN = local_BPN + global_B1N
        else:
            balance = self.gamma.sigmoid()
            mixed_BPN = 2 * (1 - balance) * local_BPN + 2 * balance * global_B1N
        scaled: Tensor = x * mixed_BPN.sigmoid().transpose(1, 2).unflatten(2, self.size)
        return scaled


class GlobalAttention(nn.Module):
    """`y = x * sigmoid(conv1d(channel means) + conv1d'(channel means))`.

    Both convolutions take the same averages. The release calls the second one max, but it averages too.

    Args:
        channels: N.
    Source: LOTH's release, the first generation (March 2024).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_first = _along_channels(1, channels)
        self.conv_second = _along_channels(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, N, H, W]` to the same."""
        means_B1N = x.mean(dim=(2, 3)).unsqueeze(1)
        weights_B1N = (self.conv_first(means_B1N) + self.conv_second(means_B1N)).sigmoid()
        scaled: Tensor = x * weights_B1N.transpose(1, 2).unsqueeze(3)
        return scaled


class Concatenation(nn.Module):
    """Concatenates the maps `[B, C, H, W]` of all exits, shallowest first, to one map `[B, N, H, W]`."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(maps), dim=1)


class PooledConcatenation(nn.Module):
    """Concatenates the averages of the maps `[B, C, H, W]` of all exits, to `[B, N, 1, 1]`."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([each.mean(dim=(2, 3), keepdim=True) for each in maps], dim=1)


class Summation(nn.Module):
    """Adds the maps `[B, C, H, W]` of all exits."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        total = maps[0]
        for each in maps[1:]:
            total = total + each
        return total


class SampleAttention(nn.Module):
    """The maps' weighted sum, with weights for each sample: `softmax(FC2(ReLU(BN(FC1(pooled sum of maps)))))`.

    Args:
        channels: C of each map; the hidden layer has C / 16 units.
    Source: LOTH's poster, Table 5, "Att-Sample". It is not certain that this candidate of the release is meant there.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // _SQUEEZE)
        self.add = Summation()
        self.score = nn.Sequential(
            nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, NUM_EXITS)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps `[B, C, H, W]` to one."""
        weights_BE = self.score(self.add(maps).mean(dim=(2, 3))).softmax(dim=1)
        total: Tensor = self.add([each * weights_BE[:, i, None, None, None] for i, each in enumerate(maps)])
        return total


def _reduced(in_channels: int, out_channels: int) -> nn.Module:
    module: nn.Module = Conv2dNormActivation(in_channels, out_channels, kernel_size=1)
    return module


def _depthwise(channels: int) -> nn.Module:
    module: nn.Module = Conv2dNormActivation(channels, channels, kernel_size=3, groups=channels)
    return module


def deca(channels: int, size: tuple[int, int]) -> nn.Sequential:
    """Concatenation, global and local attention with a learned balance. The last generation of the release."""
    width = NUM_EXITS * channels
    return nn.Sequential(
        Concatenation(), GlobalLocalAttention(width, size, learned_balance=True), _reduced(width, channels)
    )


def deca_g2(channels: int, size: tuple[int, int]) -> nn.Sequential:
    """As `deca`, with equal weights for both kinds of attention. The second generation of the release."""
    width = NUM_EXITS * channels
    return nn.Sequential(
        Concatenation(), GlobalLocalAttention(width, size, learned_balance=False), _reduced(width, channels)
    )


def deca_g1(channels: int, size: tuple[int, int]) -> nn.Sequential:
    """Concatenation, global attention, ReLU, a depthwise 3x3. The first generation, as in the published logs."""
    width = NUM_EXITS * channels
    return nn.Sequential(
        Concatenation(), GlobalAttention(width), nn.ReLU(inplace=True), _depthwise(width), _reduced(width, channels)
    )


def summation(channels: int, size: tuple[int, int]) -> nn.Sequential:
    """The sum of the maps. Poster, Table 5, "Summation"."""
    return nn.Sequential(Summation(), _reduced(channels, channels))


def concat(channels: int, size: tuple[int, int]) -> nn.Sequential:
    """Concatenation alone. Poster, Table 5, "Concatenation"."""
    return nn.Sequential(Concatenation(), _reduced(NUM_EXITS * channels, channels))


def pooled_concat(channels: int, size: tuple[int, int]) -> nn.Sequential:
    """Concatenation of pooled maps (EML's fusion)."""
    return nn.Sequential(PooledConcatenation(), _reduced(NUM_EXITS * channels, channels))


def depthwise_concat(channels: int, size: tuple[int, int]) -> nn.Sequential:
    """Concatenation, a depthwise 3x3 (like FFL's fusion)."""
    width = NUM_EXITS * channels
    return nn.Sequential(Concatenation(), _depthwise(width), _reduced(width, channels))


def sample_attention(channels: int, size: tuple[int, int]) -> nn.Sequential:
    """A sum with weights for each sample. Poster, Table 5, "Att-Sample"."""
    return nn.Sequential(SampleAttention(channels), _reduced(channels, channels))


FUSIONS: Mapping[str, Callable[[int, tuple[int, int]], nn.Module]] = {
    "deca": deca,
    "deca_g2": deca_g2,
    "deca_g1": deca_g1,
    "sum": summation,
    "concat": concat,
    "pooled_concat": pooled_concat,
    "depthwise_concat": depthwise_concat,
    "sample_attention": sample_attention,
}
"""Fusions by name: `(channels C, (height, width)) -> module` from four maps `[B, C, H, W]` to one of C channels."""

_START_AS_PYTORCH = frozenset({"sample_attention"})
"""Fusions that the release does not initialise."""


class ExitFusion(nn.Module):
    """Fuses the last maps of four exits; pools and classifies the result.

    Convolutions, also depthwise ones, start with normal weights of deviation `sqrt(2 / (k * k * out_channels))`. 1-d
    convolutions and linear layers start as in PyTorch, and so do all layers of "sample_attention".

    Args:
        channels: C of every map.
        size: height and width of the maps.
        num_classes: K.
        fusion: a name of `FUSIONS`.
    Raises: OptionError: if `fusion` is unknown.
    Source: LOTH's poster, "virtual teacher", and Table 5 for the other fusions; released code for the layers.
    """

    def __init__(self, channels: int, size: tuple[int, int], num_classes: int, fusion: str = "deca") -> None:
        super().__init__()
        one_of("fusion", fusion, FUSIONS)
        self.fuse = FUSIONS[fusion](channels, size)
        self.classifier = nn.Linear(channels, num_classes)
        if fusion not in _START_AS_PYTORCH:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits `[B, K]` of four maps `[B, C, H, W]`, shallowest exit first.

        Raises: BatchError: if a fusion for maps of one size gets maps of another size.
        """
        logits_BK: Tensor = self.classifier(self.fuse(maps).mean(dim=(2, 3)))
        return logits_BK
