"""Your own image files, with their labels in a CSV file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from selfkd.data.listing import Listing, SplitNames
from selfkd.data.reading.csv_files import CsvTable, list_csv, read_csv
from selfkd.data.sources.own_images import StreamedImages
from selfkd.data.sources.split_names import find_splits
from selfkd.errors import DataError, OptionError

__all__ = ["CsvFile"]

_UNSPLIT = SplitNames("all images")


@dataclass(frozen=True, kw_only=True)
class CsvFile(StreamedImages):
    """Image files whose paths and labels stand in a CSV file in UTF-8. Its first line names the columns.

    Labels are any text; the sorted texts are the class names. A column called split names the split of each image.

    Args:
        root: the CSV file.
        image_root: folder that the paths are relative to. The default is the folder of the CSV file.
        path_column: name of the column of paths. The default is the first one called path, file, filename, file_name,
            filepath, image or image_path.
        label_column: name of the column of labels. The default is the first one called label, class, class_name,
            category or target.
    Raises: OptionError: if a value is out of range.
    """

    layout = "a CSV file of image paths and labels"
    class_name_origin = "the labels in the CSV file"
    root_is_folder: ClassVar[bool] = False

    root: str | None = None
    image_root: str | None = None
    path_column: str | None = None
    label_column: str | None = None

    def listing(self, seed: int) -> Listing:
        if self.root is None:
            raise OptionError("data.root", None, "the CSV file of image paths and labels")
        file = Path(self.root).expanduser()
        if not file.is_file():
            advice = f"; for this folder, write data=folder data.root={self.root}" if file.is_dir() else ""
            raise DataError(
                f"data.root={str(file)!r} is not a file; it must be a CSV file of image paths and labels{advice}"
            )
        table = read_csv(file, self.path_column, self.label_column)
        folder = file.parent if self.image_root is None else Path(self.image_root).expanduser()
        return list_csv(table, self._split_names(table), folder, self.image_transform(), self.side)

    def _split_names(self, table: CsvTable) -> SplitNames:
        if table.has_splits:
            return find_splits(table.splits, self.train_split, self.test_split, str(table.file))
        for option in ("train_split", "test_split"):
            if (name := getattr(self, option)) is not None:
                reason = f"{table.file} has no column split; its columns are {', '.join(map(repr, table.columns))}"
                raise OptionError(f"data.{option}", name, reason=reason)
        return _UNSPLIT
