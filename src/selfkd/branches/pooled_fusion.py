"""Feather-weight top-down branches on pooled feature vectors (DTSKD).

All features are vectors, maps of one pixel, so the papers' 1x1 convolutions are linear layers here: the same function,
the same parameters, less overhead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from selfkd.option_checks import one_of

__all__ = ["FUSIONS", "PooledFusionBranches"]


def _block(in_features: int, out_features: int) -> nn.Sequential:
    """A 1x1 convolution on one pixel, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Linear(in_features, out_features, bias=False), nn.BatchNorm1d(out_features), nn.ReLU(inplace=True)
    )


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
    """`u + t`. Source: Li et al. (DTSKD), Table 8, "add"."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, top_down_BD: Tensor, lateral_BD: Tensor) -> Tensor:
        return top_down_BD + lateral_BD


FUSIONS: Mapping[str, Callable[[int], nn.Module]] = {
    "mixed": MixedFusion,
    "concat": ConcatFusion,
    "add": AddFusion,
}


class PooledFusionBranches(nn.Module):
    """Three classifiers grown from the deepest feature towards the shallowest stage.

    At level b = 3, 2, 1: `u = f_s(F_{b+1})`, `t = f_t(pooled stage b)`, `F_b = fuse(u, t)`, `z_b = linear(F_b)`, where
    `F_4` is the backbone's pooled feature and `f_s`, `f_t` are 1x1 convolution, batch normalisation and ReLU.

    Args:
        stage_channels: channels of stages 1 to 3, shallow to deep.
        width: D, length of every feature; that of `F_4`.
        num_classes: K.
        fusion: "mixed" (the paper's), "concat" or "add".
    Raises: OptionError: if `fusion` is unknown.
    Source: Li et al. (DTSKD), section 3.3 and equation 8; the release keeps the width constant.
    """

    def __init__(self, stage_channels: Sequence[int], width: int, num_classes: int, fusion: str = "mixed") -> None:
        super().__init__()
        one_of("fusion", fusion, FUSIONS)
        levels = range(len(stage_channels))
        self.laterals = nn.ModuleList(_block(channels, width) for channels in stage_channels)
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
            lateral_BD = self.laterals[level](stages[level].mean(dim=(2, 3)))
            feature_BD = self.fusions[level](self.top_down[level](feature_BD), lateral_BD)
            logits[f"branch{level + 1}"] = self.classifiers[level](feature_BD)
        return dict(sorted(logits.items()))
