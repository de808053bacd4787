"""The options that every network has in a recipe, beside those of its own. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NetworkOptions"]


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The options of every network.

    Args:
        weights: file with the weights from which training starts: *.safetensors, or a state dict that torch saved
            (*.pth, *.pt, *.ckpt, *.bin). A classifier with another number of classes starts from random weights.
    """

    weights: str | None = None
