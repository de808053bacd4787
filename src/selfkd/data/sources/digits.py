"""scikit-learn's digits: 1,797 real 8x8 scans of handwritten digits, shipped inside scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.transforms import v2

from selfkd.data.reading.memory_checks import check_memory
from selfkd.data.sources.base import Source
from selfkd.data.sources.sampling import some_of_each_class
from selfkd.data.splits import ImageSet, Splits
from selfkd.errors import OptionError
from selfkd.option_checks import at_least

__all__ = ["Digits"]

_COUNT = 1797


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """Handwritten digits with few labels: the first data set of a fresh installation, no download.

    Args:
        train_per_class: number of training images of each class. The seed decides which; all other images test.
        image_size: side in pixels to which the 8x8 scans are scaled (bilinear), >= 8.
    Raises: OptionError: if a value is out of range.
    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI.
    """

    train_per_class: int = 10
    image_size: int = 16
    mean: tuple[float, ...] = (0.305, 0.305, 0.305)
    std: tuple[float, ...] = (0.319, 0.319, 0.319)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("data.image_size", self.image_size, 8)

    def check_image_size(self) -> None:
        held = 2 * _COUNT * 3 * self.image_size**2  # all images, and their copies in the splits
        check_memory("data.image_size", self.image_size, held, f"to hold {_COUNT} images of that side")

    def read(self, seed: int) -> Splits:
        digits = load_digits()
        grey = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8)  # the scans have 17 grey levels
        images = self._scaled(grey.unsqueeze(1).expand(-1, 3, -1, -1))
        everything = ImageSet(images, torch.from_numpy(digits.target.astype(np.int64)))
        smallest = int(np.bincount(digits.target).min())
        if self.train_per_class >= smallest:
            raise OptionError(
                "data.train_per_class", self.train_per_class, f"below {smallest}, the size of the smallest class"
            )
        chosen, rest = some_of_each_class(digits.target, self.train_per_class, seed)
        return Splits(
            train=everything.take(chosen),
            test=everything.take(rest),
            class_names=tuple(str(name) for name in digits.target_names),
            origins={
                "train": f"{self.train_per_class} of each class, drawn by seed {seed}",
                "test": "all images that are not for training",
            },
        )

    def _with_fewer_images(self, splits: Splits, seed: int) -> Splits:
        return splits  # `read` has drawn the training images

    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        transform: Callable[[Image.Image], Tensor] = v2.Compose(
            [v2.Grayscale(num_output_channels=3), v2.PILToTensor(), self._scaled]  # PIL keeps grey as it is
        )
        return transform

    def _scaled(self, images: Tensor) -> Tensor:
        size = [self.image_size, self.image_size]
        scaled: Tensor = v2.functional.resize(images, size, interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
        return scaled
