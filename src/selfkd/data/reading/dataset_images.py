"""Images of a map-style `torch.utils.data.Dataset`, which a user has built."""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset
from tqdm.auto import tqdm

from selfkd.catalogue import place_of
from selfkd.data.reading.decoding import UNREADABLE, to_rgb
from selfkd.data.splits import ImageSet, IndexedImages, StoredImage
from selfkd.errors import DataError, shown

__all__ = ["DatasetImages", "DatasetSamples", "dataset_name"]

_READ_TWICE = 8
"""Images that are read twice at the start. A flip of half of them escapes 8 images once in 256 times."""
_MOST_READ = 4 * 10**9
"""Bytes of pixels that are read for the checksum of a split, if all its images are as large as the first."""
_DIGEST_SIZE = 16
_PAIR = 2
_CHANNELS = 3


class DatasetSamples:
    """A user's `Dataset` of pairs (image, label), checked, with a checksum of every image that was read.

    An image may be a PIL image; a tensor `[3, H, W]` or `[1, H, W]`; or an array `[H, W, 3]` or `[H, W]`. Tensors and
    arrays hold uint8, or floating-point numbers in [0, 1], which become uint8 again.

    Args:
        name: its name in errors.
        dataset: the `Dataset`.
    Attributes:
        labels: `[N]` int64, as the Dataset gives them.
        class_names: the names in its attribute `classes`, in label order; None if they do not name every label.
    Raises: DataError: if it is no map-style Dataset of such pairs, or gives another image at the second reading.
    """

    def __init__(self, name: str, dataset: Any) -> None:
        self.name = name
        self._dataset = dataset
        self._digests = np.zeros((_length(name, dataset), _DIGEST_SIZE), np.uint8)
        self._is_known = np.zeros(len(self._digests), np.bool_)
        self.labels = self._read_labels()
        names = _class_names(dataset)
        self.class_names = names if names is None or self.largest_label < len(names) else None
        for index in self._spread(_READ_TWICE):
            self.image(index)
            self.image(index)  # compares the two

    def __len__(self) -> int:
        return len(self._digests)

    @property
    def largest_label(self) -> int:
        """The largest label; -1 if there are no samples."""
        return int(self.labels.max(initial=-1))

    def images(self, labels: Tensor, transform: Callable[[Image.Image], Tensor], side: int) -> DatasetImages:
        """All images.

        Args:
            labels: their labels, `[N]` int64.
            transform: from a decoded image to the uint8 `[3, S, S]` on which a network is evaluated.
            side: S, in pixels.
        """
        return DatasetImages(labels, transform, side, self, np.arange(len(self), dtype=np.int64))

    def place(self, index: int) -> str:
        """A sample's place, for people."""
        return f"sample {index} of {self.name}"

    def image(self, index: int) -> Image.Image:
        """The image of a sample, in RGB.

        Raises: DataError: naming the sample, if it cannot be read, or is another one than at an earlier reading.
        """
        value, label = self._sample(index)
        if label != self.labels[index]:
            raise DataError(
                f"{self.place(index)} has the label {label}, but had {self.labels[index]} before; a Dataset must give "
                "the same label at every reading"
            )
        try:
            image = _as_image(value)
        except (*UNREADABLE, TypeError) as error:
            raise DataError(f"{self.place(index)}: not a usable image: {error}") from error
        digest = hashlib.blake2b(b"%d %d " % image.size + image.tobytes(), digest_size=_DIGEST_SIZE).digest()
        if not self._is_known[index]:
            self._digests[index] = np.frombuffer(digest, np.uint8)
            self._is_known[index] = True
        elif digest != bytes(self._digests[index]):
            raise DataError(
                f"{self.place(index)} is another image than at the reading before; a Dataset must give the same image "
                "at every reading. Remove the random transforms from it: the option augmentation=... changes the "
                "images during training"
            )
        return image

    def digest(self, index: int) -> bytes:
        """A checksum of the size and the pixels of an image. The image is read unless it was read before.

        Raises: DataError: as `image`.
        """
        if not self._is_known[index]:
            self.image(index)
        return bytes(self._digests[index])

    def _read_labels(self) -> NDArray[np.int64]:
        """The labels: those that the Dataset stores if they are those of its samples, else those of all samples."""
        stored = _stored_labels(self._dataset)
        if stored is not None and all(self._sample(index)[1] == stored[index] for index in self._spread(_READ_TWICE)):
            return stored
        with tqdm(range(len(self)), desc="labels", unit="image", disable=None) as indices:
            return np.array([self._sample(index)[1] for index in indices], np.int64)

    def _spread(self, most: int) -> range:
        """Some evenly spread indices."""
        return range(0, len(self), max(1, math.ceil(len(self) / most)))

    def _sample(self, index: int) -> tuple[Any, int]:
        """An image as the Dataset gives it, and its label."""
        try:
            sample = self._dataset[index]
        except Exception as error:  # somebody's code may fail in any way
            reason = f"{type(error).__name__}: {error}{place_of(error.__traceback__)}"
            raise DataError(f"{self.place(index)} cannot be read: {reason}") from error
        if not isinstance(sample, tuple | list) or len(sample) != _PAIR:
            kind = f"{len(sample)} values" if isinstance(sample, tuple | list) else f"a {type(sample).__name__}"
            raise DataError(f"{self.place(index)} is {kind}; it must be a pair (image, label)")
        image, label = sample
        try:
            return image, operator.index(label)
        except (TypeError, ValueError, RuntimeError) as error:  # torch raises the latter two for several numbers
            raise DataError(
                f"{self.place(index)} has the label {shown(label)}; a label must be one whole number from 0"
            ) from error


@dataclass(frozen=True)
class DatasetImages(IndexedImages):
    """Labelled images of a `Dataset`.

    Args:
        samples: the Dataset.
        indices: `[N]` positions in the Dataset.
    """

    samples: DatasetSamples
    indices: NDArray[np.int64]

    def take(self, positions: NDArray[np.int64]) -> DatasetImages:
        return replace(self, indices=self.indices[positions], labels=self.labels[torch.from_numpy(positions)])

    def decoded(self, position: int) -> Image.Image:
        return self.samples.image(int(self.indices[position]))

    def stored_images(self, name: str) -> Iterator[StoredImage]:
        for index, label in zip(self.indices.tolist(), self.labels.tolist(), strict=True):
            yield StoredImage(self.samples.place(index), label, partial(self._opened, index))

    def _opened(self, index: int) -> Image.Image:
        try:
            return self.samples.image(index)
        except DataError as error:
            raise ValueError(error) from error  # an error that `PIL.Image.open` raises

    def identity(self, contents: bool = True) -> Iterator[bytes]:
        """The labels, and the pixels of the images. Of more than 4 GB, only evenly spread images are read.

        Raises: DataError: naming the sample, if one cannot be read.
        """
        yield b"%d\0" % len(self)
        yield self.labels.numpy().tobytes()
        if not contents or not len(self):
            return
        width, height = self.decoded(0).size
        step = max(1, math.ceil(len(self) * _CHANNELS * width * height / _MOST_READ))
        with tqdm(self.indices[::step].tolist(), desc="checksum", unit="image", disable=None) as indices:
            yield from map(self.samples.digest, indices)

    def in_memory(self, title: str) -> ImageSet:
        images = torch.empty(len(self), *self.input_size, dtype=torch.uint8)
        # One after the other: somebody's Dataset need not be safe with threads.
        with tqdm(range(len(self)), desc=title, unit="image", disable=None) as positions:
            for position in positions:
                images[position] = self.transformed(position)
        return ImageSet(images, self.labels)


def dataset_name(dataset: Any, split: str | None = None) -> str:
    """The name of a Dataset in errors."""
    return f"the Dataset {type(dataset).__name__}" + (f" ({split})" if split is not None else "")


def _length(name: str, dataset: Any) -> int:
    """The number of samples of a map-style Dataset.

    Raises: DataError: if it is something else.
    """
    wanted = "it must be a map-style torch Dataset, with __len__ and __getitem__, of pairs (image, label)"
    if isinstance(dataset, DataLoader):
        raise DataError(f"{name} is a DataLoader; give the Dataset in it, its attribute dataset")
    if isinstance(dataset, IterableDataset):
        raise DataError(f"{name} is an IterableDataset, which has no order that can be repeated; {wanted}")
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DataError(f"{name} has no length or no indices; {wanted}")
    try:
        return len(dataset)
    except Exception as error:  # somebody's code may fail in any way
        reason = f"{type(error).__name__}: {error}{place_of(error.__traceback__)}"
        raise DataError(f"{name} gives no length: {reason}; {wanted}") from error


def _stored_labels(dataset: Any) -> NDArray[np.int64] | None:
    """The labels in the attribute `targets` or `labels` of a Dataset, `[N]`; None if there are none of whole numbers.

    Those of a `Subset` come from its Dataset. They may differ from those of the samples, by a `target_transform`.
    """
    if isinstance(dataset, Subset):
        labels = _stored_labels(dataset.dataset)
        return None if labels is None else labels[np.asarray(dataset.indices, np.int64)]
    for attribute in ("targets", "labels"):
        try:
            labels = np.asarray(getattr(dataset, attribute))
            fits = labels.shape == (len(dataset),) and np.issubdtype(labels.dtype, np.integer)
        except Exception:  # noqa: S112  # there is no such attribute, or it is something else
            continue
        if fits:
            return labels.astype(np.int64)
    return None


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    """The names in the attribute `classes` of a Dataset, or of that of a `Subset`; None if there are none."""
    if isinstance(dataset, Subset):
        return _class_names(dataset.dataset)
    names = getattr(dataset, "classes", None)
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    return tuple(map(str, names)) if is_list and names else None


def _as_image(value: Any) -> Image.Image:
    """An image in RGB.

    Raises:
        UNREADABLE: if it is damaged, or its values or its shape are not those of an image.
        TypeError: if it is something else.
    """
    if isinstance(value, Image.Image):
        return to_rgb(value)
    if isinstance(value, Tensor):
        shape, expected = tuple(value.shape), "[3, H, W] or [1, H, W]"
        pixels = (value.float() if value.is_floating_point() else value).detach().cpu().numpy()
        pixels = np.moveaxis(pixels, 0, -1) if pixels.ndim == _CHANNELS else pixels[None]
    elif isinstance(value, np.ndarray):
        shape, expected = value.shape, "[H, W, 3] or [H, W]"
        pixels = value if value.ndim == _CHANNELS else value[..., None]
    else:
        raise TypeError(f"it is a {type(value).__name__}; it must be a PIL image, a tensor or a NumPy array")
    if pixels.ndim != _CHANNELS or pixels.shape[-1] not in (1, _CHANNELS) or not pixels.size:
        raise ValueError(f"its shape is {list(shape)}; a {type(value).__name__} must have the shape {expected}")
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(_eight_bits(pixels), (*pixels.shape[:2], _CHANNELS))))


def _eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The pixels in uint8; floating-point numbers in [0, 1] are multiplied by 255.

    Raises: ValueError: if they are something else.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(f"its type is {pixels.dtype}; it must be uint8, or floating-point numbers in [0, 1]")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"its values reach from {low:g} to {high:g}; they must be in [0, 1]. Remove the normalisation from the "
            "Dataset: data.mean and data.std normalise the images"
        )
    return (pixels * 255).round().astype(np.uint8)
