"""Anyone's images in Parquet files, as data sets are downloaded from the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from selfkd.data.reading.arrow_images import ImageTable
from selfkd.data.reading.class_folders import root_folder, visible_folders
from selfkd.data.reading.parquet_files import ParquetTable, parquet_splits
from selfkd.data.sources.table_source import TableSource
from selfkd.errors import DataError

__all__ = ["Parquet"]


@dataclass(frozen=True, kw_only=True)
class Parquet(TableSource):
    """Images and labels in Parquet files: `train-*.parquet`, `train.parquet` or `train/*.parquet`, other splits alike.

    Images are stored with their bytes; paths are not followed. Class names are those of the Hub's metadata, or the
    labels' numbers.

    Args:
        root: the folder with the files, itself or in its sub-folder data, default or of whatever name.
    Raises: OptionError: if a value is out of range.
    """

    root: str | None = None

    def tables(self) -> tuple[str, Mapping[str, ImageTable]]:
        folder = root_folder(self.root, "train-*.parquet and, if there are, test-*.parquet")
        visible_folders(folder)  # whose error says more than that no file was found
        splits = parquet_splits(folder)
        if not splits:
            raise DataError(f"data.root={str(folder)!r} holds no Parquet file, itself or in its sub-folders")
        return str(folder), {name: ParquetTable(files) for name, files in splits.items()}
