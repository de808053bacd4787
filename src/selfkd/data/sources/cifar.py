"""What CIFAR-10 and CIFAR-100 have in common: 60,000 photographs of 32x32 pixels, and the two ways they are stored."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from selfkd.data.reading.arrow_images import find_columns
from selfkd.data.reading.parquet_files import ParquetTable, parquet_splits
from selfkd.data.reading.resizing import unless_sized
from selfkd.data.reading.table_images import TableImages, read_labels
from selfkd.data.sources.base import Source
from selfkd.data.sources.torchvision_sets import read_torchvision, set_folder
from selfkd.data.splits import ImageSet, Splits
from selfkd.errors import DataError

__all__ = ["CIFAR"]

_SIDE = 32


@dataclass(frozen=True, kw_only=True)
class CIFAR(Source, ABC):
    """Either set, from Parquet files as the Hugging Face Hub has them or from the pickles that torchvision downloads.

    Pickles are read by torchvision alone, which compares them with its checksums before.

    Args:
        root: the folder with `train-*.parquet` and `test-*.parquet`, itself or in a sub-folder, or with the folder
            that torchvision makes.
        download: let torchvision fetch what is missing into root.
    Raises: OptionError: if a value is out of range.
    """

    root: str | None = None
    download: bool = False

    torchvision_class: ClassVar[type[torchvision.datasets.CIFAR10]]
    label_column: ClassVar[str]
    num_classes: ClassVar[int]

    def read(self, seed: int) -> Splits:
        holds = f"{self.torchvision_class.base_folder}, or train-*.parquet and test-*.parquet"
        root = set_folder(self.root, holds, self.download)
        pickles = root / self.torchvision_class.base_folder
        files = {} if pickles.is_dir() else parquet_splits(root)
        if files:
            return self._from_parquet(root, files)
        train, test = read_torchvision(self.torchvision_class, pickles, holds, self.download)
        return Splits(_image_set(train), _image_set(test), tuple(train.classes))

    def _from_parquet(self, root: Path, files: Mapping[str, Sequence[Path]]) -> Splits:
        sets: list[TableImages] = []
        transform = unless_sized(_SIDE, self.image_transform())
        names: list[tuple[str, ...] | None] = []
        for split in ("train", "test"):
            if split not in files:
                raise DataError(f"data.root={str(root)!r} holds no {split}-*.parquet")
            table = ParquetTable(files[split])
            columns = find_columns(table, "img", self.label_column)
            sets.append(TableImages.of(table, columns, read_labels(table, columns), transform, _SIDE))
            names.append(columns.class_names)
        if names[0] != names[1]:
            raise DataError(f"data.root={str(root)!r}: training and test images have other classes, or another order")
        return Splits(sets[0], sets[1], names[0] or tuple(map(str, range(self.num_classes))))

    def _held(self, splits: Splits, whole_images: bool) -> Splits:
        return splits.in_memory()

    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        transform: Callable[[Image.Image], Tensor] = v2.Compose(
            [v2.PILToTensor(), v2.RGB(), v2.Resize([_SIDE, _SIDE], antialias=True)]
        )
        return transform


def _image_set(part: torchvision.datasets.CIFAR10) -> ImageSet:
    """What torchvision has read, `[N, 32, 32, 3]`, in our layout."""
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(part.targets, dtype=torch.int64))
