"""Exits: classifiers on a stage of the network, and the networks that end at them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from selfkd.backbones.staged import NUM_STAGES, Staged

__all__ = ["BRANCHES", "EXITS", "DeployedExit", "Exit", "ExitOutput", "StageExits", "logits_of_exits"]

BRANCHES = tuple(f"branch{i}" for i in range(1, NUM_STAGES))
"""Heads of the exits on stages 1 to 3, shallowest first."""
EXITS = (*BRANCHES, "main")
"""Heads of all exits, shallowest first; the last exit is the network's own classifier."""


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


class StageExits(nn.Module):
    """One exit with a linear classifier on each of stages 1 to 3. No two exits share a parameter.

    Args:
        chains: for each stage, shallowest first, the layers from its map to the map that is pooled. If they come from
            a generator, each classifier is built after its chain, and random initial weights are drawn in this order.
        channels: P, channels of every map that is pooled.
        num_classes: K.
    """

    def __init__(self, chains: Iterable[nn.Module], channels: int, num_classes: int) -> None:
        super().__init__()
        self.exits = nn.ModuleList(Exit(chain, nn.Linear(channels, num_classes)) for chain in chains)

    def forward(self, stages: Sequence[Tensor]) -> dict[str, ExitOutput]:
        """Feature and logits of every exit: "branch1" (shallowest) to "branch3".

        Args:
            stages: stage maps 1 to 3, `[B, C_i, H_i, W_i]`, shallow to deep.
        """
        outputs = (exit_(stage_map) for exit_, stage_map in zip(self.exits, stages, strict=True))
        return dict(zip(BRANCHES, outputs, strict=True))

    def deployed(self, backbone: Staged) -> dict[str, nn.Module]:
        """The plain network as "main", and the networks that end at an exit as "branch1" to "branch3".

        They share their tensors with the backbone and the exits. Their train and eval mode is their own.

        Raises: BackboneError: if the network cannot be cut after a stage.
        """
        shallow = {head: DeployedExit(backbone.up_to(i), self.exits[i]) for i, head in enumerate(BRANCHES)}
        return {"main": backbone.network, **shallow}


def logits_of_exits(main: Tensor, exits: Mapping[str, ExitOutput]) -> dict[str, Tensor]:
    """The logits `[B, K]` of all heads of a network with exits: "main", the exits' and "ensemble".

    Args:
        main: logits of the network's own classifier, `[B, K]`.
        exits: what the exits gave, by head.
    Returns: the heads in this order; "ensemble" is the mean of all others' logits, without gradient.
    """
    heads = {"main": main, **{head: each.logits for head, each in exits.items()}}
    return {**heads, "ensemble": torch.stack(list(heads.values())).detach().mean(dim=0)}
