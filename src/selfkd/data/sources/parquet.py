"""Your own images in Parquet files, in the layouts of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from selfkd.data.reading.arrow_tables import ImageTable
from selfkd.data.reading.class_folders import root_folder, visible_folders
from selfkd.data.reading.parquet_files import ParquetTable, parquet_splits
from selfkd.data.sources.table_source import TableSource
from selfkd.errors import DataError

__all__ = ["Parquet"]


@dataclass(frozen=True, kw_only=True)
class Parquet(TableSource):
    """Images and labels in Parquet files: `train-*.parquet`, `train.parquet` or `train/*.parquet`; other splits alike.

    The files must hold the bytes of the images; paths are not followed. Class names are those of the Hub's metadata, or
    the numbers of the labels.

    Args:
        root: folder with the files, which may also be in a sub-folder.
    Raises: OptionError: if a value is out of range.
    """

    root: str | None = None

    layout = "Parquet files in the Hugging Face Hub's layout"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return bool(parquet_splits(folder))

    def tables(self) -> tuple[str, Mapping[str, ImageTable]]:
        folder = root_folder(self.root, "train-*.parquet and, if there are, test-*.parquet")
        visible_folders(folder)  # it refuses a folder that must not be read; globbing finds nothing there
        splits = parquet_splits(folder)
        if not splits:
            raise DataError(f"data.root={str(folder)!r} holds no Parquet file, and its sub-folders hold none")
        return str(folder), {name: ParquetTable(files) for name, files in splits.items()}
