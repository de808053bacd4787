"""The options that every network has in a recipe, beside those of its own. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from selfkd.errors import OptionError

__all__ = ["NetworkOptions"]


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The options of every network.

    Args:
        weights: file with the weights that training starts from: *.safetensors, or a state dict that torch saved (*.pth,
            *.pt, *.ckpt, *.bin). A classifier with another number of classes starts from random weights.
    Raises: OptionError: if the path is empty.
    """

    weights: str | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and not self.weights.strip():
            raise OptionError("weights", self.weights, "the path of a file")
