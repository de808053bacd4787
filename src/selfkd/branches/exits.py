"""Exits: classifiers on a stage of the network, and the networks that end at them."""

from __future__ import annotations

import copy
from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["DeployedExit", "Exit", "ExitOutput"]


class ExitOutput(NamedTuple):
    """The output of an exit: `feature` `[B, P, H, W]`, the map that it pools, and `logits` `[B, K]`."""

    feature: Tensor
    logits: Tensor


class Exit(nn.Module):
    """Layers on a stage map, global average pooling, a classifier.

    Args:
        chain: from the stage map `[B, C, H, W]` to the map that is pooled, `[B, P, H', W']`.
        classifier: from the pooled vector `[B, P]` to logits `[B, K]`.
    """

    def __init__(self, chain: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.chain = chain
        self.classifier = classifier

    def forward(self, stage_map: Tensor) -> ExitOutput:
        """Feature and logits of a stage map `[B, C, H, W]`."""
        feature: Tensor = self.chain(stage_map)
        return ExitOutput(feature, self.classifier(feature.mean(dim=(2, 3))))


class DeployedExit(nn.Module):
    """A network that ends at an exit: from images to logits.

    Args:
        trunk: from images `[B, C, H, W]` to the stage map at the start of the exit (`Staged.up_to`).
        exit_: the exit. A copy that shares its tensors is used: the copy follows what the original learns, and has its
            own mode (training or evaluation).
    """

    def __init__(self, trunk: nn.Module, exit_: nn.Module) -> None:
        super().__init__()
        tensors = (*exit_.parameters(), *exit_.buffers())
        self.trunk = trunk
        self.exit = copy.deepcopy(exit_, memo={id(tensor): tensor for tensor in tensors})

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, K]`."""
        logits_BK: Tensor = self.exit(self.trunk(images)).logits
        return logits_BK
