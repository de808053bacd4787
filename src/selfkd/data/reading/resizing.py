"""Brings images of any size to one size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

__all__ = ["Interpolation", "centre_square", "unless_sized"]

Interpolation = Literal["bilinear", "bicubic"]
"""How images are scaled, by torchvision's names."""

_LONGEST = 8  # times the shorter side; a centre square needs no more of the longer side


def centre_square(side: int, resize: int, interpolation: Interpolation = "bilinear") -> Callable[[Image.Image], Tensor]:
    """A function from a PIL image to uint8 `[3, side, side]`: it scales the shorter side and cuts out the centre.

    Args:
        side: side of the square in pixels.
        resize: length of the shorter side before the cut in pixels, >= `side`.
        interpolation: "bilinear" or "bicubic".
    """
    # On PIL images, as the papers evaluate; on tensors, pixels would be rounded differently.
    transform: Callable[[Image.Image], Tensor] = v2.Compose(
        [
            v2.RGB(),
            _without_ends,
            v2.Resize(resize, v2.InterpolationMode(interpolation)),
            v2.CenterCrop(side),
            v2.PILToTensor(),
        ]
    )
    return transform


def _without_ends(image: Image.Image) -> Image.Image:
    """The middle of an image that is so long that it could fill the memory when scaled; other images unchanged."""
    shorter = min(image.size)
    if max(image.size) <= _LONGEST * shorter:
        return image
    width, height = (min(length, _LONGEST * shorter) for length in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def unless_sized(side: int, transform: Callable[[Image.Image], Tensor]) -> Callable[[Image.Image], Tensor]:
    """The same transform without its cost for images that it would not change.

    Args:
        side: RGB images of `side x side` pixels stay unchanged.
        transform: from an RGB image to uint8 `[3, side, side]`.
    """

    def sized(image: Image.Image) -> Tensor:
        if image.size == (side, side) and image.mode == "RGB":
            return torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return transform(image)

    return sized
