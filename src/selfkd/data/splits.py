"""Splits of labelled images, in memory or not."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from selfkd.contract import DatasetInfo
from selfkd.errors import DataError

__all__ = ["ImageSet", "IndexedImages", "Split", "Splits", "StoredImage", "UndecodedImages"]

_RULE = "content-1"
"""The rule of `Splits.fingerprint`. An older fingerprint names no rule: of files, it took paths, sizes and labels."""


class StoredImage(NamedTuple):
    """An image that was not opened yet.

    Args:
        place: its file or row, for people.
        label: its class.
        open: opens it, as `PIL.Image.open` does, and raises the same errors.
    """

    place: str
    label: int
    open: Callable[[], Image.Image]


class Split(ABC):
    """Labelled images: `ImageSet` in memory, `ImageFiles` on disk, `TableImages` in a table, or `DatasetImages`.

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

    def of_classes(self, kept: Sequence[int], num_classes: int) -> Self:
        """The images of some classes, labelled anew.

        Args:
            kept: their labels, in the order of their new labels.
            num_classes: K. Images with labels outside [0, K) are left out.
        """
        new_label = torch.full((num_classes + 1,), -1)
        new_label[list(kept)] = torch.arange(len(kept))
        known = (self.labels >= 0) & (self.labels < num_classes)
        labels = new_label[self.labels.where(known, num_classes)]
        positions = labels.ge(0).nonzero().flatten()
        return self.take(positions.numpy()).relabelled(labels[positions])

    @abstractmethod
    def stored_images(self, name: str) -> Iterator[StoredImage]:
        """All images, none of them opened yet.

        Args:
            name: of the split.
        Raises: DataError: if a table cannot be read to its end.
        """

    @abstractmethod
    def in_memory(self, title: str) -> ImageSet:
        """All images decoded, as networks are evaluated on them.

        Args:
            title: text before the progress bar, which only a terminal shows.
        Raises: DataError: naming the image, if one cannot be read.
        """

    @abstractmethod
    def identity(self, contents: bool = True) -> Iterator[bytes | memoryview]:
        """The bytes that a checksum of these images and labels is made of.

        Args:
            contents: include the contents of image files; else only their paths and sizes count.
        """


@dataclass(frozen=True)
class UndecodedImages(Split):
    """Labelled images of any size that are decoded when they are needed.

    Args:
        labels: `[N]` int64 in [0, K).
        transform: from a decoded image to the uint8 `[3, S, S]` on which a network is evaluated.
        side: S, in pixels.
    """

    labels: Tensor
    transform: Callable[[Image.Image], Tensor]
    side: int

    @property
    def input_size(self) -> tuple[int, int, int]:
        return 3, self.side, self.side

    def relabelled(self, labels: Tensor) -> Self:
        return replace(self, labels=labels)


class IndexedImages(UndecodedImages):
    """Undecoded images that can be read one by one, in any order. Training can read them in worker processes."""

    @abstractmethod
    def decoded(self, position: int) -> Image.Image:
        """An image in RGB, in its own size.

        Raises: DataError: naming the image, if it cannot be read.
        """

    def original(self, position: int) -> Tensor:
        """An image in its own size, uint8 `[3, H, W]`.

        Raises: DataError: naming the image, if it cannot be read.
        """
        pixels: Tensor = v2.functional.pil_to_tensor(self.decoded(position))
        return pixels

    def transformed(self, position: int) -> Tensor:
        """An image as networks are evaluated on it, uint8 `[3, S, S]`.

        Raises: DataError: naming the image, if it cannot be read.
        """
        return self.transform(self.decoded(position))


@dataclass(frozen=True)
class ImageSet(Split):
    """Images in memory.

    Args:
        images: `[N, C, H, W]` uint8.
        labels: `[N]` int64 in [0, K).
        origin: the files that the images were decoded from, if the files and not the pixels identify the images. A run
            on these images is then the same run as one that reads the files.
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

    def stored_images(self, name: str) -> Iterator[StoredImage]:
        for position, label in enumerate(self.labels.tolist()):
            pixels = self.images[position].permute(1, 2, 0).contiguous().numpy()
            yield StoredImage(f"{name} sample {position}", label, partial(Image.fromarray, pixels))

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
    """The splits of a data set: train, test and perhaps validation.

    Args:
        train: the images to train on. Sample indices are positions in it.
        test: the images to report on. They choose the best epoch only if there is no validation split.
        class_names: K names in label order.
        validation: the images that choose the best epoch, or None.
        origins: where the images of a split come from, in words, by "train", "validation" and "test". A split without
            an entry is the data set's own split of that name.
    """

    train: Split
    test: Split
    class_names: tuple[str, ...]
    validation: Split | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, Split]:
        """The splits by "train", "validation" (unless there is none) and "test"."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}

    def changed(self, change: Callable[[str, Split], Split]) -> Splits:
        """The same with every split replaced by `change(name, split)`."""
        changed = {name: change(name, split) for name, split in self.by_name.items()}
        return replace(self, train=changed["train"], test=changed["test"], validation=changed.get("validation"))

    def in_memory(self) -> Splits:
        """The same with all images decoded.

        Raises: DataError: naming the image, if one cannot be read.
        """
        return self.changed(lambda name, split: split.in_memory(name))

    def origin(self, name: str) -> str:
        """Where the images of a split come from, in words."""
        return self.origins.get(name, f"the data set's own {name} split")

    @property
    def selection(self) -> tuple[str, Split]:
        """The split that chooses the best epoch: its name and its images."""
        return ("test", self.test) if self.validation is None else ("validation", self.validation)

    def fingerprint(self) -> str:
        """A checksum of class names, images and labels of all splits. Other data has another checksum.

        It begins with the name of the rule that made it. Files are read at the first call only.

        Raises: DataError: if a file is gone.
        """
        return self._fingerprints[0]

    def test_fingerprint(self) -> str:
        """A checksum of the images and labels of the test split alone, as `fingerprint` makes it of all splits.

        Raises: DataError: if a file is gone.
        """
        return self._fingerprints[1]

    def matches(self, noted: object) -> bool:
        """Whether a recorded fingerprint belongs to this data.

        Args:
            noted: a fingerprint that this version or an older one made.
        Raises: DataError: if a file is gone, or only a newer version knows the rule of the fingerprint.
        """
        rule, named, _ = str(noted).rpartition(":")
        if not named:
            return bool(noted == self._checksums(contents=False)[0])
        if rule != _RULE:
            raise DataError(
                f"the data's fingerprint was made by the rule {rule!r}, which this version of selfkd does not know; "
                "a newer version does"
            )
        return bool(noted == self.fingerprint())

    @cached_property
    def _fingerprints(self) -> tuple[str, str]:
        whole, test = self._checksums(contents=True)
        return f"{_RULE}:{whole}", f"{_RULE}:{test}"

    def _checksums(self, contents: bool) -> tuple[str, str]:
        """The checksum of all splits, and that of the test split, in one pass over the files."""
        whole = hashlib.blake2b("\n".join(self.class_names).encode(), digest_size=16)
        test = hashlib.blake2b(digest_size=16)
        for name, split in self.by_name.items():
            digests = [whole, test] if name == "test" else [whole]
            for part in split.identity(contents):
                for digest in digests:
                    digest.update(part)
        return whole.hexdigest(), test.hexdigest()

    @cached_property
    def info(self) -> DatasetInfo:
        """What a method may know about the training set."""
        return DatasetInfo(
            num_samples=len(self.train),
            num_classes=len(self.class_names),
            class_names=self.class_names,
            labels=tuple(self.train.labels.tolist()),
            input_size=self.train.input_size,
        )
