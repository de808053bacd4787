"""What a folder holds, told by its looks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from selfkd.data.reading.parquet_files import ParquetTable, parquet_splits
from selfkd.errors import DataError

__all__ = ["LAYOUTS", "recognised"]

_WORDNET_ID = re.compile(r"n\d{8}")
_IMAGENET_CLASSES = 1000


def recognised(folder: Path) -> str:
    """The name of the data set that reads such a folder.

    Raises: DataError: if it must not be read.
    """
    try:
        return next(name for name, (_, looks_like) in LAYOUTS.items() if looks_like(folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error}") from error


def _holds(*names: str) -> Callable[[Path], bool]:
    """Whether all of these are there."""
    return lambda folder: all((folder / name).exists() for name in names)


def _tiny_imagenet(folder: Path) -> bool:
    # wnids.txt is the archive's; the annotations alone tell it, too, where only images were copied.
    return (folder / "train").is_dir() and _any(folder, "wnids.txt", "val/val_annotations.txt")


def _any(folder: Path, *names: str) -> bool:
    return any((folder / name).exists() for name in names)


def _imagenet(folder: Path) -> bool:
    train = folder / "train"
    if not (train.is_dir() and (folder / "val").is_dir()):
        return False
    return sum(_WORDNET_ID.fullmatch(entry.name) is not None for entry in train.iterdir()) == _IMAGENET_CLASSES


def _cifar100(folder: Path) -> bool:
    if (folder / "cifar-100-python").is_dir():
        return True
    files = next(iter(parquet_splits(folder).values()), None)
    try:
        return files is not None and {"img", "fine_label"} <= set(ParquetTable(files).schema.names)
    except DataError:  # a damaged file, which is named when it is read
        return False


def _parquet(folder: Path) -> bool:
    return bool(parquet_splits(folder))


def _anything(folder: Path) -> bool:
    return True


LAYOUTS: Mapping[str, tuple[str, Callable[[Path], bool]]] = {
    "cifar10": ("CIFAR-10 as torchvision has it", _holds("cifar-10-batches-py")),
    "cifar100": ("CIFAR-100 as torchvision or the Hugging Face Hub has it", _cifar100),
    "fashion_mnist": ("Fashion-MNIST as torchvision has it", _holds("FashionMNIST/raw")),
    "tiny_imagenet": ("Tiny-ImageNet's archive", _tiny_imagenet),
    "imagenet": ("ImageNet in class folders", _imagenet),
    "parquet": ("Parquet files in the Hugging Face Hub's layout", _parquet),
    "folder": ("image files in class folders", _anything),
}
"""Data sets by name: what their layout is, in words, and whether a folder looks like it. The first that does counts."""
