"""The learning rate of each parameter, as a factor of the optimiser's, for every optimiser."""

from __future__ import annotations

from dataclasses import dataclass

from selfkd.errors import OptionError
from selfkd.option_checks import positive

__all__ = ["LearningRates"]


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """How the learning rates of the parameters differ, for every optimiser.

    Args:
        head_lr_factor: the learning rate of the classifier and of all that the method adds to the network, divided by
            optimizer.lr; > 0. These parts start from random weights, also where the network starts from trained ones.
        layer_decay: the learning rate of a layer, divided by that of the next deeper layer, in (0, 1]. The last layer
            has optimizer.lr. For timm's networks; None for one learning rate in all layers.
    Raises: OptionError: if a value is out of range.
    """

    head_lr_factor: float = 1.0
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        positive("optimizer.head_lr_factor", self.head_lr_factor)
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise OptionError("optimizer.layer_decay", self.layer_decay, "in (0, 1], or null")
