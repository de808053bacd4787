"""A staged view of any network: its stage maps, pooled features and logits. The network itself is not changed."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from selfkd.backbones import BACKBONES
from selfkd.backbones.torchvision_stages import StageModules
from selfkd.contract import Features
from selfkd.errors import BackboneError, OptionError
from selfkd.eval_mode import eval_mode
from selfkd.option_checks import at_least, positive

__all__ = ["NUM_STAGES", "Staged", "stage"]

NUM_STAGES = 4
"""Number of stages that every method sees."""
_FAMILY_PARTS = ("new_stage", "new_final", "new_classifier", "stage_depth")
"""Methods of a network that can build its own blocks anew."""


class Staged(nn.Module, ABC):
    """A view of a network as four stages and a classifier.

    `staged.network` is the given network itself. It is not changed, and deployed with its own state-dict keys.

    Attributes:
        network: the wrapped network.
        input_size: (channels, height, width) of one image.
        stage_shapes: (channels, height, width) of the four stage maps, shallow to deep, for one image of `input_size`.
        final_shape: the same for the map that the classifier pools.
        num_features: D, length of the pooled vector.
        num_classes: K.
    """

    input_size: tuple[int, int, int]
    stage_shapes: tuple[tuple[int, int, int], ...]
    final_shape: tuple[int, int, int]
    num_features: int
    num_classes: int

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """The network's maps, pooled features and logits.

        Args:
            images: `[B, C, H, W]`, normalised.
        """

    @property
    def builds_own_blocks(self) -> bool:
        """Whether the network's family can build new stages, the layers after them, and classifiers."""
        return all(hasattr(self.network, part) for part in _FAMILY_PARTS)

    def new_stage(self, index: int, depth: int | None = None, width_factor: float = 1) -> nn.Module:
        """A freshly initialised copy of one stage of this network.

        Args:
            index: 0 for the shallowest stage.
            depth: number of blocks; None for as many as the stage has.
            width_factor: multiplies the stage's inner and output channels; its input stays as it is.
        Returns: a module that takes the map of stage `index - 1` (for index 0 the input of the network's first stage)
            and gives a map like that of stage `index`.
        Raises:
            OptionError: if an argument is out of range.
            BackboneError: if the network's family cannot build new stages; the message names the networks that can.
        """
        self._check_index(index)
        if depth is not None:
            at_least("depth", depth, 1)
        positive("width_factor", width_factor)
        stage: nn.Module = self._family_part("new_stage")(index, depth, width_factor)
        return stage

    def new_final(self, width_factor: float = 1) -> nn.Module:
        """Freshly initialised copies of the layers between the last stage and the pooling, or an identity.

        Args:
            width_factor: multiplies the channels of their input and output, to follow a stage of this width.
        Returns: a module that takes the map of the last stage and gives a map like `Features.final`.
        Raises:
            OptionError: if `width_factor` is not positive.
            BackboneError: if the network's family cannot build them; the message names the networks that can.
        """
        positive("width_factor", width_factor)
        final: nn.Module = self._family_part("new_final")(width_factor)
        return final

    def stage_depth(self, index: int) -> int:
        """Number of blocks of one stage, as `new_stage` counts them.

        Args:
            index: 0 for the shallowest stage.
        Raises:
            OptionError: if `index` is out of range.
            BackboneError: if the network's family cannot build new stages; the message names the networks that can.
        """
        self._check_index(index)
        depth: int = self._family_part("stage_depth")(index)
        return depth

    def new_classifier(self) -> nn.Module:
        """A freshly initialised copy of the classifier, from pooled features `[B, D]` to logits `[B, K]`.

        Raises: BackboneError: if the network's family cannot build one; the message names the networks that can.
        """
        classifier: nn.Module = self._family_part("new_classifier")()
        return classifier

    def up_to(self, index: int) -> nn.Module:
        """The part of the network that computes one stage's map, on which an exit is deployed.

        Args:
            index: 0 for the shallowest stage.
        Returns: a module from images `[B, C, H, W]` to the stage's map. It shares the tensors of this network, and has
            none that the map does not need.
        Raises:
            OptionError: if `index` is out of range.
            BackboneError: if the network cannot be cut.
        """
        self._check_index(index)
        raise BackboneError(
            f"{type(self.network).__name__} cannot be cut after a stage, because its stages were given by module "
            "names; the networks of timm and selfkd can be cut"
        )

    def initialize_branches(self, branches: nn.Module) -> None:
        """Initialise branches as the network's family initialises its own layers.

        A family without a rule of its own leaves PyTorch's initialisation.
        """
        initialize = getattr(self.network, "initialize_branches", None)
        if initialize is not None:
            initialize(branches)

    def _check_index(self, index: int) -> None:
        at_least("index", index, 0)
        if index >= NUM_STAGES:
            raise OptionError("index", index, f"from 0 to {NUM_STAGES - 1}")

    def _family_part(self, name: str) -> Callable[..., Any]:
        part: Callable[..., Any] | None = getattr(self.network, name, None)
        if part is None:
            raise BackboneError(
                f"{type(self.network).__name__} has no {name}(), which this method needs to build branches from the "
                f"network's own blocks; these networks have it: {', '.join(BACKBONES)}"
            )
        return part

    def _measure(self, input_size: tuple[int, int, int]) -> None:
        """Find all shapes before training, by one forward pass of zeros in eval mode. Modes are restored."""
        parameter = next(self.network.parameters(), None)
        images = torch.zeros(1, *input_size)
        if parameter is not None:
            images = images.to(parameter.device, parameter.dtype)
        try:
            with eval_mode(self.network), torch.no_grad():
                features = self(images)
        except BackboneError:
            raise
        except Exception as error:  # a user's network may fail in any way
            reason = str(error).rstrip(".")
            raise BackboneError(
                f"{type(self.network).__name__} cannot be run on one image of shape {input_size}: {reason}; "
                "a network that is built for one size of images, such as a ViT, takes this size as its option img_size"
            ) from error
        self._check_maps(features, input_size)
        self.input_size = input_size
        self.stage_shapes = tuple(_shape(stage_map) for stage_map in features.stages)
        self.final_shape = _shape(features.final)
        self.num_features = features.pooled.shape[1]
        self.num_classes = features.logits.shape[1]

    def _check_maps(self, features: Features, input_size: tuple[int, int, int]) -> None:
        name = type(self.network).__name__
        shapes = [_shape(stage_map) for stage_map in features.stages]
        if any(later[1] > earlier[1] for earlier, later in pairwise(shapes)):
            raise BackboneError(f"the stages of {name} must be listed from shallow to deep; their maps are {shapes}")
        square = input_size[1] == input_size[2]
        if square and any(height != width for _, height, width in shapes):
            raise BackboneError(
                f"the maps of {name} look channels-last, {shapes}; a stage must give [B, C, H, W] "
                "(timm's networks of this kind work under their timm name)"
            )


class IntermediatesStaged(Staged):
    """A network with timm's `forward_intermediates` and `forward_head`, which our own networks have too."""

    def __init__(self, network: nn.Module, input_size: tuple[int, int, int]) -> None:
        super().__init__(network)
        self.indices = _four_of(network)
        self._measure(input_size)

    def forward(self, images: Tensor) -> Features:
        network: Any = self.network
        output, maps = network.forward_intermediates(images, indices=self.indices, output_fmt="NCHW")
        logits = network.forward_head(output)
        if output.ndim == 4:
            final = _channels_first(output, network)
            pooled = final.mean(dim=(2, 3))
        else:
            # Tokens: only the head knows whether it pools a class token or the mean.
            final = _tokens_to_map(output, network, maps[-1])
            pooled = network.forward_head(output, pre_logits=True)
        return Features(stages=tuple(maps), final=final, pooled=pooled, logits=logits)

    def up_to(self, index: int) -> nn.Module:
        self._check_index(index)
        tensors = (*self.network.parameters(), *self.network.buffers())
        # The copy shares the tensors, so it follows what the network learns later.
        network: Any = copy.deepcopy(self.network, memo={id(tensor): tensor for tensor in tensors})
        network.prune_intermediate_layers([self.indices[index]], prune_norm=False, prune_head=True)
        return _StageMap(network, self.indices[index])


class _StageMap(nn.Module):
    """The part of a network from the images to one stage's map."""

    def __init__(self, network: nn.Module, index: int) -> None:
        super().__init__()
        self.network = network
        self.index = index

    def forward(self, images: Tensor) -> Tensor:
        network: Any = self.network
        maps: list[Tensor] = network.forward_intermediates(
            images, indices=[self.index], output_fmt="NCHW", intermediates_only=True
        )
        return maps[0]


class HookedStaged(Staged):
    """Any network; the names of modules say whose outputs are its stage maps."""

    def __init__(
        self,
        network: nn.Module,
        stages: Sequence[str],
        final: str | None,
        input_size: tuple[int, int, int],
        channels_last: bool = False,
    ) -> None:
        super().__init__(network)
        self.channels_last = channels_last
        if isinstance(stages, str) or len(set(stages)) < len(stages):
            raise BackboneError(f"stages={stages!r} must be a list of different names, from shallow to deep")
        if len(stages) < NUM_STAGES:
            raise BackboneError(f"stages={list(stages)} names {len(stages)} modules; {NUM_STAGES} are needed")
        self.stage_names = tuple(stages)[-NUM_STAGES:]
        self.final_name = final if final is not None else self.stage_names[-1]
        modules = dict(network.named_modules())
        missing = [name for name in (*self.stage_names, self.final_name) if name not in modules]
        if missing:
            raise BackboneError(
                f"{type(network).__name__} has no submodule {missing[0]!r}; "
                f"its children: {', '.join(name for name, _ in network.named_children())}"
            )
        self._stage_modules = {name: modules[name] for name in dict.fromkeys((*self.stage_names, self.final_name))}
        self._measure(input_size)

    def forward(self, images: Tensor) -> Features:
        captured: dict[str, Tensor] = {}

        def capture(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
                captured[name] = output.permute(0, 3, 1, 2) if self.channels_last and output.ndim == 4 else output

            return hook

        # The hooks exist during this call only, so the network stays as it was.
        handles = [module.register_forward_hook(capture(name)) for name, module in self._stage_modules.items()]
        try:
            logits = self.network(images)
        finally:
            for handle in handles:
                handle.remove()
        for name in self._stage_modules:
            output = captured.get(name)
            if not isinstance(output, Tensor) or output.ndim != 4:
                came = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise BackboneError(
                    f"stage {name!r} must give a map [B, C, H, W]; it gave {came} (for a transformer use its timm name)"
                )
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise BackboneError(f"{type(self.network).__name__} must return logits [B, K]")
        final = captured[self.final_name]
        stages = tuple(captured[name] for name in self.stage_names)
        return Features(stages=stages, final=final, pooled=final.mean(dim=(2, 3)), logits=logits)


def stage(
    network: nn.Module,
    stages: Sequence[str] | None = None,
    input_size: int | tuple[int, int, int] | None = None,
    final: str | None = None,
) -> Staged:
    """Wrap a network without changing it.

    Args:
        network: any classifier `[B, C, H, W] -> [B, K]`.
        stages: dotted names of the submodules whose outputs are the stage maps, from shallow to deep; of more than four
            the last four are used. None for networks that know their stages: timm's, ours, and torchvision's that were
            created by name, `create_backbone("torchvision/resnet18", ...)`.
        input_size: side of a square RGB image, or (channels, height, width); None if the network knows it.
        final: name of the submodule whose output the classifier pools, given together with `stages`; None for the last
            stage.
    Raises: BackboneError: if the network has fewer than four stages, a name is unknown, or the size does not fit.
    """
    size = _input_size(network, input_size)
    if stages is not None:
        return HookedStaged(network, stages, final, size)
    if final is not None:
        raise BackboneError("final= needs stages=; without stages= the network's own final map is used")
    known = getattr(network, "stages", None)
    if isinstance(known, StageModules):
        return HookedStaged(network, known.stages, known.final, size, known.channels_last)
    if not (hasattr(network, "forward_intermediates") and hasattr(network, "forward_head")):
        newer = "install timm 1.0.31 or newer, whose networks know theirs; or " if _is_from_timm(network) else ""
        raise BackboneError(
            f"{type(network).__name__} does not know its stages; {newer}name four submodules from shallow to deep, "
            'for example stage(network, stages=["layer1", "layer2", "layer3", "layer4"], input_size=224)'
        )
    return IntermediatesStaged(network, size)


def _is_from_timm(network: nn.Module) -> bool:
    return type(network).__module__.split(".")[0] == "timm"


def _input_size(network: nn.Module, given: int | tuple[int, int, int] | None) -> tuple[int, int, int]:
    if isinstance(given, int):
        given = (3, given, given)
    if given is not None:
        if len(given) != 3 or not all(isinstance(side, int) and side > 0 for side in given):
            raise OptionError("input_size", given, "the side of a square image, or (channels, height, width)")
        return given
    own = getattr(network, "pretrained_cfg", {}).get("input_size")
    if own is None:
        raise BackboneError(f"{type(network).__name__} does not say its input size; add input_size=, for example 32")
    return (int(own[0]), int(own[1]), int(own[2]))


def _four_of(network: Any) -> list[int]:
    """Indices of the maps of a timm network that are its stages: the deepest four, or four evenly spaced blocks."""
    info = network.feature_info
    reductions = [entry["reduction"] for entry in (info if isinstance(info, list) else info.info)]
    count = len(reductions)
    if count < NUM_STAGES:
        raise BackboneError(f"{type(network).__name__} has {count} stages; {NUM_STAGES} are needed")
    if len(set(reductions)) == 1:
        return [math.ceil(count * (i + 1) / NUM_STAGES) - 1 for i in range(NUM_STAGES)]
    return list(range(count - NUM_STAGES, count))


def _channels_first(output: Tensor, network: Any) -> Tensor:
    return output.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "NCHW") == "NHWC" else output


def _tokens_to_map(tokens: Tensor, network: Any, like: Tensor) -> Tensor:
    """Patch tokens `[B, N, C]` as a map with the side lengths of the last stage."""
    patches = tokens[:, getattr(network, "num_prefix_tokens", 0) :]
    return patches.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], like.shape[2], like.shape[3])


def _shape(stage_map: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = stage_map.shape
    return channels, height, width
