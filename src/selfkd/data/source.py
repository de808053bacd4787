"""What a data set is to this library: splits of images, made reproducibly from what lies on disk."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision.transforms import v2

from selfkd.contract import DatasetInfo
from selfkd.errors import DataError, OptionError
from selfkd.option_checks import weights

__all__ = ["ImageSet", "Source", "Split", "Splits"]


class Split(ABC):
    """Labelled images, wherever they lie: `ImageSet` in memory, `ImageFiles` on disk.

    Attributes:
        labels: `[N]` int64 in [0, K).
    """

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abstractmethod
    def input_size(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image as networks are evaluated on it."""

    @abstractmethod
    def take(self, positions: NDArray[np.int64]) -> Self:
        """The images at these positions, in this order."""

    @abstractmethod
    def identity(self) -> Iterator[bytes | memoryview]:
        """What distinguishes these images and labels from others, to be checksummed."""


@dataclass(frozen=True)
class ImageSet(Split):
    """Images in memory.

    Args:
        images: `[N, C, H, W]` uint8.
        labels: `[N]` int64 in [0, K).
    """

    images: Tensor
    labels: Tensor

    @property
    def input_size(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images.shape
        return channels, height, width

    def take(self, positions: NDArray[np.int64]) -> ImageSet:
        chosen = torch.from_numpy(positions)
        return ImageSet(self.images[chosen], self.labels[chosen])

    def identity(self) -> Iterator[bytes | memoryview]:
        for tensor in (self.images, self.labels):
            yield repr(tuple(tensor.shape)).encode()
            yield tensor.contiguous().numpy().data


@dataclass(frozen=True)
class Splits:
    """Train, test, and validation where a part of the training set is held out.

    Args:
        train: what is trained on; sample indices count in it.
        test: touched to report, and to choose the best epoch only where there is no validation split.
        class_names: K names in label order.
        validation: held out from the training set, or None.
    """

    train: Split
    test: Split
    class_names: tuple[str, ...]
    validation: Split | None = None

    @property
    def selection(self) -> tuple[str, Split]:
        """Name and images of the split that chooses the best epoch."""
        return ("test", self.test) if self.validation is None else ("validation", self.validation)

    def fingerprint(self) -> str:
        """A checksum of class names, images and labels of all splits, which tells other data under the same name.

        Raises: DataError: if a file is gone.
        """
        digest = hashlib.blake2b("\n".join(self.class_names).encode(), digest_size=16)
        for split in (self.train, self.validation, self.test):
            if split is not None:
                for part in split.identity():
                    digest.update(part)
        return digest.hexdigest()

    @cached_property
    def info(self) -> DatasetInfo:
        """What methods may know of the training set."""
        return DatasetInfo(
            num_samples=len(self.train),
            num_classes=len(self.class_names),
            class_names=self.class_names,
            labels=tuple(self.train.labels.tolist()),
            input_size=self.train.input_size,
        )


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A data set by name. Subclasses read; splitting, checking and normalising are said here once.

    Args:
        validation_fraction: share of the training set held out, stratified, to choose the best epoch; 0 for none.
        mean: per channel, of pixel values in [0, 1], subtracted.
        std: per channel, of pixel values in [0, 1], divided by.
    Raises: OptionError: if a value is out of range.
    """

    validation_fraction: float = 0.0
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
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

    def load(self, seed: int) -> Splits:
        """All splits, checked.

        Args:
            seed: decides which samples are held out; the same for every method of a comparison.
        Raises: DataError: if data is missing, unreadable, empty, of one class, or its labels do not fit.
        """
        splits = self.read(seed)
        for name, split in (("train", splits.train), ("test", splits.test)):
            self._check(name, split, len(splits.class_names))
        if not self.validation_fraction:
            return splits
        positions = np.arange(len(splits.train))
        try:
            kept, held_out = train_test_split(
                positions, test_size=self.validation_fraction, stratify=splits.train.labels.numpy(), random_state=seed
            )
        except ValueError as error:
            raise OptionError(
                "data.validation_fraction", self.validation_fraction, f"a share that every class can give: {error}"
            ) from error
        return Splits(
            train=splits.train.take(np.sort(kept)),
            test=splits.test,
            class_names=splits.class_names,
            validation=splits.train.take(np.sort(held_out)),
        )

    def inference_transform(self) -> Callable[[Image.Image], Tensor]:
        """From a PIL image to the normalised float `[3, H, W]` that the network takes."""
        transform: Callable[[Image.Image], Tensor] = v2.Compose(
            [self.image_transform(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(self.mean, self.std)]
        )
        return transform

    def _check(self, name: str, split: Split, num_classes: int) -> None:
        if len(split) == 0:
            raise DataError(f"the {name} split of {type(self).__name__} is empty")
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= num_classes:
            position = int(split.labels.argmin() if low < 0 else split.labels.argmax())
            raise DataError(
                f"label {int(split.labels[position])} of {name} sample {position} lies outside [0, {num_classes})"
            )
        if name == "train" and low == high:
            raise DataError(f"all {len(split)} training samples are of one class; at least two are needed")
