"""Images and labels in tables. The images stay encoded until it is known which of them are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from selfkd.data.listing import Listing, Problem, SplitNames
from selfkd.data.reading.arrow_tables import Columns, ImageTable, Rows, decoded, encoded_images, open_encoded
from selfkd.data.splits import ImageSet, StoredImage, UndecodedImages
from selfkd.errors import DataError

__all__ = ["TableImages", "list_tables", "read_labels"]


def list_tables(
    where: str,
    names: SplitNames,
    tables: Mapping[str, ImageTable],
    columns: Mapping[str, Columns],
    transform: Callable[[Image.Image], Tensor],
    side: int,
    class_names: tuple[str, ...] | None = None,
    advice: str = "",
) -> Listing:
    """All rows of the tables of a data set. No image is read.

    Args:
        where: the data set's name in errors.
        names: which split trains and which tests.
        tables: the table of each split.
        columns: the columns of each split.
        transform: from a decoded image to the uint8 `[3, S, S]` on which a network is evaluated.
        side: S, in pixels.
        class_names: K names for a training table without class names; by default the classes get numbers.
        advice: the end of the message about rows without a label.
    Raises: DataError: if a table cannot be read.
    """
    problems: list[Problem] = []
    labels: dict[str, Tensor] = {}
    for name in names.used:
        labels[name], unlabelled = read_labels(tables[name], columns[name])
        if unlabelled:
            message = (
                f"{len(unlabelled)} of {len(labels[name])} images of the split {name} have no label (empty or -1) "
            )
            message += f"in column {columns[name].label!r}{advice}"
            problems.append(Problem("labels", message, tuple(unlabelled)))
        of_split = columns[name].class_names
        if of_split is not None and of_split != columns[names.train].class_names:
            message = f"the splits {names.train} and {name} of {where} name other classes, or in another order"
            problems.append(Problem("classes", message))
    class_names = columns[names.train].class_names or class_names
    if class_names is None:
        try:
            class_names = _numbered_classes(labels[names.train].numpy(), columns[names.train].label, names.train, where)
        except DataError as error:  # the classes of all images are unknown
            return Listing((), names, problems=(*problems, Problem("labels", str(error))))
    for name in names.used:
        outside = (labels[name] < -1) | (labels[name] >= len(class_names))
        rows = [f"{name}, row {row}, label {labels[name][row]}" for row in outside.nonzero().flatten().tolist()]
        if rows:
            problems.append(Problem("labels", f"labels outside [0, {len(class_names)}): {len(rows)}", tuple(rows)))
    splits = {name: TableImages.of(tables[name], columns[name], labels[name], transform, side) for name in names.used}
    return Listing(class_names, names, splits, tuple(problems))


def read_labels(table: ImageTable, columns: Columns) -> tuple[Tensor, list[str]]:
    """The labels of all rows, `[N]` int64, -1 if there is none, and the places of these. No image is read.

    Raises: DataError: if they cannot be read.
    """
    parts: list[NDArray[np.int64]] = []
    unlabelled: list[str] = []
    for rows in table.batches([columns.label]):
        column = rows.batch.column(columns.label)
        parts.append(column.cast("int64", safe=False).fill_null(-1).to_numpy(zero_copy_only=False))
        unlabelled += [rows.place(row) for row in np.flatnonzero(parts[-1] == -1).tolist()]
    return torch.from_numpy(np.concatenate(parts) if parts else np.empty(0, np.int64)), unlabelled


def _numbered_classes(labels: NDArray[np.int64], column: str, split: str, where: str) -> tuple[str, ...]:
    """The names of classes that only have numbers: "0", "1" and so on.

    Args:
        labels: `[N]` of the training images; -1 for none.
        column: name of their column.
        split: name of the training split.
        where: the data set's name in errors.
    Raises: DataError: if the numbers are not 0 to K-1, or so many that they are hardly classes.
    """
    labels = labels[labels != -1]
    present = np.unique(labels)
    hint = "data.label_column names another column"
    if len(labels) < 2 * len(present):
        raise DataError(
            f"column {column!r} of the split {split} of {where} has {len(present)} different values in {len(labels)} "
            f"rows, fewer than two images per class; {hint}"
        )
    expected = np.arange(len(present))
    missing, others = np.setdiff1d(expected, present), np.setdiff1d(present, expected)
    if len(others):
        raise DataError(
            f"column {column!r} of the split {split} of {where} must count its classes 0, 1, 2 and so on, since no "
            f"class names are stored; no training image has {missing[0]}, but some have {others[0]}; {hint}"
        )
    return tuple(map(str, range(len(present))))


@dataclass(frozen=True)
class TableImages(UndecodedImages):
    """Labelled rows of a table; training holds their images in memory.

    Args:
        table: the table.
        columns: its columns of images and labels.
        rows: `[N]` positions in the table.
    """

    table: ImageTable
    columns: Columns
    rows: NDArray[np.int64]

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
        return cls(labels, transform, side, table, columns, np.arange(len(labels)))

    def take(self, positions: NDArray[np.int64]) -> TableImages:
        return replace(self, rows=self.rows[positions], labels=self.labels[torch.from_numpy(positions)])

    def stored_images(self, name: str) -> Iterator[StoredImage]:
        labels = self.labels.tolist()
        for positions, rows, inside in self._batches():
            short = rows._replace(name=Path(rows.name).name)
            structs = encoded_images(rows, self.columns, inside)
            for position, row, encoded in zip(positions, inside, structs, strict=True):
                yield StoredImage(short.place(row), labels[position], partial(open_encoded, self.table, encoded))

    def _batches(self) -> Iterator[tuple[NDArray[np.int64], Rows, NDArray[np.int64]]]:
        """Batches of the table with some of these images: their positions here, the rows, and their positions there."""
        order = self.rows.argsort(kind="stable")
        wanted = self.rows[order]
        start = 0
        for rows in self.table.batches([self.columns.image]):
            here = slice(*wanted.searchsorted((start, start + len(rows.batch))))
            if here.start < here.stop:
                yield order[here], rows, wanted[here] - start
            start += len(rows.batch)

    def identity(self, contents: bool = True) -> Iterator[bytes | memoryview]:
        yield from self.in_memory("reading").identity(contents)

    def in_memory(self, title: str) -> ImageSet:
        images = torch.empty(len(self), *self.input_size, dtype=torch.uint8)
        with (
            ThreadPoolExecutor() as pool,  # PIL decodes outside the interpreter lock
            tqdm(total=len(self), desc=title, unit="image", disable=None) as bar,
        ):
            for positions, rows, inside in self._batches():
                encoded = encoded_images(rows, self.columns, inside)
                images[torch.from_numpy(positions)] = torch.stack(
                    list(pool.map(self._decoded, encoded, map(rows.place, inside)))
                )
                bar.update(len(positions))
        return ImageSet(images, self.labels)

    def _decoded(self, encoded: Mapping[str, Any] | None, where: str) -> Tensor:
        return self.transform(decoded(self.table, encoded, where))
