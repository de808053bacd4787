"""Anyone's encoded images in tables: what local Parquet files and the Hugging Face Hub have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfkd.data.reading.arrow_images import Columns, ImageTable, find_columns, first_image
from selfkd.data.reading.resizing import unless_sized
from selfkd.data.reading.room import check_room
from selfkd.data.reading.table_images import TableImages, read_labels
from selfkd.data.sources.own_images import OwnImages
from selfkd.data.sources.split_names import SplitNames, assigned
from selfkd.data.splits import Split, Splits
from selfkd.errors import DataError, OptionError

__all__ = ["TableSource", "numbered_classes"]


@dataclass(frozen=True, kw_only=True)
class TableSource(OwnImages, ABC):
    """Images in the columns of a table for each split; those that are not cut away are decoded before training.

    Args:
        image_column: column of the encoded images; by default the only one that holds images.
        label_column: column of the labels; by default the only one that holds classes, or the one called label.
    Raises: OptionError: if a value is out of range.
    """

    names_come_from = "the Hugging Face metadata, or numbers"

    image_column: str | None = None
    label_column: str | None = None

    @abstractmethod
    def tables(self) -> tuple[str, Mapping[str, ImageTable]]:
        """What errors call the data set, and the table of every split, by its name."""

    def read(self, seed: int) -> Splits:
        where, tables = self.tables()
        names = assigned(tables, self.train_split, self.test_split, where)
        columns = {name: find_columns(tables[name], self.image_column, self.label_column) for name in names.used}
        class_names = _class_names(names, columns, where)
        self._check_size_given(lambda: first_image(tables[names.train], columns[names.train]))
        labels = {name: read_labels(tables[name], columns[name]) for name in names.used}
        for name in names.used:
            _check_labelled(name, labels[name], "data.train_split" if name == names.train else "data.test_split")
        if class_names is None:
            class_names = numbered_classes(labels[names.train].numpy(), columns[names.train].label, where)
        transform = self.image_transform()
        if self.resize in (None, self.side):
            transform = unless_sized(self.side, transform)
        splits: dict[str, Split] = {
            name: TableImages.of(tables[name], columns[name], labels[name], transform, self.side) for name in names.used
        }
        return self._arranged(names, splits, class_names, seed)

    def _check_room(self, splits: Splits) -> None:
        num_images = sum(map(len, splits.by_name.values()))
        gigabytes = self._gigabytes(num_images)
        check_room("data.image_size", self.side, int(gigabytes * 1e9), f"to hold the {num_images} decoded images")
        if gigabytes > self.memory_gb:
            raise OptionError(
                "data.memory_gb",
                self.memory_gb,
                f"at least {_rounded_up(gigabytes):g}, which the {num_images} images take at "
                f"data.image_size={self.side}; a smaller image size takes less, or fewer classes or images of each",
            )

    def _held(self, splits: Splits, whole_images: bool) -> Splits:
        return splits.in_memory()


def numbered_classes(labels: NDArray[np.int64], column: str, where: str) -> tuple[str, ...]:
    """The names of classes that only have numbers: "0", "1" and so on.

    Args:
        labels: `[N]` of the training images.
        column: that they stand in.
        where: what errors call the data set.
    Raises: DataError: if they are not 0 to K-1, each of them there, or so many that they are hardly classes.
    """
    present = np.unique(labels)
    hint = "data.label_column names another column"
    if len(labels) < 2 * len(present):
        raise DataError(
            f"column {column!r} of {where} has {len(present)} different values in {len(labels)} rows, fewer than two "
            f"images a class; {hint}"
        )
    expected = np.arange(len(present))
    missing, others = np.setdiff1d(expected, present), np.setdiff1d(present, expected)
    if len(others):
        raise DataError(
            f"column {column!r} of {where} must count its classes 0, 1, 2 and so on, since no class names are stored; "
            f"no training image has {missing[0]}, but some have {others[0]}; {hint}"
        )
    return tuple(map(str, range(len(present))))


def _check_labelled(name: str, labels: Tensor, option: str) -> None:
    """Refuse a split whose labels are kept secret, as those of many test splits on the Hub.

    Args:
        name: of the split.
        labels: `[N]`.
        option: that chooses another.
    """
    unlabelled = int(labels.eq(-1).sum())
    if unlabelled:
        raise DataError(
            f"{unlabelled} of {len(labels)} images of the split {name} have no label (-1); {option} names another split"
        )


def _rounded_up(number: float) -> float:
    """A number > 0, to two digits."""
    scale = 10.0 ** (1 - math.floor(math.log10(number)))
    return math.ceil(number * scale) / scale


def _class_names(names: SplitNames, columns: Mapping[str, Columns], where: str) -> tuple[str, ...] | None:
    """The names that all splits agree on; None where the training split gives none."""
    of_train = columns[names.train].class_names
    for name in names.used:
        of_split = columns[name].class_names
        if of_split is not None and of_split != of_train:
            raise DataError(f"the splits {names.train} and {name} of {where} name other classes, or in another order")
    return of_train
