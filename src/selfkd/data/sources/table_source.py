"""The base class of users' own images in tables: local Parquet files and data sets of the Hugging Face Hub."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from selfkd.data.listing import Listing
from selfkd.data.reading.arrow_tables import ImageTable, find_columns
from selfkd.data.reading.memory_checks import check_memory
from selfkd.data.reading.resizing import unless_sized
from selfkd.data.reading.table_images import list_tables
from selfkd.data.sources.own_images import OwnImages
from selfkd.data.sources.split_names import find_splits
from selfkd.data.splits import Splits
from selfkd.errors import OptionError

__all__ = ["TableSource"]


@dataclass(frozen=True, kw_only=True)
class TableSource(OwnImages, ABC):
    """Images and labels in the columns of tables, one table for each split. Images are decoded before training.

    Args:
        image_column: name of the column of encoded images. The default is the only column of images.
        label_column: name of the column of labels. The default is the only column of classes, or the one called label.
    Raises: OptionError: if a value is out of range.
    """

    class_name_origin = "the Hugging Face metadata, or numbers"

    image_column: str | None = None
    label_column: str | None = None

    @abstractmethod
    def tables(self) -> tuple[str, Mapping[str, ImageTable]]:
        """The data set's name in errors, and the table of every split by the split's name.

        Raises: UserError: if the tables cannot be found, or a library that reads them is missing.
        """

    def listing(self, seed: int) -> Listing:
        where, tables = self.tables()
        names = find_splits(tables, self.train_split, self.test_split, where)
        columns = {name: find_columns(tables[name], self.image_column, self.label_column) for name in names.used}
        transform = self.image_transform()
        if self.resize in (None, self.side):
            transform = unless_sized(self.side, transform)
        advice = "; data.train_split and data.test_split name other splits"
        return list_tables(where, names, tables, columns, transform, self.side, advice=advice)

    def _check_memory(self, splits: Splits) -> None:
        num_images = sum(map(len, splits.by_name.values()))
        gigabytes = self._gigabytes(num_images)
        check_memory("data.image_size", self.side, int(gigabytes * 1e9), f"to hold the {num_images} decoded images")
        if gigabytes > self.memory_gb:
            raise OptionError(
                "data.memory_gb",
                self.memory_gb,
                f"at least {_rounded_up(gigabytes):g}, which the {num_images} images take at "
                f"data.image_size={self.side}; a smaller image size takes less, and so do fewer classes or images",
            )

    def _where_training_needs_them(self, splits: Splits, whole_images: bool) -> Splits:
        return splits.in_memory()


def _rounded_up(number: float) -> float:
    """A number > 0, to two digits."""
    scale = 10.0 ** (1 - math.floor(math.log10(number)))
    return math.ceil(number * scale) / scale
