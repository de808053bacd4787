"""What users' own images need, however they are stored: one size, splits that may not be there yet, and a place."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import get_args

from PIL import Image
from torch import Tensor

from selfkd.data.reading.resizing import Interpolation, centre_square
from selfkd.data.reading.room import check_sides
from selfkd.data.sources.base import Source
from selfkd.data.sources.drawing import held_out
from selfkd.data.sources.split_names import SplitNames
from selfkd.data.splits import Split, Splits
from selfkd.errors import OptionError
from selfkd.option_checks import at_least, non_negative, one_of

__all__ = ["OwnImages"]


@dataclass(frozen=True, kw_only=True)
class OwnImages(Source, ABC):
    """Images of any size, from splits of any name.

    Args:
        image_size: side in pixels of the centre on which networks are evaluated, and of their input; must be given.
        resize: pixels to which an image's shorter side is scaled before its centre is cut out; image_size by default,
            so that only what overhangs is cut.
        interpolation: how images are scaled.
        train_split: the split that is trained on; by default the one called train or training.
        test_split: the split that is reported; by default the one called test or, without one, that called validation,
            valid, val or dev. Beside a test split, such a one chooses the best epoch.
        test_fraction: share of the training images held out, stratified, drawn by the run's seed, where there is no
            test split.
        memory_gb: decoded images of up to so many GB are held in memory.
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
            at_least("data.image_size", self.image_size, 8)
        if self.resize is not None and self.resize < (self.image_size or 8):
            raise OptionError("data.resize", self.resize, f"at least data.image_size={self.image_size or 8}")
        one_of("data.interpolation", self.interpolation, get_args(Interpolation))
        if not 0 < self.test_fraction < 1:
            raise OptionError("data.test_fraction", self.test_fraction, "between 0 and 1")
        non_negative("data.memory_gb", self.memory_gb)

    def check_image_size(self) -> None:
        check_sides(self.image_size, self.resize)

    @property
    def side(self) -> int:
        """The image size.

        Raises: OptionError: if none was given.
        """
        if self.image_size is None:
            raise OptionError("data.image_size", None, "the side in pixels to which all images are brought")
        return self.image_size

    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        return centre_square(self.side, self.resize or self.side, self.interpolation)

    def _check_size_given(self, first: Callable[[], Image.Image]) -> None:
        """Refuse to guess an image size, but help to choose one.

        Args:
            first: gives the first training image.
        """
        if self.image_size is None:
            width, height = first().size
            raise OptionError(
                "data.image_size",
                None,
                f"the side in pixels to which all images are brought; the first one has {width}x{height}",
            )

    def _gigabytes(self, num_images: int) -> float:
        """What so many decoded images take."""
        return num_images * 3 * self.side**2 / 1e9

    def _arranged(
        self, names: SplitNames, splits: Mapping[str, Split], class_names: tuple[str, ...], seed: int
    ) -> Splits:
        """The splits in their roles; without a test split, one is held out.

        Args:
            names: what the splits are called.
            splits: their images, by name.
            class_names: K names in label order.
            seed: decides what is held out.
        """
        train = splits[names.train]
        if names.test is not None:
            validation = None if names.validation is None else splits[names.validation]
            roles = {"train": names.train, "validation": names.validation, "test": names.test}
            origins = {role: f"the split {name}" for role, name in roles.items() if name is not None}
            return Splits(train, splits[names.test], class_names, validation, origins)
        # Classes that data.classes leaves out may be too small to give a test image. Until one is drawn, the training
        # images stand in for the test split.
        whole = self._with_classes(Splits(train, train, class_names, origins={"train": names.train}))
        labels, images = whole.train.labels.numpy(), whole.origin("train")
        kept, given = held_out(labels, self.test_fraction, seed, "data.test_fraction", whole.class_names)
        origins = {
            "train": f"{images}, without the test split",
            "test": f"{self.test_fraction:g} of {images}, stratified, drawn by seed {seed}",
        }
        return replace(whole, train=whole.train.take(kept), test=whole.train.take(given), origins=origins)
