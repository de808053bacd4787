"""Classes and functions as users write them, named on the command line as `own_datasets:Name`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from image_sets import digit, positions_of
from selfkd.data.sources.base import Source
from selfkd.data.splits import ImageSet, Splits


class LikeTorchvision(Dataset):
    """Image files in one folder, with arguments as in torchvision.

    Args:
        root: the folder.
        train: whether to read train/ or test/.
        largest: leave out files of later digits.
    """

    classes = ("zero", "one", "two")

    def __init__(
        self,
        root: str | Path,
        train: bool = True,
        transform: Callable[[Image.Image], object] | None = None,
        target_transform: Callable[[int], int] | None = None,
        download: bool = False,
        largest: int = 2,
    ) -> None:
        folder = Path(root) / ("train" if train else "test")
        self.files = sorted(folder.rglob("*.png"))
        if not self.files:
            raise RuntimeError(f"Dataset not found in {folder}; use download=True")
        self.files = [file for file in self.files if self.label(file) <= largest]
        self.transform = transform

    @staticmethod
    def label(file: Path) -> int:
        return int(file.parent.name.removeprefix("digit "))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        with Image.open(self.files[index]) as image:
            return image.convert("RGB"), self.label(self.files[index])


def by_split(*, split: str, folder: Path, colours: tuple[int, ...] = (1, 2), transform=print):
    """A function with `split`, a `Path` and an argument that no recipe can hold."""
    assert isinstance(folder, Path)
    assert transform is print
    if split not in ("train", "test", "fit"):
        raise ValueError(f"unknown split {split}")
    return LikeTorchvision(folder, split != "test")


def alone():
    """One Dataset for all images."""
    return [(digit(position, side=20), label) for label in range(3) for position in positions_of(label, 10)]


def mapping():
    """Several splits."""
    return {"train": alone(), "test": alone()[::2]}


def needing(function: Callable[[int], int]):
    """An argument that no recipe can give."""


def clashing(mean: float = 0.5):
    """An argument that is an option already."""


def reading(read: bool = True):
    """An argument with the name of a method of every data set."""


nothing = 5
several = [{"train": 5}]


@dataclass(frozen=True, kw_only=True)
class Pixels(Source):
    """A Source of one's own.

    Args:
        side: side of the images in pixels.
    """

    side: int = 12

    def read(self, seed: int) -> Splits:
        images = [
            self.image_transform()(digit(position, 20)) for label in range(2) for position in positions_of(label, 4)
        ]
        everything = ImageSet(torch.stack(images), torch.arange(2).repeat_interleave(4))
        return Splits(everything, everything, ("a", "b"))

    def image_transform(self):
        def transform(image: Image.Image) -> torch.Tensor:
            return torch.from_numpy(np.array(image.convert("RGB").resize((self.side, self.side)))).permute(2, 0, 1)

        return transform
