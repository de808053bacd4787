"""Augmentations that crop and flip: whole batches on the device that trains, or single images in a worker process.

The random numbers of all samples are drawn once per epoch, by (seed, epoch, view) alone, and looked up by sample index.
So the change of a sample does not depend on its batch, on the process or on the order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms import v2

from selfkd.data.augmentation.random_streams import BELOW, each_seeded
from selfkd.data.reading.resizing import Interpolation
from selfkd.errors import OptionError
from selfkd.option_checks import LARGEST_SIZE, at_least, one_of

__all__ = ["Augmentation", "CropFlip", "RandomResizedCrop", "Unchanged"]

_LARGEST_RATIO = 1000


class Augmentation(ABC):
    """A random change of images, as a function of numbers that were drawn before.

    Attributes:
        image_by_image: whether it changes one image after the other, so that worker processes can share the work.
    """

    image_by_image: ClassVar[bool] = False

    @property
    def side_of_whole_images(self) -> int | None:
        """Side of the resulting images, if it takes images of any size; None if it keeps the size of its images."""
        return None

    @abstractmethod
    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """P random numbers for each of N samples, `[N, P]` int64 on the CPU. They determine its change."""

    @abstractmethod
    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Images `[B, C, H, W]` uint8, changed by the random numbers `draws` `[B, P]`, on the device of the images."""


@dataclass(frozen=True, kw_only=True)
class Unchanged(Augmentation):
    """No augmentation."""

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        return torch.empty(num_samples, 0, dtype=torch.int64)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return images


@dataclass(frozen=True, kw_only=True)
class CropFlip(Augmentation):
    """Padding, a random crop of the original size, and a horizontal flip with probability one half.

    Args:
        padding: number of pixels to add on every side before the crop, >= 0. The papers use 4 for 32x32.
        padding_mode: "zeros" pads with black (TESKD, DTSKD), "reflect" mirrors the border (LOTH).
        horizontal_flip: whether to flip images.
    Raises: OptionError: if a value is out of range.
    """

    padding: int = 4
    padding_mode: Literal["zeros", "reflect"] = "zeros"
    horizontal_flip: bool = True

    def __post_init__(self) -> None:
        at_least("augmentation.padding", self.padding, 0, LARGEST_SIZE)
        one_of("augmentation.padding_mode", self.padding_mode, ("zeros", "reflect"))

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        offsets = torch.randint(0, 2 * self.padding + 1, (num_samples, 2), generator=generator)
        flips = torch.randint(0, 2 if self.horizontal_flip else 1, (num_samples, 1), generator=generator)
        return torch.cat([offsets, flips], dim=1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        if self.padding_mode == "reflect" and self.padding >= min(height, width):
            raise OptionError("augmentation.padding", self.padding, f"below the image's side {min(height, width)}")
        padded = self._padded(images)
        both = torch.cat([padded, padded.flip(3)])  # image b as it is at b, mirrored at batch + b
        padded_height, padded_width = both.shape[2:]
        down_B, right_B, flip_B = draws.unbind(dim=1)
        left_B = torch.where(flip_B == 1, 2 * self.padding - right_B, right_B)
        image_B = torch.arange(batch, device=images.device) + batch * flip_B
        first_B = (image_B * channels * padded_height + down_B) * padded_width + left_B
        channel_C1 = torch.arange(channels, device=images.device)[:, None]
        row_CH = (channel_C1 * padded_height + torch.arange(height, device=images.device)) * padded_width
        # Every row of a crop is a run of pixels in memory; copying runs is many times faster than gathering pixels.
        runs = both.flatten().unfold(0, width, 1)
        return runs.index_select(0, (first_B[:, None, None] + row_CH).flatten()).view(images.shape)

    def _padded(self, images: Tensor) -> Tensor:
        if self.padding_mode == "zeros":
            return pad(images, [self.padding] * 4)
        return _mirrored(_mirrored(images, 2, self.padding), 3, self.padding)  # torch cannot mirror-pad uint8


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop(Augmentation):
    """A random part of an image, scaled to one size, and a horizontal flip with probability one half.

    These are torchvision's transforms of the same names. The draw of each image seeds its random numbers.

    Args:
        size: side of the resulting images in pixels; it must be the side of the data set's images. In a recipe, the
            default is data.image_size, if the data set has this option.
        scale: smallest and largest share of the image's area to cut out, in (0, 1].
        ratio: smallest and largest width divided by height of the part to cut out, from 0.001 to 1000.
        horizontal_flip: whether to flip images.
        interpolation: how the part is scaled, "bilinear" or "bicubic". With pretrained weights, the default is theirs.
    Raises: OptionError: if a value is out of range.
    Source: Szegedy et al. 2015, Going Deeper with Convolutions, arXiv:1409.4842, section 6.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: bool = True
    interpolation: Interpolation = "bilinear"

    image_by_image = True

    def __post_init__(self) -> None:
        at_least("augmentation.size", self.size, 1, LARGEST_SIZE)
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise OptionError("augmentation.scale", self.scale, "two numbers in (0, 1], the smaller one first")
        if len(self.ratio) != 2 or not 1 / _LARGEST_RATIO <= self.ratio[0] <= self.ratio[1] <= _LARGEST_RATIO:
            allowed = f"two numbers from {1 / _LARGEST_RATIO:g} to {_LARGEST_RATIO}, the smaller one first"
            raise OptionError("augmentation.ratio", self.ratio, allowed)
        one_of("augmentation.interpolation", self.interpolation, get_args(Interpolation))

    @property
    def side_of_whole_images(self) -> int:
        return self.size

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        return torch.randint(0, BELOW, (num_samples, 1), generator=generator)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return each_seeded(self._transform, images, draws[:, 0])

    @cached_property
    def _transform(self) -> v2.Transform:
        crop = v2.RandomResizedCrop(self.size, self.scale, self.ratio, v2.InterpolationMode(self.interpolation))
        return v2.Compose([crop, v2.RandomHorizontalFlip(0.5 if self.horizontal_flip else 0.0)])


def _mirrored(images: Tensor, axis: int, side: int) -> Tensor:
    """`side` pixels mirrored at both borders of an axis, the border pixel not repeated."""
    before = images.narrow(axis, 1, side).flip(axis)
    after = images.narrow(axis, images.shape[axis] - 1 - side, side).flip(axis)
    return torch.cat([before, images, after], dim=axis)
