"""CIFAR-10 and CIFAR-100: 60,000 photographs of 32x32 pixels in 10 or 100 classes."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import v2

from selfkd.data.listing import Listing, SplitNames
from selfkd.data.reading.arrow_tables import find_columns
from selfkd.data.reading.parquet_files import ParquetTable, parquet_splits
from selfkd.data.reading.resizing import unless_sized
from selfkd.data.reading.table_images import list_tables
from selfkd.data.sources.base import ListedSource
from selfkd.data.sources.torchvision_sets import read_torchvision, set_folder
from selfkd.data.splits import ImageSet, Splits
from selfkd.errors import DataError

__all__ = ["CIFAR", "CIFAR10", "CIFAR100"]

_SIDE = 32
_NAMES = SplitNames("train", "test")


@dataclass(frozen=True, kw_only=True)
class CIFAR(ListedSource, ABC):
    """Either data set, from Parquet files of the Hugging Face Hub or from the pickles that torchvision downloads.

    Only torchvision reads the pickles. It compares their checksums before it opens them.

    Args:
        root: folder that holds torchvision's folder, or `train-*.parquet` and `test-*.parquet`, itself or in a
            sub-folder.
        download: let torchvision download missing files into root.
    Raises: OptionError: if a value is out of range.
    """

    root: str | None = None
    download: bool = False

    torchvision_class: ClassVar[type[datasets.CIFAR10]]
    label_column: ClassVar[str]
    num_classes: ClassVar[int]

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return folder.joinpath(cls.torchvision_class.base_folder).is_dir()

    def listing(self, seed: int) -> Listing:
        holds = f"{self.torchvision_class.base_folder}, or train-*.parquet and test-*.parquet"
        root = set_folder(self.root, holds, self.download)
        pickles = root / self.torchvision_class.base_folder
        files = {} if pickles.is_dir() else parquet_splits(root)
        if not files:
            train, test = read_torchvision(self.torchvision_class, pickles, holds, self.download)
            return Listing.of(Splits(_image_set(train), _image_set(test), tuple(train.classes)))
        for name in _NAMES.used:
            if name not in files:
                raise DataError(f"data.root={str(root)!r} holds no {name}-*.parquet")
        tables = {name: ParquetTable(files[name]) for name in _NAMES.used}
        columns = {name: find_columns(table, "img", self.label_column) for name, table in tables.items()}
        transform = unless_sized(_SIDE, self.image_transform())
        numbers = tuple(map(str, range(self.num_classes)))
        return list_tables(str(root), _NAMES, tables, columns, transform, _SIDE, numbers)

    def _where_training_needs_them(self, splits: Splits, whole_images: bool) -> Splits:
        return splits.in_memory()

    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        transform: Callable[[Image.Image], Tensor] = v2.Compose(
            [v2.PILToTensor(), v2.RGB(), v2.Resize([_SIDE, _SIDE], antialias=True)]
        )
        return transform


def _image_set(part: datasets.CIFAR10) -> ImageSet:
    """torchvision's images `[N, 32, 32, 3]` in our layout."""
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(part.targets, dtype=torch.int64))


@dataclass(frozen=True, kw_only=True)
class CIFAR10(CIFAR):
    """CIFAR-10 from `cifar-10-batches-py` as torchvision has it, or from Parquet files as the Hugging Face Hub has it.

    Args:
        mean: numbers to subtract from the channels of pixel values in [0, 1]. The default is the mean of the training
            images.
        std: numbers > 0 to divide the channels by after that. The default is the deviation of the training images.
    Raises: OptionError: if a value is out of range.
    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)

    layout = "CIFAR-10 as torchvision has it"
    torchvision_class = datasets.CIFAR10
    label_column = "label"
    num_classes = 10


@dataclass(frozen=True, kw_only=True)
class CIFAR100(CIFAR):
    """CIFAR-100 from `cifar-100-python` as torchvision has it, or from Parquet files as the Hugging Face Hub has it.

    Args:
        mean: numbers to subtract from the channels of pixel values in [0, 1]. The default is from TESKD and DTSKD.
        std: numbers > 0 to divide the channels by after that. The default is from TESKD and DTSKD.
    Raises: OptionError: if a value is out of range.
    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2023, 0.1994, 0.2010)

    layout = "CIFAR-100 as torchvision or the Hugging Face Hub has it"
    torchvision_class = datasets.CIFAR100
    label_column = "fine_label"
    num_classes = 100

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        if super().recognises(folder):
            return True
        files = next(iter(parquet_splits(folder).values()), None)
        try:
            return files is not None and {"img", cls.label_column} <= set(ParquetTable(files).schema.names)
        except DataError:  # a damaged file, which is named when it is read
            return False
