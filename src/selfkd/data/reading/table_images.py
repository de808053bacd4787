"""Images in a table that are decoded once it is known which of them are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from selfkd.data.reading.arrow_images import Columns, ImageTable, decoded, encoded_images
from selfkd.data.splits import ImageSet, Split
from selfkd.errors import DataError

__all__ = ["TableImages", "read_labels"]


def read_labels(table: ImageTable, columns: Columns) -> Tensor:
    """The labels of all rows, `[N]` int64, without reading an image.

    Raises: DataError: if one is missing, or they cannot be read.
    """
    parts: list[NDArray[np.int64]] = []
    for rows in table.batches([columns.label]):
        label = rows.batch.column(columns.label)
        if label.null_count:
            raise DataError(
                f"{rows.name}: column {columns.label!r} must hold whole numbers without gaps, "
                f"it comes with {label.null_count} empty"
            )
        parts.append(label.to_numpy(zero_copy_only=False).astype(np.int64))
    return torch.from_numpy(np.concatenate(parts) if parts else np.empty(0, np.int64))


@dataclass(frozen=True)
class TableImages(Split):
    """Labelled rows of a table, not decoded yet; training takes them `in_memory`.

    Args:
        table: has the images.
        columns: where they stand.
        rows: `[N]` positions in the table.
        labels: `[N]` int64 in [0, K).
        transform: from a decoded image to the uint8 `[3, S, S]` on which a network is evaluated.
        side: S.
    """

    table: ImageTable
    columns: Columns
    rows: NDArray[np.int64]
    labels: Tensor
    transform: Callable[[Image.Image], Tensor]
    side: int

    @classmethod
    def of(
        cls,
        table: ImageTable,
        columns: Columns,
        labels: Tensor,
        transform: Callable[[Image.Image], Tensor],
        side: int,
    ) -> TableImages:
        """All rows of a table."""
        return cls(table, columns, np.arange(len(labels)), labels, transform, side)

    @property
    def input_size(self) -> tuple[int, int, int]:
        return 3, self.side, self.side

    def take(self, positions: NDArray[np.int64]) -> TableImages:
        return replace(self, rows=self.rows[positions], labels=self.labels[torch.from_numpy(positions)])

    def relabelled(self, labels: Tensor) -> TableImages:
        return replace(self, labels=labels)

    def identity(self, contents: bool = True) -> Iterator[bytes | memoryview]:
        yield from self.in_memory("reading").identity(contents)

    def in_memory(self, title: str) -> ImageSet:
        """The images, decoded to RGB and transformed.

        Raises: DataError: naming the row, if one cannot be read.
        """
        images = torch.empty(len(self), *self.input_size, dtype=torch.uint8)
        order = self.rows.argsort(kind="stable")
        wanted = self.rows[order]
        start = 0
        with (
            ThreadPoolExecutor() as pool,  # PIL decodes outside the interpreter lock
            tqdm(total=len(self), desc=title, unit="image", disable=None) as bar,
        ):
            for rows in self.table.batches([self.columns.image]):
                here = slice(*wanted.searchsorted((start, start + len(rows.batch))))
                inside = wanted[here] - start
                if len(inside):
                    encoded = encoded_images(rows, self.columns, inside)
                    places = [f"{rows.name}, row {rows.first + row}" for row in inside]
                    images[torch.from_numpy(order[here])] = torch.stack(list(pool.map(self._decoded, encoded, places)))
                    bar.update(len(inside))
                start += len(rows.batch)
        return ImageSet(images, self.labels)

    def _decoded(self, encoded: Mapping[str, Any] | None, where: str) -> Tensor:
        return self.transform(decoded(self.table, encoded, where))
