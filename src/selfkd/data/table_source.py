"""Anyone's encoded images in tables: what local Parquet files and the Hugging Face Hub have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from selfkd.data.arrow_images import Columns, ImageTable, find_columns, first_image, read_images
from selfkd.data.own_images import OwnImages
from selfkd.data.resizing import unless_sized
from selfkd.data.source import Split, Splits
from selfkd.data.split_names import SplitNames, assigned
from selfkd.errors import DataError, OptionError

__all__ = ["TableSource"]


@dataclass(frozen=True, kw_only=True)
class TableSource(OwnImages, ABC):
    """Images in the columns of a table for each split, all decoded before training.

    Args:
        image_column: column of the encoded images; by default the only one that holds images.
        label_column: column of the labels; by default the only one that holds classes, or the one called label.
    Raises: OptionError: if a value is out of range.
    """

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
        num_images = sum(len(tables[name]) for name in names.used)
        gigabytes = self._gigabytes(num_images)
        if gigabytes > self.memory_gb:
            raise OptionError(
                "data.memory_gb",
                self.memory_gb,
                f"at least {gigabytes:.2f}, which the {num_images} images of {where} take at "
                f"data.image_size={self.side}; a smaller image size takes less",
            )
        transform = self.image_transform()
        if self.resize in (None, self.side):
            transform = unless_sized(self.side, transform)
        splits: dict[str, Split] = {
            name: read_images(tables[name], columns[name], transform, self.side, name) for name in names.used
        }
        if class_names is None:
            train = splits[names.train].labels
            class_names = tuple(map(str, range(int(train.max()) + 1 if len(train) else 0)))
        return self._arranged(names, splits, class_names, seed)


def _class_names(names: SplitNames, columns: Mapping[str, Columns], where: str) -> tuple[str, ...] | None:
    """The names that all splits agree on; None where the training split gives none."""
    of_train = columns[names.train].class_names
    for name in names.used:
        of_split = columns[name].class_names
        if of_split is not None and of_split != of_train:
            raise DataError(f"the splits {names.train} and {name} of {where} name other classes, or in another order")
    return of_train
