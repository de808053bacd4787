"""Branches that grow from a network's own blocks: fresh copies of its last stages on one of its stage maps."""

from __future__ import annotations

import torch
from torch import nn

from selfkd.backbones.staged import NUM_STAGES, Staged
from selfkd.branches.exits import Exit
from selfkd.eval_mode import eval_mode

__all__ = ["last_stage_copy", "stage_copies"]

_LAST = NUM_STAGES - 1


def last_stage_copy(backbone: Staged, depth: int | None = None) -> Exit:
    """A copy of all that follows stage 3: stage 4, the layers before the pooling, and the network's own classifier.

    Args:
        backbone: the network.
        depth: blocks of the copy of stage 4; None for as many as the network's.
    Returns: an exit on the map of stage 3, freshly initialised.
    Raises: BackboneError: if the network's family cannot build new stages; the message names the networks that can.
    """
    return Exit(nn.Sequential(backbone.new_stage(_LAST, depth), backbone.new_final()), backbone.new_classifier())


def stage_copies(backbone: Staged, first: int, last_depth: int | None = None, last_width_factor: float = 1) -> Exit:
    """Copies of the network's stages from `first` on, the layers before the pooling, and a linear classifier.

    Args:
        backbone: the network.
        first: index of the first copied stage, from 1 to 3.
        last_depth: blocks of the copy of the last stage; None for as many as the network's.
        last_width_factor: multiplies the channels of the copy of the last stage.
    Returns: an exit on the map of stage `first - 1` (counted from 0), freshly initialised.
    Raises: BackboneError: if the network's family cannot build new stages; the message names the networks that can.
    """
    chain = nn.Sequential(
        *(backbone.new_stage(index) for index in range(first, _LAST)),
        backbone.new_stage(_LAST, last_depth, last_width_factor),
        backbone.new_final(last_width_factor),
    )
    # A pass tells the channels, because each family rounds the scaled width by its own rule.
    with eval_mode(chain), torch.no_grad():
        channels = chain(torch.zeros(1, *backbone.stage_shapes[first - 1])).shape[1]
    classifier = nn.Linear(channels, backbone.num_classes)
    backbone.initialize_branches(classifier)
    return Exit(chain, classifier)
