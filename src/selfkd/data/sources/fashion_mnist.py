"""Fashion-MNIST: 70,000 greyscale pictures of clothes, 28x28 pixels, in 10 classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import v2

from selfkd.data.sources.base import Source
from selfkd.data.sources.torchvision_sets import read_torchvision, set_folder
from selfkd.data.splits import ImageSet, Splits
from selfkd.option_checks import either

__all__ = ["FashionMNIST"]

_SIDE = 28


@dataclass(frozen=True, kw_only=True)
class FashionMNIST(Source):
    """Fashion-MNIST from `FashionMNIST/raw` as torchvision has it, grey in three channels.

    Args:
        root: folder that holds FashionMNIST. It may be new if `download` is true.
        download: let torchvision download missing files into root.
        image_size: side of images in pixels: 28, the size of the files, or 32, to which they are padded with black.
        mean: numbers to subtract from the channels of pixel values in [0, 1]. The default is the mean of the training
            images at 28x28.
        std: numbers > 0 to divide the channels by after that. The default is the deviation of the training
            images at 28x28.
    Raises: OptionError: if a value is out of range.
    Source: Xiao et al. 2017, Fashion-MNIST, arXiv:1708.07747.
    """

    root: str | None = None
    download: bool = False
    image_size: int = 32
    mean: tuple[float, ...] = (0.2860, 0.2860, 0.2860)
    std: tuple[float, ...] = (0.3530, 0.3530, 0.3530)

    layout = "Fashion-MNIST as torchvision has it"

    torchvision_class: ClassVar[type[datasets.FashionMNIST]] = datasets.FashionMNIST

    def __post_init__(self) -> None:
        super().__post_init__()
        either("data.image_size", self.image_size, _SIDE, 32)

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return (folder / "FashionMNIST" / "raw").exists()

    def read(self, seed: int) -> Splits:
        holds = "FashionMNIST/raw"
        root = set_folder(self.root, holds, self.download)
        train, test = read_torchvision(self.torchvision_class, root / "FashionMNIST", holds, self.download)
        return Splits(self._image_set(train), self._image_set(test), tuple(train.classes))

    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        transform: Callable[[Image.Image], Tensor] = v2.Compose(
            [
                v2.Grayscale(num_output_channels=3),  # on a PIL image, which keeps grey as it is
                v2.PILToTensor(),
                v2.Resize([_SIDE, _SIDE], antialias=True),
                v2.Pad(self._border),
            ]
        )
        return transform

    @property
    def _border(self) -> int:
        return (self.image_size - _SIDE) // 2

    def _image_set(self, part: datasets.FashionMNIST) -> ImageSet:
        images: Tensor = v2.functional.pad(part.data.unsqueeze(1), [self._border])
        return ImageSet(images.expand(-1, 3, -1, -1).contiguous(), part.targets.to(torch.int64))
