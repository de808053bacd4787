"""Images that stay on disk until a batch needs them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from tqdm import tqdm

from selfkd.data.decoding import read_rgb
from selfkd.data.source import ImageSet, Split
from selfkd.errors import DataError

__all__ = ["ImageFiles"]

_CHUNK = 256  # images that a thread decodes before it reports


@dataclass(frozen=True)
class ImageFiles(Split):
    """Labelled image files, of any size.

    Args:
        root: the folder that the names are relative to.
        names: `[N]` encoded paths; one array, which worker processes share, where a million strings would be copied.
        labels: `[N]` int64 in [0, K).
        transform: from a decoded image to the uint8 `[3, S, S]` on which a network is evaluated.
        side: S.
    """

    root: Path
    names: NDArray[np.bytes_]
    labels: Tensor
    transform: Callable[[Image.Image], Tensor]
    side: int

    @classmethod
    def of(
        cls, root: Path, samples: Sequence[tuple[str, int]], transform: Callable[[Image.Image], Tensor], side: int
    ) -> ImageFiles:
        """From paths below `root` and their labels."""
        names = np.array([os.fsencode(os.path.relpath(path, root)) for path, _ in samples], dtype=np.bytes_)
        labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
        return cls(root, names, labels, transform, side)

    @property
    def input_size(self) -> tuple[int, int, int]:
        return 3, self.side, self.side

    def take(self, positions: NDArray[np.int64]) -> ImageFiles:
        return replace(self, names=self.names[positions], labels=self.labels[torch.from_numpy(positions)])

    def relabelled(self, labels: Tensor) -> ImageFiles:
        return replace(self, labels=labels)

    def identity(self) -> Iterator[bytes]:
        """Path, size and label of every file; contents would take as long to read as an epoch.

        Raises: DataError: if a file is gone, or is none, such as a pipe.
        """
        for position, label in enumerate(self.labels.tolist()):
            try:
                status = self.path(position).stat()
            except OSError as error:
                raise DataError(f"{self.path(position)} cannot be read: {error}") from error
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{self.path(position)} cannot be read: it is no regular file")
            yield b"%s\0%d\0%d\n" % (self.names[position], status.st_size, label)

    def path(self, position: int) -> Path:
        """Where an image lies."""
        return self.root / os.fsdecode(self.names[position])

    def original(self, position: int) -> Tensor:
        """An image as its file has it, uint8 `[3, H, W]`.

        Raises: DataError: naming the file, if it cannot be read.
        """
        pixels: Tensor = v2.functional.pil_to_tensor(self._decoded(position))
        return pixels

    def transformed(self, position: int) -> Tensor:
        """An image as networks are evaluated on it, uint8 `[3, S, S]`.

        Raises: DataError: naming the file, if it cannot be read.
        """
        return self.transform(self._decoded(position))

    def in_memory(self, title: str) -> ImageSet:
        """All images, transformed, decoded by as many threads as the machine has use for.

        Args:
            title: stands before the progress bar, which only a terminal shows.
        Raises: DataError: naming the file, if one cannot be read.
        """
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

    def _decoded(self, position: int) -> Image.Image:
        path = self.path(position)
        return read_rgb(path, str(path))
