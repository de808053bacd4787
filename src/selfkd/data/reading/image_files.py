"""Image files that stay on disk until a batch needs them."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from selfkd.data.reading.decoding import open_image, read_rgb
from selfkd.data.reading.regular_files import regular_status
from selfkd.data.splits import ImageSet, IndexedImages, StoredImage
from selfkd.errors import DataError

__all__ = ["ImageFiles"]

_CHUNK = 256  # images that a thread decodes before it reports
_MOST_READ = 4 * 10**9
"""Bytes that are read for the checksum of a split, give or take a file; ImageNet has 140 GB."""
_DIGEST_SIZE = 16
_SEPARATOR = os.fsencode(os.sep)


@dataclass(frozen=True)
class ImageFiles(IndexedImages):
    """Labelled image files of any size.

    Args:
        root: the folder that the names are relative to.
        names: `[N]` encoded paths. This is one array, which worker processes share; a million strings would be copied.
    """

    root: Path
    names: NDArray[np.bytes_]

    @classmethod
    def of(
        cls, root: Path, samples: Sequence[tuple[str, int]], transform: Callable[[Image.Image], Tensor], side: int
    ) -> ImageFiles:
        """From paths below `root` and their labels."""
        names = np.array([os.fsencode(os.path.relpath(path, root)) for path, _ in samples], dtype=np.bytes_)
        labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
        return cls(labels, transform, side, root, names)

    def take(self, positions: NDArray[np.int64]) -> ImageFiles:
        return replace(self, names=self.names[positions], labels=self.labels[torch.from_numpy(positions)])

    def stored_images(self, name: str) -> Iterator[StoredImage]:
        for position, label in enumerate(self.labels.tolist()):
            place = os.fsdecode(self.names[position])
            yield StoredImage(place, label, partial(open_image, self.root / place))

    def identity(self, contents: bool = True) -> Iterator[bytes]:
        """Path, size, label and contents of every file. Of more than 4 GB, only evenly spread files are read.

        The time of writing does not count, so a copy is the same data.

        Raises: DataError: if a file is missing, or is no regular file, such as a pipe.
        """
        bytes_in_all = 0
        for position, label in enumerate(self.labels.tolist()):
            size = self._size(position)
            bytes_in_all += size
            yield b"%s\0%d\0%d\n" % (self.names[position], size, label)
        if contents:
            yield from self._digests(range(0, len(self), max(1, math.ceil(bytes_in_all / _MOST_READ))))

    def _size(self, position: int) -> int:
        try:
            return regular_status(self.path(position)).st_size
        except OSError as error:
            raise DataError(f"{self.path(position)} cannot be read: {error}") from error

    def _digests(self, positions: range) -> Iterator[bytes]:
        """Checksums of the contents of these files, in their order."""
        with (
            ThreadPoolExecutor() as pool,  # files are read and hashed outside the interpreter lock
            tqdm(total=len(positions), desc="checksum", unit="image", disable=None) as bar,
        ):
            chunks = [positions[start : start + _CHUNK] for start in range(0, len(positions), _CHUNK)]
            for digests in pool.map(lambda chunk: b"".join(map(self._digest, chunk)), chunks):
                yield digests
                bar.update(len(digests) // _DIGEST_SIZE)

    def _digest(self, position: int) -> bytes:
        path = self.path(position)
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST_SIZE)).digest()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from error

    def path(self, position: int) -> Path:
        """The path of an image."""
        return self.root / os.fsdecode(self.names[position])

    def folders(self) -> list[str]:
        """The paths of all folders that hold some of the images, in the order of the images."""
        inside = dict.fromkeys(name.rpartition(_SEPARATOR)[0] for name in self.names.tolist())
        return [str(self.root / os.fsdecode(folder)) for folder in inside]

    def in_memory(self, title: str) -> ImageSet:
        images = torch.empty(len(self), *self.input_size, dtype=torch.uint8)

        def fill(chunk: range) -> int:
            for position in chunk:
                images[position] = self.transformed(position)
            return len(chunk)

        chunks = [range(start, min(start + _CHUNK, len(self))) for start in range(0, len(self), _CHUNK)]
        with (
            ThreadPoolExecutor() as pool,  # PIL decodes outside the interpreter lock
            tqdm(total=len(self), desc=title, unit="image", disable=None) as bar,
        ):
            for count in pool.map(fill, chunks):
                bar.update(count)
        return ImageSet(images, self.labels)

    def decoded(self, position: int) -> Image.Image:
        path = self.path(position)
        return read_rgb(path, str(path))
