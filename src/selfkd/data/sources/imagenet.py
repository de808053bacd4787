"""ImageNet: 1,281,167 training and 50,000 validation photographs in 1,000 classes, read from disk during training."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, get_args

from PIL import Image
from torch import Tensor

from selfkd.data.listing import Listing, SplitNames
from selfkd.data.reading.class_folders import list_class_folders, root_folder
from selfkd.data.reading.memory_checks import check_image_fits
from selfkd.data.reading.resizing import Interpolation, centre_square
from selfkd.data.sources.base import ListedSource
from selfkd.errors import OptionError
from selfkd.option_checks import at_least, one_of

__all__ = ["ImageNet"]

_WORDNET_ID = re.compile(r"n\d{8}")
_NUM_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class ImageNet(ListedSource):
    """ImageNet (ILSVRC 2012), or any set of photographs in its layout: `train/<class>/*` and `val/<class>/*`.

    The validation images are the test split, because the labels of ImageNet's test images are not public. Labels are
    positions in the sorted names of the class folders, which are the class names.

    Args:
        root: folder with `train` and `val`.
        image_size: side of the network's input in pixels, >= 8. Networks are evaluated on the centre of an image.
        resize: length in pixels of an image's shorter side before its centre is cut out, >= image_size.
        interpolation: how images are scaled, "bilinear" or "bicubic".
    Raises: OptionError: if a value is out of range.
    Source: Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge, arXiv:1409.0575.
    """

    layout = "ImageNet in class folders"
    class_name_origin = "the names of the class folders"
    origins: ClassVar[Mapping[str, str]] = {"test": "the data set's own validation split"}

    root: str | None = None
    image_size: int = 224
    resize: int = 256
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("data.image_size", self.image_size, 8)
        one_of("data.interpolation", self.interpolation, get_args(Interpolation))
        if self.resize < self.image_size:
            raise OptionError("data.resize", self.resize, f"at least data.image_size={self.image_size}")

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        train = folder / "train"
        if not (train.is_dir() and (folder / "val").is_dir()):
            return False
        return sum(_WORDNET_ID.fullmatch(entry.name) is not None for entry in train.iterdir()) == _NUM_CLASSES

    def check_image_size(self) -> None:
        check_image_fits(self.image_size, self.resize)

    def listing(self, seed: int) -> Listing:
        root = root_folder(self.root, "ImageNet's train/<class>/ and val/<class>/")
        names = SplitNames("train", "val")
        folders = {name: root / name for name in names.used}
        return list_class_folders(root, names, folders, self.image_transform(), self.image_size)

    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        return centre_square(self.image_size, self.resize, self.interpolation)
