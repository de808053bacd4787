"""The common form of the papers' networks for small images: a stem, four stages, a classifier on pooled features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from selfkd.option_checks import LARGEST_SIZE, at_least, multiple_of, one_of

__all__ = ["SmallImageNetwork", "StagePlan", "check_sizes", "nearest_multiple"]


@dataclass(frozen=True)
class StagePlan:
    """The description of one stage.

    Args:
        block: `block(in_channels, out_channels, stride)` builds one block.
        channels: output channels of each block, in order.
        stride: the stage divides the height and width of its input by it.
        strided: position of the block that has the stride, -1 for the last.
        channel_multiple: output channels are rounded to a multiple of it.
    """

    block: Callable[[int, int, int], nn.Module]
    channels: Sequence[int]
    stride: int = 2
    strided: int = 0
    channel_multiple: int = 1

    def build(self, in_channels: int, depth: int | None = None, width_factor: float = 1) -> nn.Sequential:
        """The stage, or a variant with another depth and width.

        A shallower variant has the stage's first blocks, a deeper one repeats the last block. The last block always has
        the stage's output channels.
        """
        channels = self.channels
        if depth is not None:
            begin = channels[: depth - 1]
            channels = [*begin, *[channels[-1]] * (depth - len(begin))]
        outputs = [nearest_multiple(width_factor * channel, self.channel_multiple) for channel in channels]
        strided = self.strided % len(outputs)
        return nn.Sequential(
            *(
                self.block(before, after, self.stride if position == strided else 1)
                for position, (before, after) in enumerate(pairwise([in_channels, *outputs]))
            )
        )


class SmallImageNetwork(nn.Module, ABC):
    """A classifier of small images that knows its stages, with the methods of timm's networks.

    The stages are the modules `layer1` to `layer4`, the classifier is `fc`.

    Args:
        num_classes: K.
        stem: the layers before the first stage by name, in order; empty if the first stage takes the images.
        stem_channels: channels of the stem's map.
        stem_reduction: the stem divides height and width by it.
        stages: the four stages, shallow to deep.
        final: `final(width_factor)` builds the layers between the last stage and the pooling, with their input and
            output channels multiplied; None for none.
        num_features: D, channels of the map that is pooled; None for those of the last stage.
        classifier: `classifier(D, K)` builds the layers after the pooling.
        initialize: the family's initialisation of a module; None leaves PyTorch's.

    Attributes:
        num_classes: K.
        num_features: D.
        feature_info: for each stage its channels (`num_chs`), the image's side by the map's (`reduction`) and its name
            (`module`).
    """

    @abstractmethod
    def __init__(
        self,
        num_classes: int,
        *,
        stem: Mapping[str, nn.Module],
        stem_channels: int,
        stem_reduction: int = 1,
        stages: Sequence[StagePlan],
        final: Callable[[float], nn.Module] | None = None,
        num_features: int | None = None,
        classifier: Callable[[int, int], nn.Module] = nn.Linear,
        initialize: Callable[[nn.Module], None] | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = stages[-1].channels[-1] if num_features is None else num_features
        self.feature_info: list[dict[str, Any]] = []
        self._plans = tuple(stages)
        self._in_channels = (stem_channels, *(plan.channels[-1] for plan in stages[:-1]))
        self._stem_names = tuple(stem)
        self._final = final
        self._classifier = classifier
        self._initialize = initialize
        built_final = self._built_final()  # before anything is initialised: seeds of finished runs give these weights
        for name, layer in stem.items():
            self.add_module(name, layer)
            self.initialize_branches(layer)
        reduction = stem_reduction
        for index, plan in enumerate(stages):
            reduction *= plan.stride
            name = _stage_name(index)
            self.add_module(name, self.new_stage(index))
            self.feature_info.append({"num_chs": plan.channels[-1], "reduction": reduction, "module": name})
        self.final = built_final
        self.initialize_branches(self.final)
        self.fc = self.new_classifier()

    def new_stage(self, index: int, depth: int | None = None, width_factor: float = 1) -> nn.Sequential:
        """A freshly initialised stage; arguments as in `Staged.new_stage`.

        Returns: a module that takes the map of stage `index - 1` (for index 0 that of the stem, or the images if there
            is no stem) and gives a map like that of stage `index`.
        """
        stage = self._plans[index].build(self._in_channels[index], depth, width_factor)
        self.initialize_branches(stage)
        return stage

    def new_final(self, width_factor: float = 1) -> nn.Module:
        """Freshly initialised layers between the last stage and the pooling; arguments as in `Staged.new_final`."""
        final = self._built_final(width_factor)
        self.initialize_branches(final)
        return final

    def stage_depth(self, index: int) -> int:
        """Number of blocks of a stage."""
        return len(self._plans[index].channels)

    def new_classifier(self) -> nn.Module:
        """A freshly initialised classifier from pooled features `[B, D]` to logits `[B, K]`."""
        classifier = self._classifier(self.num_features, self.num_classes)
        self.initialize_branches(classifier)
        return classifier

    def initialize_branches(self, branches: nn.Module) -> None:
        """Initialise all layers of a module, in place, as the family does; without a rule of its own they stay."""
        if self._initialize is not None:
            self._initialize(branches)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Sequence[int] | None = None,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        **ignored: Any,
    ) -> Any:
        """The map that is pooled and the maps of stages, as timm's networks return them.

        Args:
            x: images `[B, C, H, W]`.
            indices: the wanted stages; negative numbers count from the end; None for all four.
            output_fmt: "NCHW", the only layout that these networks have.
            intermediates_only: stop after the deepest wanted stage.
            ignored: further arguments of timm's networks, which change nothing here (`norm`, `stop_early`).
        Returns: (pooled map, maps of the wanted stages), or the maps alone if `intermediates_only`.
        """
        one_of("output_fmt", output_fmt, ["NCHW"])
        wanted = self._stage_indices(indices)
        for name in self._stem_names:
            x = getattr(self, name)(x)
        maps = {}
        for index in range(max(wanted) + 1 if intermediates_only else len(self._plans)):
            x = maps[index] = getattr(self, _stage_name(index))(x)
        intermediates = [maps[index] for index in wanted]
        return intermediates if intermediates_only else (self.final(x), intermediates)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits `[B, K]` of the map that is pooled, or the pooled vector `[B, D]` if `pre_logits`."""
        pooled = x.mean(dim=(2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[B, K]` of images `[B, C, H, W]`."""
        return self.forward_head(self.forward_intermediates(x)[0])

    def prune_intermediate_layers(
        self, indices: Sequence[int], prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the layers that the maps of the given stages do not need, as timm's networks do.

        Args:
            indices: the stages to keep.
            prune_norm: an argument of timm's networks without effect here: no norm follows the last stage.
            prune_head: drop also the layers between the last stage and the logits.
        Returns: the indices, none negative.
        """
        kept = self._stage_indices(indices)
        for index in range(max(kept) + 1, len(self._plans)):
            self.add_module(_stage_name(index), nn.Identity())
        if prune_head:
            self.final, self.fc = nn.Identity(), nn.Identity()
        return kept

    def _built_final(self, width_factor: float = 1) -> nn.Module:
        """The layers between the last stage and the pooling, with PyTorch's initialisation."""
        return nn.Identity() if self._final is None else self._final(width_factor)

    def _stage_indices(self, indices: Sequence[int] | None) -> list[int]:
        every = range(len(self._plans))
        return list(every) if indices is None else [every[index] for index in indices]


def check_sizes(num_classes: int, width: int, in_channels: int, width_multiple: int = 1) -> None:
    """Check the sizes of a network for small images.

    Raises: OptionError: if a size is too small or too large, or `width` is no multiple of `width_multiple`.
    """
    at_least("num_classes", num_classes, 2)
    multiple_of("width", width, width_multiple, LARGEST_SIZE)
    at_least("in_channels", in_channels, 1, LARGEST_SIZE)


def nearest_multiple(value: float, multiple: int = 1) -> int:
    """The multiple that is nearest to a value, at least `multiple`: 0.3 and 1 give 1, 58 and 12 give 60."""
    return max(1, round(value / multiple)) * multiple


def _stage_name(index: int) -> str:
    return f"layer{index + 1}"
