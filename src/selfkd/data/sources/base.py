"""The base classes of all data sets."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from selfkd.data.listing import Listing
from selfkd.data.reading.decoding import to_rgb
from selfkd.data.sources.sampling import held_out, some_of_each_class
from selfkd.data.splits import Split, Splits
from selfkd.errors import DataError, OptionError, few
from selfkd.option_checks import at_least, weights

__all__ = ["ListedSource", "Source"]


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A data set. Its fields are its options; it reads images and labels, checks them and draws parts of them.

    Args:
        classes: names of the classes to keep, in the order of their new labels, or a number N to keep the first N. The
            other classes are removed from every split. The default keeps all. A name may also be written as a number.
        train_per_class: number of training images to keep of each class; the seed decides which. The default keeps all.
        validation_fraction: share of the training images to hold out, in [0, 1), to choose the best epoch. Every class
            gives the same share. 0 holds out none.
        mean: numbers to subtract from the red, green and blue channels of pixel values in [0, 1].
        std: numbers > 0 to divide the channels by, after the mean is subtracted.
    Raises: OptionError: if a value is out of range.
    """

    layout: ClassVar[str] = ""
    """What a folder that the class recognises looks like, in words."""
    class_name_origin: ClassVar[str] = "the data set's own names"
    """Where the class names come from, in words."""
    root_is_folder: ClassVar[bool] = True
    """Whether an option data.root names a folder that must exist."""

    classes: int | tuple[int | str, ...] | None = None
    train_per_class: int | None = None
    validation_fraction: float = 0.0
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if isinstance(self.classes, int):
            at_least("data.classes", self.classes, 2)
        elif self.classes is not None and not 2 <= len(set(map(str, self.classes))) == len(self.classes):
            raise OptionError("data.classes", self.classes, "a number, or two or more names, each at most once")
        if self.train_per_class is not None:
            at_least("data.train_per_class", self.train_per_class, 1)
        if not 0 <= self.validation_fraction < 1:
            raise OptionError("data.validation_fraction", self.validation_fraction, "in [0, 1)")
        weights("data.mean", self.mean, 3, "red, green, blue")
        weights("data.std", self.std, 3, "red, green, blue")
        if min(self.std) <= 0:
            raise OptionError("data.std", self.std, "3 numbers > 0")

    @abstractmethod
    def read(self, seed: int) -> Splits:
        """The training and test images as the data set defines them.

        Args:
            seed: seed of the draw, if the data set draws its splits.
        Raises:
            DataError: if data is missing or unreadable, or its labels do not fit.
            OptionError: if an option must be given, or names what is not there.
        """

    @abstractmethod
    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        """A function from a PIL image to the uint8 `[3, H, W]` on which networks are evaluated."""

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether a folder looks like this data set.

        Raises: DataError, OSError: if the folder must not be read.
        """
        return False

    def listing(self, seed: int) -> Listing:
        """All images with their labels, bad ones included, and the reasons to refuse the data set.

        Args:
            seed: as in `read`.
        Raises: DataError, OptionError: if nothing can be listed.
        """
        return Listing.of(self.read(seed))

    def splits_of(self, listing: Listing, seed: int) -> Splits:
        """What `read` gives, from a listing of this data set if `read` starts from one.

        Raises: DataError, OptionError: as `read`.
        """
        return self.read(seed)

    @property
    def lacks_image_size(self) -> bool:
        """Whether data.image_size must be given and was not."""
        return False

    def with_image_size(self, side: int) -> Self:
        """The same data set with this image size, or a smaller one that fits its options, if `lacks_image_size`."""
        return self

    def load(self, seed: int, whole_images: bool = False) -> Splits:
        """All splits, checked and reduced to the classes and images that the options ask for.

        Args:
            seed: seed of all draws; the same for every method of a comparison.
            whole_images: leave image files undecoded, because training needs them in their own size. It changes nothing
                in a data set without image files.
        Raises:
            DataError: if data is missing, unreadable, empty or of one class, or its labels do not fit.
            OptionError: if the data set does not fit an option.
        """
        return self._where_training_needs_them(self.reduced(seed), whole_images)

    def reduced(self, seed: int, listing: Listing | None = None) -> Splits:
        """As `load`, but images that are not in memory yet stay undecoded.

        Args:
            seed: seed of all draws.
            listing: what `listing` gave, so that the data set is not listed again.
        Raises: DataError, OptionError: as `load`, but not for an unreadable image.
        """
        self.check_image_size()
        splits = self._with_classes(self.read(seed) if listing is None else self.splits_of(listing, seed))
        splits = self._with_validation(self._with_fewer_images(splits, seed), seed)
        self._check_memory(splits)
        return splits

    def labels_to_keep(self, names: tuple[str, ...]) -> list[int]:
        """The labels of the classes that data.classes names, in its order.

        Args:
            names: the class names in label order.
        Raises: OptionError: if there is no such class, or no single one.
        """
        assert self.classes is not None
        if isinstance(self.classes, int):
            if self.classes > len(names):
                raise OptionError("data.classes", self.classes, f"at most {len(names)}, the number of classes")
            return list(range(self.classes))
        chosen = [str(name) for name in self.classes]
        for name in chosen:
            if names.count(name) > 1:
                reason = f"{names.count(name)} classes are called {name!r}, so the name does not choose one"
                raise OptionError("data.classes", self.classes, reason=reason)
            if name not in names:
                near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:3]
                reason = f"no class is called {name!r}, nearest: {', '.join(near)}"
                raise OptionError("data.classes", self.classes, reason=reason)
        return [names.index(name) for name in chosen]

    def check_image_size(self) -> None:
        """Refuse a size of which not even one image fits in memory; nothing to do if the data set fixes the size.

        Raises: OptionError: naming the option.
        """

    def _check_memory(self, splits: Splits) -> None:
        """Refuse images that must be held in memory, but are too large for it.

        Raises: OptionError: naming the limit.
        """

    def _where_training_needs_them(self, splits: Splits, whole_images: bool) -> Splits:
        """The final splits, with images in memory if training needs them there."""
        return splits

    def _with_classes(self, splits: Splits) -> Splits:
        """The splits, checked, with the classes of the option `classes` only. A second call changes nothing."""
        for name, split in splits.by_name.items():
            _check(f"the {name} split of {type(self).__name__}", name, split, len(splits.class_names))
        if self.classes is not None:
            splits = _of_classes(splits, self.labels_to_keep(splits.class_names))
        _check_class_names(splits.class_names, f"the classes of {type(self).__name__} ({self.class_name_origin})")
        sizes = splits.train.labels.bincount(minlength=len(splits.class_names))
        missing = [splits.class_names[label] for label in sizes.eq(0).nonzero().flatten().tolist()]
        if missing:
            raise DataError(f"classes without a training image: {few(missing)}; data.classes can leave them out")
        return splits

    def _with_fewer_images(self, splits: Splits, seed: int) -> Splits:
        """The splits with `train_per_class` training images of each class."""
        if self.train_per_class is None:
            return splits
        sizes = splits.train.labels.bincount(minlength=len(splits.class_names))
        smallest = int(sizes.argmin())
        if sizes[smallest] < self.train_per_class:
            raise OptionError(
                "data.train_per_class",
                self.train_per_class,
                f"at most {int(sizes[smallest])}, the number of training images of {splits.class_names[smallest]!r}",
            )
        chosen, _ = some_of_each_class(splits.train.labels.numpy(), self.train_per_class, seed)
        origin = f"{splits.origin('train')}, {self.train_per_class} of each class, drawn by seed {seed}"
        return replace(splits, train=splits.train.take(chosen), origins={**splits.origins, "train": origin})

    def _with_validation(self, splits: Splits, seed: int) -> Splits:
        """The splits with a share of the training images held out for validation, if `validation_fraction` is > 0."""
        if not self.validation_fraction:
            return splits
        if splits.validation is not None:
            raise OptionError(
                "data.validation_fraction",
                self.validation_fraction,
                reason="the data has a validation split already; leave the option out",
            )
        labels, option = splits.train.labels.numpy(), "data.validation_fraction"
        kept, given = held_out(labels, self.validation_fraction, seed, option, splits.class_names)
        origins = {
            "train": f"{splits.origin('train')}, without the validation split",
            "validation": f"{self.validation_fraction:g} of the training images, stratified, drawn by seed {seed}",
        }
        return replace(
            splits,
            train=splits.train.take(kept),
            validation=splits.train.take(given),
            origins={**splits.origins, **origins},
        )

    def inference_transform(self) -> Callable[[Image.Image], Tensor]:
        """A function from a PIL image to the normalised float32 `[3, H, W]` that the network takes."""
        transform: Callable[[Image.Image], Tensor] = v2.Compose(
            [
                to_rgb,
                self.image_transform(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(self.mean, self.std),
            ]
        )
        return transform


@dataclass(frozen=True, kw_only=True)
class ListedSource(Source, ABC):
    """A data set in files or tables: its images are listed before any of them is opened."""

    origins: ClassVar[Mapping[str, str]] = {}
    """Where the images of a split come from, in words, if not from the split of that name; as in `Splits`."""

    @abstractmethod
    def listing(self, seed: int) -> Listing:
        """All images with their labels, bad ones included, and the reasons to refuse the data set.

        Raises: DataError, OptionError: if nothing can be listed.
        """

    def read(self, seed: int) -> Splits:
        return self.splits_of(self.listing(seed), seed)

    def splits_of(self, listing: Listing, seed: int) -> Splits:
        listing.check()
        return self._splits(listing, seed)

    def _splits(self, listing: Listing, seed: int) -> Splits:
        """The splits of a listing without problems."""
        names = listing.names
        assert names.test is not None
        return Splits(
            train=listing.splits[names.train],
            test=listing.splits[names.test],
            class_names=listing.class_names,
            validation=None if names.validation is None else listing.splits[names.validation],
            origins=self.origins,
        )


def _check(what: str, name: str, split: Split, num_classes: int) -> None:
    if len(split) == 0:
        raise DataError(f"{what} is empty")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= num_classes:
        position = int(split.labels.argmin() if low < 0 else split.labels.argmax())
        raise DataError(
            f"label {int(split.labels[position])} of {name} sample {position} lies outside [0, {num_classes})"
        )
    if name == "train" and low == high:
        raise DataError(f"all {len(split)} training samples are of one class; at least two are needed")


def _check_class_names(names: tuple[str, ...], what: str) -> None:
    """Refuse names that do not tell classes apart, and names that no file can hold.

    Raises: DataError: naming the class.
    """
    label_of: dict[str, int] = {}
    for label, name in enumerate(names):
        if not name.strip():
            raise DataError(f"{what}: class {label} has no name; give it one")
        other = label_of.setdefault(name, label)
        if other != label:
            raise DataError(
                f"{what}: two classes are called {name!r}, labels {other} and {label}; give them different names, or "
                "leave them out with data.classes"
            )
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{what}: the class name {name!r} cannot be stored as text (UTF-8); rename it") from error


def _of_classes(splits: Splits, kept: list[int]) -> Splits:
    """The splits with the classes of these labels only, which become 0, 1, 2 and so on."""
    if kept == list(range(len(splits.class_names))):
        return splits
    class_names = tuple(splits.class_names[label] for label in kept)

    def change(name: str, split: Split) -> Split:
        chosen = split.of_classes(kept, len(splits.class_names))
        _check(f"the {name} split, of the classes that data.classes names,", name, chosen, len(kept))
        return chosen

    words = f"({len(kept)} of {len(splits.class_names)} classes: {few(class_names)})"
    origins = {name: f"{splits.origin(name)} {words}" for name in splits.by_name}
    return replace(splits.changed(change), class_names=class_names, origins=origins)
