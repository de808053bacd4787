"""Small branches on pooled feature vectors (DTSKD).

Features are vectors, maps of one pixel, so the paper's 1x1 convolutions on them are computed as linear layers: the same
function, the same parameters, less overhead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torchvision.ops import Conv2dNormActivation

from selfkd.option_checks import one_of

__all__ = ["FUSIONS", "LATERALS", "DirectBranches", "PooledFusionBranches"]


class _VectorConv(nn.Conv2d):
    """A 1x1 convolution of vectors `[B, C]`. It is a `Conv2d`, so it is initialised like other convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, vectors_BC: Tensor) -> Tensor:
        return linear(vectors_BC, self.weight.flatten(1))


def _block(in_features: int, out_features: int) -> nn.Sequential:
    """A 1x1 convolution on one pixel, batch normalisation, ReLU."""
    return nn.Sequential(_VectorConv(in_features, out_features), nn.BatchNorm1d(out_features), nn.ReLU(inplace=True))


class MixedFusion(nn.Module):
    """`conv(concat[u + t, u])`: addition, then concatenation. Source: Li et al. (DTSKD), equation 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = _block(2 * width, width)

    def forward(self, top_down_BD: Tensor, lateral_BD: Tensor) -> Tensor:
        fused: Tensor = self.reduce(torch.cat([top_down_BD + lateral_BD, top_down_BD], dim=1))
        return fused


class ConcatFusion(nn.Module):
    """`conv(concat[t, u])`. Source: Li et al. (DTSKD), Table 8, "concat"."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = _block(2 * width, width)

    def forward(self, top_down_BD: Tensor, lateral_BD: Tensor) -> Tensor:
        fused: Tensor = self.reduce(torch.cat([lateral_BD, top_down_BD], dim=1))
        return fused


class AddFusion(nn.Module):
    """`u + t`, of vectors or maps. Source: Li et al. (DTSKD), Table 8, "add"; Li et al. (TESKD), Table 4, FPN style."""

    def __init__(self, width: int) -> None:  # takes what the other fusions take
        super().__init__()

    def forward(self, top_down: Tensor, lateral: Tensor) -> Tensor:
        return top_down + lateral


FUSIONS: Mapping[str, Callable[[int], nn.Module]] = {
    "mixed": MixedFusion,
    "concat": ConcatFusion,
    "add": AddFusion,
}


class _AveragePooling(torch.autograd.Function):
    """Maps `[B, C, H, W]` averaged over space, `[B, C]`, with a gradient in the maps' own memory layout.

    That of `mean` is a broadcast view; added to the gradient of the network itself it made every later step of the
    backward pass slower on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.shape = maps.shape
        channels_last = maps.is_contiguous(memory_format=torch.channels_last)
        ctx.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return maps.mean(dim=(2, 3))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        _, _, height, width = ctx.shape
        each = (gradients[0] / (height * width))[:, :, None, None]
        dense: Tensor = each.expand(ctx.shape).contiguous(memory_format=ctx.memory_format)
        return dense


def _pooled(maps: Tensor) -> Tensor:
    vectors_BC: Tensor = _AveragePooling.apply(maps)
    return vectors_BC


class PooledLateral(nn.Module):
    """Average pooling, then a 1x1 convolution block."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.block = _block(channels, width)

    def forward(self, stage_map: Tensor) -> Tensor:
        vector_BD: Tensor = self.block(_pooled(stage_map))
        return vector_BD


class ConvolvedLateral(nn.Module):
    """A 1x1 convolution block at full resolution, average pooling, a second block. Source: release, ShuffleNetV2."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.convolution = Conv2dNormActivation(channels, width, kernel_size=1)
        self.block = _block(width, width)

    def forward(self, stage_map: Tensor) -> Tensor:
        vector_BD: Tensor = self.block(self.convolution(stage_map).mean(dim=(2, 3)))
        return vector_BD


LATERALS: Mapping[str, Callable[[int, int], nn.Module]] = {"pooled": PooledLateral, "convolved": ConvolvedLateral}


class PooledFusionBranches(nn.Module):
    """Three classifiers on a path from the deepest feature to the shallowest stage.

    At level b = 3, 2, 1: `u = f_s(F_{b+1})`, `t = f_t(pooled stage b)`, `F_b = fuse(u, t)`, `z_b = linear(F_b)`, where
    `F_4` is the backbone's pooled feature and `f_s`, `f_t` are 1x1 convolution, batch normalisation and ReLU.

    Args:
        stage_channels: channels of stages 1 to 3, shallow to deep.
        width: D, length of every feature; that of `F_4`.
        num_classes: K.
        fusion: "mixed" (the paper's), "concat" or "add".
        lateral: `f_t`: "pooled" pools before the convolution; "convolved" convolves at full resolution, pools, and
            convolves again.
    Raises: OptionError: if `fusion` or `lateral` is unknown.
    Source: Li et al. (DTSKD), section 3.3 and equation 8; the release keeps the width constant.
    """

    def __init__(
        self,
        stage_channels: Sequence[int],
        width: int,
        num_classes: int,
        fusion: str = "mixed",
        lateral: str = "pooled",
    ) -> None:
        super().__init__()
        one_of("fusion", fusion, FUSIONS)
        one_of("lateral", lateral, LATERALS)
        levels = range(len(stage_channels))
        self.laterals = nn.ModuleList(LATERALS[lateral](channels, width) for channels in stage_channels)
        self.top_down = nn.ModuleList(_block(width, width) for _ in levels)
        self.fusions = nn.ModuleList(FUSIONS[fusion](width) for _ in levels)
        self.classifiers = nn.ModuleList(nn.Linear(width, num_classes) for _ in levels)

    def forward(self, stages: Sequence[Tensor], pooled_BD: Tensor) -> dict[str, Tensor]:
        """Logits of every branch.

        Args:
            stages: stage maps 1 to 3, `[B, C_b, H_b, W_b]`, shallow to deep.
            pooled_BD: the backbone's pooled feature `[B, D]`.
        Returns: "branch1" (shallowest) to "branch3", each `[B, K]`.
        """
        feature_BD = pooled_BD
        logits: dict[str, Tensor] = {}
        for level in reversed(range(len(self.classifiers))):
            lateral_BD = self.laterals[level](stages[level])
            feature_BD = self.fusions[level](self.top_down[level](feature_BD), lateral_BD)
            logits[f"branch{level + 1}"] = self.classifiers[level](feature_BD)
        return {name: logits[name] for name in sorted(logits)}


class DirectBranches(nn.Module):
    """Three classifiers, each directly on its stage, without a top-down path, as a comparison for the fusion.

    Branch b: 1x1 convolution, batch normalisation, ReLU, average pooling, a linear classifier.

    Args:
        stage_channels: channels of stages 1 to 3, shallow to deep.
        width: D, channels of every convolution.
        num_classes: K.
    Source: Li et al. (DTSKD), section 4.3, Table 7.
    """

    def __init__(self, stage_channels: Sequence[int], width: int, num_classes: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            Conv2dNormActivation(channels, width, kernel_size=1) for channels in stage_channels
        )
        self.classifiers = nn.ModuleList(nn.Linear(width, num_classes) for _ in stage_channels)

    def forward(self, stages: Sequence[Tensor], pooled_BD: Tensor) -> dict[str, Tensor]:
        """As `PooledFusionBranches.forward`; `pooled_BD` is not used."""
        return {
            f"branch{position + 1}": classifier(convolution(stage_map).mean(dim=(2, 3)))
            for position, (stage_map, convolution, classifier) in enumerate(
                zip(stages, self.convolutions, self.classifiers, strict=True)
            )
        }
