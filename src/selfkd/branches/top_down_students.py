"""Students on a path from the deepest stage to the shallowest at full resolution (TESKD).

The function is the paper's, the order of operations is not. A 1x1 convolution commutes with bilinear upsampling, so it
runs first, on a quarter of the pixels. A 1x1 convolution of a concatenation is a sum of two convolutions, so neither
the concatenation nor the sum before it is stored. Batch normalisation gets the same maps as in the literal order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import conv2d, relu
from torchvision.ops import Conv2dNormActivation

from selfkd.branches.patch_conv import PatchConv2d
from selfkd.branches.pooled_fusion import AddFusion
from selfkd.branches.upsampling import upsampled
from selfkd.option_checks import one_of

__all__ = ["MAP_FUSIONS", "TopDownStudents"]


class _Upsampling(nn.Module):
    """Bilinear upsampling, 1x1 convolution, batch normalisation and ReLU, computed with the convolution first."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, deeper: Tensor, size: Sequence[int]) -> Tensor:
        return relu(self.norm(upsampled(self.conv(deeper), size[0], size[1])), inplace=True)


class _ReducingFusion(nn.Module):
    """A 1x1 convolution from two maps to one, batch normalisation and ReLU, computed without a concatenation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(2 * width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def _convolved(self, first: Tensor, first_weight: Tensor, second: Tensor, second_weight: Tensor) -> Tensor:
        mixed = conv2d(first, first_weight).add_(conv2d(second, second_weight))
        return relu(self.norm(mixed), inplace=True)


class MixedMapFusion(_ReducingFusion):
    """`conv(concat[u + t, u])`, computed as `(W_1 + W_2) u + W_1 t`. Source: Li et al. (TESKD), section 3.2."""

    def forward(self, top_down: Tensor, lateral: Tensor) -> Tensor:
        on_sum, on_top_down = self.reduce.weight.chunk(2, dim=1)
        return self._convolved(top_down, on_sum + on_top_down, lateral, on_sum)


class ConcatMapFusion(_ReducingFusion):
    """`conv(concat[t, u])`. Source: Li et al. (TESKD), Table 4, "UNet style"."""

    def forward(self, top_down: Tensor, lateral: Tensor) -> Tensor:
        on_lateral, on_top_down = self.reduce.weight.chunk(2, dim=1)
        return self._convolved(top_down, on_top_down, lateral, on_lateral)


MAP_FUSIONS: Mapping[str, Callable[[int], nn.Module] | None] = {
    "mixed": MixedMapFusion,
    "concat": ConcatMapFusion,
    "add": AddFusion,  # Table 4, "FPN style"
    "none": None,  # the upsampled feature alone, Table 4, "no connection"
}


class _Student(nn.Module):
    """From a fused map to pooled feature and logits."""

    def __init__(self, width: int, num_features: int, num_classes: int, window: int, convolutions: int) -> None:
        super().__init__()
        widths = [width] * convolutions + [num_features]
        convs = [PatchConv2d(widths[0], widths[1], window), *(nn.Conv2d(i, o, 1) for i, o in pairwise(widths[1:]))]
        self.convolutions = nn.Sequential(
            *(nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True)) for conv in convs)
        )
        self.classifier = nn.Linear(num_features, num_classes)

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        feature_BD = self.convolutions(fused).mean(dim=(2, 3))
        return feature_BD, self.classifier(feature_BD)


class _Level(nn.Module):
    """One step of the top-down path: upsampling, then fusion with the stage's own map, if there is a fusion."""

    def __init__(
        self, deeper_channels: int, channels: int, width: int, fusion: Callable[[int], nn.Module] | None
    ) -> None:
        super().__init__()
        self.upsampling = _Upsampling(deeper_channels, width)
        self.lateral = None if fusion is None else _lateral(channels, width)
        self.fusion = None if fusion is None else fusion(width)

    def forward(self, deeper: Tensor, stage_map: Tensor) -> Tensor:
        fused: Tensor = self.upsampling(deeper, stage_map.shape[-2:])
        if self.fusion is not None and self.lateral is not None:
            fused = self.fusion(fused, self.lateral(stage_map))
        return fused


def _lateral(channels: int, width: int) -> nn.Module:
    """1x1 convolution, batch normalisation, ReLU."""
    block: nn.Module = Conv2dNormActivation(channels, width, kernel_size=1)
    return block


class TopDownStudents(nn.Module):
    """Student classifiers on the three shallower stages; each gets the features of all deeper stages.

    `S_4 = L_4(T_4)`, or `S_4 = T_4`; at level b = 3, 2, 1: `u = U_b(S_{b+1})`, `t = L_b(T_b)`, `S_b = fuse(u, t)`.
    `U_b` is bilinear upsampling to the size of `T_b` (corners aligned), 1x1 convolution, batch normalisation, ReLU;
    `L_b` the latter three. Student b: a convolution with non-overlapping windows that brings `S_b` to the size of `T_4`
    (to two pixels a side if `T_4` has one) and a 1x1 convolution, each with bias, batch normalisation and ReLU; average
    pooling; a linear classifier.

    Args:
        stage_shapes: (channels, height, width) of the four stages, shallow to deep, each half the size of the last.
        width: channels of every student map.
        num_features: D, length of every student's pooled feature, equal to that of the teacher.
        num_classes: K.
        students: numbers of the students, out of 1 (shallowest) to 3; levels below the shallowest are not built.
        fusion: "mixed" (the paper's), "concat", "add" or "none".
        convolutions: number of convolutions of each student before its pooling: 2 (release) or 1 (the paper's text).
        top_lateral: whether `L_4` exists (as in the release); else the last stage is upsampled as it is.
    Raises: OptionError: if `fusion` is unknown.
    Source: Li et al. (TESKD), section 3.2 and its release.
    """

    def __init__(
        self,
        stage_shapes: Sequence[tuple[int, int, int]],
        width: int,
        num_features: int,
        num_classes: int,
        students: Sequence[int] = (1, 2, 3),
        fusion: str = "mixed",
        convolutions: int = 2,
        top_lateral: bool = True,
    ) -> None:
        super().__init__()
        fuser = MAP_FUSIONS[one_of("fusion", fusion, MAP_FUSIONS)]
        smallest = max(min(stage_shapes[-1][1:]), 2)
        last_channels = stage_shapes[-1][0]
        self.top: nn.Module = _lateral(last_channels, width) if top_lateral else nn.Identity()
        deeper_channels = width if top_lateral else last_channels
        self.levels = nn.ModuleDict()
        self.students = nn.ModuleDict()
        for number in reversed(range(min(students), len(stage_shapes))):
            channels, *sides = stage_shapes[number - 1]
            name = f"branch{number}"
            self.levels[name] = _Level(deeper_channels, channels, width, fuser)
            deeper_channels = width
            if number in students:
                window = max(min(sides) // smallest, 1)
                self.students[name] = _Student(width, num_features, num_classes, window, convolutions)

    def forward(self, stages: Sequence[Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pooled features `[B, D]` and logits `[B, K]` of every student: "branch1" (shallowest) to "branch3".

        Args:
            stages: the four stage maps `[B, C_b, H_b, W_b]`, shallow to deep.
        """
        fused = self.top(stages[-1])
        features, logits = {}, {}
        for (name, level), stage_map in zip(self.levels.items(), reversed(stages[:-1]), strict=False):
            fused = level(fused, stage_map)
            if name in self.students:
                features[name], logits[name] = self.students[name](fused)
        shallow_first = sorted(features)
        return {name: features[name] for name in shallow_first}, {name: logits[name] for name in shallow_first}
