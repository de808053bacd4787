"""ImageNet: 1,281,167 training and 50,000 validation photographs in 1,000 classes, read from disk while training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from PIL import Image
from torch import Tensor

from selfkd.data.reading.class_folders import (
    check_listed_once,
    check_same_classes,
    class_folders,
    labelled_files,
    root_folder,
)
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.reading.resizing import Interpolation, centre_square
from selfkd.data.reading.room import check_sides
from selfkd.data.sources.base import Source
from selfkd.data.splits import Splits
from selfkd.errors import OptionError
from selfkd.option_checks import at_least, one_of

__all__ = ["ImageNet"]


@dataclass(frozen=True, kw_only=True)
class ImageNet(Source):
    """ImageNet (ILSVRC 2012), or any set of photographs in its layout: `train/<class>/*` and `val/<class>/*`.

    The validation images are the test split, since the labels of ImageNet's test images are not public. Labels count
    the sorted names of the class folders, which are also the class names.

    Args:
        root: the folder with `train` and `val`.
        image_size: side in pixels of the centre on which networks are evaluated, and of their input.
        resize: pixels to which an image's shorter side is scaled before its centre is cut out.
        interpolation: how images are scaled.
        validation_fraction: share of the training set held out, stratified, to choose the best epoch; 0 for none.
        mean: subtracted from each channel of pixel values in [0, 1].
        std: by which each channel is then divided.
    Raises: OptionError: if a value is out of range.
    Source: Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge, arXiv:1409.0575.
    """

    names_come_from = "the names of the class folders"

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

    def check_image_size(self) -> None:
        check_sides(self.image_size, self.resize)

    def read(self, seed: int) -> Splits:
        root = root_folder(self.root, "ImageNet's train/<class>/ and val/<class>/")
        train, test = root / "train", root / "val"
        classes = class_folders(train)
        check_same_classes(classes, class_folders(test), test)
        train_files, test_files = labelled_files(train, classes), labelled_files(test, classes)
        check_listed_once(train_files, test_files)
        transform = self.image_transform()
        return Splits(
            train=ImageFiles.of(root, train_files, transform, self.image_size),
            test=ImageFiles.of(root, test_files, transform, self.image_size),
            class_names=classes,
            origins={"test": "the data set's own validation split"},
        )

    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        return centre_square(self.image_size, self.resize, self.interpolation)
