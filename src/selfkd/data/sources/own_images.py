"""The base class of users' own images, whether in files or in tables."""

from __future__ import annotations

import logging
from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self, get_args

from PIL import Image
from torch import Tensor

from selfkd.data.listing import Listing
from selfkd.data.reading.decoding import UNREADABLE
from selfkd.data.reading.memory_checks import check_image_fits, check_memory
from selfkd.data.reading.resizing import Interpolation, centre_square
from selfkd.data.sources.base import ListedSource
from selfkd.data.sources.sampling import held_out
from selfkd.data.splits import Splits
from selfkd.errors import DataError, OptionError
from selfkd.option_checks import at_least, non_negative, one_of

__all__ = ["OwnImages", "StreamedImages"]

_log = logging.getLogger("selfkd")
_SMALLEST_SIDE = 8


@dataclass(frozen=True, kw_only=True)
class OwnImages(ListedSource, ABC):
    """Images of any size, from splits of any name.

    Args:
        image_size: side of the network's input in pixels, >= 8; must be given. Networks are evaluated on the centre of
            an image.
        resize: length in pixels of an image's shorter side before its centre is cut out, >= image_size. The default is
            image_size, so that only the ends of the longer side are cut off.
        interpolation: how images are scaled, "bilinear" or "bicubic".
        train_split: name of the split to train on. The default is the split called train or training.
        test_split: name of the split to test on. The default is the split called test or testing; without one, it is
            the split called validation, valid, val or dev. Beside a test split, that one chooses the best epoch.
        test_fraction: share of the training images to hold out for testing, in (0, 1), if there is no test split. Every
            class gives the same share, and the seed decides which images.
        memory_gb: the most GB that decoded images may take in memory.
    Raises: OptionError: if a value is out of range.
    """

    image_size: int | None = None
    resize: int | None = None
    interpolation: Interpolation = "bilinear"
    train_split: str | None = None
    test_split: str | None = None
    test_fraction: float = 0.2
    memory_gb: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size is not None:
            at_least("data.image_size", self.image_size, _SMALLEST_SIDE)
        if self.resize is not None and self.resize < (self.image_size or _SMALLEST_SIDE):
            allowed = f"at least data.image_size={self.image_size or _SMALLEST_SIDE}"
            raise OptionError("data.resize", self.resize, allowed)
        one_of("data.interpolation", self.interpolation, get_args(Interpolation))
        if not 0 < self.test_fraction < 1:
            raise OptionError("data.test_fraction", self.test_fraction, "between 0 and 1")
        non_negative("data.memory_gb", self.memory_gb)

    def check_image_size(self) -> None:
        check_image_fits(self.image_size, self.resize)

    @property
    def side(self) -> int:
        """The image size.

        Raises: OptionError: if it was not given.
        """
        if self.image_size is None:
            raise OptionError("data.image_size", None, "the side in pixels of the network's input")
        return self.image_size

    @property
    def lacks_image_size(self) -> bool:
        return self.image_size is None

    def with_image_size(self, side: int) -> Self:
        return replace(self, image_size=min(side, self.resize or side))

    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        return centre_square(self.side, self.resize or self.side, self.interpolation)

    def read(self, seed: int) -> Splits:
        if self.image_size is None:
            listing = self.with_image_size(_SMALLEST_SIDE).listing(seed)
            listing.check()
            self._ask_for_image_size(listing)
        return super().read(seed)

    def _ask_for_image_size(self, listing: Listing) -> None:
        """Refuse to guess an image size, but help to choose one."""
        name = listing.names.train
        first = next(listing.splits[name].stored_images(name), None)
        if first is None:
            raise DataError("the training split holds no image")
        try:
            with first.open() as image:
                width, height = image.size
        except UNREADABLE as error:
            raise DataError(f"{first.place}: not a readable image: {error}") from error
        allowed = f"the side in pixels of the network's input; the first image has {width}x{height}"
        raise OptionError("data.image_size", None, allowed)

    def _gigabytes(self, num_images: int) -> float:
        """The size of decoded images in GB."""
        return num_images * 3 * self.side**2 / 1e9

    def _splits(self, listing: Listing, seed: int) -> Splits:
        """The splits of a listing without problems; without a test split, one is held out."""
        names = listing.names
        if names.test is not None:
            roles = {"train": names.train, "validation": names.validation, "test": names.test}
            origins = {role: f"the split {name}" for role, name in roles.items() if name is not None}
            return replace(super()._splits(listing, seed), origins=origins)
        # A class that data.classes leaves out may be too small to give a test image, so classes are chosen first. Until
        # the test split is drawn, the training images stand in for it.
        train = listing.splits[names.train]
        whole = self._with_classes(Splits(train, train, listing.class_names, origins={"train": names.train}))
        labels, images = whole.train.labels.numpy(), whole.origin("train")
        kept, given = held_out(labels, self.test_fraction, seed, "data.test_fraction", whole.class_names)
        origins = {
            "train": f"{images}, without the test split",
            "test": f"{self.test_fraction:g} of {images}, stratified, drawn by seed {seed}",
        }
        return replace(whole, train=whole.train.take(kept), test=whole.train.take(given), origins=origins)


@dataclass(frozen=True, kw_only=True)
class StreamedImages(OwnImages, ABC):
    """Images that training can read one by one, in any order.

    Images that fit in memory are decoded before training. Others are read during training, and so are all if the
    augmentation needs images in their own size. Neither changes a result.
    """

    def _where_training_needs_them(self, splits: Splits, whole_images: bool) -> Splits:
        if whole_images:
            return splits
        gigabytes = self._gigabytes(sum(map(len, splits.by_name.values())))
        if gigabytes > self.memory_gb:
            _log.info("images are read during training; in memory they would take %.2g GB", gigabytes)
            return splits
        check_memory("data.memory_gb", self.memory_gb, int(gigabytes * 1e9), "to hold the decoded images")
        # What they are read from identifies the data of a run, also while the images are in memory.
        return splits.changed(lambda name, images: replace(images.in_memory(name), origin=images))
