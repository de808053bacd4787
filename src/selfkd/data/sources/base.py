"""What a data set is to this library: splits of images, made reproducibly from what lies on disk."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from selfkd.data.reading.decoding import to_rgb
from selfkd.data.sources.drawing import held_out, some_of_each_class
from selfkd.data.splits import Split, Splits
from selfkd.data.wording import few
from selfkd.errors import DataError, OptionError
from selfkd.option_checks import at_least, weights

__all__ = ["Source"]


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A data set by name. Subclasses read; cutting down, splitting, checking and normalising are said here once.

    Args:
        classes: names of the classes that are kept, in the order of their new labels, or a number N for the first N;
            all by default. It holds for every split. Names that are numbers may be given as such.
        train_per_class: training images that are kept of each class, drawn by the run's seed; all by default.
        validation_fraction: share of the training set held out, stratified, to choose the best epoch; 0 for none.
        mean: subtracted from each channel of pixel values in [0, 1].
        std: by which each channel is then divided.
    Raises: OptionError: if a value is out of range.
    """

    names_come_from: ClassVar[str] = "as the data set has them"
    """Where the names of the classes come from, in words."""

    classes: int | tuple[int | str, ...] | None = None
    train_per_class: int | None = None
    validation_fraction: float = 0.0
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if isinstance(self.classes, int):
            at_least("data.classes", self.classes, 2)
        elif self.classes is not None and not 2 <= len(set(map(str, self.classes))) == len(self.classes):
            raise OptionError("data.classes", self.classes, "two or more names, none twice, or a number")
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
        """Train and test as the data set defines them; `seed` decides where something is drawn."""

    @abstractmethod
    def image_transform(self) -> Callable[[Image.Image], Tensor]:
        """From a PIL image to the uint8 `[3, H, W]` on which networks are evaluated."""

    def load(self, seed: int, whole_images: bool = False) -> Splits:
        """All splits, checked and cut down.

        Args:
            seed: decides which samples are drawn; the same for every method of a comparison.
            whole_images: whether images are wanted as their files have them, which forbids to decode and scale them
                beforehand; it changes nothing where the data set has no files.
        Raises:
            DataError: if data is missing, unreadable, empty, of one class, or its labels do not fit.
            OptionError: if the data set cannot give what an option asks for.
        """
        return self._held(self.cut(seed), whole_images)

    def cut(self, seed: int) -> Splits:
        """As `load`, but no image is decoded that can be left where it lies.

        Args:
            seed: decides which samples are drawn.
        Raises: DataError, OptionError: as `load`, but for images that cannot be read.
        """
        self.check_image_size()
        splits = self._with_classes(self.read(seed))
        splits = self._with_validation(self._thinned(splits, seed), seed)
        self._check_room(splits)
        return splits

    def check_image_size(self) -> None:
        """Refuse images so large that not even one fits in memory; nothing where a data set fixes their size.

        Raises: OptionError: naming the option.
        """

    def _check_room(self, splits: Splits) -> None:
        """Refuse images that must be held in memory, but may not.

        Raises: OptionError: naming the limit.
        """

    def _held(self, splits: Splits, whole_images: bool) -> Splits:
        """The splits, of which nothing is cut any more, where training wants their images; here where they are."""
        return splits

    def _with_classes(self, splits: Splits) -> Splits:
        """The splits, checked, with the chosen classes alone, labelled anew; done twice, it changes nothing more."""
        for name, split in splits.by_name.items():
            _check(f"the {name} split of {type(self).__name__}", name, split, len(splits.class_names))
        if self.classes is not None:
            splits = _with_labels(splits, _labels_of(self.classes, splits.class_names))
        _check_class_names(splits.class_names, f"the classes of {type(self).__name__} ({self.names_come_from})")
        sizes = splits.train.labels.bincount(minlength=len(splits.class_names))
        missing = [splits.class_names[label] for label in sizes.eq(0).nonzero().flatten().tolist()]
        if missing:
            raise DataError(f"classes without a training image: {few(missing)}; data.classes can leave them out")
        return splits

    def _thinned(self, splits: Splits, seed: int) -> Splits:
        """The splits with as many training images of each class as were asked for."""
        if self.train_per_class is None:
            return splits
        sizes = splits.train.labels.bincount(minlength=len(splits.class_names))
        smallest = int(sizes.argmin())
        if sizes[smallest] < self.train_per_class:
            raise OptionError(
                "data.train_per_class",
                self.train_per_class,
                f"at most {int(sizes[smallest])}, as many as {splits.class_names[smallest]!r} has to train on",
            )
        chosen, _ = some_of_each_class(splits.train.labels.numpy(), self.train_per_class, seed)
        origin = f"{splits.origin('train')}, {self.train_per_class} of each class, drawn by seed {seed}"
        return replace(splits, train=splits.train.take(chosen), origins={**splits.origins, "train": origin})

    def _with_validation(self, splits: Splits, seed: int) -> Splits:
        """The splits with a part of the training set held out, if that was asked for."""
        if not self.validation_fraction:
            return splits
        if splits.validation is not None:
            raise OptionError(
                "data.validation_fraction", self.validation_fraction, "0 here: the data has a validation split already"
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
        """From a PIL image to the normalised float `[3, H, W]` that the network takes."""
        transform: Callable[[Image.Image], Tensor] = v2.Compose(
            [
                to_rgb,
                self.image_transform(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(self.mean, self.std),
            ]
        )
        return transform


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
    """Refuse names by which nobody could tell classes apart, or that no file can hold.

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
            raise DataError(
                f"{what}: the class name {name!r} is no text that can be stored (UTF-8); rename it"
            ) from error


def _with_labels(splits: Splits, kept: list[int]) -> Splits:
    """The splits with the classes of these labels alone, which become 0, 1, 2 and so on."""
    if kept == list(range(len(splits.class_names))):
        return splits
    class_names = tuple(splits.class_names[label] for label in kept)
    new_label = torch.full((len(splits.class_names),), -1)
    new_label[kept] = torch.arange(len(kept))

    def change(name: str, split: Split) -> Split:
        labels = new_label[split.labels]
        positions = labels.ge(0).nonzero().flatten()
        chosen = split.take(positions.numpy()).relabelled(labels[positions])
        _check(f"the {name} split, of the classes that data.classes names,", name, chosen, len(kept))
        return chosen

    words = f"({len(kept)} of {len(splits.class_names)} classes: {few(class_names)})"
    origins = {name: f"{splits.origin(name)} {words}" for name in splits.by_name}
    return replace(splits.changed(change), class_names=class_names, origins=origins)


def _labels_of(classes: int | tuple[int | str, ...], names: tuple[str, ...]) -> list[int]:
    """The labels of the first classes, or of the named ones."""
    if isinstance(classes, int):
        if classes > len(names):
            raise OptionError("data.classes", classes, f"at most {len(names)}, the number of classes")
        return list(range(classes))
    chosen = [str(name) for name in classes]
    for name in chosen:
        if names.count(name) == 1:
            continue
        if name in names:
            raise OptionError("data.classes", classes, f"free of {name!r}, which names {names.count(name)} classes")
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:3]
        raise OptionError("data.classes", classes, f"names of classes; {name!r} is none, nearest: {', '.join(near)}")
    return [names.index(name) for name in chosen]
