"""CIFAR-100: 60,000 photographs of 32x32 pixels in 100 classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from selfkd.data.parquet_images import read_parquet_split
from selfkd.data.source import Source, Splits
from selfkd.errors import OptionError

__all__ = ["CIFAR100"]

_SIDE = 32
_NUM_CLASSES = 100


@dataclass(frozen=True, kw_only=True)
class CIFAR100(Source):
    """CIFAR-100 from Parquet files as the Hugging Face Hub has them (`train-*.parquet`, `test-*.parquet`).

    Args:
        root: the folder with the Parquet files, or its parent with a sub-folder `data`.
        validation_fraction: share of the training set held out, stratified, to choose the best epoch; 0 for none.
        mean: per channel, of pixel values in [0, 1], subtracted; the default is that of TESKD and DTSKD.
        std: per channel, of pixel values in [0, 1], divided by; the default is that of TESKD and DTSKD.
    Raises: OptionError: if a value is out of range.
    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    root: str | None = None
    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2023, 0.1994, 0.2010)

    def read(self, seed: int) -> Splits:
        if self.root is None:
            raise OptionError("data.root", None, "the folder that holds CIFAR-100's train-*.parquet and test-*.parquet")
        folder = Path(self.root).expanduser()
        train, names = read_parquet_split(folder, "train", "img", "fine_label")
        test, _ = read_parquet_split(folder, "test", "img", "fine_label")
        return Splits(train, test, names or tuple(str(label) for label in range(_NUM_CLASSES)))

    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        transform: Callable[[Image.Image], Tensor] = v2.Compose(
            [v2.PILToTensor(), v2.RGB(), v2.Resize([_SIDE, _SIDE], antialias=True)]
        )
        return transform
