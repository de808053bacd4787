"""Splits of labelled images, wherever they lie."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfkd.contract import DatasetInfo
from selfkd.errors import DataError

__all__ = ["ImageSet", "Split", "Splits"]

_RULE = "content-1"
"""The rule of `Splits.fingerprint`; before it had a name, of image files only paths, sizes and labels counted."""


class Split(ABC):
    """Labelled images, wherever they lie: `ImageSet` in memory, `ImageFiles` on disk, `TableImages` in a table.

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
    def relabelled(self, labels: Tensor) -> Self:
        """The same images with other labels, `[N]` int64."""

    @abstractmethod
    def in_memory(self, title: str) -> ImageSet:
        """The images as networks are evaluated on them, all decoded.

        Args:
            title: stands before the progress bar, which only a terminal shows.
        Raises: DataError: naming the image, if one cannot be read.
        """

    @abstractmethod
    def identity(self, contents: bool = True) -> Iterator[bytes | memoryview]:
        """What distinguishes these images and labels from others, to be checksummed.

        Args:
            contents: whether what is in image files counts; else only their paths and sizes do.
        """


@dataclass(frozen=True)
class ImageSet(Split):
    """Images in memory.

    Args:
        images: `[N, C, H, W]` uint8.
        labels: `[N]` int64 in [0, K).
        origin: what the images were decoded from, where that and not their pixels identifies them; then it makes no
            difference to a run whether they were held in memory.
    """

    images: Tensor
    labels: Tensor
    origin: Split | None = None

    @property
    def input_size(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images.shape
        return channels, height, width

    def take(self, positions: NDArray[np.int64]) -> ImageSet:
        chosen = torch.from_numpy(positions)
        origin = None if self.origin is None else self.origin.take(positions)
        return ImageSet(self.images[chosen], self.labels[chosen], origin)

    def relabelled(self, labels: Tensor) -> ImageSet:
        origin = None if self.origin is None else self.origin.relabelled(labels)
        return ImageSet(self.images, labels, origin)

    def in_memory(self, title: str) -> ImageSet:
        return self

    def identity(self, contents: bool = True) -> Iterator[bytes | memoryview]:
        if self.origin is not None:
            yield from self.origin.identity(contents)
            return
        for tensor in (self.images, self.labels):
            yield repr(tuple(tensor.shape)).encode()
            yield tensor.contiguous().numpy().data


@dataclass(frozen=True)
class Splits:
    """Train, test, and validation where the data set has one or a part of the training set is held out.

    Args:
        train: what is trained on; sample indices count in it.
        test: touched to report, and to choose the best epoch only where there is no validation split.
        class_names: K names in label order.
        validation: chooses the best epoch; or None.
        origins: for each split by name, where its images come from, in words; left out where that is the data set's
            own split of that name.
    """

    train: Split
    test: Split
    class_names: tuple[str, ...]
    validation: Split | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, Split]:
        """All there are: "train", "validation" unless there is none, "test"."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}

    def changed(self, change: Callable[[str, Split], Split]) -> Splits:
        """Every split changed by a function of its name and itself."""
        changed = {name: change(name, split) for name, split in self.by_name.items()}
        return replace(self, train=changed["train"], test=changed["test"], validation=changed.get("validation"))

    def in_memory(self) -> Splits:
        """All images decoded.

        Raises: DataError: naming the image, if one cannot be read.
        """
        return self.changed(lambda name, split: split.in_memory(name))

    def origin(self, name: str) -> str:
        """Where the images of a split come from, in words."""
        return self.origins.get(name, f"the data set's own {name} split")

    @property
    def selection(self) -> tuple[str, Split]:
        """Name and images of the split that chooses the best epoch."""
        return ("test", self.test) if self.validation is None else ("validation", self.validation)

    def fingerprint(self) -> str:
        """A checksum of class names, images and labels of all splits, which tells other data under the same name.

        It begins with the rule that made it. Files are read once for all calls.

        Raises: DataError: if a file is gone.
        """
        return self._fingerprint

    def matches(self, noted: object) -> bool:
        """Whether a fingerprint, noted with this version or an older one, is of this data.

        Args:
            noted: what `fingerprint` gave; without a rule's name, what it gave before contents of files counted.
        Raises: DataError: if a file is gone, or the fingerprint was made by a rule that only a newer version knows.
        """
        rule, named, _ = str(noted).rpartition(":")
        if not named:
            return bool(noted == self._checksum(contents=False))
        if rule != _RULE:
            raise DataError(
                f"the data's fingerprint was noted by the rule {rule!r}, which this version of selfkd does not know; "
                "a newer version does"
            )
        return bool(noted == self.fingerprint())

    @cached_property
    def _fingerprint(self) -> str:
        return f"{_RULE}:{self._checksum(contents=True)}"

    def _checksum(self, contents: bool) -> str:
        digest = hashlib.blake2b("\n".join(self.class_names).encode(), digest_size=16)
        for split in self.by_name.values():
            for part in split.identity(contents):
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
